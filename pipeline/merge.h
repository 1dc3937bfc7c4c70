/* Several recordings of the same event: what each is worth, and where it lies on the common time line. Internal to the pipeline room.
 *
 * listen.c reads each once and keeps what the rest needs, envelope.c how loud its bands were; match.c finds which
 * belong together and where, to a hundredth of a second; lag.c measures how far two are apart, window by window; steps.c where that jumps; coherence.c how
 * it moves otherwise, and onset.c where in it the direct sound is; clock.c makes a clock of it; place.c puts it together. course.c serves match.c and steps.c. */
#ifndef UF_MERGE_H
#define UF_MERGE_H

#include "drift.h"
#include "fft.h"

#include <stdio.h>

enum {
    UF_MERGE_MOST = UF_MERGE_INPUTS, /* recordings */
    UF_MERGE_RATE = 8000, /* Hz, of what is kept of the sound; speech that places it lies below 4 kHz */
    UF_MERGE_FLUX = 400,  /* Hz, of the spectral flux */
    UF_MERGE_COARSE = 100, /* Hz, of the bands' levels */
    UF_MERGE_BANDS = 12,
    UF_MERGE_ANCHORS = 512 /* of a match, at most */
};

typedef struct uf_span { int64_t from, to; } uf_span; /* samples of a recording; to: the first behind it */

/* What a recording is worth. Levels: dB below full scale, of the channels' mean. */
typedef struct uf_quality {
    double level, floor, peak; /* RMS of all; what a tenth of the time stays below; highest sample */
    double rolloff;            /* Hz, below which 95 % of the energy lies */
    double band;               /* Hz, where a filter or codec has cut the sound off; half the rate: nowhere */
    int n_clipped;             /* runs of three samples and more at full scale, or at the recording's own highest value */
    double clipped_at;         /* that value, of full scale; 1 where nothing is clipped */
    int n_dead, n_flipped;     /* channels without sound; channels that are another's negative */
    int n_drops;               /* stretches of exact silence or of repeated samples, 10 ms and more, between sound */
    double dropped;            /* s of them */
} uf_quality;

typedef struct uf_take { /* one of the recordings */
    const char *path;      /* borrowed */
    int rate, channels;
    int64_t n;             /* samples */
    double start;          /* s, the timestamp of the first */
    uf_quality quality;
    float *gain;           /* a channel: its share of the mono sound, 0 where it is dead */
    uf_span *drop;         /* quality.n_drops of them, in order */
    FILE *low;             /* the mono sound at UF_MERGE_RATE, int16, in a file without a name */
    int64_t n_low;
    float *flux;           /* n_flux at UF_MERGE_FLUX, mean 0, deviation 1 */
    int64_t n_flux;
    float *bands;          /* (UF_MERGE_BANDS, n_bands) at UF_MERGE_COARSE: log of their powers, mean 0, uncorrelated */
    int64_t n_bands;
    uint64_t hash;         /* of `low` */
    /* place.c: */
    int same_as;           /* an earlier recording with the same samples; -1: none */
    bool placed;
    int parent;            /* the recording by which it was placed; -1: the one whose clock is the common one */
    uf_clock clock;        /* common time to its own; NULL knots unless placed */
    double polarity;       /* 1, or -1 where it is the negative of the one whose clock is the common one */
    double score;          /* of the match that placed it, or the best one that it had: a calibrated z value */
    double scatter;        /* s, median |distance| of the windows from the clock; */
    double error_ppm;      /* what is left of the clock's error, by its own residues */
    double agree;          /* share of the windows that lie on the clock */
    int n_steps;
    char refused[160];     /* why it was left out; "" when it was not */
} uf_take;

typedef struct uf_jump {
    double at, by, slack;  /* s; by so much a lag jumps; so far the jump may lie to either side */
} uf_jump;

typedef struct uf_merge_watch { /* progress */
    void (*tell)(void *user, double seconds); /* of sound, more since the last call; one at a time */
    void *user;
} uf_merge_watch;

/* ---- listen.c ----- */

/* Reads t->path; `folder`: where the file without a name goes. UF_EDATA: no sound in it. */
int uf_take_listen(uf_take *t, uf_ctx *ctx, const char *folder, const uf_merge_watch *watch);
void uf_take_close(uf_take *t);
bool uf_take_clips(const uf_take *t); /* so often that it is heard */
/* A file for writing and reading that is gone when it is closed, or when the program ends however that may be. NULL after uf_fail. */
FILE *uf_nameless_file(uf_ctx *ctx, const char *folder);
/* n samples of `low` from sample `from` on, which may lie outside: silence is there. */
int uf_take_read(const uf_take *t, uf_ctx *ctx, int64_t from, int n, float *to);
/* n samples of each channel to one. */
void uf_take_mono(const uf_take *t, float *const *x, int n, float *y);

/* ---- envelope.c ----- */

typedef struct uf_envelope uf_envelope;
int uf_envelope_open(uf_envelope **out, uf_ctx *ctx);
void uf_envelope_close(uf_envelope **e);
int uf_envelope_push(uf_envelope *e, const float *x, int n); /* n more samples at UF_MERGE_RATE */
int uf_envelope_finish(uf_envelope *e, float **flux, int64_t *n_flux, float **bands, int64_t *n_bands); /* new memory, as in uf_take */

/* ---- course.c ----- */

typedef struct uf_course {
    const int *place;      /* n_states, ascending: where each is */
    int n_states;
    float creep, jump, leap; /* what it costs to go to the next place (places that differ by 1); to one that is near; to any other */
    int least, near;       /* places that a jump spans; within which it is near, or, by how they fall, twice as many */
} uf_course;
/* The score of a correlation of z deviations, where `strength` is expected at the right place; log odds. */
double uf_course_worth(double z, double strength);
/* score (n, n_states): for being there at that moment. state[n] gets the best course. UF_ENOMEM. */
int uf_course_find(uf_ctx *ctx, const uf_course *c, const float *score, int n, int *state);

/* ---- match.c ----- */

typedef struct uf_anchor { /* a minute (or less) of a that was found in b */
    double at, lag;        /* s: its middle in a; how much later b's time is */
    double z;              /* how much speaks for it: root of the sum of its windows' scores (uf_course_worth) */
} uf_anchor;
typedef struct uf_match {
    int a, b;
    double z;              /* of all pieces together: deviations of other lags, less what the next best place has; about 4 by chance */
    uf_anchor *anchor;     /* n, by time */
    int n;                 /* pieces of a that were found in b; 0 below UF_MERGE_ENOUGH */
    uf_jump *jump;         /* n_jumps, by time, s of a: from there on b's time is later by so much more, to some hundredths of a second */
    int n_jumps;
} uf_match;
enum { UF_MERGE_ENOUGH = 7 }; /* z of a match that counts: 653 unrelated pairs reach 6.0 */
/* All pairs. match: room for n*(n-1)/2; ends with uf_matches_close. */
int uf_match_all(uf_ctx *ctx, const uf_take *take, int n, uf_match *match);
void uf_matches_close(uf_match *match, int n);

/* ---- lag.c ----- */

typedef struct uf_lag {    /* one window */
    double at;             /* s, common time of its middle */
    double lag;            /* s, its own time less the common one */
    double q;              /* height of the peak over what noise gives, in deviations; below 0: of the negative */
    int level;             /* clock.c: which of several talkers' distances, or -1: none */
} uf_lag;
typedef struct uf_guess { double at, lag; } uf_guess; /* roughly where; lines between */
typedef struct uf_lag_options {
    const uf_take *parent, *take;  /* whose clock is known; whose is not */
    const uf_guess *guess;
    int n_guess;
    double hop;                    /* s, between windows */
} uf_lag_options;
/* Common time that both have, by the guess. */
void uf_lag_span(const uf_lag_options *o, double *from, double *to);
enum { UF_STRETCH_SIDE = 1023, UF_STRETCH_LAGS = 2 * UF_STRETCH_SIDE + 1 }; /* samples at UF_MERGE_RATE */
typedef struct uf_stretch { /* the sum of some windows' correlations (generalised, with phase transform), around the guess */
    double at, seconds;    /* mean of the windows' middles; length */
    int n, n_loud, n_quiet;
    float all[UF_STRETCH_LAGS], loud[UF_STRETCH_LAGS], quiet[UF_STRETCH_LAGS]; /* loud, quiet: those in which the parent hears more, or nothing but its floor */
} uf_stretch;
/* From `from` to `to`, common time. *out: new memory. */
int uf_lag_stretches(uf_ctx *ctx, const uf_lag_options *o, double from, double to, double seconds, uf_stretch **out, int *n);
enum { UF_PATTERN_SIDE = 240, UF_PATTERN_LAGS = 2 * UF_PATTERN_SIDE + 1 }; /* samples at UF_MERGE_RATE: direct sound and reflections */
typedef struct uf_lag_sides {  /* of a step */
    double before, after, rate; /* s; by how much both grow in a second */
    const float *pattern;       /* UF_PATTERN_LAGS: of the pair's correlation around the right lag */
} uf_lag_sides;
/* Where between from and to (its own time) the recording passes from one lag to another: its own time. */
int uf_lag_step(uf_ctx *ctx, const uf_lag_options *o, const uf_lag_sides *s, double from, double to, double *is);

/* ---- steps.c ----- */

/* Windows (stretches of one hop each): where their lags jump, and what they move by, seen from the clearest of them: lag (room for n, those that
 * speak for their places), jump (room for UF_FIT_STEPS, 3 ms and more; some ms may be another talker's place). UF_EOF: too few. */
int uf_steps_find(uf_ctx *ctx, const uf_stretch *w, int n, uf_lag *lag, int *n_lags, uf_jump *jump, int *n_jumps);
void uf_pattern_shrink(float *pattern); /* UF_PATTERN_LAGS: what may be chance is taken off */

/* ---- coherence.c ----- */

/* Stretches against what all others have in common: lag[n] gets what the pattern has moved by from the guess (s), with q.
 * `late`: where in that pattern the voice's direct sound lies, s, near `onset`, which says so to a few milliseconds; polarity by its sign. */
int uf_coherence_track(uf_ctx *ctx, const uf_stretch *s, int n, double onset, uf_lag *lag, double *late, double *polarity);

/* ---- clock.c ----- */

enum { UF_FIT_STEPS = 64, UF_FIT_LEVELS = 8, UF_FIT_KNOTS = 200 };
typedef struct uf_fit { /* the lag as a curve: lines between n knots, and what was added at the steps before */
    double *at, *lag;      /* n each, in one piece of new memory: free(at) */
    int n;
    uf_jump step[UF_FIT_STEPS]; /* by time */
    int n_steps, n_levels;
    double polarity, scatter, error_ppm, agree; /* as in uf_take */
    float pattern[UF_PATTERN_LAGS]; /* place.c: of the correlation around the lag; one peak unless more is known */
} uf_fit;
/* A smooth clock through windows, with known steps (n_steps, by time), some windows wrong, others of another talker, who sits elsewhere and is always late by
 * the same: of up to n_levels places. UF_EOF: they say nothing. */
int uf_clock_fit(uf_ctx *ctx, uf_lag *lag, int n, const uf_jump *steps, int n_steps, int n_levels, uf_fit *out);
double uf_fit_lag(const uf_fit *f, double at, bool steps); /* steps: those before `at` included */

/* ---- onset.c ----- */

/* By how much onsets in `take` are later than f puts them, s, within 50 ms, or 100 where that is clear; a few milliseconds off. */
double uf_onset_late(const uf_take *parent, const uf_take *take, const uf_fit *f);

/* ---- place.c ----- */

typedef struct uf_place_options {
    int clock;             /* the recording whose clock is to be the common one; -1: whichever serves best */
} uf_place_options;
/* Fills what place.c owns in each take. */
int uf_place_all(uf_ctx *ctx, uf_take *take, int n, const uf_place_options *o);

/* ---- reference.c ----- */

/* The best of placed recordings, by some stretches of the span [from, from + seconds) of common time. */
int uf_reference_of_takes(uf_ctx *ctx, const uf_take *const *take, int n, double from, double seconds, const uf_merge_options *o, const char *weights_dir, int *best);

/* ---- tracks.c: the second pass ----- */

typedef struct uf_tracks uf_tracks; /* all placed recordings, read side by side on the common clock */
typedef struct uf_tracks_options {
    const uf_take *const *take;     /* n */
    int n, rate;                    /* of the result */
    double from;                    /* s, common: where the result begins */
    bool channels;                  /* every channel of its own, not their mean */
    bool declip;                    /* peaks that a recorder has cut off are made anew, in recordings that have many */
    int most;                       /* samples at once */
} uf_tracks_options;
int uf_tracks_open(uf_tracks **out, uf_ctx *ctx, const uf_tracks_options *o);
void uf_tracks_close(uf_tracks **t);
/* The next n samples of every recording, its polarity set right; n: up to `most`. */
int uf_tracks_next(uf_tracks *t, int n);
float *const *uf_tracks_channels(const uf_tracks *t, int i); /* of recording i, borrowed until the next call; one where `channels` is not set */
const float *uf_tracks_mono(const uf_tracks *t, int i);
/* A byte for each sample: 0 where recording i has no sound: outside of it, where it has lost something, where it repeats itself. */
const uint8_t *uf_tracks_there(const uf_tracks *t, int i);

/* ---- merge_report.c ----- */

typedef struct uf_merge_report {
    const uf_take *take;
    int n, rate;
    double from, seconds;           /* of the result, common time */
    const char *out, *reference;    /* reference: the recording that decided timbre and level for the longest; NULL: nothing was mixed */
    float *const *weight;           /* of each recording, one a second: its share of the mix, as beam_share.h says; NULL: nothing was mixed */
} uf_merge_report;
char *uf_merge_report_text(const uf_merge_report *r); /* JSON, new memory; NULL: out of it */
int uf_merge_report_write(uf_ctx *ctx, const char *path, bool overwrite, const char *text);

#endif

/* Several microphones in one simulated room, each a device of its own: what the merge is measured on. A scene is a pure function of its
 * options and the recordings; every step can be had alone. Internal API. */
#ifndef UF_ARRAY_H
#define UF_ARRAY_H

#include "sounds.h"

enum { UF_MOST_MICS = 32, UF_MOST_TALKERS = 4, UF_MOST_LOSSES = 8 };

/* What devices do to sound beside their own gain, by which bit is set. */
#define UF_HABITS(X) X(gain) X(curve) X(agc) X(clip) X(codec) X(dropout) X(loss) X(invert) X(rates) X(partial) X(unrelated)
enum {
#define UF_HABIT_BIT(name) UF_HABIT_BIT_##name,
    UF_HABITS(UF_HABIT_BIT) UF_N_HABITS,
#undef UF_HABIT_BIT
#define UF_HABIT(name) UF_HABIT_##name = 1 << UF_HABIT_BIT_##name,
    UF_HABITS(UF_HABIT)
#undef UF_HABIT
};
enum { UF_ARRAY_USUAL = UF_HABIT_partial - 1 }; /* all that one and the same meeting has */
extern const char *const uf_habits[]; /* their names, NULL-ended */

typedef struct uf_array_options {
    int n_mics;              /* 1 to UF_MOST_MICS */
    double seconds;          /* of the scene */
    uint64_t seed;
    double snr_from, snr_to; /* dB: voice over noise, mean of the microphones */
    double t60_from, t60_to; /* s */
    int talkers;             /* 1 to UF_MOST_TALKERS, in turn */
    bool moving;             /* they walk across the room */
    double ppm;              /* clocks are off by none of, or one of 10, 50, 100, 400 up to this, either way */
    bool wander;             /* and drift by some ppm more, to and fro */
    double offset;           /* s: recordings begin up to this much into the scene, and end as much before it does */
    unsigned habits;
} uf_array_options;

/* A device's clock. Sample p of its recording is what reached the microphone at time t (s of the scene) where p = uf_device_clock_at(c, t). */
typedef struct uf_device_clock {
    int rate;                             /* nominal, Hz */
    double start, end;                    /* s of the scene */
    double ppm, wander, period, phase;    /* rate off by ppm + wander * sin(2 pi (t - start) / period + phase), both in 1e-6 */
    int n_losses;
    struct { int64_t at; int n; } loss[UF_MOST_LOSSES]; /* n samples are missing before sample `at` of the recording */
} uf_device_clock;
double uf_device_clock_at(const uf_device_clock *c, double t); /* between samples that are missing: the sample behind them */

typedef struct uf_mic {
    double place[3];                      /* m */
    double gain;                          /* dB */
    double curve[UF_CURVE], band;         /* as of uf_curve_gain() */
    double clip;                          /* share of the peak at which it clips; 0: it does not */
    int codec;                            /* of uf_codec_name(); -1: none */
    bool agc, inverted;
    int n_dropouts;
    double dropout[2][2];                 /* from, to: s of the scene, silent */
    uf_device_clock clock;
} uf_mic;

typedef struct uf_array uf_array;
/* Draws the scene and its sound; m is borrowed, its rate is that of everything until devices sample it. UF_EDATA: no voice in it. */
int uf_array_open(uf_array **out, uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o);
int uf_array_try(uf_array **out, uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o); /* the same, but UF_EDATA comes without a message: take another seed */
void uf_array_close(uf_array **a);
int64_t uf_array_n(const uf_array *a); /* samples of the scene */
const uf_mic *uf_array_mic(const uf_array *a, int mic);
/* What reaches microphone `mic` and goes through its curve and gain, uf_array_n() samples of the scene's time: everything; the voice with its
 * whole room; the voice with the first 50 ms of it. Any may be NULL. */
int uf_array_hear(uf_array *a, int mic, float *heard, float *voice, float *early);
/* What its electronics then make of `heard`, in place: AGC, clipping, codec, polarity, silence where it dropped out. */
int uf_array_device(uf_array *a, int mic, float *heard);
/* x, of the scene's time, as the clock of the device samples it: *n samples, new memory (free()). */
int uf_array_sample(uf_array *a, int mic, const float *x, float **y, size_t *n);

typedef struct uf_array_scene {
    double size[3], t60, snr; /* m, s, dB */
    int n_sources;            /* talkers, then noises */
    struct { double from[3], to[3]; bool moving; } source[UF_MOST_TALKERS + 2];
} uf_array_scene;
void uf_array_describe(const uf_array *a, uf_array_scene *s);

/* Scene number `index` for a network that hears its microphones together: n samples of each of `mics`, one after the other, noisy and the voice with the
 * first 50 ms of its room. A scene has two microphones at least; where it has fewer than `mics`, the first ones stand for the others too. Levels, curves,
 * clipping, codecs and dropouts are each one's own, and they are aligned as well as a merge aligns them: up to 5 ms off. In one scene of three the last
 * one is what a filter over all of them may make of the first. array_mix.c */
int uf_array_mix(uf_ctx *ctx, const uf_mixer *m, uint64_t seed, uint64_t index, int mics, int n, float *noisy, float *voice);

/* mic-0.wav, ..., voice-0.wav and early-0.wav (the voice alone, in the same clock), unrelated.wav and truth.json into `dir`, made when
 * missing. array_files.c */
typedef struct uf_array_files {
    const char *dir;
    bool training; /* voices and noises that the network learns from, instead of the held-out ones */
    bool overwrite;
    uf_train_progress_fn *progress;
    void *user;
} uf_array_files;
int uf_array_write(uf_ctx *ctx, const char *recipe, const uf_array_options *o, const uf_array_files *f);

#endif

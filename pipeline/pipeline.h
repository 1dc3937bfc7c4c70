/* Media in, stages, media out. Internal API of the pipeline room for tools and tests; no FFmpeg type appears here. */
#ifndef UF_PIPELINE_H
#define UF_PIPELINE_H

#include "base.h"

/* ---- what is in a file -------------------------------------------------------------------------------------- */

typedef struct uf_stream_info {
    int index;
    char kind[16];        /* "video", "audio", "subtitle", "attachment", "data", "unknown" */
    char codec[32];       /* "h264"; "none" when unknown */
    char language[16];    /* ISO 639-2, "" when not told */
    char title[128];      /* "" when not told */
    double seconds;       /* duration, 0 when unknown */
    int w, h;             /* pixels, video only */
    double fps;           /* mean frame rate, 0 when unknown */
    int64_t n_frames;     /* as the container promises, 0 when unknown */
    int sar_num, sar_den; /* sample aspect ratio, 0/1 when unknown */
    char format[32];      /* pixel format "yuv420p10le", or sample format "fltp" */
    char range[16], matrix[16], primaries[16], transfer[16]; /* colour tags, "unknown" when untagged */
    char field_order[16]; /* "progressive", "tt", "bb", "unknown", ... */
    int rate, channels;   /* audio: samples a second, channels */
    bool cover;           /* an attached picture, not a film */
} uf_stream_info;

typedef struct uf_media_info {
    char container[64];   /* FFmpeg's names: "mov,mp4,m4a,3gp,3g2,mj2" */
    double seconds;       /* 0 when unknown (pictures, pipes) */
    int64_t bytes;        /* 0 when unknown */
    double bit_rate;      /* bits a second, 0 when unknown */
    int n_chapters, n_streams;
    uf_stream_info *streams;
} uf_media_info;

/* Reads the headers of a film, sound file or picture. End with uf_media_info_close. UF_EIO: cannot be opened; UF_EDATA: no
 * media. */
int uf_media_info_open(uf_media_info **out, uf_ctx *ctx, const char *path);
void uf_media_info_close(uf_media_info **info);

/* ---- the colouring job -------------------------------------------------------------------------------------- */

/* Stands in for the network: luma (h,w) in [0,1] to chroma (2,h/2,w/2) in [-0.5,0.5]. Returns UF_OK, or a code after
 * uf_fail. */
typedef int uf_paint_fn(void *user, const float *luma, int w, int h, float *chroma);

typedef struct uf_film_options {
    uf_colorize_options colorize; /* as in unfade.h */
    const char *weights_dir;      /* where the build left the weights, see uf_weights_find(); NULL: nowhere */
    uf_paint_fn *paint;           /* tests: instead of the network; NULL: the network */
    void *paint_user;
    int (*fault)(void *user, const char *thread, int64_t n); /* tests: called by "decode", "mend", "predict", "paint", "encode" before its
                                     n-th item, from that thread; a code below 0 after uf_fail ends it; NULL: nothing */
    void *fault_user;
    bool wait;                    /* for space on a full disk, while somebody is there to make some */
} uf_film_options;

/* uf_colorize() of unfade.h with what only the program or a test knows. Threads decode, paint and encode beside
 * the caller's; the queues between them are bounded, so memory does not grow with the length of the film. The progress
 * callback runs on the encode thread. */
int uf_film_colorize(uf_ctx *ctx, const char *in, const char *out, const uf_film_options *options);

const char *uf_clock_text(double seconds, char buf[32]); /* "00:01:23.040" */
/* "80", "1:20", "0:01:20.5", "10s": seconds; below 0: not a time. */
double uf_seconds_parse(const char *text);

/* The weights file `name` that comes with the program: in the folder that UNFADE_WEIGHTS names and only there; without
 * that variable in ../share/unfade beside the program, in weights_dir, in models/weights. An installed program so finds
 * its own weights even where it was built. New memory (free()), NULL after uf_fail(UF_EIO). */
char *uf_weights_find(uf_ctx *ctx, const char *name, const char *weights_dir);

/* The file that the user wants (`wish`), or, where that is NULL, the one that is found so. *path: new memory. */
int uf_weights_choose(uf_ctx *ctx, const char *wish, const char *name, const char *weights_dir, char **path);

/* ---- which frames to colour by hand (suggest.c) ------------------------------------------------------------------ */

enum { UF_SUGGEST_ALSO = 16 }; /* so many other networks at most */
typedef struct uf_suggest_options {
    const char *weights, *tune, *weights_dir; /* as for colouring */
    const char *const *also;                  /* other weights of `color`, NULL-ended: checkpoints of a run, another training; NULL: none */
    const char *folder;                       /* where the frames go as grey PNG files; NULL: nowhere */
    int n;                                    /* how many */
    int most;                                 /* frames that are looked at, evenly over the film; 0: 240 */
    bool overwrite;
    uf_progress_fn *progress;
    void *user;
} uf_suggest_options;
typedef struct uf_suggestion {
    int64_t frame;       /* from 0 */
    double seconds;
    double disagreement; /* mean |difference| of the chroma under mirroring, plus that under grain, plus that to each of `also` */
} uf_suggestion;
/* The n frames (fewer in a shorter film) from which `unfade tune` would learn most, best first, to out[n].
 * UF_EDATA: no frames; the others as for colouring. */
int uf_suggest(uf_ctx *ctx, const char *film, const uf_suggest_options *o, uf_suggestion *out, int *n_out);

/* ---- the same frames under several settings (preview.c) ------------------------------------------------------------ */

typedef struct uf_preview_setting {
    int size;        /* as for colouring */
    double strength; /* 0: grey */
} uf_preview_setting;
typedef struct uf_preview_options {
    const char *weights, *tune, *weights_dir; /* as for colouring */
    int n;                                    /* how many frames, evenly over the film, none at its very ends */
    const uf_preview_setting *settings;
    int n_settings;
    /* Called for each setting (column) of each frame (row): rgb has w*3 bytes a row, borrowed. A code after uf_fail ends it. */
    int (*cell)(void *user, int column, int row, double seconds, int w, int h, const uint8_t *rgb);
    uf_progress_fn *progress;
    void *user;
} uf_preview_options;
/* UF_EDATA: no frames; the others as for colouring. *n_rows: frames that were shown, fewer of a short film. */
int uf_preview(uf_ctx *ctx, const char *film, const uf_preview_options *o, int *n_rows);

/* ---- a film and what was made of it (compare.c) --------------------------------------------------------------------- */

typedef enum uf_compare_kind { UF_COMPARE_BEFORE, UF_COMPARE_AFTER, UF_COMPARE_SCENE } uf_compare_kind;
typedef struct uf_compare_options {
    int n_pairs;      /* frames to show of both, evenly over the film */
    int most_scenes;  /* first frames of so many scenes */
    /* A JPEG file of n bytes, borrowed: a pair's BEFORE comes directly before its AFTER. A code after uf_fail ends it. */
    int (*picture)(void *user, uf_compare_kind kind, int64_t frame, double seconds, int w, int h, const uint8_t *jpeg, size_t n);
    uf_progress_fn *progress;
    void *user;
} uf_compare_options;
typedef struct uf_comparison {
    int64_t n_before, n_after, n_pairs; /* frames of each, and of both at once */
    int64_t n_scenes, n_steady;         /* scenes; frames that begin none */
    int n_shown;                        /* pairs that were shown */
    double luma_difference, luma_worst; /* |difference| of brightness in 8-bit steps at 640 pixels' width: mean, and of the worst frame */
    double chroma, chroma_change;       /* distance from grey; from the frame before, within scenes: means, in 8-bit steps */
} uf_comparison;
/* UF_EINVAL: the films have not the same shape; UF_EDATA, UF_EIO and others as for colouring. */
int uf_compare(uf_ctx *ctx, const char *before, const char *after, const uf_compare_options *o, uf_comparison *out);

/* ---- fields (fields.c) ------------------------------------------------------------------------------------------------ */

typedef struct uf_field_counts {
    int64_t n, interlaced, progressive, repeated; /* frames that were looked at; of those, by FFmpeg's idet */
    const char *verdict;                          /* "progressive", "interlaced", "telecined", "mixed" */
} uf_field_counts;
/* Looks at a part of a film (length 0: all of it), or at samples of a long one. */
int uf_fields_look(uf_ctx *ctx, const char *film, double from, double length, uf_field_counts *out);

/* ---- where a film cuts (scenes.c) ------------------------------------------------------------------------------------ */

typedef struct uf_scene {
    int number;              /* from 0 */
    int64_t frame, n_frames; /* the first, from 0; how many */
    double seconds, length;  /* when it begins, how long it lasts */
} uf_scene;
typedef struct uf_scenes_options {
    int size;                /* as for colouring, whose cuts these are; 0: 192 */
    void (*scene)(void *user, const uf_scene *s); /* called when each ends */
    uf_progress_fn *progress;
    void *user;
} uf_scenes_options;
/* UF_EDATA and the others as for colouring. */
int uf_scenes(uf_ctx *ctx, const char *film, const uf_scenes_options *o);

/* ---- sound (clean.c, score.c) ------------------------------------------------------------------------------------------- */

/* uf_clean() of unfade.h; weights_dir: where the build left the weights, or NULL. */
int uf_sound_clean(uf_ctx *ctx, const char *in, const char *out, const uf_clean_options *o, const char *weights_dir);

/* What comes through a pipe, and what is to leave by another: WAV tells its own rate and channels, raw samples do not. clean_pipe.c */
typedef enum uf_pipe_format { UF_PIPE_WAV, UF_PIPE_S16, UF_PIPE_F32 } uf_pipe_format; /* raw ones: little-endian */
typedef struct uf_pipe_sound {
    uf_pipe_format format;
    int rate, channels; /* of raw samples */
} uf_pipe_sound;
/* The same from file descriptor `from` to `to`, sample by sample as they come, with the network that hears nothing later; the latency is told
 * at INFO. It ends with the source, when the job is cancelled, or when nobody reads any more: all of them UF_OK. UF_EINTR: cancelled, and
 * nobody takes what is left. UF_EINVAL: an option that looks ahead. */
int uf_sound_clean_pipe(uf_ctx *ctx, int from, int to, const uf_pipe_sound *p, const uf_clean_options *o, const char *weights_dir);

/* uf_merge() of unfade.h; weights_dir as above. *found: what options->report gets, JSON, new memory; NULL: nobody asks. */
int uf_sound_merge(uf_ctx *ctx, const char *const *in, int n, const char *out, const uf_merge_options *o, const char *weights_dir, char **found);
bool uf_same_file(const char *a, const char *b); /* by name, or where both are there: one file by two names */

typedef struct uf_sound_look {
    double seconds;
    double level, pauses; /* dB below full scale: of all; what a tenth of the time stays below */
    int rate;             /* Hz; the picture goes up to half of it */
} uf_sound_look;
/* A recording's spectrogram, w*h pixels of 8-bit RGB; loudness from -100 to -10 dB whatever the recording, so that two can be compared. */
int uf_spectrogram(uf_ctx *ctx, const char *path, int w, int h, uint8_t *rgb, uf_sound_look *look);

typedef struct uf_score_reference uf_score_reference; /* the voice that recordings should hold */
typedef struct uf_sound_score {
    double seconds, longer;              /* compared; by which the test is longer than the reference */
    double late;                         /* s by which the test seems to come later than the reference; nothing is moved for it */
    double si_sdr, lsd, segmental_snr;   /* dB; losses' sound_measure.h says what they are */
    double stoi, estoi;
} uf_sound_score;
int uf_score_open(uf_score_reference **out, uf_ctx *ctx, const char *path);
void uf_score_close(uf_score_reference **r);
/* Nothing is aligned. UF_EDATA: no sound, or too little of it. */
int uf_score_sound(const uf_score_reference *r, const char *path, uf_sound_score *s);

/* ---- chroma stages (no media types) ------------------------------------------------------------------------- */

/* Luma-guided upsampling: chroma (2,h,w), guided by luma (h,w), to out (2 planes of H rows of `stride` floats), guided by
 * `guide` (H rows of `stride` floats). Sample x of the output lies at (x + 0.5 + shift_x) * w / W - 0.5 of the input, so
 * that shift -0.25 is left-sited 4:2:0. Fast guided filter, He & Sun 2015, arXiv:1505.00996. */
typedef struct uf_guided uf_guided;
int uf_guided_open(uf_guided **out, uf_ctx *ctx, int w, int h, int out_w, int out_h, float shift_x, float shift_y);
void uf_guided_run(uf_guided *g, const float *luma, const float *chroma, const float *guide, size_t stride,
                   float *cb, float *cr);
void uf_guided_close(uf_guided **g);

/* Means of 2x2: (h,w), rows `pitch` floats apart, to (h/2,w/2). */
void uf_halve(const float *x, ptrdiff_t pitch, float *y, int w, int h);

/* Temporal chroma filter at the network's chroma size: finds cuts, follows motion by block matching, and blends each
 * pixel with its past where luma agrees. The past never crosses a cut. Recursive, but forgetful at fixed points: every
 * UF_STEADY_PERIOD frames a second filter starts from nothing, and takes over within UF_STEADY_FADE frames; output
 * frame n depends on frames from (n / PERIOD - 1) * PERIOD on only, so a shard that starts one period early is exact. */
enum { UF_STEADY_PERIOD = 256, UF_STEADY_FADE = 32 };
typedef struct uf_steady uf_steady;
int uf_steady_open(uf_steady **out, uf_ctx *ctx, int w, int h);
/* luma (h,w) [0,1], borrowed; chroma (2,h,w), filtered in place. Returns true when this frame begins a new scene (the
 * first frame does). */
bool uf_steady_push(uf_steady *s, const float *luma, float *chroma);
/* The same for one who knows whether this frame begins a scene. */
void uf_steady_push_known(uf_steady *s, bool begins, const float *luma, float *chroma);
void uf_steady_close(uf_steady **s);

#endif

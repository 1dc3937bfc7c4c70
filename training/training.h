/* Training: recipes, data, the learner, held-out measures. Internal API.
 *
 * A run is a pure function of its recipe: batch k of a run is the same whatever the thread count, and a resumed run ends
 * in the same bits as one that was never interrupted. */
#ifndef UF_TRAINING_H
#define UF_TRAINING_H

#include "losses.h"
#include "models.h"

/* ---- recipes (recipe.c) --------------------------------------------------------------------------------------------- */

typedef struct uf_source { /* where pictures come from */
    char *path;            /* folder (searched recursively) or plain .tar, relative to the recipe */
    float weight;          /* share of the samples; 0: by number of pictures */
    bool labelled;         /* the class is the name of the first folder under path */
    int exclude_every;     /* n > 0: leave out every n-th picture by sorted name ... */
    int only_every;        /* ... n > 0: take only those */
    char **exclude;        /* pictures that are not to be seen: paths below `path`, or their ends ("dog_7.jpg"), after which
                              the above count */
    unsigned exclude_count;
    float dynamic_range;   /* sound, dB > 0: recordings whose pauses are less below their loud parts are left out: their own noise or echo would be
                              learnt as the voice's */
} uf_source;

enum { UF_RECIPE_MICS = 8 }; /* of a scene, at most */
enum { UF_FREEZE_MAX = 64 }; /* characters of a stage's `freeze` */
typedef struct uf_stage { /* a stretch of the run at one picture size */
    int size, steps; /* size: side in pixels; speech: samples */
    int batch;      /* 0: as large a power of two, 256 at most, as `memory` holds */
    int accumulate; /* batches whose gradients are averaged into one step; 0: 1 */
    float rate;     /* the one-cycle's peak */
    bool constant;  /* this rate from the first step to the last, to compare with; beta1 .9 */
    char *freeze;   /* parameters with one of these prefixes, separated by spaces, do not learn; "" or NULL: all do */
    float noise;    /* most deviation of the noise added to the luma, 0..0.3 */
    float smallest; /* least share of the picture that a crop takes, 0.05..1 */
} uf_stage;

/* The short adversarial finish of colours or speech ("NoGAN": Antic et al., DeOldify): the critic learns alone, then both learn for a while,
 * with fixed norms, until the held-out measures turn. */
typedef struct uf_finish {
    int size, batch;
    int critic_steps;    /* the critic alone */
    int steps;           /* at most, both together */
    int check_every;     /* steps between held-out measures, each with a checkpoint */
    int patience;        /* the finish ends after so many checks without a better one */
    float critic_rate;   /* peak of the critic's one-cycle when alone; together it learns at 5 times `rate` */
    float rate;          /* the generator's */
    bool hinge;          /* the critic learns by the hinge loss (Miyato et al., arXiv:1802.05957) instead of BCE */
    float gate;          /* the generator learns only from a critic whose loss is below; guessing is ln 2 (hinge: 1) */
    float adversarial;   /* weight of the critic's opinion beside `losses` */
    float noise, smallest;
    float losses[UF_MAX_LOSSES];
} uf_finish;

typedef struct uf_recipe {
    char *model, *out, *init, *features, *licence;
    uint64_t seed;
    uf_source *train, *valid; /* speech: voices without noise or room */
    unsigned train_count, valid_count;
    uf_source *noises, *valid_noises; /* speech: what is mixed in, beside noises that are made up; none: only those */
    unsigned noises_count, valid_noises_count;
    uf_stage *stages;
    unsigned stages_count;
    uf_finish *finish;     /* color, speech; NULL: none */
    float losses[UF_MAX_LOSSES]; /* weight of each loss, by its place in uf_losses[] */
    float *feature_layers; /* weights of the frozen network's stages 0, 1, 2, ... */
    unsigned feature_layers_count;
    float beta2, decay, clip, average;
    float *group_rates;
    unsigned group_rates_count;
    float grey;            /* features: share of the samples without chroma */
    float smoothing;       /* features: of the labels */
    float codecs;          /* speech: share of the mixtures that a telephone's or messenger's codec has gone through */
    float hiss;            /* speech: share of the mixtures with a recorder's own steady noise, 12 to 42 dB below the voice; half of these have no other */
    float quiet;           /* speech: share of the mixtures whose noises are 15 to 40 dB below the voice */
    int mics;              /* speech-array: microphones of a scene; batches are whole scenes */
    float *room;           /* speech: weight of the losses of the second output, the voice in its room, 0: it has none; NULL: 0.5 */
    float gain;            /* color: factor on the head of the written weights, 0: 1. Losses of the L1 kind predict the
                              median of the likely colours, which is greyer than any of them */
    float saturation_min;  /* color: pictures whose mean |chroma| is below are passed over */
    int memory;            /* MB that the activations of a batch may take where `batch` is left out; 0: 4,000 */
    int checkpoint_every, sample_every, valid_every, workers;
} uf_recipe;

/* UF_EINVAL: unknown key, wrong type or value out of range, named with its line. Paths come back relative to the
 * recipe's folder. */
int uf_recipe_open(uf_recipe **out, uf_ctx *ctx, const char *path);
void uf_recipe_close(uf_recipe **r);
bool uf_recipe_sound(const uf_recipe *r); /* its network takes sound, not pictures */
const uf_model *uf_recipe_judge(const uf_recipe *r); /* whose activations the losses `feature` and `gram` compare: a trained network of this kind */
float uf_recipe_room(const uf_recipe *r); /* that weight, 0 for networks without a second output */

/* ---- pictures (picture.c) ------------------------------------------------------------------------------------------- */

typedef struct uf_decoder uf_decoder; /* JPEG, PNG, TIFF, WebP bytes to planes; one a thread */
int uf_decoder_open(uf_decoder **out, uf_ctx *ctx);
void uf_decoder_close(uf_decoder **d);
/* Decodes; the picture stays in the decoder until the next call. UF_EDATA without a message: damaged, or not one of
 * the four. Sides come back. */
int uf_decoder_decode(uf_decoder *d, const void *data, size_t n, int *w, int *h);
/* The region (x,y,rw,rh, in source pixels) resized to luma (h,w) in [0,1] and chroma (2,h/2,w/2) in [-.5,.5], BT.601 full
 * range; w and h are even. Grey pictures have zero chroma. */
int uf_decoder_planes(uf_decoder *d, double x, double y, double rw, double rh, int w, int h, float *luma,
                      float *chroma);
/* luma (h,w), chroma (2,h/2,w/2) to interleaved 8-bit RGB, w*3 bytes a row. */
int uf_decoder_rgb(uf_decoder *d, int w, int h, const float *luma, const float *chroma, uint8_t *rgb);

/* ---- data (data.c, loader.c) ---------------------------------------------------------------------------------------- */

typedef struct uf_data uf_data; /* an index of pictures in folders and archives */
int uf_data_open(uf_data **out, uf_ctx *ctx, const uf_source *sources, int n_sources);
int uf_data_open_sounds(uf_data **out, uf_ctx *ctx, const uf_source *sources, int n_sources); /* the same of recordings */
int uf_data_open_paths(uf_data **out, uf_ctx *ctx, int n, const char *const *paths); /* the same of plain paths */
void uf_data_close(uf_data **d);
int64_t uf_data_n(const uf_data *d);
int uf_data_source(const uf_data *d, int64_t i); /* which of the sources has it */
int uf_data_keep(uf_data *d, const bool *wanted); /* the others are forgotten, and the rest numbered anew; UF_EDATA: of a source none is left */
int uf_data_n_classes(const uf_data *d);
/* Picture for sample number `index` of a run: sources by weight, each in a new order every epoch. */
int64_t uf_data_pick(const uf_data *d, uint64_t seed, uint64_t index);
/* The bytes of picture i; free() *owned after use when it is not NULL (archives are mapped, not copied). */
int uf_data_read(const uf_data *d, int64_t i, const void **data, size_t *n, void **owned);
/* Picture i decoded, in the decoder; its sides come back. UF_EDATA, with the picture's name: unreadable. */
int uf_data_decode(const uf_data *d, int64_t i, uf_decoder *to, int *w, int *h);
const char *uf_data_name(const uf_data *d, int64_t i);
int uf_data_class(const uf_data *d, int64_t i); /* -1: not labelled */

typedef struct uf_batch { /* (N,...) float32, valid until the next uf_loader_next */
    float *luma;          /* (N,1,S,S) as the network sees it */
    float *clean;         /* (N,1,S,S) before the noise */
    float *chroma;        /* (N,2,S/2,S/2); features: zero in grey samples */
    float *label;         /* (N,1,1,1) */
    float *noisy, *voice, *room; /* (N,1,1,S): of sound, as of uf_mix(); then the others are NULL */
} uf_batch;

typedef struct uf_loader_options {
    uint64_t seed;
    int size, batch, workers;
    int64_t first, n;     /* batches [first, first + n) */
    int64_t first_sample; /* sample number of batch 0 of this stage */
    float noise, smallest, grey, saturation_min;
    bool plain;           /* held-out: centre crop, no flip, no noise, no chance */
    int rank, ranks;      /* of processes that share the run: this one makes the rank-th of `ranks` parts, ...; 0, 0: all */
    int share;            /* ... `share` batches long, of every step; first and n count those that it makes */
    const struct uf_mixer *mixer; /* sound: the batches are its mixtures of `size` samples, and `data` is not looked at */
    int mics;             /* sound: of each scene; 0: mixtures, each for itself */
    bool pairs;           /* the second half of a batch is the first, moved by UF_MOTION_*, with other grain and print */
} uf_loader_options;
typedef struct uf_loader uf_loader; /* worker threads that keep a few batches ready, in order */
int uf_loader_open(uf_loader **out, uf_ctx *ctx, const uf_data *data, const uf_loader_options *o);
void uf_loader_close(uf_loader **l);
/* The next batch; UF_EOF after the last. UF_EDATA: no readable picture among many. */
int uf_loader_next(uf_loader *l, const uf_batch **batch);

/* ---- pages (html.c) -------------------------------------------------------------------------------------------------- */

void uf_html_text(FILE *f, const char *s); /* <, & and " as a page writes them */
int uf_html_base64(uf_ctx *ctx, FILE *f, const uint8_t *bytes, size_t n); /* for data: addresses; UF_ENOMEM */

/* ---- pictures of results (sheet.c) ---------------------------------------------------------------------------------- */

typedef struct uf_sheet uf_sheet; /* a contact sheet: cells in rows, written as PNG */
int uf_sheet_open(uf_sheet **out, uf_ctx *ctx, int columns, int rows, int cell_w, int cell_h);
void uf_sheet_close(uf_sheet **s);
void uf_sheet_put(uf_sheet *s, int column, int row, int w, int h, const uint8_t *rgb); /* w*3 bytes a row; scaled to fit */
void uf_sheet_label(uf_sheet *s, int column, int row, const char *text); /* over the top left of a cell */
int uf_sheet_write(uf_sheet *s, const char *path);
int uf_sheet_print(uf_sheet *s, FILE *to); /* the PNG; UF_EIO without a message */
/* A learning curve as SVG: losses (n) against steps, with a running mean; valid may be NULL. */
int uf_curve_write(uf_ctx *ctx, const char *path, const char *title, int n, const double *step, const double *loss,
                   int n_valid, const double *valid_step, const double *valid);
int uf_curve_print(uf_ctx *ctx, FILE *to, const char *title, int n, const double *step, const double *y); /* the SVG alone */

/* ---- runs ------------------------------------------------------------------------------------------------------------ */

typedef struct uf_train_progress {
    int64_t step, n_steps;
    double loss, rate, samples_per_second, seconds;
} uf_train_progress;
typedef void uf_train_progress_fn(void *user, const uf_train_progress *p);

typedef struct uf_train_options {
    const char *out_dir; /* log.csv, checkpoint, samples, curve, weights; made when missing */
    bool resume, overwrite;
    bool no_finish;      /* leave the recipe's adversarial finish out */
    int64_t max_seconds; /* stop with a checkpoint after this long; 0: never */
    uf_train_progress_fn *progress;
    void *user;
} uf_train_options;
/* UF_EINVAL: the recipe; UF_EDATA: data, or the loss is no longer finite; UF_EINTR: cancelled, checkpoint written;
 * UF_EEXIST: a run is there and neither resume nor overwrite was asked. */
int uf_train(uf_ctx *ctx, const char *recipe, const uf_train_options *o);

/* ---- mixtures of sound as files (mixtures.c) ---------------------------------------------------------------------------- */

typedef struct uf_mixtures_options {
    const char *out_dir;      /* noisy/0000.wav, voice/0000.wav and room/0000.wav go there; made when missing */
    int64_t n;
    double seconds;           /* of each */
    double snr_from, snr_to;  /* dB */
    uint64_t seed;
    bool training;            /* of what the network learns from, instead of the held-out recordings */
    bool overwrite;
    uf_train_progress_fn *progress;
    void *user;
} uf_mixtures_options;
int uf_mixtures(uf_ctx *ctx, const char *recipe, const uf_mixtures_options *o);

/* ---- the learning rate finder (lr_find.c) ------------------------------------------------------------------------------ */

typedef struct uf_lr_find_options {
    int stage;       /* of the recipe, from 0 */
    int steps;       /* 20 or more */
    double from, to; /* rates of the first and the last step */
    const char *plot; /* SVG, or NULL */
    bool overwrite;  /* the plot */
    uf_train_progress_fn *progress;
    void *user;
} uf_lr_find_options;
typedef struct uf_lr_found {
    int n;               /* steps until the loss was 4 times its best, or all of them */
    double *rate, *loss; /* n each; the loss smoothed */
    double steepest;     /* rate where the loss falls fastest */
    double valley;       /* rate well inside the longest fall: the one to take */
} uf_lr_found;
/* Trains a copy of the recipe's starting point for a few steps; nothing but the plot is written. *out is freed with
 * uf_lr_found_free(). UF_EINVAL: the recipe, or it has no such stage; UF_EDATA: it broke too early to tell. */
int uf_lr_find(uf_ctx *ctx, const char *recipe, const uf_lr_find_options *o, uf_lr_found *out);
void uf_lr_found_free(uf_lr_found *f);
int uf_rates_print(uf_ctx *ctx, FILE *to, const uf_lr_found *f); /* the plot, an SVG; sheet.c */

typedef struct uf_score {
    double ciede2000, colorfulness, grey_share; /* means over the pictures; losses.h says what they are */
    double ab_psnr;      /* dB, of the set's mean squared error: what a few bad pictures cost counts in full */
    double ab_psnr_mean; /* dB, mean of the pictures' PSNRs: photographs that are nearly grey weigh most */
} uf_score;
typedef struct uf_evaluation {
    int n;
    uf_score network, grey, mean_color; /* mean_color: every picture tinted with the set's mean chroma */
    double original_colorfulness, original_grey_share;
} uf_evaluation;
/* Greys every picture under `paths`, colours it with `weights` at short side `size` (0: 256), compares with the
 * original. tune: a file of uf_tune(), or NULL. sheet: PNG of [grey | network | original] rows, or NULL. */
int uf_evaluate(uf_ctx *ctx, const char *weights, const char *tune, int n_paths, const char *const *paths, int size,
                double strength, const char *sheet, uf_evaluation *out);
/* The same with `color` parameters at hand and an open index of pictures. */
int uf_evaluate_params(uf_ctx *ctx, uf_params *params, const uf_data *data, int size, double strength, const char *sheet,
                       uf_evaluation *out);

/* ---- what a network sees (inspect.c, inspect_page.c) -------------------------------------------------------------------- */

typedef struct uf_inspect_options {
    const char *weights;          /* of `color` */
    const char *tune;             /* a file of uf_tune(), or NULL */
    const char *const *paths;     /* colour pictures: folders, archives, files */
    int n_paths;
    int size;                     /* side of the square crop that the network sees, a multiple of 32; 0: 192 */
    const char *run;              /* folder of the training run, for its curves, or NULL */
    const char *out;              /* the page: one HTML file that needs no other */
    bool overwrite;
    uf_train_progress_fn *progress;
    void *user;
} uf_inspect_options;
typedef struct uf_inspected {
    int n_pictures, n_layers, n_dead; /* channels that were never above zero */
    double worst_ciede2000;
} uf_inspected;
/* UF_EINVAL: no pictures, the size; UF_EEXIST; UF_EDATA: unreadable pictures or weights. */
int uf_inspect(uf_ctx *ctx, const uf_inspect_options *o, uf_inspected *out);

/* ---- transfer learning (tune.c) --------------------------------------------------------------------------------------- */

typedef struct uf_tune_options {
    const char *weights, *features; /* `color` to begin from; `features` to judge by */
    const char *out;                /* the small file, for uf_model_load_tuned() */
    const char *sheet;              /* PNG of the held-back references [grey | tuned | reference], or NULL */
    const char *const *references;  /* folders of pictures in the film's colours */
    int n_references;
    int steps;                      /* at most; 0: 300 */
    float rate;                     /* 0: 1e-3 */
    int64_t max_seconds;            /* 0: no limit */
    bool few;                       /* the references are of one scene: all are learnt, none is held back, and they are their own measure */
    bool overwrite;
    uf_train_progress_fn *progress;
    void *user;
} uf_tune_options;
typedef struct uf_tuned {
    int n_learnt, n_held_back, step; /* pictures; the step that is best on what was held back */
    uf_score before, after;          /* of the held-back ones */
} uf_tuned;
/* UF_EINVAL: too few references; UF_EDATA: unreadable ones, or the held-back ones got no better (nothing is written). */
int uf_tune(uf_ctx *ctx, const uf_tune_options *o, uf_tuned *out);

#endif

/* The networks, as graph builders over the engine, and their table. Internal API.
 *
 * Picture conventions: luma is Y' in [0,1] full range; chroma is (Cb, Cr) in [-0.5,0.5], BT.601 full range (JPEG), at
 * half the luma's width and height. H and W are multiples of the model's `multiple`. */
#ifndef UF_MODELS_H
#define UF_MODELS_H

#include "engine.h"

enum { UF_N_STAGES = 5 }; /* encoder outputs at 1/2, 1/4, 1/8, 1/16, 1/32 */
enum { UF_SPEECH_FFT = 512, UF_SPEECH_HOP = UF_SPEECH_FFT / 2 }; /* the speech networks' frames, samples at 16 kHz; window as of uf_stft */
enum { UF_SPEECH_WIDER = 3 }; /* speech-wide's rate and frames, as many times those of the others */
enum { UF_MAX_STATES = 16 };

/* What a network that goes on from frame to frame remembers: the graph's input and its output of the same shape. Zeros at the beginning,
 * then what the last run gave. */
typedef struct uf_state {
    uf_node *before, *after;
} uf_state;

/* Nodes of a built network that others hold on to. Unused ones are NULL. */
typedef struct uf_built {
    uf_node *sound;               /* speech: input (N,1,1,T), about [-1,1] */
    uf_node *luma;                /* input (N,1,H,W) [0,1] */
    uf_node *chroma;              /* features: input node or builder's argument (N,2,H/2,W/2) */
    uf_node *out;                 /* color: chroma (N,2,H/2,W/2) in about [-0.5,0.5]; features: logits (N,classes,1,1);
                                     critic: logits (N,1,H/16,W/16), critic-sound: (N,1,1,patches), above 0: not
                                     made by a network; speech: (N,1,1,T); streams: (N,2,frames,257) */
    int mics;                     /* speech-array, set before it is built: so many recordings of the batch, one after the other, are of the same scene;
                                     0: all */
    bool keep_room;               /* speech, set before it is built: a second mask too, whose result is `room` */
    uf_node *room;                /* speech: as out, the voice in the whole of its room */
    uf_node *spectrum;            /* streams: input (N,2,frames,257), as of uf_stft but frames before bins, not compressed */
    uf_state state[UF_MAX_STATES]; /* streams: n_states of them */
    int n_states;
    uf_node *stage[UF_N_STAGES];  /* encoder activations, after their ReLU; speech: three of them, speech-wide: two more of its own part */
} uf_built;

typedef struct uf_model {
    const char *name, *summary;
    const char *file;   /* shipped weights, in models/weights/; NULL: none, it learns beside another network */
    int multiple;       /* sides, or T, must be multiples of this */
    int rate;           /* of the sound that it takes, Hz; 0: it takes pictures */
    bool rooms;         /* it can have the second output, `room`, by parameters of its own that weights may lack */
    /* Adds the network to g for this (N,1,H,W) luma or (N,1,1,T) sound shape; inputs are made when their fields of b are NULL on
     * entry and used when given. Returns uf_graph_status(g). */
    int (*build)(uf_graph *g, uf_shape in, uf_built *b);
    /* The same network, with the same parameters, for `frames` new frames at a time of n channels: its outputs are b->out and the states'
     * `after`. Frame by frame it computes what `build` computes of the whole sound. NULL: it cannot. */
    int (*stream)(uf_graph *g, int n, int frames, uf_built *b);
} uf_model;
extern const uf_model uf_model_color, uf_model_features, uf_model_critic, uf_model_critic_sound, uf_model_speech, uf_model_speech_wide,
    uf_model_speech_live, uf_model_speech_array;
extern const uf_model *const uf_models[]; /* NULL-ended */
const uf_model *uf_model_find(const char *name);
uf_shape uf_model_small(const uf_model *model); /* an input for those who build it for its parameters alone */
/* Reads a whole network's weights into params, which hold its parameters already (build first). UF_EDATA: damaged, or of
 * another model. */
int uf_model_load(uf_ctx *ctx, const uf_model *model, uf_params *params, const char *path);
/* The same, then what a person's own film changed of them; tune NULL: nothing. UF_EDATA also: made for other weights. */
int uf_model_load_tuned(uf_ctx *ctx, const uf_model *model, uf_params *params, const char *path, const char *tune);

/* The residual encoder both networks share. x (N,6,H/2,W/2): luma unshuffled to 4 channels, then Cb, Cr; or (N,4,..) for
 * luma alone. Parameter names are the same in both ("enc.…"), so that features' weights load into color's encoder; the
 * stem of a 4-channel encoder is the first 4 input channels of the 6-channel one (grey = zero chroma). */
int uf_encoder_build(uf_graph *g, uf_node *x, uf_node *stage[UF_N_STAGES]);
/* The normalised 6- or 4-channel encoder input from luma and (chroma or NULL). */
uf_node *uf_encoder_input(uf_node *luma, uf_node *chroma);
/* Copies a trained `features` file's encoder into color's parameters, cutting the stem. UF_EDATA: not such a file. */
int uf_color_init(uf_ctx *ctx, const uf_weights *features, uf_params *color);
/* Does the opened file hold the mask behind `room`? The same of a file; and for one who wants it: UF_EDATA with a remedy where it does not. */
bool uf_speech_has_room(const uf_weights *w);
int uf_speech_knows_room(uf_ctx *ctx, const char *path, bool *there);
int uf_speech_need_room(uf_ctx *ctx, const char *path);
/* Which of `speech`, `speech-wide` and `speech-array` the file is for, if it is for one of them: reading it as that will tell. */
int uf_speech_kind(uf_ctx *ctx, const char *path, const uf_model **m);
/* A trained `speech` file's weights to go on from: a mask behind `room` that it lacks begins as that of the voice alone, and recurrent
 * blocks beyond its own begin as if they were not there; of `speech-wide` what hears above 8 kHz begins anew. UF_EDATA: not such a file, or of
 * another width. */
int uf_speech_init(uf_ctx *ctx, const uf_weights *w, uf_params *speech);
/* The mask behind `room` begins as that of the voice alone. */
void uf_speech_start_room(uf_params *speech);
/* Short side of the pictures that `color` looks at by default: with less it colours more boldly, with more it sees finer things; at this
 * one the shipped weights measured best. */
enum { UF_COLOR_SIZE = 192 };
/* Makes the colours `gain` times as strong, for good: the head is linear, so a factor on it is a factor on the chroma. */
void uf_color_gain(uf_params *color, float gain);

/* Weights of one model that come from the same beginnings lie in one valley, and their mean is often better than each: "model soups"
 * (Wortsman et al., ICML 2022, arXiv:2203.05482). */
typedef struct uf_average_options {
    int n;
    const char *const *files;
    const double *shares; /* any positive numbers; NULL: equal ones */
    double gain;          /* uf_color_gain() of the result; 0: none. Only for `color` */
    const char *note;     /* how it was made, for the recipe in the file, or NULL */
    bool overwrite;
} uf_average_options;
/* UF_EDATA: damaged weights, or of another model than the first; UF_EINVAL; UF_EEXIST; UF_EIO. */
int uf_model_average(uf_ctx *ctx, const char *out, const uf_average_options *o);

#endif

/* The network `speech`, or `speech-wide`, on stretches of sound at its own rate; or `speech-array`, on stretches that several microphones recorded at once.
 * Internal to the pipeline room. */
#ifndef UF_VOICE_NET_H
#define UF_VOICE_NET_H

#include "models.h"
#include "voice_dry.h"

typedef struct uf_voice_net_options {
    const uf_model *model;
    bool float32, keep_room; /* keep_room: the weights have that output (uf_speech_need_room) */
    bool again;              /* it can hear a second time, one recording */
    int n_threads;           /* 0: the context's */
    int together;            /* speech-array: so many recordings of the same scene; 0: one */
} uf_voice_net_options;
typedef struct uf_voice_net {
    uf_ctx *ctx;
    uf_voice_net_options o;
    char *weights; /* owned */
    int size;      /* samples of the plan, a multiple of model->multiple */
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_built net;
    uf_node *voice; /* of net: what is wanted */
    uf_voice_dry *dry; /* again */
    float *later;   /* again: what is heard then, half a hop later, and what the network makes of it */
} uf_voice_net;
/* weights: new memory, which the network then owns, even on failure. */
int uf_voice_net_open(uf_voice_net *v, uf_ctx *ctx, char *weights, const uf_voice_net_options *o);
void uf_voice_net_close(uf_voice_net *v);
int uf_voice_net_resize(uf_voice_net *v, int size); /* for stretches of this length from now on */
/* What the network makes of `in`, v->size samples of each recording, one after the other, at levels as it has learnt; silence stays. `in` comes back but for
 * rounding. */
int uf_voice_net_hear(uf_voice_net *v, float *in, float *out);
/* A second hearing, of what is left of `in` without what its own past tells (voice_dry.h); needs `again`. out: the voice as known so far, from
 * a first hearing of this sound or of one like it -> a better one. */
int uf_voice_net_hear_again(uf_voice_net *v, float *in, float *out);
/* Power of n samples of the voice over that of what else was heard. *voice: sum of the voice's squares; may be NULL. */
double uf_voice_ratio(const float *heard, const float *made, int n, double *voice);
/* Above the network's band nothing is known but this: what goes, or is louder, in the uppermost part of the band, does so above it too. By what samples
 * [from, to) of both, as amplitude; those before `from` are read as well. */
float uf_voice_gain_above(const float *heard, const float *made, int from, int to);

#endif

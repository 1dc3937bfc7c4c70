/* Several aligned recordings of the same voice -> one good track. Streams; bounded memory. Internal to the pipeline room. */
#ifndef UF_BEAM_H
#define UF_BEAM_H

#include "pipeline.h"

typedef struct uf_beam uf_beam;
typedef struct uf_beam_options {
    const char *weights, *weights_dir; /* of `speech`, then each microphone is heard for itself, or of `speech-array`; NULL: the shipped ones of both */
    int n_mics, rate;                  /* rate: of all channels, Hz */
    int reference;                     /* microphone that decides timbre and level; -1: `home` does, but where another hears a voice far better */
    const double *band;                /* Hz, up to where each microphone has sound (n_mics); NULL: all of them have it everywhere */
    int home;                          /* as of uf_reference_best(); -1: the first that hears a voice well */
    bool keep_room;                    /* no dereverberation; the network takes noise alone, if the weights have learnt that, else nothing */
    bool mix_only;                     /* music: match and mix, no masks */
    double most;                       /* dB, floor of the post-filter; 0: as far as the network says */
    bool float32;
} uf_beam_options;
int uf_beam_open(uf_beam **out, uf_ctx *ctx, const uf_beam_options *o);
void uf_beam_close(uf_beam **b);
/* n samples of each microphone, aligned to the sample, about [-1,1]; weight[m]: 0 where the microphone has dropped out or is not there in this
 * block, else 1 (n_mics values). n 0: the end. */
int uf_beam_push(uf_beam *b, const float *const *x, const float *weight, int n);
/* Mono, as many in all as were pushed, at their places; returns how many. */
int uf_beam_pull(uf_beam *b, float *y, int most);
/* How much of second `second` of the result microphone `mic` has brought, 0 to 1, as beam_share.h says; after the end. One microphone alone that
 * goes through the network is not asked. */
float uf_beam_weight(const uf_beam *b, int mic, int64_t second);
int uf_beam_leader(const uf_beam *b); /* the microphone that was the reference for the longest */
int uf_beam_reference(const uf_beam *b); /* the microphone that decides timbre and level at what was last computed */

#endif

/* The network `speech`, or `speech-live`, on a stream of sound: any rate, any number of channels, bounded memory. Internal to the pipeline
 * room. */
#ifndef UF_VOICE_H
#define UF_VOICE_H

#include "pipeline.h"

typedef struct uf_voice uf_voice;
typedef struct uf_voice_options {
    const char *weights, *weights_dir; /* as for colouring */
    int rate, channels;                /* of the stream */
    double most;                       /* dB: noise is made quieter by so much at most; 0: as far as the network says */
    double wet;                        /* share of the cleaned sound, 0 to 1; the rest is the recording */
    bool float32;
    bool again;                        /* the network hears all a second time (voice_net.h): better, for twice the time; `live` does not */
    bool keep_room;                    /* only what is no voice goes: `room` of the networks, for weights that have it */
    bool live;                         /* `speech-live`: samples come out uf_voice_latency() after they went in */
} uf_voice_options;
int uf_voice_open(uf_voice **out, uf_ctx *ctx, const uf_voice_options *o);
void uf_voice_close(uf_voice **v);
/* n more samples of each channel; not finite ones count as silence. n 0: the stream has ended. */
int uf_voice_push(uf_voice *v, const float *const *x, int n);
/* Up to `most` finished samples of each channel, as many in all as were pushed and at their places; returns how many. */
int uf_voice_pull(uf_voice *v, float *const *y, int most);
double uf_voice_latency(const uf_voice *v); /* s that a sample is held back at most, computing apart; live only */
int64_t uf_voice_n_broken(const uf_voice *v); /* samples that were no numbers */

#endif

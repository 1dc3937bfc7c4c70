/* The network `speech` on several recordings at once: as many copies of it as there are threads, each with a thread of its own. Small networks
 * gain more from that than from threads that share one recording. Internal to the pipeline room. */
#ifndef UF_VOICE_EARS_H
#define UF_VOICE_EARS_H

#include "voice_net.h"

typedef struct uf_voice_ears {
    uf_ctx *ctx;
    uf_voice_net *net; /* n */
    float **in;        /* n of `room` values */
    int n, room;
} uf_voice_ears;
/* most: recordings at once, at most; size: samples of them, at most, a multiple of the model's; weights: borrowed. */
int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, bool float32, int most, int size);
void uf_voice_ears_close(uf_voice_ears *e);
/* x[i], NULL or `size` samples -> y[i], what the network makes of it, as uf_voice_net_hear(); where x[i] is NULL, y[i] is left as it is. */
int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y);

#endif

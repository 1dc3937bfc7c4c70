/* The network `speech` on several recordings at once: as many copies of it as there are threads, each with a thread of its own, on pieces of the
 * recordings that its memory holds. Small networks gain more from that than from threads that share one piece. Internal to the pipeline room. */
#ifndef UF_VOICE_EARS_H
#define UF_VOICE_EARS_H

#include "voice_net.h"

typedef struct uf_voice_ears {
    uf_ctx *ctx;
    uf_voice_net *net;    /* n */
    float **in, **out;    /* n pieces */
    float *edge;          /* `room` values: what two neighbours make of the seams between them */
    int n;
    size_t room;
} uf_voice_ears;
/* most: recordings at once, at most; weights: borrowed; keep_room, again: as in uf_voice_net_options. */
int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, int most, bool float32, bool keep_room, bool again);
void uf_voice_ears_close(uf_voice_ears *e);
/* n recordings x[i] of `size` samples, a multiple of the model's -> y[i], what the network makes of them, as uf_voice_net_hear(), but with a
 * level of its own for each piece. x[i] NULL: y[i] is left as it is. */
int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y);
/* The same as uf_voice_net_hear_again(): before[i] is the voice as known so far, other memory than y[i]. */
int uf_voice_ears_hear_again(uf_voice_ears *e, int n, int size, const float *const *x, const float *const *before, float *const *y);

#endif

/* The network `speech` on several recordings at once: as many copies of it as there are threads, each with a thread of its own, on pieces of the
 * recordings that its memory holds. Small networks gain more from that than from threads that share one piece. Internal to the pipeline room. */
#ifndef UF_VOICE_EARS_H
#define UF_VOICE_EARS_H

#include "voice_net.h"

typedef struct uf_voice_ears_options {
    int most;     /* recordings at once, at most */
    bool together; /* `speech-array`: these, and always so many, are of one scene and hear each other; else `speech`, each for itself */
    bool float32, keep_room, again; /* as in uf_voice_net_options; again: not together */
} uf_voice_ears_options;
typedef struct uf_voice_ears {
    uf_ctx *ctx;
    uf_voice_ears_options o;
    uf_voice_net *net;    /* n */
    float **in, **out;    /* n pieces, of `together` recordings each */
    float *edge;          /* `room` values: what two neighbours make of the seams between them */
    int n;
    size_t room;
} uf_voice_ears;
/* Whose weights: *each of `speech`, for one recording, *together of `speech-array`, for all of a scene; new memory. wish: a file of either; of `speech`: then
 * recordings are to be heard each for itself, and *together is NULL; NULL: the shipped ones, as for colouring. together NULL:
 * nobody asks for those. */
int uf_voice_ears_weights(uf_ctx *ctx, const char *wish, const char *weights_dir, char **each, char **together);
int uf_voice_ears_open(uf_voice_ears *e, uf_ctx *ctx, const char *weights, const uf_voice_ears_options *o); /* weights: borrowed */
void uf_voice_ears_close(uf_voice_ears *e);
/* n recordings x[i] of `size` samples, a multiple of the model's -> y[i], what the network makes of them, as uf_voice_net_hear(), but with a
 * level of its own for each piece. x[i] NULL: y[i] is left as it is; together: another stands for it. */
int uf_voice_ears_hear(uf_voice_ears *e, int n, int size, const float *const *x, float *const *y);
/* The same as uf_voice_net_hear_again(), of recordings that are heard each for itself: before[i] is the voice as known so far, other memory than y[i]. */
int uf_voice_ears_hear_again(uf_voice_ears *e, int n, int size, const float *const *x, const float *const *before, float *const *y);

#endif

/* Samples in waiting, and rates between them. Internal to the pipeline room. */
#ifndef UF_SOUND_FIFO_H
#define UF_SOUND_FIFO_H

#include "base.h"

#include <libswresample/swresample.h>

typedef struct uf_fifo { /* `start` of the stream is at index 0 */
    float *at;
    size_t n, room;
    int64_t start;
} uf_fifo;
int uf_fifo_add(uf_ctx *ctx, uf_fifo *f, const float *x, size_t n);
void uf_fifo_drop(uf_fifo *f, size_t n); /* the first n, or all there are */
/* n samples of `planes` through s (n 0: what is still inside), plane i of the result to *to[i]; 128 planes at most. */
int uf_fifo_resample(uf_ctx *ctx, SwrContext *s, float *const *planes, int n, int n_planes, uf_fifo *const *to);

#endif

/* 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2,3x3): 16 products where the sum has 36 (Lavin & Gray,
 * arXiv:1509.09308). For processors whose AVX-512 multiplies, not its memory, is the limit; where matrix units (AMX) do
 * bf16 the library's direct convolution is faster and these refuse. Internal to engine/. */
#ifndef UF_WINOGRAD_H
#define UF_WINOGRAD_H

#include "engine.h"

typedef struct uf_wino uf_wino;

typedef struct uf_wino_spec {
    uf_shape x, y;      /* (N,C,H,W); y.h = x.h + 2*pad - 2, y.w likewise */
    int pad;            /* 0..2 */
    uf_dtype dtype;     /* of x, y and the packed weights; sums are float32 */
    bool to_data;       /* the convolution that carries a gradient back: weights are (x.c, y.c, 3, 3), read transposed */
} uf_wino_spec;

/* Whether this processor and these shapes are worth it. */
bool uf_wino_fits(const uf_wino_spec *s);
int uf_wino_open(uf_wino **out, uf_ctx *ctx, const uf_wino_spec *s); /* the spec must fit */
void uf_wino_close(uf_wino **w);
size_t uf_wino_scratch(const uf_wino *w); /* bytes that uf_wino_run may use */
/* w (out, in, 3, 3) float32 as the forward convolution has it; scale: a factor an output channel of y, or NULL. Copied. */
void uf_wino_pack(uf_wino *w, const float *weights, const float *scale);
/* y = relu(conv(x) + bias + residual); bias (y.c) or NULL; residual like y, may be y itself, or NULL. The result does not
 * depend on the number of threads. */
void uf_wino_run(const uf_wino *w, const void *x, const float *bias, const void *residual, bool relu, void *y,
                 void *scratch);

/* The inner loops for one element type; winograd_avx512.c. A tile is 4x4 of x and 2x2 of y; its 16 points are kept `step`
 * elements apart. Channels are taken in the order that uf_wino_channel tells. */
enum { UF_WINO_POINTS = 16, UF_WINO_WIDE = 64 };
typedef struct uf_wino_kernels {
    size_t size;
    int multiple;                       /* of the input's channels */
    bool pairs;                         /* packed weights hold two neighbouring channels side by side */
    int (*channel)(int position);       /* the channel that stands at this place of a transformed tile */
    void (*store)(int n, const float *u, void *to); /* a packed row; with pairs, every second element */
    void (*in)(const void *const x[UF_WINO_POINTS], int c, void *v, size_t step);
    /* m (n_tiles, UF_WINO_WIDE) = v (n_tiles, c) by u (c, 16*n_vectors) */
    void (*product)(int n_tiles, int n_vectors, int c, const void *v, const void *u, float *m);
    /* residual and y: the four pixels of the tile, NULL where outside */
    void (*out)(const float *m, size_t step, int n_vectors, const float *bias, bool relu, const void *const residual[4],
                void *const y[4]);
} uf_wino_kernels;
extern const uf_wino_kernels uf_wino_f32, uf_wino_bf16;
bool uf_wino_cpu(uf_dtype t); /* the processor can run them */

#endif

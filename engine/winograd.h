/* 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2,3x3): 16 products where the sum has 36 (Lavin & Gray,
 * arXiv:1509.09308). For processors whose vector units multiply, and whose memory is not the limit; where matrix units (AMX) do
 * bf16 the library's direct convolution is faster and these refuse. Internal to engine/. */
#ifndef UF_WINOGRAD_H
#define UF_WINOGRAD_H

#include "engine.h"
#include "products.h"

typedef struct uf_wino uf_wino;

typedef struct uf_wino_spec {
    uf_shape x, y;      /* (N,C,H,W); y.h = x.h + top + bottom - 2, y.w likewise */
    int top, left;      /* padding, 0..2; y says the other sides' */
    uf_dtype dtype;     /* of x, y and the packed weights; sums are float32 */
    int n_threads;      /* that will run it */
    bool to_data;       /* the convolution that carries a gradient back: weights are (x.c, y.c, 3, 3), read transposed */
} uf_wino_spec;

/* Whether this processor and these shapes are worth it. */
bool uf_wino_fits(const uf_wino_spec *s);
int uf_wino_open(uf_wino **out, uf_ctx *ctx, const uf_wino_spec *s); /* the spec must fit */
void uf_wino_close(uf_wino **w);
size_t uf_wino_scratch(const uf_wino *w); /* bytes that uf_wino_run may use */
/* w (out, in, 3, 3) float32 as the forward convolution has it; scale: a factor for each `out`, or NULL. Copied. */
void uf_wino_pack(uf_wino *w, const float *weights, const float *scale);
/* y = relu(conv(x) + bias + residual); bias (y.c) or NULL; residual like y, may be y itself, or NULL. The result does not
 * depend on the number of threads. */
void uf_wino_run(const uf_wino *w, const void *x, const float *bias, const void *residual, bool relu, void *y,
                 void *scratch);

/* The gradient of such a convolution's weights: the same tiles, summed over (16 products for 36 again). */
typedef struct uf_wino_grad uf_wino_grad;
bool uf_wino_grad_fits(const uf_wino_spec *s); /* s: of the forward convolution */
int uf_wino_grad_open(uf_wino_grad **out, uf_ctx *ctx, const uf_wino_spec *s);
void uf_wino_grad_close(uf_wino_grad **w);
size_t uf_wino_grad_scratch(const uf_wino_grad *w);
/* dw (y.c, x.c, 3, 3) float32 += ...; the result does not depend on the number of threads. */
void uf_wino_grad_run(const uf_wino_grad *w, const void *x, const void *dy, float *dw, void *scratch);

/* The inner loops for one element type and instruction set; winograd_avx512.c, winograd_avx2.c. A tile is 4x4 of x and 2x2 of y; its 16 points are kept `step`
 * elements apart. */
enum { UF_WINO_POINTS = 16, UF_WINO_WIDE = 64 };

typedef struct uf_wino_kernels {
    size_t size;
    int group;                          /* elements of the sum that stand side by side: pairs for bf16 */
    int (*channel)(int position, int c); /* of c, the channel that stands at this place of a transformed tile */
    void (*store)(int n, const float *u, void *to); /* a packed row, every `group`th element */
    void (*in)(const void *const x[UF_WINO_POINTS], int c, void *v, size_t step);
    void (*product)(const uf_product *a);   /* v: rows of k; ldv: a row */
    /* residual and y: the four pixels of the tile, NULL where outside */
    void (*out)(const float *m, size_t step, int n_vectors, const float *bias, bool relu, const void *const residual[4],
                void *const y[4]);
    /* points of `group` tiles side by side, out of 16 pixels of x each (B'dB) or of 4 of dy (A dy A') */
    void (*points)(const void *const x[2][UF_WINO_POINTS], int n_pixels, int c, void *v, size_t step);
    void (*product_t)(const uf_product *a); /* v: groups of k, each a row; ldv: of one element of k */
} uf_wino_kernels;
extern const uf_wino_kernels uf_wino_f32_avx512, uf_wino_f32_avx2, uf_wino_bf16;
const uf_wino_kernels *uf_product_kernels_of(uf_dtype t); /* those that this processor runs best, or NULL */

#endif

/* The cpu backend's own kernels: everything around the convolutions, on nhwc activations. Internal to engine/.
 *
 * One table for float32 and one for bf16 storage; arithmetic is float32 in both. Reductions run over a fixed number of
 * pieces whatever the thread count, so that the same input gives the same bits. `rows` = N*H*W, each of c channels. */
#ifndef UF_CPU_KERNELS_H
#define UF_CPU_KERNELS_H

#include "engine.h"

enum { UF_PIECES = 64 }; /* of every deterministic reduction */

typedef struct uf_kernels {
    size_t size; /* bytes an element */
    void (*from_plain)(uf_shape s, const float *nchw, void *nhwc);
    void (*to_plain)(uf_shape s, const void *nhwc, float *nchw);
    void (*widen)(size_t n, const void *x, float *y);
    void (*narrow)(size_t n, const float *x, void *y);
    void (*widen_alone)(size_t n, const void *x, float *y); /* in one thread */
    void (*narrow_alone)(size_t n, const float *x, void *y);
    /* y = act(a[c]*x + b[c] + residual); a, residual may be NULL */
    void (*affine)(size_t rows, int c, const void *x, const float *a, const float *b, const void *residual, bool relu,
                   void *y);
    /* sums (2*c): of x, then of x*x; partial: UF_PIECES*2*c */
    void (*moments)(size_t rows, int c, const void *x, float *partial, double *sums);
    /* g = dy masked by y > 0 (y NULL: no mask); stored when g_out is given; sums (2*c): of g, then of g*(x-mean) */
    void (*norm_sums)(size_t rows, int c, const void *x, const void *dy, const void *y, const float *mean, void *g_out,
                      float *partial, double *sums);
    /* dx = k0[c]*g + k1[c]*x + k2[c] */
    void (*norm_dx)(size_t rows, int c, const void *x, const void *dy, const void *y, const float *k0, const float *k1,
                    const float *k2, void *dx);
    void (*mask)(size_t n, const void *dy, const void *y, float slope, void *dx); /* relu, leaky relu */
    void (*add)(size_t n, const void *a, const void *b, float fa, float fb, void *y); /* fa*a + fb*b */
    void (*scale)(size_t n, const void *x, float scale, float bias, void *y);
    void (*act)(size_t n, const void *x, float slope, void *y); /* leaky relu; slope 0: relu */
    /* (N,C*4,H,W) -> blurred shuffle (N,C,2H,2W) written in the first channels of y whose rows are c_y wide, the skip
     * (N,c_y-C,2H,2W) copied behind; blur false: no blur. scratch: 4*W*C floats a
     * thread */
    void (*shuffle)(uf_shape x_shape, const void *x, const void *skip, int c_y, bool blur, float *scratch, void *y);
    void (*unshuffle_grad)(uf_shape x_shape, const void *dy, int c_y, bool blur, float *scratch,
                           void *dx);
    void (*channels)(size_t rows, int c_x, int from_x, int c_y, int from_y, int n, const void *x, void *y);
    void (*unshuffle)(uf_shape x_shape, int r, const void *x, void *y);      /* pixel_unshuffle */
    void (*unshuffle_back)(uf_shape x_shape, int r, const void *dy, void *dx);
    void (*pool)(uf_shape x, uf_shape y, int k, int stride, bool max, const void *in, void *out);
    void (*pool_back)(uf_shape x, uf_shape y, int k, int stride, bool max, const void *in, const void *dy, void *dx);
    void (*group_mean)(size_t groups, int members, size_t size, const void *x, void *y); /* of members of `size` elements each, for each */
    double (*distance)(size_t n, const void *a, const void *b, bool square, double *partial);
    void (*distance_grad)(size_t n, const void *a, const void *b, bool square, float factor, void *da);
} uf_kernels;

/* One step of a gated recurrent unit of `o` values: gx, gh (3*o) are the products with the input and the state, without biases; h the
 * state, replaced; aux (4*o): r, z, n and the hidden product of n, or NULL. */
void uf_gru_step(size_t o, const float *gx, const float *gh, const float *bx, const float *bh, float *h, float *aux);
/* Its gradients: before: the state that it met; dy: of its output; carry: of its state, from the later step, replaced by what goes to the
 * earlier one but for the hidden product's part; da, dg (3*o): of the two products. */
void uf_gru_step_back(size_t o, const float *aux, const float *before, const float *dy, float *carry, float *da, float *dg);
/* y = (re^2 + im^2 + eps)^e, n of them, to three units in the last place while the result is a normal number; eps > 0. */
void uf_powers(size_t n, const float *re, const float *im, float eps, float e, float *y);
void uf_softmax_rows(size_t rows, size_t n, float *x); /* each row of n, in place; n >= 1 */

extern const uf_kernels uf_kernels_f32, uf_kernels_bf16;

#endif

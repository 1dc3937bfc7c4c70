/* The only door to oneDNN: convolutions on nhwc activations and float32 matrix products. Internal to engine/. */
#ifndef UF_ONEDNN_H
#define UF_ONEDNN_H

#include "engine.h"

typedef struct uf_dconv uf_dconv; /* one convolution, prepared for its shape in each direction that was asked for */

typedef struct uf_dconv_spec {
    uf_shape x, y;            /* (N,C,H,W) of input and output */
    int kh, kw, stride, top, pad, dilation, groups; /* top: padding above; pad: to the left; y says the rest */
    uf_dtype dtype;           /* of activations and packed weights; bias and weight gradients are float32 */
    bool bias, sum, relu;     /* y = relu(conv(x) + bias + what y held before) */
    bool forward, backward_data, backward_weights; /* the directions that will run */
} uf_dconv_spec;

/* False where the library is known to answer wrongly in every direction and type: 1x1 kernels with a stride and channels that do
 * not fill a vector (2.6.3 reads what it never wrote). */
bool uf_dconv_trusted(const uf_dconv_spec *spec);
/* UF_EUNSUPPORTED: the library has no primitive for it. */
int uf_dconv_open(uf_dconv **out, uf_ctx *ctx, const uf_dconv_spec *spec);
void uf_dconv_close(uf_dconv **c);
size_t uf_dconv_scratch(const uf_dconv *c); /* bytes that every call below may use; 0: none */
/* w (out, in/groups, kh, kw) float32; scale: a factor an output channel, or NULL. Copied, converted and laid out. */
int uf_dconv_pack(uf_dconv *c, const float *w, const float *scale);
int uf_dconv_forward(uf_dconv *c, const void *x, const float *bias, void *y, void *scratch);
int uf_dconv_backward_data(uf_dconv *c, const void *dy, void *dx, void *scratch);
/* dw (out, in/groups, kh, kw) += ..., db (out) += ... or NULL */
int uf_dconv_backward_weights(uf_dconv *c, const void *x, const void *dy, float *dw, float *db, void *scratch);
const char *uf_dconv_impl(const uf_dconv *c); /* the forward kernel's name, to find a slow `ref` */

/* c (m,n) = alpha op(a) op(b) + beta c, row-major float32, leading dimensions in floats; the same bits for any number of threads. */
int uf_sgemm(bool ta, bool tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
             float beta, float *c, int ldc);

#endif

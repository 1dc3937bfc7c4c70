/* Matrix product, softmax, and attention over the places of a picture (Zhang et al. 2018, arXiv:1805.08318). */
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int infer_matmul(uf_ctx *ctx, uf_node *y) {
    uf_shape a = y->in[0]->shape, b = y->in[1]->shape;
    if (a.w != b.h) return uf_shape_error(ctx, y, "columns of the first must equal rows of the second");
    if ((b.n != a.n && b.n != 1) || (b.c != a.c && b.c != 1))
        return uf_shape_error(ctx, y, "N and C of the second must be equal, or 1");
    y->shape = (uf_shape){a.n, a.c, a.h, b.w};
    return UF_OK;
}

static void matmul_run(const uf_call *k) {
    uf_shape s = k->y->shape, a = k->y->in[0]->shape, b = k->y->in[1]->shape;
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++) {
                    size_t to = uf_at(s, n, c, i, j);
                    double sum = 0;
                    for (int l = 0; l < a.w; l++) {
                        size_t p = uf_at(a, n, c, i, l), q = uf_at(b, b.n > 1 ? n : 0, b.c > 1 ? c : 0, l, j);
                        if (!k->dy) sum += (double)k->x[0][p] * (double)k->x[1][q];
                        if (k->dy && k->dx[0]) k->dx[0][p] += k->dy[to] * k->x[1][q];
                        if (k->dy && k->dx[1]) k->dx[1][q] += k->dy[to] * k->x[0][p];
                    }
                    if (!k->dy) k->out[to] = (float)sum;
                }
}

const uf_op uf_op_matmul = {.name = "matmul", .n_in = 2, .infer = infer_matmul, .fwd = matmul_run, .bwd = matmul_run};

static int infer_softmax(uf_ctx *ctx, uf_node *y) {
    if (y->attr.axis < 0 || y->attr.axis > 3) return uf_shape_error(ctx, y, "the axis is 0 to 3");
    return uf_infer_same(ctx, y);
}

/* In place over n values `step` apart. */
static void softmax(float *x, size_t n, size_t step) {
    float top = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++) top = fmaxf(top, x[i * step]);
    for (size_t i = 0; i < n; i++) sum += (double)(x[i * step] = expf(x[i * step] - top));
    for (size_t i = 0; i < n; i++) x[i * step] = (float)((double)x[i * step] / sum);
}

static void softmax_fwd(const uf_call *k) {
    size_t n = (size_t)uf_axis(k->y->shape, k->y->attr.axis), inner = uf_inner(k->y->shape, k->y->attr.axis);
    size_t outer = uf_outer(k->y->shape, k->y->attr.axis);
    memcpy(k->out, k->x[0], uf_count(k->y->shape) * sizeof(float));
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < inner; i++) softmax(k->out + o * n * inner + i, n, inner);
}

static void softmax_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    size_t n = (size_t)uf_axis(k->y->shape, k->y->attr.axis), inner = uf_inner(k->y->shape, k->y->attr.axis);
    size_t outer = uf_outer(k->y->shape, k->y->attr.axis);
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < inner; i++) {
            size_t at = o * n * inner + i;
            double dot = 0;
            for (size_t j = 0; j < n; j++) dot += (double)k->out[at + j * inner] * (double)k->dy[at + j * inner];
            for (size_t j = 0; j < n; j++)
                k->dx[0][at + j * inner] += k->out[at + j * inner] * (k->dy[at + j * inner] - (float)dot);
        }
}

const uf_op uf_op_softmax = {
    .name = "softmax", .n_in = 1, .infer = infer_softmax, .fwd = softmax_fwd, .bwd = softmax_bwd};

/* ---- attention ---------------------------------------------------------------------------------------------------- */

static int infer_attention(uf_ctx *ctx, uf_node *y) {
    uf_shape q = y->in[0]->shape, k = y->in[1]->shape, v = y->in[2]->shape;
    if (q.n != k.n || q.n != v.n || q.c != k.c || k.h != v.h || k.w != v.w)
        return uf_shape_error(ctx, y, "queries and keys share channels, keys and values places");
    y->shape = (uf_shape){q.n, v.c, q.h, q.w};
    return UF_OK;
}

static size_t places(uf_shape s) { return (size_t)s.h * (size_t)s.w; }

/* aux holds the scores after softmax: (N, queries, keys). */
static size_t attention_aux(const uf_node *y) {
    return (size_t)y->shape.n * places(y->shape) * places(y->in[1]->shape);
}

static void attention_fwd(const uf_call *c) {
    uf_shape qs = c->y->in[0]->shape, vs = c->y->in[2]->shape;
    size_t m = places(qs), n = places(vs);
#pragma omp parallel for collapse(2)
    for (int b = 0; b < qs.n; b++)
        for (size_t i = 0; i < m; i++) {
            float *score = c->aux + ((size_t)b * m + i) * n;
            for (size_t j = 0; j < n; j++) {
                double dot = 0;
                for (int d = 0; d < qs.c; d++)
                    dot += (double)c->x[0][((size_t)b * (size_t)qs.c + (size_t)d) * m + i] *
                           (double)c->x[1][((size_t)b * (size_t)qs.c + (size_t)d) * n + j];
                score[j] = c->y->attr.scale * (float)dot;
            }
            softmax(score, n, 1);
            for (int e = 0; e < vs.c; e++) {
                double sum = 0;
                const float *v = c->x[2] + ((size_t)b * (size_t)vs.c + (size_t)e) * n;
                for (size_t j = 0; j < n; j++) sum += (double)score[j] * (double)v[j];
                c->out[((size_t)b * (size_t)vs.c + (size_t)e) * m + i] = (float)sum;
            }
        }
}

static void attention_bwd(const uf_call *c) {
    uf_shape qs = c->y->in[0]->shape, vs = c->y->in[2]->shape;
    size_t m = places(qs), n = places(vs);
    for (int b = 0; b < qs.n; b++)
        for (size_t i = 0; i < m; i++) {
            const float *score = c->aux + ((size_t)b * m + i) * n;
            double dot = 0;
            for (int pass = 0; pass < 2; pass++) /* the softmax's own sum first, then the gradients */
                for (size_t j = 0; j < n; j++) {
                    double ds = 0;
                    for (int e = 0; e < vs.c; e++) {
                        size_t at = (size_t)b * (size_t)vs.c + (size_t)e;
                        float g = c->dy[at * m + i];
                        ds += (double)g * (double)c->x[2][at * n + j];
                        if (pass && c->dx[2]) c->dx[2][at * n + j] += g * score[j];
                    }
                    if (!pass) {
                        dot += ds * (double)score[j];
                        continue;
                    }
                    float dz = c->y->attr.scale * score[j] * (float)(ds - dot);
                    for (int d = 0; d < qs.c; d++) {
                        size_t at = (size_t)b * (size_t)qs.c + (size_t)d;
                        if (c->dx[0]) c->dx[0][at * m + i] += dz * c->x[1][at * n + j];
                        if (c->dx[1]) c->dx[1][at * n + j] += dz * c->x[0][at * m + i];
                    }
                }
        }
}

const uf_op uf_op_attention = {.name = "attention", .n_in = 3, .infer = infer_attention, .fwd = attention_fwd,
                               .bwd = attention_bwd, .n_aux = attention_aux};

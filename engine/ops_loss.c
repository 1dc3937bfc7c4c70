/* Losses: scalars, means over all elements. */
#include "ops.h"

#include <math.h>

typedef struct term { /* of one element: its loss, and the derivatives to either input */
    float y, da, db;
} term;

static float sign(float x) { return (float)(x > 0.f) - (float)(x < 0.f); }

static term of_l1(float a, float b) { return (term){fabsf(a - b), sign(a - b), sign(b - a)}; }
static term of_l2(float a, float b) { return (term){(a - b) * (a - b), 2.f * (a - b), 2.f * (b - a)}; }

/* max(x,0) - x*t + log(1 + e^-|x|): no overflow for any logit. */
static term of_bce(float x, float t) {
    float y = fmaxf(x, 0.f) - x * t + log1pf(expf(-fabsf(x)));
    return (term){y, 1.f / (1.f + expf(-x)) - t, 0.f};
}

static term of_hinge(float s, float t) {
    float y = 1.f - t * s;
    return y > 0.f ? (term){y, -t, 0.f} : (term){0.f, 0.f, 0.f};
}

static void mean_loss(const uf_call *c, term (*f)(float, float)) {
    size_t n = uf_count(c->y->in[0]->shape);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        term t = f(c->x[0][i], c->x[1][i]);
        if (!c->dy) {
            sum += (double)t.y;
            continue;
        }
        if (c->dx[0]) c->dx[0][i] += *c->dy * t.da / (float)n;
        if (c->dx[1]) c->dx[1][i] += *c->dy * t.db / (float)n;
    }
    if (!c->dy) *c->out = (float)(sum / (double)n);
}

#define LOSS(op, constant)                                                                                            \
    static void op##_run(const uf_call *c) { mean_loss(c, of_##op); }                                                 \
    const uf_op uf_op_##op = {.name = #op, .n_in = 2, .infer = uf_infer_scalar, .fwd = op##_run, .bwd = op##_run,      \
                              .no_grad = {false, constant}};
LOSS(l1, false)
LOSS(l2, false)
LOSS(bce, true)
LOSS(hinge, true)

/* ---- cross entropy with label smoothing (Szegedy et al., arXiv:1512.00567) ------------------------------------------ */

static int infer_cross_entropy(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape, t = y->in[1]->shape;
    if (t.n != x.n || t.c != 1 || t.h != x.h || t.w != x.w)
        return uf_shape_error(ctx, y, "labels must be one index a place, (N,1,H,W)");
    y->shape = (uf_shape){1, 1, 1, 1};
    return UF_OK;
}

static void cross_entropy_run(const uf_call *k) {
    uf_shape s = k->y->in[0]->shape;
    size_t plane = (size_t)s.h * (size_t)s.w, n = (size_t)s.n * plane;
    float eps = k->y->attr.p;
    double loss = 0;
    for (int b = 0; b < s.n; b++)
        for (size_t i = 0; i < plane; i++) {
            const float *x = k->x[0] + uf_at(s, b, 0, 0, 0) + i;
            int label = (int)k->x[1][(size_t)b * plane + i];
            float top = x[0];
            double sum = 0;
            for (int c = 1; c < s.c; c++) top = fmaxf(top, x[(size_t)c * plane]);
            for (int c = 0; c < s.c; c++) sum += exp((double)(x[(size_t)c * plane] - top));
            for (int c = 0; c < s.c; c++) {
                double logp = (double)(x[(size_t)c * plane] - top) - log(sum);
                double want = (double)eps / s.c + (c == label ? 1.0 - (double)eps : 0.0);
                loss -= want * logp;
                if (k->dy && k->dx[0])
                    k->dx[0][uf_at(s, b, c, 0, 0) + i] += *k->dy * (float)((exp(logp) - want) / (double)n);
            }
        }
    if (!k->dy) *k->out = (float)(loss / (double)n);
}

const uf_op uf_op_cross_entropy = {.name = "cross_entropy", .n_in = 2, .infer = infer_cross_entropy,
                                   .fwd = cross_entropy_run, .bwd = cross_entropy_run, .no_grad = {false, true}};

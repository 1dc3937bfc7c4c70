/* Elementwise functions, arithmetic with broadcasting, sums and means, dropout. */
#include "ops.h"

#include <math.h>
#include <string.h>

/* name, y from x, dy/dx from x and y */
#define UNARY(X)                                                                                                      \
    X(relu, v > 0.f ? v : 0.f, v > 0.f ? 1.f : 0.f)                                                                   \
    X(leaky_relu, v > 0.f ? v : slope * v, v > 0.f ? 1.f : slope)                                                     \
    X(sigmoid, 1.f / (1.f + expf(-v)), y * (1.f - y))                                                                 \
    X(tanh, tanhf(v), 1.f - y * y)                                                                                    \
    X(exp, expf(v), y)                                                                                                \
    X(log, logf(v), 1.f / v)                                                                                          \
    X(sqrt, sqrtf(v), .5f / y)                                                                                        \
    X(abs, fabsf(v), v < 0.f ? -1.f : v > 0.f ? 1.f : 0.f)                                                            \
    X(square, v * v, 2.f * v)

#define DEFINE(op, forward, derivative)                                                                               \
    static void op##_fwd(const uf_call *c) {                                                                          \
        size_t n = uf_count(c->y->shape);                                                                             \
        float slope = c->y->attr.slope;                                                                               \
        (void)slope;                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                              \
            float v = c->x[0][i];                                                                                     \
            c->out[i] = forward;                                                                                      \
        }                                                                                                             \
    }                                                                                                                 \
    static void op##_bwd(const uf_call *c) {                                                                          \
        if (!c->dx[0]) return;                                                                                        \
        size_t n = uf_count(c->y->shape);                                                                             \
        float slope = c->y->attr.slope;                                                                               \
        (void)slope;                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                              \
            float v = c->x[0][i], y = c->out[i];                                                                      \
            (void)v, (void)y;                                                                                         \
            c->dx[0][i] += c->dy[i] * (derivative);                                                                   \
        }                                                                                                             \
    }                                                                                                                 \
    const uf_op uf_op_##op = {.name = #op, .n_in = 1, .infer = uf_infer_same, .fwd = op##_fwd, .bwd = op##_bwd};
UNARY(DEFINE)

static void scale_fwd(const uf_call *c) {
    for (size_t i = 0; i < uf_count(c->y->shape); i++) c->out[i] = c->y->attr.scale * c->x[0][i] + c->y->attr.bias;
}

static void scale_bwd(const uf_call *c) {
    if (!c->dx[0]) return;
    for (size_t i = 0; i < uf_count(c->y->shape); i++) c->dx[0][i] += c->y->attr.scale * c->dy[i];
}

const uf_op uf_op_scale = {.name = "scale", .n_in = 1, .infer = uf_infer_same, .fwd = scale_fwd, .bwd = scale_bwd};

/* ---- two inputs, size-1 axes repeat --------------------------------------------------------------------------- */

static int infer_binary(uf_ctx *ctx, uf_node *y) {
    uf_shape a = y->in[0]->shape, b = y->in[1]->shape;
    y->shape = a;
    for (int i = 0; i < 4; i++) {
        int p = uf_axis(a, i), q = uf_axis(b, i);
        if (p != q && p != 1 && q != 1) return uf_shape_error(ctx, y, "each axis must agree, or be 1 in one of them");
        uf_axis_set(&y->shape, i, p > q ? p : q);
    }
    return UF_OK;
}

static size_t spread(uf_shape s, int n, int c, int h, int w) {
    return uf_at(s, s.n > 1 ? n : 0, s.c > 1 ? c : 0, s.h > 1 ? h : 0, s.w > 1 ? w : 0);
}

typedef struct pair { /* a value and its derivatives */
    float y, da, db;
} pair;

static pair of_add(float a, float b) { return (pair){a + b, 1.f, 1.f}; }
static pair of_sub(float a, float b) { return (pair){a - b, 1.f, -1.f}; }
static pair of_mul(float a, float b) { return (pair){a * b, b, a}; }
static pair of_div(float a, float b) { return (pair){a / b, 1.f / b, -a / (b * b)}; }

static void binary(const uf_call *k, pair (*f)(float, float), bool back) {
    uf_shape s = k->y->shape, a = k->y->in[0]->shape, b = k->y->in[1]->shape;
    size_t at = 0;
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int h = 0; h < s.h; h++)
                for (int w = 0; w < s.w; w++, at++) {
                    size_t i = spread(a, n, c, h, w), j = spread(b, n, c, h, w);
                    pair r = f(k->x[0][i], k->x[1][j]);
                    if (!back) k->out[at] = r.y;
                    if (back && k->dx[0]) k->dx[0][i] += k->dy[at] * r.da;
                    if (back && k->dx[1]) k->dx[1][j] += k->dy[at] * r.db;
                }
}

#define BINARY(op)                                                                                                    \
    static void op##_fwd(const uf_call *c) { binary(c, of_##op, false); }                                             \
    static void op##_bwd(const uf_call *c) { binary(c, of_##op, true); }                                              \
    const uf_op uf_op_##op = {.name = #op, .n_in = 2, .infer = infer_binary, .fwd = op##_fwd, .bwd = op##_bwd};
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)

/* ---- reductions ------------------------------------------------------------------------------------------------- */

static int infer_reduce(uf_ctx *ctx, uf_node *y) {
    (void)ctx;
    y->shape = y->in[0]->shape;
    for (int i = 0; i < 4; i++)
        if (y->attr.axes >> i & 1u) uf_axis_set(&y->shape, i, 1);
    return UF_OK;
}

static float share(const uf_node *y) { /* of one element in its mean; 1 for a sum */
    return y->op->name[0] == 'm' ? (float)uf_count(y->shape) / (float)uf_count(y->in[0]->shape) : 1.f;
}

static void reduce_fwd(const uf_call *k) {
    uf_shape x = k->y->in[0]->shape, s = k->y->shape;
    memset(k->out, 0, uf_count(s) * sizeof *k->out);
    size_t at = 0;
    float f = share(k->y);
    for (int n = 0; n < x.n; n++)
        for (int c = 0; c < x.c; c++)
            for (int h = 0; h < x.h; h++)
                for (int w = 0; w < x.w; w++) k->out[spread(s, n, c, h, w)] += f * k->x[0][at++];
}

static void reduce_bwd(const uf_call *k) {
    if (!k->dx[0]) return;
    uf_shape x = k->y->in[0]->shape, s = k->y->shape;
    size_t at = 0;
    float f = share(k->y);
    for (int n = 0; n < x.n; n++)
        for (int c = 0; c < x.c; c++)
            for (int h = 0; h < x.h; h++)
                for (int w = 0; w < x.w; w++) k->dx[0][at++] += f * k->dy[spread(s, n, c, h, w)];
}

const uf_op uf_op_sum = {.name = "sum", .n_in = 1, .infer = infer_reduce, .fwd = reduce_fwd, .bwd = reduce_bwd};
const uf_op uf_op_mean = {.name = "mean", .n_in = 1, .infer = infer_reduce, .fwd = reduce_fwd, .bwd = reduce_bwd};

/* ---- dropout (Srivastava et al. 2014), scaled when training ------------------------------------------------------ */

static float kept(const uf_call *c, size_t i) {
    if (!c->train || !c->y->attr.mode) return 1.f;
    float p = c->y->attr.p;
    return uf_uniform(c->seed, (uint64_t)c->y->index, i) < p ? 0.f : 1.f / (1.f - p);
}

static int infer_dropout(uf_ctx *ctx, uf_node *y) {
    if (!(y->attr.p >= 0.f && y->attr.p < 1.f)) return uf_shape_error(ctx, y, "the probability must be in [0,1)");
    return uf_infer_same(ctx, y);
}

static void dropout_fwd(const uf_call *c) {
    for (size_t i = 0; i < uf_count(c->y->shape); i++) c->out[i] = c->x[0][i] * kept(c, i);
}

static void dropout_bwd(const uf_call *c) {
    if (!c->dx[0]) return;
    for (size_t i = 0; i < uf_count(c->y->shape); i++) c->dx[0][i] += c->dy[i] * kept(c, i);
}

const uf_op uf_op_dropout = {
    .name = "dropout", .n_in = 1, .infer = infer_dropout, .fwd = dropout_fwd, .bwd = dropout_bwd};

/* Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), PyTorch's variant: gates r, z, n in this order, the reset gate
 * applied to the hidden product with its bias. x (N,C,1,T) -> h (N,out,1,T). */
#include "ops.h"

#include <math.h>
#include <string.h>

static int infer_gru(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape, wx = y->in[1]->shape, wh = y->in[2]->shape;
    int o = y->attr.out;
    if (x.h != 1) return uf_shape_error(ctx, y, "a sequence is (N,C,1,T)");
    if (wx.h != 3 * o || wx.w != x.c || wh.h != 3 * o || wh.w != o || uf_count(y->in[3]->shape) != (size_t)(3 * o) ||
        uf_count(y->in[4]->shape) != (size_t)(3 * o))
        return uf_shape_error(ctx, y, "weights must be (3*out, C), (3*out, out), biases 3*out");
    y->shape = (uf_shape){x.n, o, 1, x.w};
    return UF_OK;
}

/* aux: r, z, n and (Wh h + bh)_n of every step: (N, T, 4, out); then one step's hidden gradient, 2*out. */
static size_t gru_aux(const uf_node *y) {
    return (size_t)y->shape.n * (size_t)y->shape.w * 4 * (size_t)y->attr.out + 2 * (size_t)y->attr.out;
}

static float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

typedef struct step {
    int b, t, before; /* sample, time, time of the state before (-1: none) */
} step;

static step step_of(const uf_node *y, int b, int i) {
    int n = y->shape.w, t = y->attr.reverse ? n - 1 - i : i;
    return (step){b, t, i == 0 ? -1 : y->attr.reverse ? t + 1 : t - 1};
}

static float state(const uf_call *c, step s, int j) {
    return s.before < 0 ? 0.f : c->out[uf_at(c->y->shape, s.b, j, 0, s.before)];
}

static float *gates(const uf_call *c, step s) {
    return c->aux + ((size_t)s.b * (size_t)c->y->shape.w + (size_t)s.t) * 4 * (size_t)c->y->attr.out;
}

static void step_fwd(const uf_call *c, step s) {
    int o = c->y->attr.out, in = c->y->in[0]->shape.c;
    float *g = gates(c, s);
    for (int j = 0; j < o; j++) {
        double a[3], h[3];
        for (int k = 0; k < 3; k++) {
            int row = k * o + j;
            a[k] = (double)c->x[3][row];
            h[k] = (double)c->x[4][row];
            for (int i = 0; i < in; i++)
                a[k] += (double)c->x[1][(size_t)row * (size_t)in + (size_t)i] *
                        (double)c->x[0][uf_at(c->y->in[0]->shape, s.b, i, 0, s.t)];
            for (int i = 0; i < o; i++)
                h[k] += (double)c->x[2][(size_t)row * (size_t)o + (size_t)i] * (double)state(c, s, i);
        }
        g[j] = sigmoid((float)(a[0] + h[0]));
        g[o + j] = sigmoid((float)(a[1] + h[1]));
        g[2 * o + j] = tanhf((float)(a[2] + (double)g[j] * h[2]));
        g[3 * o + j] = (float)h[2];
        c->out[uf_at(c->y->shape, s.b, j, 0, s.t)] = (1.f - g[o + j]) * g[2 * o + j] + g[o + j] * state(c, s, j);
    }
}

static void gru_fwd(const uf_call *c) {
    for (int b = 0; b < c->y->shape.n; b++)
        for (int i = 0; i < c->y->shape.w; i++) step_fwd(c, step_of(c->y, b, i));
}

/* dh: gradient of this step's state; before: gradient handed to the state before it. */
static void step_bwd(const uf_call *c, step s, const float *dh, float *before) {
    int o = c->y->attr.out, in = c->y->in[0]->shape.c;
    const float *g = gates(c, s);
    for (int j = 0; j < o; j++) before[j] = dh[j] * g[o + j];
    for (int j = 0; j < o; j++) {
        float r = g[j], z = g[o + j], n = g[2 * o + j], dn = dh[j] * (1.f - z) * (1.f - n * n);
        float da[3] = {dn * g[3 * o + j] * r * (1.f - r), dh[j] * (state(c, s, j) - n) * z * (1.f - z), dn};
        for (int k = 0; k < 3; k++) {
            int row = k * o + j;
            float dhid = k == 2 ? dn * r : da[k]; /* gradient of (Wh h + bh) */
            if (c->dx[3]) c->dx[3][row] += da[k];
            if (c->dx[4]) c->dx[4][row] += dhid;
            for (int i = 0; i < in; i++) {
                size_t w = (size_t)row * (size_t)in + (size_t)i, x = uf_at(c->y->in[0]->shape, s.b, i, 0, s.t);
                if (c->dx[0]) c->dx[0][x] += da[k] * c->x[1][w];
                if (c->dx[1]) c->dx[1][w] += da[k] * c->x[0][x];
            }
            for (int i = 0; i < o; i++) {
                size_t w = (size_t)row * (size_t)o + (size_t)i;
                before[i] += dhid * c->x[2][w];
                if (c->dx[2]) c->dx[2][w] += dhid * state(c, s, i);
            }
        }
    }
}

static void gru_bwd(const uf_call *c) {
    int o = c->y->attr.out;
    float *dh = c->aux + gru_aux(c->y) - 2 * (size_t)o, *before = dh + o;
    for (int b = 0; b < c->y->shape.n; b++) {
        memset(before, 0, (size_t)o * sizeof *before);
        for (int i = c->y->shape.w - 1; i >= 0; i--) {
            step s = step_of(c->y, b, i);
            for (int j = 0; j < o; j++) dh[j] = before[j] + c->dy[uf_at(c->y->shape, b, j, 0, s.t)];
            step_bwd(c, s, dh, before);
        }
    }
}

const uf_op uf_op_gru = {.name = "gru", .n_in = 5, .infer = infer_gru, .fwd = gru_fwd, .bwd = gru_bwd, .n_aux = gru_aux};

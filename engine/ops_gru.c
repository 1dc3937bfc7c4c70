/* Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), PyTorch's variant: gates r, z, n in this order, the reset gate
 * applied to the hidden product with its bias. x (N,C,H,W) -> h (N,out,H,W), along axis 3 (a sequence for each n and h) or
 * 2 (for each n and w). A sixth input is the state that the sequences begin with, of size 1 along their axis; without it they
 * begin with zeros. */
#include "ops.h"

#include <math.h>
#include <string.h>

static int infer_gru(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape, wx = y->in[1]->shape, wh = y->in[2]->shape;
    int o = y->attr.out;
    if (y->attr.axis != 2 && y->attr.axis != 3) return uf_shape_error(ctx, y, "a sequence runs along axis 2 or 3");
    if (wx.h != 3 * o || wx.w != x.c || wh.h != 3 * o || wh.w != o || uf_count(y->in[3]->shape) != (size_t)(3 * o) ||
        uf_count(y->in[4]->shape) != (size_t)(3 * o))
        return uf_shape_error(ctx, y, "weights must be (3*out, C), (3*out, out), biases 3*out");
    y->shape = (uf_shape){x.n, o, x.h, x.w};
    uf_shape first = y->shape;
    uf_axis_set(&first, y->attr.axis, 1);
    if (y->n_in > 5 && !uf_same(y->in[5]->shape, first)) return uf_shape_error(ctx, y, "the first state must be one step of the result");
    return UF_OK;
}

/* aux: r, z, n and (Wh h + bh)_n of every place: (N, H, W, 4, out); then one step's hidden gradient, 2*out. */
static size_t gru_aux(const uf_node *y) { return uf_count(y->shape) * 4 + 2 * (size_t)y->attr.out; }

static float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

typedef struct step {
    int n, h, w;
    int before_h, before_w; /* where the state before is; -1: there is none */
} step;

/* Step i of the sequence that crosses the other axis at `across`. */
static step step_of(const uf_node *y, int n, int across, int i) {
    bool rows = y->attr.axis == 2, reverse = y->attr.reverse;
    int length = rows ? y->shape.h : y->shape.w, t = reverse ? length - 1 - i : i, before = reverse ? t + 1 : t - 1;
    step s = {n, rows ? t : across, rows ? across : t, -1, -1};
    if (i > 0) {
        s.before_h = rows ? before : across;
        s.before_w = rows ? across : before;
    }
    return s;
}

/* Place of the first state that the sequence of s begins with. */
static size_t first_at(const uf_node *y, step s, int j) {
    bool rows = y->attr.axis == 2;
    return uf_at(y->in[5]->shape, s.n, j, rows ? 0 : s.h, rows ? s.w : 0);
}

static float state(const uf_call *c, step s, int j) {
    if (s.before_h >= 0) return c->out[uf_at(c->y->shape, s.n, j, s.before_h, s.before_w)];
    return c->y->n_in > 5 ? c->x[5][first_at(c->y, s, j)] : 0.f;
}

static float *gates(const uf_call *c, step s) {
    uf_shape y = c->y->shape;
    return c->aux + (((size_t)s.n * (size_t)y.h + (size_t)s.h) * (size_t)y.w + (size_t)s.w) * 4 * (size_t)y.c;
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
                        (double)c->x[0][uf_at(c->y->in[0]->shape, s.n, i, s.h, s.w)];
            for (int i = 0; i < o; i++)
                h[k] += (double)c->x[2][(size_t)row * (size_t)o + (size_t)i] * (double)state(c, s, i);
        }
        g[j] = sigmoid((float)(a[0] + h[0]));
        g[o + j] = sigmoid((float)(a[1] + h[1]));
        g[2 * o + j] = tanhf((float)(a[2] + (double)g[j] * h[2]));
        g[3 * o + j] = (float)h[2];
        c->out[uf_at(c->y->shape, s.n, j, s.h, s.w)] = (1.f - g[o + j]) * g[2 * o + j] + g[o + j] * state(c, s, j);
    }
}

static int n_across(const uf_node *y) { return y->attr.axis == 2 ? y->shape.w : y->shape.h; }
static int n_along(const uf_node *y) { return y->attr.axis == 2 ? y->shape.h : y->shape.w; }

static void gru_fwd(const uf_call *c) {
    for (int n = 0; n < c->y->shape.n; n++)
        for (int k = 0; k < n_across(c->y); k++)
            for (int i = 0; i < n_along(c->y); i++) step_fwd(c, step_of(c->y, n, k, i));
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
                size_t w = (size_t)row * (size_t)in + (size_t)i, x = uf_at(c->y->in[0]->shape, s.n, i, s.h, s.w);
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
    for (int n = 0; n < c->y->shape.n; n++)
        for (int k = 0; k < n_across(c->y); k++) {
            memset(before, 0, (size_t)o * sizeof *before);
            for (int i = n_along(c->y) - 1; i >= 0; i--) {
                step s = step_of(c->y, n, k, i);
                for (int j = 0; j < o; j++) dh[j] = before[j] + c->dy[uf_at(c->y->shape, n, j, s.h, s.w)];
                step_bwd(c, s, dh, before);
            }
            for (int j = 0; c->y->n_in > 5 && c->dx[5] && j < o; j++) c->dx[5][first_at(c->y, step_of(c->y, n, k, 0), j)] += before[j];
        }
}

const uf_op uf_op_gru = {
    .name = "gru", .n_in = 6, .n_optional = 1, .infer = infer_gru, .fwd = gru_fwd, .bwd = gru_bwd, .n_aux = gru_aux};

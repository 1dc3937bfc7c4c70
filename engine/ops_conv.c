/* Convolution and its transpose, written as the sums they are. */
#include "ops.h"

static int infer_conv(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape, w = y->in[1]->shape;
    uf_attr a = y->attr;
    if (a.groups < 1 || x.c % a.groups || a.out % a.groups)
        return uf_shape_error(ctx, y, "channels must be a multiple of the groups");
    if (w.n != a.out || w.c != x.c / a.groups || w.h != a.kh || w.w != a.kw)
        return uf_shape_error(ctx, y, "the weight must be (out, in/groups, k, k)");
    if (y->n_in > 2 && uf_count(y->in[2]->shape) != (size_t)a.out)
        return uf_shape_error(ctx, y, "the bias must have one value an output channel");
    int h = x.h + a.top + a.bottom - a.dilation * (a.kh - 1) - 1, v = x.w + 2 * a.pad - a.dilation * (a.kw - 1) - 1;
    if (h < 0 || v < 0 || a.stride < 1) return uf_shape_error(ctx, y, "the picture is smaller than the kernel");
    y->shape = (uf_shape){x.n, a.out, h / a.stride + 1, v / a.stride + 1};
    return UF_OK;
}

/* Calls f(i, j, k) for every product y[i] += x[j] * w[k] of one (n, o) plane. */
typedef struct product {
    const float *x, *w, *dy;
    float *out, *dx, *dw;
} product;

static void conv_plane(const uf_call *c, int n, int o, const product *p) {
    uf_shape x = c->y->in[0]->shape, w = c->y->in[1]->shape, y = c->y->shape;
    uf_attr a = c->y->attr;
    int first = o / (a.out / a.groups) * w.c;
    for (int ci = 0; ci < w.c; ci++)
        for (int ki = 0; ki < a.kh; ki++)
            for (int kj = 0; kj < a.kw; kj++) {
                size_t k = uf_at(w, o, ci, ki, kj);
                double dw = 0;
                for (int i = 0; i < y.h; i++) {
                    int h = i * a.stride - a.top + ki * a.dilation;
                    if (h < 0 || h >= x.h) continue;
                    for (int j = 0; j < y.w; j++) {
                        int v = j * a.stride - a.pad + kj * a.dilation;
                        if (v < 0 || v >= x.w) continue;
                        size_t at = uf_at(x, n, first + ci, h, v), to = uf_at(y, n, o, i, j);
                        if (p->out) p->out[to] += p->x[at] * p->w[k];
                        if (p->dx) p->dx[at] += p->dy[to] * p->w[k];
                        if (p->dw) dw += (double)p->dy[to] * (double)p->x[at];
                    }
                }
                if (p->dw) p->dw[k] += (float)dw;
            }
}

static void conv_fwd(const uf_call *c) {
    uf_shape y = c->y->shape;
    size_t plane = (size_t)y.h * (size_t)y.w;
#pragma omp parallel for collapse(2)
    for (int n = 0; n < y.n; n++)
        for (int o = 0; o < y.c; o++) {
            float *out = c->out + uf_at(y, n, o, 0, 0), b = c->y->n_in > 2 ? c->x[2][o] : 0.f;
            for (size_t i = 0; i < plane; i++) out[i] = b;
            product p = {.x = c->x[0], .w = c->x[1], .out = c->out};
            conv_plane(c, n, o, &p);
        }
}

static void conv_bwd(const uf_call *c) {
    uf_shape y = c->y->shape;
    size_t plane = (size_t)y.h * (size_t)y.w;
    product p = {.x = c->x[0], .w = c->x[1], .dy = c->dy, .dx = c->dx[0], .dw = c->dx[1]};
    for (int n = 0; n < y.n; n++)
        for (int o = 0; o < y.c; o++) {
            conv_plane(c, n, o, &p);
            if (c->y->n_in < 3 || !c->dx[2]) continue;
            double sum = 0;
            for (size_t i = 0; i < plane; i++) sum += (double)c->dy[uf_at(y, n, o, 0, 0) + i];
            c->dx[2][o] += (float)sum;
        }
}

const uf_op uf_op_conv2d = {.name = "conv2d", .n_in = 3, .n_optional = 1, .infer = infer_conv, .fwd = conv_fwd, .bwd = conv_bwd};

/* ---- transposed: the roles of x and y exchanged ---------------------------------------------------------------- */

static int infer_transposed(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape, w = y->in[1]->shape;
    uf_attr a = y->attr;
    if (a.groups < 1 || x.c % a.groups || a.out % a.groups || w.n != x.c || w.c != a.out / a.groups)
        return uf_shape_error(ctx, y, "the weight must be (in, out/groups, k, k)");
    int h = (x.h - 1) * a.stride + a.dilation * (a.kh - 1) + 1 - 2 * a.pad;
    int v = (x.w - 1) * a.stride + a.dilation * (a.kw - 1) + 1 - 2 * a.pad;
    if (h < 1 || v < 1) return uf_shape_error(ctx, y, "nothing is left after the padding");
    y->shape = (uf_shape){x.n, a.out, h, v};
    return UF_OK;
}

static void transposed(const uf_call *c, const product *p) {
    uf_shape x = c->y->in[0]->shape, w = c->y->in[1]->shape, y = c->y->shape;
    uf_attr a = c->y->attr;
    for (int n = 0; n < x.n; n++)
        for (int ci = 0; ci < x.c; ci++)
            for (int o = 0; o < w.c; o++)
                for (int ki = 0; ki < a.kh; ki++)
                    for (int kj = 0; kj < a.kw; kj++)
                        for (int i = 0; i < x.h; i++)
                            for (int j = 0; j < x.w; j++) {
                                int h = i * a.stride - a.pad + ki * a.dilation;
                                int v = j * a.stride - a.pad + kj * a.dilation;
                                if (h < 0 || h >= y.h || v < 0 || v >= y.w) continue;
                                int oc = ci / (x.c / a.groups) * w.c + o;
                                size_t at = uf_at(x, n, ci, i, j), to = uf_at(y, n, oc, h, v);
                                size_t k = uf_at(w, ci, o, ki, kj);
                                if (p->out) p->out[to] += p->x[at] * p->w[k];
                                if (p->dx) p->dx[at] += p->dy[to] * p->w[k];
                                if (p->dw) p->dw[k] += p->dy[to] * p->x[at];
                            }
}

static void transposed_fwd(const uf_call *c) {
    uf_shape y = c->y->shape;
    for (int n = 0; n < y.n; n++)
        for (int o = 0; o < y.c; o++)
            for (size_t i = 0; i < (size_t)y.h * (size_t)y.w; i++)
                c->out[uf_at(y, n, o, 0, 0) + i] = c->y->n_in > 2 ? c->x[2][o] : 0.f;
    product p = {.x = c->x[0], .w = c->x[1], .out = c->out};
    transposed(c, &p);
}

static void transposed_bwd(const uf_call *c) {
    uf_shape y = c->y->shape;
    product p = {.x = c->x[0], .w = c->x[1], .dy = c->dy, .dx = c->dx[0], .dw = c->dx[1]};
    transposed(c, &p);
    if (c->y->n_in < 3 || !c->dx[2]) return;
    for (int n = 0; n < y.n; n++)
        for (int o = 0; o < y.c; o++)
            for (size_t i = 0; i < (size_t)y.h * (size_t)y.w; i++) c->dx[2][o] += c->dy[uf_at(y, n, o, 0, 0) + i];
}

const uf_op uf_op_conv_transpose2d = {
    .name = "conv_transpose2d", .n_in = 3, .n_optional = 1, .infer = infer_transposed, .fwd = transposed_fwd, .bwd = transposed_bwd};

/* Pooling, the 2x2 blur behind an upsampler, and resizing. Each output is a weighted sum of inputs (or one of them). */
#include "ops.h"

#include <math.h>
#include <string.h>

static int infer_pool(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    uf_attr a = y->attr;
    if (a.kh < 1 || a.stride < 1 || x.h < a.kh || x.w < a.kw)
        return uf_shape_error(ctx, y, "the picture is smaller than the window");
    y->shape = (uf_shape){x.n, x.c, (x.h - a.kh) / a.stride + 1, (x.w - a.kw) / a.stride + 1};
    return UF_OK;
}

/* The first maximum of a window. */
static size_t argmax(const uf_call *k, int n, int c, int i, int j) {
    uf_shape x = k->y->in[0]->shape;
    uf_attr a = k->y->attr;
    size_t best = uf_at(x, n, c, i * a.stride, j * a.stride);
    for (int u = 0; u < a.kh; u++)
        for (int v = 0; v < a.kw; v++) {
            size_t at = uf_at(x, n, c, i * a.stride + u, j * a.stride + v);
            if (k->x[0][at] > k->x[0][best]) best = at;
        }
    return best;
}

static void max_run(const uf_call *k) {
    uf_shape s = k->y->shape;
    size_t at = 0;
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++, at++) {
                    size_t best = argmax(k, n, c, i, j);
                    if (!k->dy)
                        k->out[at] = k->x[0][best];
                    else if (k->dx[0])
                        k->dx[0][best] += k->dy[at];
                }
}

const uf_op uf_op_max_pool = {.name = "max_pool", .n_in = 1, .infer = infer_pool, .fwd = max_run, .bwd = max_run};

/* One term of a linear map: out[to] += f * x[from], or its transpose. */
static void term(const uf_call *k, size_t to, size_t from, float f) {
    if (!k->dy)
        k->out[to] += f * k->x[0][from];
    else if (k->dx[0])
        k->dx[0][from] += f * k->dy[to];
}

static void clear(const uf_call *k) {
    if (!k->dy) memset(k->out, 0, uf_count(k->y->shape) * sizeof(float));
}

static void avg_run(const uf_call *k) {
    uf_shape s = k->y->shape, x = k->y->in[0]->shape;
    uf_attr a = k->y->attr;
    clear(k);
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++)
                    for (int u = 0; u < a.kh; u++)
                        for (int v = 0; v < a.kw; v++)
                            term(k, uf_at(s, n, c, i, j), uf_at(x, n, c, i * a.stride + u, j * a.stride + v),
                                 1.f / (float)(a.kh * a.kw));
}

const uf_op uf_op_avg_pool = {.name = "avg_pool", .n_in = 1, .infer = infer_pool, .fwd = avg_run, .bwd = avg_run};

static int infer_group(uf_ctx *ctx, uf_node *y) {
    if (y->attr.groups < 1 || y->in[0]->shape.n % y->attr.groups) return uf_shape_error(ctx, y, "the samples must be whole groups");
    return uf_infer_same(ctx, y);
}

/* Its own transpose: the gradients of a group, too, are their mean for each member. */
static void group_run(const uf_call *k) {
    size_t size = uf_count(k->y->shape) / (size_t)k->y->shape.n, members = (size_t)k->y->attr.groups;
    const float *x = k->dy ? k->dy : k->x[0];
    if (k->dy && !k->dx[0]) return;
    for (size_t first = 0; first < (size_t)k->y->shape.n * size; first += members * size)
        for (size_t i = first; i < first + size; i++) {
            float sum = 0;
            for (size_t m = 0; m < members; m++) sum += x[i + m * size];
            for (size_t m = 0; m < members; m++) {
                if (k->dy) k->dx[0][i + m * size] += sum / (float)members;
                else k->out[i + m * size] = sum / (float)members;
            }
        }
}

const uf_op uf_op_group_mean = {.name = "group_mean", .n_in = 1, .infer = infer_group, .fwd = group_run, .bwd = group_run};

static void blur_run(const uf_call *k) {
    uf_shape s = k->y->shape;
    clear(k);
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int i = 0; i < s.h; i++)
                for (int j = 0; j < s.w; j++)
                    for (int u = 0; u < 4; u++) {
                        int h = i - u / 2 < 0 ? 0 : i - u / 2, w = j - u % 2 < 0 ? 0 : j - u % 2;
                        term(k, uf_at(s, n, c, i, j), uf_at(s, n, c, h, w), .25f);
                    }
}

const uf_op uf_op_blur = {.name = "blur", .n_in = 1, .infer = uf_infer_same, .fwd = blur_run, .bwd = blur_run};

/* ---- resize ------------------------------------------------------------------------------------------------------- */

static int infer_resize(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    if (y->attr.shape.h < 1 || y->attr.shape.w < 1) return uf_shape_error(ctx, y, "sides must be 1 or more");
    y->shape = (uf_shape){x.n, x.c, y->attr.shape.h, y->attr.shape.w};
    return UF_OK;
}

/* Half-pixel centres: where output i of n falls among m inputs, and the share of the second neighbour. */
typedef struct tap {
    int a, b;
    float share;
} tap;

static tap tap_of(int i, int n, int m, int bilinear) {
    float at = ((float)i + .5f) * (float)m / (float)n;
    if (!bilinear) {
        int a = (int)at < m ? (int)at : m - 1;
        return (tap){a, a, 0.f};
    }
    at = at - .5f < 0.f ? 0.f : at - .5f;
    int a = (int)at < m - 1 ? (int)at : m - 1;
    return (tap){a, a + 1 < m ? a + 1 : a, at - (float)a};
}

static void resize_run(const uf_call *k) {
    uf_shape s = k->y->shape, x = k->y->in[0]->shape;
    clear(k);
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int i = 0; i < s.h; i++) {
                tap v = tap_of(i, s.h, x.h, k->y->attr.mode);
                for (int j = 0; j < s.w; j++) {
                    tap h = tap_of(j, s.w, x.w, k->y->attr.mode);
                    size_t to = uf_at(s, n, c, i, j);
                    term(k, to, uf_at(x, n, c, v.a, h.a), (1.f - v.share) * (1.f - h.share));
                    if (h.share > 0.f) term(k, to, uf_at(x, n, c, v.a, h.b), (1.f - v.share) * h.share);
                    if (v.share > 0.f) term(k, to, uf_at(x, n, c, v.b, h.a), v.share * (1.f - h.share));
                    if (v.share > 0.f && h.share > 0.f) term(k, to, uf_at(x, n, c, v.b, h.b), v.share * h.share);
                }
            }
}

const uf_op uf_op_resize = {.name = "resize", .n_in = 1, .infer = infer_resize, .fwd = resize_run, .bwd = resize_run};

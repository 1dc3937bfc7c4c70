/* Rearrangements: pixel shuffle and its inverse, concat, slice, reshape, transpose. */
#include "ops.h"

#include <string.h>

/* Every output element is one input element: source(y, i) says which. Copies forward, adds backward. */
static void gather(const uf_call *k, size_t (*source)(const uf_node *y, int n, int c, int h, int w)) {
    uf_shape s = k->y->shape;
    size_t at = 0;
    for (int n = 0; n < s.n; n++)
        for (int c = 0; c < s.c; c++)
            for (int h = 0; h < s.h; h++)
                for (int w = 0; w < s.w; w++, at++) {
                    size_t from = source(k->y, n, c, h, w);
                    if (!k->dy)
                        k->out[at] = k->x[0][from];
                    else if (k->dx[0])
                        k->dx[0][from] += k->dy[at];
                }
}

#define GATHER(op, infer_fn)                                                                                          \
    static void op##_run(const uf_call *k) { gather(k, op##_source); }                                                \
    const uf_op uf_op_##op = {.name = #op, .n_in = 1, .infer = infer_fn, .fwd = op##_run, .bwd = op##_run};

static int infer_shuffle(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    int r = y->attr.r;
    if (r < 1 || x.c % (r * r)) return uf_shape_error(ctx, y, "channels must be a multiple of the factor squared");
    y->shape = (uf_shape){x.n, x.c / (r * r), x.h * r, x.w * r};
    return UF_OK;
}

static size_t pixel_shuffle_source(const uf_node *y, int n, int c, int h, int w) {
    int r = y->attr.r;
    return uf_at(y->in[0]->shape, n, (c * r + h % r) * r + w % r, h / r, w / r);
}
GATHER(pixel_shuffle, infer_shuffle)

static int infer_unshuffle(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    int r = y->attr.r;
    if (r < 1 || x.h % r || x.w % r) return uf_shape_error(ctx, y, "height and width must be multiples of the factor");
    y->shape = (uf_shape){x.n, x.c * r * r, x.h / r, x.w / r};
    return UF_OK;
}

static size_t pixel_unshuffle_source(const uf_node *y, int n, int c, int h, int w) {
    int r = y->attr.r;
    return uf_at(y->in[0]->shape, n, c / (r * r), h * r + c / r % r, w * r + c % r);
}
GATHER(pixel_unshuffle, infer_unshuffle)

static int infer_fold(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    int r = y->attr.r;
    if (r < 1 || x.w % r) return uf_shape_error(ctx, y, "the width must be a multiple of the factor");
    y->shape = (uf_shape){x.n, x.c * r, x.h, x.w / r};
    return UF_OK;
}

static size_t fold_source(const uf_node *y, int n, int c, int h, int w) {
    uf_shape x = y->in[0]->shape;
    return uf_at(x, n, c % x.c, h, w * y->attr.r + c / x.c);
}
GATHER(fold, infer_fold)

static int infer_unfold(uf_ctx *ctx, uf_node *y) {
    uf_shape x = y->in[0]->shape;
    int r = y->attr.r;
    if (r < 1 || x.c % r) return uf_shape_error(ctx, y, "channels must be a multiple of the factor");
    y->shape = (uf_shape){x.n, x.c / r, x.h, x.w * r};
    return UF_OK;
}

static size_t unfold_source(const uf_node *y, int n, int c, int h, int w) {
    return uf_at(y->in[0]->shape, n, w % y->attr.r * y->shape.c + c, h, w / y->attr.r);
}
GATHER(unfold, infer_unfold)

static int infer_reshape(uf_ctx *ctx, uf_node *y) {
    y->shape = y->attr.shape;
    if (uf_count(y->shape) != uf_count(y->in[0]->shape)) return uf_shape_error(ctx, y, "the element counts differ");
    return UF_OK;
}

static size_t reshape_source(const uf_node *y, int n, int c, int h, int w) { return uf_at(y->shape, n, c, h, w); }
GATHER(reshape, infer_reshape)

static int infer_transpose(uf_ctx *ctx, uf_node *y) {
    unsigned seen = 0;
    for (int i = 0; i < 4; i++) {
        if (y->attr.perm[i] < 0 || y->attr.perm[i] > 3) return uf_shape_error(ctx, y, "axes are 0 to 3");
        seen |= 1u << y->attr.perm[i];
        uf_axis_set(&y->shape, i, uf_axis(y->in[0]->shape, y->attr.perm[i]));
    }
    return seen == 15 ? UF_OK : uf_shape_error(ctx, y, "each axis must appear once");
}

static size_t transpose_source(const uf_node *y, int n, int c, int h, int w) {
    int to[4] = {n, c, h, w}, from[4];
    for (int i = 0; i < 4; i++) from[y->attr.perm[i]] = to[i];
    return uf_at(y->in[0]->shape, from[0], from[1], from[2], from[3]);
}
GATHER(transpose, infer_transpose)

static int infer_slice(uf_ctx *ctx, uf_node *y) {
    uf_attr a = y->attr;
    y->shape = y->in[0]->shape;
    if (a.axis < 0 || a.axis > 3 || a.from < 0 || a.from >= a.to || a.to > uf_axis(y->shape, a.axis))
        return uf_shape_error(ctx, y, "the slice lies outside");
    uf_axis_set(&y->shape, a.axis, a.to - a.from);
    return UF_OK;
}

static size_t slice_source(const uf_node *y, int n, int c, int h, int w) {
    int at[4] = {n, c, h, w};
    at[y->attr.axis] += y->attr.from;
    return uf_at(y->in[0]->shape, at[0], at[1], at[2], at[3]);
}
GATHER(slice, infer_slice)

static int infer_concat(uf_ctx *ctx, uf_node *y) {
    int axis = y->attr.axis, sum = 0;
    if (y->n_in < 1 || axis < 0 || axis > 3) return uf_fail(ctx, UF_EINVAL, "'%s' concatenates nothing", y->name);
    for (int i = 0; i < y->n_in; i++) {
        uf_shape a = y->in[0]->shape, b = y->in[i]->shape;
        sum += uf_axis(b, axis);
        uf_axis_set(&a, axis, 1);
        uf_axis_set(&b, axis, 1);
        if (!uf_same(a, b)) return uf_shape_error(ctx, y, "all other axes must agree");
    }
    y->shape = y->in[0]->shape;
    uf_axis_set(&y->shape, axis, sum);
    return UF_OK;
}

static void concat_run(const uf_call *k) {
    size_t inner = uf_inner(k->y->shape, k->y->attr.axis), outer = uf_outer(k->y->shape, k->y->attr.axis);
    size_t line = (size_t)uf_axis(k->y->shape, k->y->attr.axis) * inner, at = 0;
    for (int i = 0; i < k->y->n_in; i++) {
        size_t n = (size_t)uf_axis(k->y->in[i]->shape, k->y->attr.axis) * inner;
        for (size_t o = 0; o < outer; o++) {
            if (!k->dy) {
                memcpy(k->out + o * line + at, k->x[i] + o * n, n * sizeof(float));
            } else if (k->dx[i]) {
                for (size_t j = 0; j < n; j++) k->dx[i][o * n + j] += k->dy[o * line + at + j];
            }
        }
        at += n;
    }
}

const uf_op uf_op_concat = {.name = "concat", .n_in = -1, .infer = infer_concat, .fwd = concat_run, .bwd = concat_run};

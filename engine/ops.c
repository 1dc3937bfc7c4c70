/* The index of all ops. A new op is one row here and its functions in an ops_*.c file. */
#include "ops.h"

#include <string.h>

#define OPS(X)                                                                                                        \
    X(input) X(param) X(conv2d) X(conv_transpose2d) X(batch_norm) X(instance_norm) X(group_norm) X(relu)              \
    X(leaky_relu) X(sigmoid) X(tanh) X(exp) X(log) X(sqrt) X(abs) X(square) X(add) X(sub) X(mul) X(div) X(scale)      \
    X(sum) X(mean) X(max_pool) X(avg_pool) X(group_mean) X(blur) X(resize) X(pixel_shuffle) X(pixel_unshuffle) X(concat) X(slice)   \
    X(reshape) X(transpose) X(matmul) X(softmax) X(attention) X(gru) X(stft) X(istft)\
    X(compress) X(magnitude) X(rotate) X(fold) X(unfold) X(spectral_norm) X(dropout)     \
    X(l1) X(l2) X(bce) X(hinge) X(cross_entropy)

#define DECLARE(name) extern const uf_op uf_op_##name;
OPS(DECLARE)
#define ADDRESS(name) &uf_op_##name,
const uf_op *const uf_ops[] = {OPS(ADDRESS) NULL};

const uf_op *uf_op_find(const char *name) {
    for (int i = 0; uf_ops[i]; i++)
        if (!strcmp(uf_ops[i]->name, name)) return uf_ops[i];
    return NULL;
}

int uf_shape_error(uf_ctx *ctx, const uf_node *y, const char *why) {
    uf_shape a = y->n_in > 0 ? y->in[0]->shape : y->shape, b = y->n_in > 1 ? y->in[1]->shape : a;
    return uf_fail(ctx, UF_EINVAL, "layer '%s' (%s) cannot take %dx%dx%dx%d and %dx%dx%dx%d: %s", y->name, y->op->name,
                   a.n, a.c, a.h, a.w, b.n, b.c, b.h, b.w, why);
}

int uf_infer_same(uf_ctx *ctx, uf_node *y) {
    (void)ctx;
    y->shape = y->in[0]->shape;
    return UF_OK;
}

int uf_infer_scalar(uf_ctx *ctx, uf_node *y) {
    if (!uf_same(y->in[0]->shape, y->in[1]->shape)) return uf_shape_error(ctx, y, "the two shapes must be equal");
    y->shape = (uf_shape){1, 1, 1, 1};
    return UF_OK;
}

static int infer_leaf(uf_ctx *ctx, uf_node *y) {
    y->shape = y->attr.shape;
    uf_shape s = y->shape;
    if (s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1) return uf_shape_error(ctx, y, "sides must be 1 or more");
    return UF_OK;
}

const uf_op uf_op_input = {.name = "input", .infer = infer_leaf};
const uf_op uf_op_param = {.name = "param", .infer = infer_leaf};

/* ONE list of op cases: gradient check, agreement of the backends, and fused = unfused all walk it. Shapes are small and
 * odd on purpose: 17 channels split a vector block, 5x7 has no even side. */
#ifndef UF_CASES_H
#define UF_CASES_H

#include "engine.h"

enum { CASE_INPUTS = 3 };

typedef struct op_case {
    const char *name; /* begins with the op's name; what follows '/' tells the variant */
    uf_shape in[CASE_INPUTS];
    uf_node *(*build)(uf_graph *g, uf_node **x);
    float from, to;   /* range of the inputs; both 0: gaussian of deviation 1 */
    float step;       /* of the central difference; 0: 1e-2 */
} op_case;

#define BUILD(id, expr)                                                                                               \
    static uf_node *id(uf_graph *g, uf_node **x) {                                                                    \
        (void)g;                                                                                                      \
        (void)x;                                                                                                      \
        return expr;                                                                                                  \
    }

BUILD(b_conv, uf_conv2d(x[0], "c", (uf_conv){.out = 9}))
BUILD(b_wino, uf_conv2d(x[0], "c", (uf_conv){.out = 48}))
BUILD(b_wino_wide, uf_conv2d(x[0], "c", (uf_conv){.out = 80, .pad = -1}))
BUILD(b_conv1, uf_conv2d(x[0], "c", (uf_conv){.out = 20, .k = 1, .no_bias = true}))
BUILD(b_conv_s2, uf_conv2d(x[0], "c", (uf_conv){.out = 8, .stride = 2}))
BUILD(b_conv_d2, uf_conv2d(x[0], "c", (uf_conv){.out = 5, .dilation = 2}))
BUILD(b_conv_g, uf_conv2d(x[0], "c", (uf_conv){.out = 12, .groups = 3}))
BUILD(b_conv_dw, uf_conv2d(x[0], "c", (uf_conv){.out = 6, .groups = 6}))
BUILD(b_conv_valid, uf_conv2d(x[0], "c", (uf_conv){.out = 4, .k = 5, .pad = -1}))
BUILD(b_conv_past, uf_conv2d(x[0], "c", (uf_conv){.out = 7, .rows = UF_ROWS_PAST}))
BUILD(b_conv_rows, uf_conv2d(x[0], "c", (uf_conv){.out = 7, .rows = UF_ROWS_NONE}))
BUILD(b_wino_past, uf_conv2d(x[0], "c", (uf_conv){.out = 48, .rows = UF_ROWS_PAST, .no_bias = true}))
BUILD(b_wino_rows, uf_conv2d(x[0], "c", (uf_conv){.out = 48, .rows = UF_ROWS_NONE, .no_bias = true}))
BUILD(b_conv_icnr, uf_pixel_shuffle(uf_conv2d(x[0], "c", (uf_conv){.out = 12, .k = 1, .init = UF_INIT_ICNR2}), 2))
BUILD(b_conv_sn, uf_conv2d(x[0], "c", (uf_conv){.out = 6, .spectral = true}))
BUILD(b_convt, uf_conv_transpose2d(x[0], "c", (uf_conv){.out = 3, .k = 4, .stride = 2, .pad = 1}))
BUILD(b_convt_g, uf_conv_transpose2d(x[0], "c", (uf_conv){.out = 4, .k = 3, .groups = 2}))
BUILD(b_bn, uf_batch_norm(x[0], "n"))
BUILD(b_in, uf_instance_norm(x[0], "n"))
BUILD(b_gn, uf_group_norm(x[0], "n", 3))
BUILD(b_relu, uf_unary(x[0], "relu"))
BUILD(b_leaky, uf_leaky_relu(x[0], .2f))
BUILD(b_sigmoid, uf_unary(x[0], "sigmoid"))
BUILD(b_tanh, uf_unary(x[0], "tanh"))
BUILD(b_exp, uf_unary(x[0], "exp"))
BUILD(b_log, uf_unary(x[0], "log"))
BUILD(b_sqrt, uf_unary(x[0], "sqrt"))
BUILD(b_abs, uf_unary(x[0], "abs"))
BUILD(b_square, uf_unary(x[0], "square"))
BUILD(b_add, uf_binary(x[0], "add", x[1]))
BUILD(b_sub, uf_binary(x[0], "sub", x[1]))
BUILD(b_mul, uf_binary(x[0], "mul", x[1]))
BUILD(b_div, uf_binary(x[0], "div", x[1]))
BUILD(b_gate, uf_binary(x[0], "mul", uf_parameter(g, "gate", (uf_shape){1, 1, 1, 1}, UF_INIT_ONE, false)))
BUILD(b_scale, uf_scale(x[0], -1.5f, .25f))
BUILD(b_sum, uf_reduce(x[0], "sum", 1u << 1 | 1u << 3))
BUILD(b_mean, uf_reduce(x[0], "mean", 1u << 2 | 1u << 3))
BUILD(b_max, uf_max_pool(x[0], 2, 2))
BUILD(b_max3, uf_max_pool(x[0], 3, 1))
BUILD(b_avg, uf_avg_pool(x[0], 2, 2))
BUILD(b_group, uf_group_mean(x[0], 3))
BUILD(b_blur, uf_blur(x[0]))
BUILD(b_near, uf_resize(x[0], 8, 5, 0))
BUILD(b_bilin, uf_resize(x[0], 9, 4, 1))
BUILD(b_shuffle, uf_pixel_shuffle(x[0], 2))
BUILD(b_shuffle3, uf_pixel_shuffle(x[0], 3))
BUILD(b_unshuffle, uf_pixel_unshuffle(x[0], 2))
BUILD(b_concat, uf_concat(3, x, 1))
BUILD(b_concat_h, uf_concat(2, x, 2))
BUILD(b_concat_w, uf_concat(2, x, 3))
BUILD(b_slice, uf_slice(x[0], 1, 2, 5))
BUILD(b_slice_w, uf_slice(x[0], 3, 1, 4))
BUILD(b_reshape, uf_reshape(x[0], (uf_shape){1, 5, 6, 7}))
BUILD(b_transpose, uf_transpose(x[0], 2, 0, 3, 1))
BUILD(b_matmul, uf_matmul(x[0], x[1]))
BUILD(b_softmax, uf_softmax(x[0], 1))
BUILD(b_softmax_w, uf_softmax(x[0], 3))
BUILD(b_att, uf_attention(x[0], x[1], x[2], .5f))
BUILD(b_gru, uf_gru(x[0], "g", 4, 3, false))
BUILD(b_gru_r, uf_gru(x[0], "g", 4, 3, true))
BUILD(b_gru_w, uf_gru(x[0], "g", 5, 3, false))
BUILD(b_gru_h, uf_gru(x[0], "g", 5, 2, true))
BUILD(b_gru_first, uf_gru_from(x[0], x[1], "g", 4, 3, true))
BUILD(b_gru_first_h, uf_gru_from(x[0], x[1], "g", 5, 2, false))
BUILD(b_fold, uf_fold(x[0], 3))
BUILD(b_unfold, uf_unfold(x[0], 3))
BUILD(b_compress, uf_compress(x[0], .3f))
BUILD(b_expand, uf_compress(x[0], 1 / .3f))
BUILD(b_magnitude, uf_magnitude(x[0], .3f))
BUILD(b_rotate, uf_rotate(x[0], x[1]))
BUILD(b_stft, uf_stft(x[0], 8, 2))
BUILD(b_istft, uf_istft(x[0], 8, 2, 20))
BUILD(b_dropout, uf_dropout(x[0], .3f))
BUILD(b_l1, uf_l1(x[0], x[1]))
BUILD(b_l2, uf_l2(x[0], x[1]))
BUILD(b_bce, uf_bce(x[0], x[1]))
BUILD(b_hinge, uf_hinge(x[0], x[1]))
BUILD(b_ce, uf_cross_entropy(x[0], uf_scale(x[1], 0.f, 3.f), .1f))

/* Chains that the compiler fuses, and graphs whose values have several readers. */
static uf_node *b_block(uf_graph *g, uf_node **x) { /* the residual block */
    (void)g;
    uf_node *y = uf_unary(uf_batch_norm(uf_conv2d(x[0], "a", (uf_conv){.out = 6, .no_bias = true}), "an"), "relu");
    y = uf_batch_norm(uf_conv2d(y, "b", (uf_conv){.out = 6, .no_bias = true}), "bn");
    y = uf_unary(uf_binary(uf_scale(x[0], .5f, 0.f), "add", y), "relu");
    return uf_binary(y, "add", uf_conv2d(y, "c", (uf_conv){.out = 6, .k = 1}));
}

static uf_node *b_wide_block(uf_graph *g, uf_node **x) { /* a residual block whose convolutions are Winograd's */
    (void)g;
    uf_node *y = uf_unary(uf_batch_norm(uf_conv2d(x[0], "a", (uf_conv){.out = 32, .no_bias = true}), "an"), "relu");
    y = uf_batch_norm(uf_conv2d(y, "b", (uf_conv){.out = 32, .no_bias = true}), "bn");
    return uf_unary(uf_binary(uf_scale(x[0], .5f, 0.f), "add", y), "relu");
}

static uf_node *b_frozen(uf_graph *g, uf_node **x) { /* a norm with fixed statistics, as in a frozen network */
    uf_graph_training(g, false);
    uf_node *y = b_block(g, x);
    uf_graph_training(g, true);
    return y;
}

static uf_node *b_up(uf_graph *g, uf_node **x) { /* a decoder block */
    (void)g;
    uf_node *t = uf_unary(uf_conv2d(x[0], "up", (uf_conv){.out = 20, .k = 1, .init = UF_INIT_ICNR2}), "relu");
    uf_node *both[2] = {uf_blur(uf_pixel_shuffle(t, 2)), x[1]};
    return uf_conv2d(uf_concat(2, both, 1), "c", (uf_conv){.out = 3});
}

static uf_node *b_two(uf_graph *g, uf_node **x) { /* two convolutions of one input meet in an addition */
    (void)g;
    uf_node *a = uf_conv2d(x[0], "a", (uf_conv){.out = 5}), *b = uf_conv2d(x[0], "b", (uf_conv){.out = 5, .k = 1});
    return uf_unary(uf_binary(a, "add", b), "relu");
}

static const op_case cases[] = {
    {"conv2d/3x3", {{2, 17, 9, 11}}, b_conv, 0, 0, 0},
    {"conv2d/winograd", {{2, 32, 7, 9}}, b_wino, 0, 0, 0},          /* odd sides: half tiles; a last block of 48 channels */
    {"conv2d/winograd one", {{1, 64, 1, 1}}, b_wino, 0, 0, 0},      /* a single tile, three quarters outside */
    {"conv2d/winograd valid", {{3, 32, 6, 5}}, b_wino_wide, 0, 0, 0}, /* two blocks of channels; the gradient pads by 2 */
    {"conv2d/1x1", {{2, 17, 5, 7}}, b_conv1, 0, 0, 0},
    {"conv2d/stride", {{1, 16, 9, 12}}, b_conv_s2, 0, 0, 0},
    {"conv2d/dilated", {{1, 6, 9, 11}}, b_conv_d2, 0, 0, 0},
    {"conv2d/groups", {{2, 6, 7, 5}}, b_conv_g, 0, 0, 0},
    {"conv2d/depthwise", {{2, 6, 7, 5}}, b_conv_dw, 0, 0, 0},
    {"conv2d/valid", {{1, 3, 9, 8}}, b_conv_valid, 0, 0, 0},
    {"conv2d/past", {{2, 17, 5, 7}}, b_conv_past, 0, 0, 0},
    {"conv2d/own rows", {{2, 17, 5, 7}}, b_conv_rows, 0, 0, 0},
    {"conv2d/winograd past", {{2, 32, 5, 7}}, b_wino_past, 0, 0, 0},
    {"conv2d/winograd own rows", {{1, 32, 3, 7}}, b_wino_rows, 0, 0, 0}, /* one row left */
    {"conv2d/icnr", {{2, 5, 3, 4}}, b_conv_icnr, 0, 0, 0},
    {"spectral_norm/conv", {{1, 4, 5, 5}}, b_conv_sn, 0, 0, 0},
    {"conv_transpose2d/4x4", {{2, 5, 4, 3}}, b_convt, 0, 0, 0},
    {"conv_transpose2d/groups", {{1, 4, 4, 5}}, b_convt_g, 0, 0, 0},
    {"batch_norm", {{3, 17, 5, 7}}, b_bn, 0, 0, 0},
    {"instance_norm", {{2, 4, 5, 7}}, b_in, 0, 0, 0},
    {"group_norm", {{2, 6, 5, 3}}, b_gn, 0, 0, 0},
    {"relu", {{2, 5, 5, 7}}, b_relu, 0, 0, 0},
    {"leaky_relu", {{2, 5, 5, 7}}, b_leaky, 0, 0, 0},
    {"sigmoid", {{1, 5, 5, 7}}, b_sigmoid, 0, 0, 0},
    {"tanh", {{1, 5, 5, 7}}, b_tanh, 0, 0, 0},
    {"exp", {{1, 5, 5, 7}}, b_exp, 0, 0, 0},
    {"log", {{1, 5, 5, 7}}, b_log, .5f, 3.f, 0},
    {"sqrt", {{1, 5, 5, 7}}, b_sqrt, .5f, 3.f, 0},
    {"abs", {{1, 5, 5, 7}}, b_abs, 0, 0, 0},
    {"square", {{1, 5, 5, 7}}, b_square, 0, 0, 0},
    {"add", {{2, 5, 3, 7}, {2, 5, 3, 7}}, b_add, 0, 0, 0},
    {"add/broadcast", {{2, 5, 3, 7}, {1, 5, 1, 1}}, b_add, 0, 0, 0},
    {"sub", {{2, 5, 3, 7}, {2, 5, 3, 7}}, b_sub, 0, 0, 0},
    {"sub/broadcast", {{1, 5, 1, 7}, {2, 5, 3, 7}}, b_sub, 0, 0, 0},
    {"mul", {{2, 5, 3, 7}, {2, 1, 3, 1}}, b_mul, 0, 0, 0},
    {"mul/gate", {{2, 5, 3, 7}}, b_gate, 0, 0, 0},
    {"div", {{2, 5, 3, 7}, {2, 5, 1, 7}}, b_div, .5f, 2.f, 0},
    {"scale", {{2, 5, 3, 7}}, b_scale, 0, 0, 0},
    {"sum", {{2, 5, 3, 7}}, b_sum, 0, 0, 0},
    {"mean", {{2, 5, 3, 7}}, b_mean, 0, 0, 0},
    {"max_pool", {{2, 5, 7, 9}}, b_max, 0, 0, 1e-3f},
    {"max_pool/overlap", {{1, 3, 7, 6}}, b_max3, 0, 0, 1e-3f},
    {"avg_pool", {{2, 5, 7, 9}}, b_avg, 0, 0, 0},
    {"group_mean", {{6, 5, 3, 7}}, b_group, 0, 0, 0},
    {"blur", {{2, 3, 5, 7}}, b_blur, 0, 0, 0},
    {"resize/nearest", {{1, 3, 5, 7}}, b_near, 0, 0, 0},
    {"resize/bilinear", {{1, 3, 5, 7}}, b_bilin, 0, 0, 0},
    {"pixel_shuffle", {{2, 12, 3, 5}}, b_shuffle, 0, 0, 0},
    {"pixel_shuffle/3", {{1, 18, 3, 2}}, b_shuffle3, 0, 0, 0},
    {"pixel_unshuffle", {{2, 3, 6, 10}}, b_unshuffle, 0, 0, 0},
    {"concat", {{2, 3, 5, 7}, {2, 17, 5, 7}, {2, 1, 5, 7}}, b_concat, 0, 0, 0},
    {"concat/height", {{2, 3, 5, 7}, {2, 3, 2, 7}}, b_concat_h, 0, 0, 0},
    {"concat/width", {{2, 3, 5, 7}, {2, 3, 5, 2}}, b_concat_w, 0, 0, 0},
    {"slice", {{2, 7, 3, 5}}, b_slice, 0, 0, 0},
    {"slice/width", {{2, 3, 3, 5}}, b_slice_w, 0, 0, 0},
    {"reshape", {{2, 3, 5, 7}}, b_reshape, 0, 0, 0},
    {"transpose", {{2, 3, 5, 7}}, b_transpose, 0, 0, 0},
    {"matmul", {{2, 3, 4, 5}, {2, 1, 5, 6}}, b_matmul, 0, 0, 0},
    {"softmax", {{2, 7, 3, 2}}, b_softmax, 0, 0, 0},
    {"softmax/width", {{2, 2, 3, 7}}, b_softmax_w, 0, 0, 0},
    {"attention", {{2, 4, 5, 7}, {2, 4, 2, 3}, {2, 17, 2, 3}}, b_att, 0, 0, 0},
    {"gru", {{2, 3, 1, 5}}, b_gru, 0, 0, 0},
    {"gru/reverse", {{2, 3, 1, 5}}, b_gru_r, 0, 0, 0},
    {"gru/three", {{1, 6, 3, 5}}, b_gru, 0, 0, 0},
    {"gru/wide", {{2, 17, 3, 6}}, b_gru_w, 0, 0, 0},
    {"gru/down", {{2, 17, 4, 3}}, b_gru_h, 0, 0, 0},
    {"gru/first state", {{2, 3, 2, 5}, {2, 4, 2, 1}}, b_gru_first, 0, 0, 0},
    {"gru/first state down", {{2, 17, 4, 3}, {2, 5, 1, 3}}, b_gru_first_h, 0, 0, 0},
    {"gru/one step", {{1, 17, 1, 3}, {1, 5, 1, 3}}, b_gru_first_h, 0, 0, 0},
    {"fold", {{2, 17, 3, 6}}, b_fold, 0, 0, 0},
    {"unfold", {{2, 18, 3, 2}}, b_unfold, 0, 0, 0},
    {"compress", {{1, 4, 3, 5}}, b_compress, .4f, 2, 0},
    {"compress/expand", {{1, 4, 3, 5}}, b_expand, .4f, 1, 0},
    {"magnitude", {{1, 4, 3, 5}}, b_magnitude, .4f, 2, 0},
    {"rotate", {{1, 4, 3, 5}, {1, 4, 3, 5}}, b_rotate, 0, 0, 0},
    {"stft", {{2, 1, 1, 21}}, b_stft, 0, 0, 0},
    {"istft", {{1, 4, 5, 11}}, b_istft, 0, 0, 0},
    {"dropout", {{2, 5, 3, 7}}, b_dropout, 0, 0, 0},
    {"l1", {{1, 3, 3, 5}, {1, 3, 3, 5}}, b_l1, 0, 0, 5e-3f},
    {"l2", {{2, 5, 3, 7}, {2, 5, 3, 7}}, b_l2, 0, 0, .1f},
    {"bce", {{2, 5, 3, 7}, {2, 5, 3, 7}}, b_bce, .1f, .9f, .1f},
    {"hinge", {{2, 5, 3, 7}, {2, 5, 3, 7}}, b_hinge, -.9f, .9f, .05f},
    {"cross_entropy", {{2, 7, 2, 3}, {2, 1, 2, 3}}, b_ce, 0, 0, 0},
    {"chain/residual block", {{3, 6, 9, 7}}, b_block, 0, 0, 1e-3f},
    {"chain/wide residual block", {{2, 32, 9, 7}}, b_wide_block, 0, 0, 5e-3f},
    {"chain/frozen block", {{2, 6, 9, 7}}, b_frozen, 0, 0, 1e-3f},
    {"chain/decoder block", {{2, 7, 3, 5}, {2, 4, 6, 10}}, b_up, 0, 0, 1e-3f},
    {"chain/two convolutions", {{2, 7, 9, 5}}, b_two, 0, 0, 1e-3f},
};

#endif

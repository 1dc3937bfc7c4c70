/* The oracle against somebody else's arithmetic: values and gradients that PyTorch computed in float64, stored in
 * vectors/ops.safetensors by peers/op_vectors.py. Every backend is compared with the oracle elsewhere (test_ops.c). */
#include "engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_INPUTS = 3 };

typedef struct vector_case {
    const char *name;
    uf_node *(*build)(uf_node **x);
    bool fixed; /* statistics and power iteration as in a trained network */
} vector_case;

#define CONV(NAME, ...) \
    static uf_node *NAME(uf_node **x) { return uf_conv2d(x[0], "c", (uf_conv){__VA_ARGS__}); }
CONV(conv, .out = 5)
CONV(conv_stride, .out = 5, .stride = 2)
CONV(conv_dilation, .out = 4, .dilation = 2)
CONV(conv_groups, .out = 6, .groups = 2)
CONV(conv_4x4, .out = 5, .k = 4, .stride = 2, .pad = 1)
CONV(conv_1x1, .out = 7, .k = 1)
CONV(conv_spectral, .out = 5, .spectral = true)
static uf_node *transpose_2(uf_node **x) { return uf_conv_transpose2d(x[0], "c", (uf_conv){.out = 4, .k = 2, .stride = 2, .pad = -1}); }
static uf_node *transpose_3(uf_node **x) { return uf_conv_transpose2d(x[0], "c", (uf_conv){.out = 4, .k = 3, .stride = 2, .pad = 1}); }
static uf_node *batch(uf_node **x) { return uf_batch_norm(x[0], "n"); }
static uf_node *instance(uf_node **x) { return uf_instance_norm(x[0], "n"); }
static uf_node *group(uf_node **x) { return uf_group_norm(x[0], "n", 2); }

#define UNARY(NAME) \
    static uf_node *u_##NAME(uf_node **x) { return uf_unary(x[0], #NAME); }
UNARY(relu) UNARY(sigmoid) UNARY(tanh) UNARY(exp) UNARY(log) UNARY(sqrt) UNARY(abs) UNARY(square)
#define BINARY(NAME) \
    static uf_node *b_##NAME(uf_node **x) { return uf_binary(x[0], #NAME, x[1]); }
BINARY(add) BINARY(sub) BINARY(mul) BINARY(div)
static uf_node *leaky(uf_node **x) { return uf_leaky_relu(x[0], .2f); }
static uf_node *sum_hw(uf_node **x) { return uf_reduce(x[0], "sum", 12); }
static uf_node *mean_c(uf_node **x) { return uf_reduce(x[0], "mean", 2); }
static uf_node *max_pool(uf_node **x) { return uf_max_pool(x[0], 3, 2); }
static uf_node *avg_pool(uf_node **x) { return uf_avg_pool(x[0], 2, 2); }
static uf_node *bilinear(uf_node **x) { return uf_resize(x[0], 11, 6, 1); }
static uf_node *nearest(uf_node **x) { return uf_resize(x[0], 10, 14, 0); }
static uf_node *shuffle(uf_node **x) { return uf_pixel_shuffle(x[0], 2); }
static uf_node *unshuffle(uf_node **x) { return uf_pixel_unshuffle(x[0], 2); }
static uf_node *softmax_c(uf_node **x) { return uf_softmax(x[0], 1); }
static uf_node *softmax_w(uf_node **x) { return uf_softmax(x[0], 3); }
static uf_node *matmul(uf_node **x) { return uf_matmul(x[0], x[1]); }
static uf_node *attention(uf_node **x) { return uf_attention(x[0], x[1], x[2], .5f); }
static uf_node *gru(uf_node **x) { return uf_gru(x[0], "g", 4, 3, false); }
static uf_node *gru_reverse(uf_node **x) { return uf_gru(x[0], "g", 4, 3, true); }
static uf_node *stft(uf_node **x) { return uf_stft(x[0], 16, 4); }
static uf_node *istft(uf_node **x) { return uf_istft(x[0], 16, 4, 40); }
static uf_node *l1(uf_node **x) { return uf_l1(x[0], x[1]); }
static uf_node *l2(uf_node **x) { return uf_l2(x[0], x[1]); }
static uf_node *bce(uf_node **x) { return uf_bce(x[0], x[1]); }
static uf_node *hinge(uf_node **x) { return uf_hinge(x[0], x[1]); }
static uf_node *cross_entropy(uf_node **x) { return uf_cross_entropy(x[0], x[1], .1f); }

static const vector_case cases[] = {
    {"conv", conv, false}, {"conv_stride", conv_stride, false}, {"conv_dilation", conv_dilation, false},
    {"conv_groups", conv_groups, false}, {"conv_4x4", conv_4x4, false}, {"conv_1x1", conv_1x1, false},
    {"conv_spectral", conv_spectral, true}, {"conv_transpose_2x2", transpose_2, false},
    {"conv_transpose_3x3", transpose_3, false}, {"batch_norm", batch, false}, {"batch_norm_fixed", batch, true},
    {"instance_norm", instance, false}, {"group_norm", group, false}, {"relu", u_relu, false}, {"sigmoid", u_sigmoid, false},
    {"tanh", u_tanh, false}, {"exp", u_exp, false}, {"log", u_log, false}, {"sqrt", u_sqrt, false}, {"abs", u_abs, false},
    {"square", u_square, false}, {"leaky_relu", leaky, false}, {"add", b_add, false}, {"sub", b_sub, false},
    {"mul", b_mul, false}, {"div", b_div, false}, {"add_broadcast", b_add, false}, {"sub_broadcast", b_sub, false},
    {"mul_broadcast", b_mul, false}, {"div_broadcast", b_div, false}, {"sum_hw", sum_hw, false}, {"mean_c", mean_c, false},
    {"max_pool", max_pool, false}, {"avg_pool", avg_pool, false}, {"resize_bilinear", bilinear, false},
    {"resize_nearest", nearest, false}, {"pixel_shuffle", shuffle, false}, {"pixel_unshuffle", unshuffle, false},
    {"softmax_c", softmax_c, false}, {"softmax_w", softmax_w, false}, {"matmul", matmul, false},
    {"attention", attention, false}, {"gru", gru, false}, {"gru_reverse", gru_reverse, false}, {"stft", stft, false},
    {"istft", istft, false}, {"l1", l1, false}, {"l2", l2, false}, {"bce", bce, false}, {"hinge", hinge, false},
    {"cross_entropy", cross_entropy, false},
};

/* Every stored tensor as a parameter of that name: the weights reader is the reader. */
static uf_ctx *ctx;
static uf_params *stored;

static int setup(void **state) {
    (void)state;
    uf_weights *w = NULL;
    uf_shape shape;
    if (uf_ctx_open(&ctx) < 0 || uf_params_open(&stored, ctx, 0) < 0) return -1;
    int err = uf_weights_open(&w, ctx, UNFADE_SOURCE_DIR "/tests/vectors/ops.safetensors");
    for (int i = 0; err == UF_OK && i < uf_weights_n(w); i++) {
        const char *name = uf_weights_tensor(w, i, &shape, NULL);
        if (!uf_params_add(stored, name, shape, UF_INIT_ZERO)) err = UF_ENOMEM;
    }
    if (err == UF_OK) err = uf_weights_load(w, stored, true, NULL);
    if (err < 0) print_message("%s\n", uf_ctx_error(ctx));
    uf_weights_close(&w);
    return err;
}

static int teardown(void **state) {
    (void)state;
    uf_params_close(&stored);
    uf_ctx_close(&ctx);
    return 0;
}

static const uf_param *get(const char *owner, const char *what) {
    char name[128];
    snprintf(name, sizeof name, "%s/%s", owner, what);
    return uf_params_find(stored, name);
}

static void same(const char *owner, const char *what, const float *got, const uf_param *want) {
    double scale = 0, worst = 0;
    size_t n = uf_count(want->shape);
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs((double)want->value[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want->value[i]));
    }
    if (!(worst <= 1e-5 * fmax(scale, 1))) fail_msg("%s: %s is off by %.3g of %.3g", owner, what, worst, scale);
}

static void compare(const vector_case *c, uf_plan *plan, uf_node **x, int n_in, uf_node *y, uf_params *params) {
    char what[96];
    float *buffer = malloc(65536 * sizeof *buffer);
    assert_non_null(buffer);
    assert_int_equal(uf_plan_get(plan, y, buffer), UF_OK);
    assert_int_equal(uf_count(y->shape), uf_count(get(c->name, "y")->shape));
    same(c->name, "the value", buffer, get(c->name, "y"));
    for (int i = 0; i < n_in; i++) {
        snprintf(what, sizeof what, "dx%d", i);
        const uf_param *want = get(c->name, what);
        if (!want) continue;
        assert_int_equal(uf_plan_get_grad(plan, x[i], buffer), UF_OK);
        same(c->name, what, buffer, want);
    }
    for (int i = 0; i < uf_params_n(params); i++) {
        const uf_param *p = uf_params_at(params, i);
        snprintf(what, sizeof what, "d.%s", p->name);
        const uf_param *want = get(c->name, what);
        if (want) same(c->name, what, p->grad, want);
        else assert_true(p->buffer);
    }
    free(buffer);
}

static void run_case(const vector_case *c) {
    uf_params *params;
    uf_graph *g;
    uf_plan *plan;
    uf_node *x[MOST_INPUTS] = {NULL};
    int n_in = 0;
    char what[96];
    assert_int_equal(uf_params_open(&params, ctx, 0), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, params), UF_OK);
    uf_graph_training(g, !c->fixed);
    for (; n_in < MOST_INPUTS; n_in++) {
        snprintf(what, sizeof what, "x%d", n_in);
        const uf_param *p = get(c->name, what);
        if (!p) break;
        x[n_in] = uf_input(g, what, p->shape);
        snprintf(what, sizeof what, "dx%d", n_in);
        x[n_in]->needs_grad = get(c->name, what) != NULL;
    }
    uf_node *y = uf_output(c->build(x)), *dy = y ? uf_input(g, "dy", y->shape) : NULL;
    if (!y) fail_msg("%s: %s", c->name, uf_ctx_error(ctx));
    uf_node *loss = uf_output(uf_reduce(uf_binary(y, "mul", dy), "sum", 15));
    for (int i = 0; i < uf_params_n(params); i++) {
        uf_param *p = uf_params_at(params, i);
        snprintf(what, sizeof what, "p.%s", p->name);
        const uf_param *value = get(c->name, what);
        if (value) memcpy(p->value, value->value, uf_count(p->shape) * sizeof(float));
        else assert_true(p->buffer); /* running statistics that this case does not read */
    }
    uf_plan_options o = {.mode = UF_TRAIN, .backend = "ref", .loss = loss};
    if (uf_plan_open(&plan, ctx, g, &o) < 0) fail_msg("%s: %s", c->name, uf_ctx_error(ctx));
    for (int i = 0; i < n_in; i++) {
        snprintf(what, sizeof what, "x%d", i);
        assert_int_equal(uf_plan_set(plan, x[i], get(c->name, what)->value), UF_OK);
    }
    assert_int_equal(uf_plan_set(plan, dy, get(c->name, "dy")->value), UF_OK);
    assert_int_equal(uf_plan_run(plan), UF_OK);
    uf_params_zero_grad(params);
    assert_int_equal(uf_plan_backward(plan), UF_OK);
    compare(c, plan, x, n_in, y, params);
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
}

static void test_ops(void **state) {
    (void)state;
    for (int i = 0; i < UF_LEN(cases); i++) run_case(&cases[i]);
}

static void test_adam(void **state) {
    (void)state;
    uf_params *params;
    uf_adam a = {.rate = .1f, .beta1 = .9f, .beta2 = .99f, .eps = 1e-8f, .decay = .05f, .clip = 1};
    char what[8];
    assert_int_equal(uf_params_open(&params, ctx, 0), UF_OK);
    uf_param *p = uf_params_add(params, "p", (uf_shape){1, 1, 3, 4}, UF_INIT_ZERO);
    float grad[12];
    assert_non_null(p);
    memcpy(p->value, get("adam", "p0")->value, sizeof grad);
    p->decay = true;
    p->grad = grad;
    for (int i = 0; i < 5; i++) {
        snprintf(what, sizeof what, "g%d", i);
        memcpy(grad, get("adam", what)->value, sizeof grad);
        assert_int_equal(uf_adam_step(ctx, params, &a, i + 1, NULL), UF_OK);
    }
    same("adam", "five steps", p->value, get("adam", "p5"));
    p->grad = NULL; /* not the set's */
    uf_params_close(&params);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ops), cmocka_unit_test(test_adam)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

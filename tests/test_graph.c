/* Parameters, the tape, its builders, and the optimiser; no plan is needed here. */
#include "engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *g;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (!f || uf_ctx_open(&f->ctx) < 0 || uf_params_open(&f->params, f->ctx, 7) < 0 ||
        uf_graph_open(&f->g, f->ctx, f->params) < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    uf_graph_close(&f->g);
    uf_params_close(&f->params);
    uf_ctx_close(&f->ctx);
    free(f);
    return 0;
}

static void assert_shape(const uf_node *x, int n, int c, int h, int w) {
    assert_non_null(x);
    assert_int_equal(x->shape.n, n);
    assert_int_equal(x->shape.c, c);
    assert_int_equal(x->shape.h, h);
    assert_int_equal(x->shape.w, w);
}

static void assert_near(float a, float b, float tolerance) {
    if (!(fabsf(a - b) <= tolerance)) fail_msg("%.9g is not %.9g within %g", (double)a, (double)b, (double)tolerance);
}

/* ---- parameters ---------------------------------------------------------------------------------------------- */

static double deviation(const uf_param *p) {
    double square = 0;
    for (size_t i = 0; i < uf_count(p->shape); i++) square += (double)p->value[i] * (double)p->value[i];
    return sqrt(square / (double)uf_count(p->shape));
}

static void test_params_many(void **state) {
    fixture *f = *state;
    char name[32];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "layer.%d.w", i);
        assert_non_null(uf_params_add(f->params, name, (uf_shape){1, 2, 1, 1}, UF_INIT_HE));
    }
    assert_int_equal(uf_params_n(f->params), 3000);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "layer.%d.w", i);
        assert_ptr_equal(uf_params_find(f->params, name), uf_params_at(f->params, i));
        assert_string_equal(uf_params_at(f->params, i)->name, name);
    }
    assert_null(uf_params_find(f->params, "layer.3000.w"));
}

static void test_params_conflict(void **state) {
    fixture *f = *state;
    uf_param *p = uf_params_add(f->params, "a.w", (uf_shape){4, 2, 3, 3}, UF_INIT_HE);
    assert_true(p->decay);
    assert_ptr_equal(uf_params_add(f->params, "a.w", (uf_shape){4, 2, 3, 3}, UF_INIT_HE), p);
    assert_null(uf_params_add(f->params, "a.w", (uf_shape){4, 2, 3, 1}, UF_INIT_HE));
    assert_int_equal(uf_ctx_error_code(f->ctx), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "'a.w' is 4x2x3x1 here and 4x2x3x3 before"));
    assert_null(uf_params_add(f->params, "b.w", (uf_shape){6, 2, 3, 3}, UF_INIT_ICNR2));
    assert_null(uf_params_add(f->params, "c.w", (uf_shape){0, 2, 3, 3}, UF_INIT_HE));
}

static void test_params_init(void **state) {
    fixture *f = *state;
    uf_shape s = {64, 32, 3, 3};
    uf_param *he = uf_params_add(f->params, "he.w", s, UF_INIT_HE);
    assert_true(fabs(deviation(he) / sqrt(2. / (32 * 9)) - 1) < .03);
    uf_param *xavier = uf_params_add(f->params, "xavier.w", (uf_shape){1, 1, 300, 100}, UF_INIT_XAVIER);
    assert_true(fabs(deviation(xavier) / sqrt(2. / 400) - 1) < .03);
    uf_param *unit = uf_params_add(f->params, "unit", (uf_shape){1, 1, 1, 50}, UF_INIT_UNIT);
    assert_true(fabs(deviation(unit) * sqrt(50.) - 1) < 1e-5);
    uf_param *icnr = uf_params_add(f->params, "icnr.w", s, UF_INIT_ICNR2);
    size_t per = 32 * 9;
    for (size_t o = 0; o < 64; o++)
        assert_memory_equal(icnr->value + o * per, icnr->value + o / 4 * 4 * per, per * sizeof(float));
    assert_memory_not_equal(icnr->value, icnr->value + 4 * per, per * sizeof(float));
    assert_near(uf_params_add(f->params, "one", s, UF_INIT_ONE)->value[5], 1.f, 0.f);
    assert_near(uf_params_add(f->params, "zero", s, UF_INIT_ZERO)->value[5], 0.f, 0.f);
}

/* The start depends on the seed and the name, not on what else the network has. */
static void test_params_seed(void **state) {
    fixture *f = *state;
    uf_params *other = NULL;
    uf_shape s = {8, 3, 3, 3};
    size_t bytes = uf_count(s) * sizeof(float);
    uf_param *a = uf_params_add(f->params, "a.w", s, UF_INIT_HE);
    assert_int_equal(uf_params_open(&other, f->ctx, 7), UF_OK);
    uf_param *b = uf_params_add(other, "b.w", s, UF_INIT_HE), *again = uf_params_add(other, "a.w", s, UF_INIT_HE);
    assert_memory_equal(a->value, again->value, bytes);
    assert_memory_not_equal(a->value, b->value, bytes);
    uf_params_close(&other);
    assert_null(other);
    assert_int_equal(uf_params_open(&other, f->ctx, 8), UF_OK);
    assert_memory_not_equal(a->value, uf_params_add(other, "a.w", s, UF_INIT_HE)->value, bytes);
    uf_params_close(&other);
}

static void test_params_freeze(void **state) {
    fixture *f = *state;
    uf_shape s = {1, 1, 1, 1};
    uf_param *a = uf_params_add(f->params, "enc.w", s, UF_INIT_ONE);
    uf_param *b = uf_params_add(f->params, "dec.w", s, UF_INIT_ONE);
    uf_params_freeze(f->params, "enc.", true);
    assert_true(a->frozen && !b->frozen);
    uf_params_freeze(f->params, NULL, true);
    assert_true(a->frozen && b->frozen);
    uf_params_freeze(f->params, "", false);
    assert_true(!a->frozen && !b->frozen);
}

/* ---- graph --------------------------------------------------------------------------------------------------- */

static void test_conv_shapes_and_names(void **state) {
    fixture *f = *state;
    uf_node *x = uf_input(f->g, "x", (uf_shape){2, 6, 17, 9});
    uf_graph_scope(f->g, "enc.%d.", 1);
    uf_graph_group(f->g, 3);
    uf_node *y = uf_conv2d(x, "conv", (uf_conv){.out = 8});
    assert_shape(y, 2, 8, 17, 9);
    assert_string_equal(y->name, "enc.1.conv");
    uf_param *w = uf_params_find(f->params, "enc.1.conv.w"), *b = uf_params_find(f->params, "enc.1.conv.b");
    assert_non_null(w);
    assert_non_null(b);
    assert_int_equal(uf_count(w->shape), 8 * 6 * 9);
    assert_true(w->decay && !b->decay);
    assert_int_equal(w->group, 3);
    assert_shape(uf_conv2d(x, "strided", (uf_conv){.out = 8, .stride = 2}), 2, 8, 9, 5);
    assert_shape(uf_conv2d(x, "valid", (uf_conv){.out = 8, .pad = -1}), 2, 8, 15, 7);
    assert_shape(uf_conv2d(x, "dilated", (uf_conv){.out = 8, .dilation = 2}), 2, 8, 17, 9);
    assert_shape(uf_conv2d(x, "point", (uf_conv){.out = 8, .k = 1, .no_bias = true}), 2, 8, 17, 9);
    assert_null(uf_params_find(f->params, "enc.1.point.b"));
    uf_node *grouped = uf_conv2d(x, "grouped", (uf_conv){.out = 4, .groups = 2});
    assert_int_equal(grouped->in[1]->shape.c, 3);
    assert_shape(uf_conv_transpose2d(x, "up", (uf_conv){.out = 5, .k = 4, .stride = 2}), 2, 5, 34, 18);
    uf_graph_scope(f->g, NULL);
    assert_string_equal(uf_conv2d(x, "plain", (uf_conv){.out = 1, .spectral = true})->name, "plain");
    assert_true(uf_params_find(f->params, "plain.u")->buffer);
    assert_int_equal(uf_graph_status(f->g), UF_OK);
}

/* Every builder once: an op name or attribute that the table does not understand shows here. */
static void test_all_builders(void **state) {
    fixture *f = *state;
    uf_graph *g = f->g;
    uf_node *x = uf_input(g, "x", (uf_shape){2, 8, 6, 10}), *t = uf_input(g, "t", (uf_shape){2, 3, 1, 64});
    assert_shape(uf_batch_norm(x, "bn"), 2, 8, 6, 10);
    assert_true(uf_params_find(f->params, "bn.var")->buffer && uf_params_find(f->params, "bn.mean")->buffer);
    assert_shape(uf_instance_norm(x, "in"), 2, 8, 6, 10);
    assert_shape(uf_group_norm(x, "gn", 4), 2, 8, 6, 10);
    static const char *const unary[] = {"relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "square"};
    for (int i = 0; i < UF_LEN(unary); i++) assert_shape(uf_unary(x, unary[i]), 2, 8, 6, 10);
    static const char *const binary[] = {"add", "sub", "mul", "div"};
    uf_node *row = uf_parameter(g, "row", (uf_shape){1, 8, 1, 1}, UF_INIT_ONE, false);
    for (int i = 0; i < UF_LEN(binary); i++) assert_shape(uf_binary(x, binary[i], row), 2, 8, 6, 10);
    assert_shape(uf_leaky_relu(x, .2f), 2, 8, 6, 10);
    assert_shape(uf_scale(x, 2, 1), 2, 8, 6, 10);
    assert_shape(uf_reduce(x, "sum", 15), 1, 1, 1, 1);
    assert_shape(uf_reduce(x, "mean", 12), 2, 8, 1, 1);
    assert_shape(uf_max_pool(x, 2, 2), 2, 8, 3, 5);
    assert_shape(uf_avg_pool(x, 3, 1), 2, 8, 4, 8);
    assert_shape(uf_group_mean(x, 2), 2, 8, 6, 10);
    assert_shape(uf_blur(x), 2, 8, 6, 10);
    assert_shape(uf_resize(x, 9, 7, 1), 2, 8, 9, 7);
    assert_shape(uf_pixel_shuffle(x, 2), 2, 2, 12, 20);
    assert_shape(uf_pixel_unshuffle(x, 2), 2, 32, 3, 5);
    uf_node *pair[] = {x, x};
    assert_shape(uf_concat(2, pair, 1), 2, 16, 6, 10);
    assert_shape(uf_slice(x, 3, 2, 9), 2, 8, 6, 7);
    assert_shape(uf_reshape(x, (uf_shape){1, 1, 96, 10}), 1, 1, 96, 10);
    assert_shape(uf_transpose(x, 0, 2, 3, 1), 2, 6, 10, 8);
    assert_shape(uf_matmul(x, uf_input(g, "m", (uf_shape){1, 1, 10, 4})), 2, 8, 6, 4);
    assert_shape(uf_softmax(x, 1), 2, 8, 6, 10);
    uf_node *small = uf_max_pool(x, 2, 2);
    assert_shape(uf_attention(x, small, small, .5f), 2, 8, 6, 10);
    assert_shape(uf_gru(t, "gru", 5, 3, true), 2, 5, 1, 64);
    uf_node *s = uf_stft(t, 16, 4);
    assert_shape(s, 2, 6, 9, 17);
    assert_shape(uf_istft(s, 16, 4, 64), 2, 3, 1, 64);
    assert_shape(uf_dropout(x, .5f), 2, 8, 6, 10);
    assert_shape(uf_l1(x, x), 1, 1, 1, 1);
    assert_shape(uf_l2(x, x), 1, 1, 1, 1);
    assert_shape(uf_bce(x, x), 1, 1, 1, 1);
    assert_shape(uf_hinge(x, x), 1, 1, 1, 1);
    assert_shape(uf_cross_entropy(x, uf_input(g, "labels", (uf_shape){2, 1, 6, 10}), .1f), 1, 1, 1, 1);
    assert_true(uf_output(x)->output);
    assert_int_equal(uf_graph_status(g), UF_OK);
}

static void test_first_failure_sticks(void **state) {
    fixture *f = *state;
    uf_node *x = uf_input(f->g, "x", (uf_shape){1, 3, 8, 8}), *other = uf_input(f->g, "y", (uf_shape){1, 3, 5, 8});
    assert_null(uf_binary(x, "add", other));
    assert_int_equal(uf_graph_status(f->g), UF_EINVAL);
    char *first = strdup(uf_ctx_error(f->ctx));
    assert_true(strlen(first) > 0);
    int n = uf_graph_n(f->g);
    uf_node *y = uf_conv2d(x, "conv", (uf_conv){.out = 4});
    assert_null(y);
    assert_null(uf_batch_norm(y, "bn"));
    assert_null(uf_output(uf_l1(uf_unary(y, "relu"), x)));
    assert_int_equal(uf_graph_n(f->g), n);
    assert_string_equal(uf_ctx_error(f->ctx), first);
    free(first);
}

static void assert_refused(fixture *f, const uf_node *y, const char *word) {
    assert_null(y);
    assert_int_equal(uf_graph_status(f->g), UF_EINVAL);
    if (!strstr(uf_ctx_error(f->ctx), word)) fail_msg("'%s' does not say '%s'", uf_ctx_error(f->ctx), word);
    uf_ctx_clear(f->ctx);
    uf_graph_close(&f->g);
    assert_int_equal(uf_graph_open(&f->g, f->ctx, f->params), UF_OK);
}

static void test_refusals(void **state) {
    fixture *f = *state;
    uf_shape s = {1, 3, 8, 8};
#define X uf_input(f->g, "x", s)
    assert_refused(f, uf_unary(X, "nonsense"), "nonsense");
    assert_refused(f, uf_conv2d(X, "conv", (uf_conv){.out = 4, .groups = 2}), "conv");
    assert_refused(f, uf_conv2d(X, "conv", (uf_conv){.out = -1}), "conv");
    assert_refused(f, uf_conv2d(X, "conv", (uf_conv){.out = 4, .k = 11, .pad = -1}), "conv");
    assert_refused(f, uf_input(f->g, "empty", (uf_shape){1, 0, 8, 8}), "empty");
    assert_refused(f, uf_input(f->g, "vast", (uf_shape){1 << 30, 1 << 30, 1 << 30, 8}), "vast");
    uf_node *x = X;
    assert_refused(f, uf_graph_add(f->g, "add", "sum", 1, &x, (uf_attr){0}), "takes 2 inputs");
    assert_refused(f, uf_graph_add(f->g, "param", "p", 0, NULL, (uf_attr){.shape = s}), "uf_parameter");
    uf_node *none = NULL;
    assert_refused(f, uf_graph_add(f->g, "relu", "r", 1, &none, (uf_attr){0}), "missing");
    uf_graph *elsewhere = NULL;
    assert_int_equal(uf_graph_open(&elsewhere, f->ctx, f->params), UF_OK);
    uf_node *foreign[] = {X, uf_input(elsewhere, "x", s)};
    assert_refused(f, uf_graph_add(f->g, "add", "sum", 2, foreign, (uf_attr){0}), "another graph");
    uf_graph_close(&elsewhere);
    uf_params_add(f->params, "conv3.w", s, UF_INIT_HE);
    assert_refused(f, uf_conv2d(X, "conv3", (uf_conv){.out = 9}), "conv3.w");
#undef X
}

static void test_unknown_backend(void **state) {
    fixture *f = *state;
    uf_plan *plan = NULL;
    uf_output(uf_unary(uf_input(f->g, "x", (uf_shape){1, 3, 8, 8}), "relu"));
    assert_int_equal(uf_plan_open(&plan, f->ctx, f->g, &(uf_plan_options){.backend = "abacus"}), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "abacus"));
    assert_null(plan);
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_plan_open(&plan, f->ctx, f->g, &(uf_plan_options){.backend = "ref"}), UF_OK);
    uf_plan_close(&plan);
}

static void test_grad_marks(void **state) {
    fixture *f = *state;
    uf_node *x = uf_input(f->g, "x", (uf_shape){1, 3, 8, 8}), *t = uf_input(f->g, "t", (uf_shape){1, 1, 8, 8});
    uf_node *plain = uf_unary(x, "relu"), *y = uf_conv2d(x, "conv", (uf_conv){.out = 3});
    uf_node *loss = uf_cross_entropy(y, t, 0);
    assert_false(plain->needs_grad);
    assert_true(y->needs_grad && loss->needs_grad);
    uf_params_freeze(f->params, "conv", true);
    uf_graph_mark_grads(f->g);
    assert_false(y->needs_grad || loss->needs_grad);
    t->needs_grad = true; /* labels never pass a gradient on */
    uf_graph_mark_grads(f->g);
    assert_true(t->needs_grad);
    assert_false(loss->needs_grad);
    x->needs_grad = true;
    uf_graph_mark_grads(f->g);
    assert_true(x->needs_grad && plain->needs_grad && y->needs_grad && loss->needs_grad);
    uf_params *frozen = NULL;
    assert_int_equal(uf_params_open(&frozen, f->ctx, 1), UF_OK);
    uf_graph_use(f->g, frozen);
    uf_graph_training(f->g, false);
    assert_int_equal(uf_batch_norm(x, "bn")->attr.mode, 0);
    assert_non_null(uf_params_find(frozen, "bn.gamma"));
    assert_null(uf_params_find(f->params, "bn.gamma"));
    uf_graph_close(&f->g);
    uf_params_close(&frozen);
}

/* ---- optimiser ----------------------------------------------------------------------------------------------- */

static uf_param *with_grad(fixture *f, const char *name, int n, float value, float grad) {
    uf_param *p = uf_params_add(f->params, name, (uf_shape){1, n, 1, 1}, UF_INIT_ZERO);
    p->grad = uf_alloc(f->ctx, (size_t)n, sizeof(float));
    for (int i = 0; i < n; i++) {
        p->value[i] = value;
        p->grad[i] = grad;
    }
    return p;
}

static const uf_adam plain_adam = {.rate = .1f, .beta1 = .9f, .beta2 = .99f, .eps = 1e-8f};

/* By hand. Step 1, g = 2: m = .2, v = .04, corrected 2 and 4: 1 - .1 * 2/2 = .9. Step 2, g = -1: m = .08,
 * v = .0496; corrected .08/.19 = .4210526, .0496/.0199 = 2.4924623: .9 - .1 * .4210526/1.5787534 = .8733301. */
static void test_adam_by_hand(void **state) {
    fixture *f = *state;
    uf_param *p = with_grad(f, "a.b", 1, 1.f, 2.f);
    float norm = 0;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &plain_adam, 1, &norm), UF_OK);
    assert_near(p->value[0], .9f, 1e-6f);
    assert_near(norm, 2.f, 1e-6f);
    p->grad[0] = -1.f;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &plain_adam, 2, &norm), UF_OK);
    assert_near(p->value[0], .8733301f, 1e-6f);
    assert_near(p->m[0], .08f, 1e-7f);
    assert_near(p->v[0], .0496f, 1e-7f);
}

static void test_adam_decay_group_and_frozen(void **state) {
    fixture *f = *state;
    static const float rates[] = {1.f, .5f};
    uf_adam o = plain_adam;
    o.decay = .2f;
    o.group_rate = rates;
    o.n_groups = 2;
    uf_param *w = with_grad(f, "a.w", 1, 1.f, 3.f), *b = with_grad(f, "a.b", 1, 1.f, 3.f);
    uf_param *late = with_grad(f, "late.w", 1, 1.f, 3.f), *cold = with_grad(f, "cold.w", 1, 1.f, 3.f);
    uf_param *idle = uf_params_add(f->params, "idle.w", (uf_shape){1, 1, 1, 1}, UF_INIT_ONE); /* no gradient */
    late->group = 1;
    cold->frozen = true;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 1, NULL), UF_OK);
    assert_near(w->value[0], 1.f - .02f - .1f, 1e-6f); /* decoupled: 1 - .1*.2, then the step of .1 */
    assert_near(b->value[0], .9f, 1e-6f);
    assert_near(late->value[0], 1.f - .01f - .05f, 1e-6f);
    assert_near(cold->value[0], 1.f, 0.f);
    assert_near(idle->value[0], 1.f, 0.f);
    assert_null(cold->m);
}

static void test_adam_clip(void **state) {
    fixture *f = *state;
    uf_adam o = plain_adam;
    o.clip = 1.f;
    uf_param *a = with_grad(f, "a", 1, 0.f, 3.f), *b = with_grad(f, "b", 1, 0.f, 4.f);
    float norm = 0;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 1, &norm), UF_OK);
    assert_near(norm, 5.f, 1e-6f);
    assert_near(a->m[0], .06f, 1e-7f); /* .1 * 3/5 */
    assert_near(b->m[0], .08f, 1e-7f);
    o.clip = 100.f;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 2, &norm), UF_OK);
    assert_near(a->m[0], .9f * .06f + .1f * 3.f, 1e-6f);
}

static void test_adam_average(void **state) {
    fixture *f = *state;
    uf_adam o = plain_adam;
    o.average = .1f; /* under the warm-up's 2/11 */
    uf_param *p = with_grad(f, "a", 1, 1.f, 2.f);
    uf_param *running = uf_params_add(f->params, "bn.mean", (uf_shape){1, 1, 1, 1}, UF_INIT_ONE);
    running->buffer = true;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 1, NULL), UF_OK);
    assert_near(p->average[0], .1f * 1.f + .9f * .9f, 1e-6f);
    assert_near(running->average[0], 1.f, 0.f);
    running->value[0] = 2.f;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 2, NULL), UF_OK);
    assert_near(running->average[0], .1f * 1.f + .9f * 2.f, 1e-6f);
    assert_near(running->value[0], 2.f, 0.f);
}

static void test_adam_refuses_nan(void **state) {
    fixture *f = *state;
    uf_param *a = with_grad(f, "fine.w", 100, 1.f, 1.f), *b = with_grad(f, "sick.w", 40000, 1.f, 1.f);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < UF_LEN(bad); i++) {
        b->grad[39999] = bad[i];
        uf_ctx_clear(f->ctx);
        assert_int_equal(uf_adam_step(f->ctx, f->params, &plain_adam, 1, NULL), UF_EDATA);
        assert_non_null(strstr(uf_ctx_error(f->ctx), "'sick.w'"));
        for (int k = 0; k < 100; k++) assert_true(a->value[k] == 1.f && a->m[k] == 0.f && a->v[k] == 0.f);
    }
    b->grad[39999] = 3e38f; /* large, but finite: the norm must not overflow either */
    uf_ctx_clear(f->ctx);
    uf_adam o = plain_adam;
    o.clip = 1.f;
    assert_int_equal(uf_adam_step(f->ctx, f->params, &o, 1, NULL), UF_OK);
    assert_true(isfinite(b->value[39999]));
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_adam_step(f->ctx, f->params, &plain_adam, 0, NULL), UF_EINVAL);
}

static void run_steps(uf_ctx *ctx, int n_threads, float *out, float *norm, int n) {
    uf_params *set = NULL;
    uf_ctx_set_threads(ctx, n_threads);
    assert_int_equal(uf_params_open(&set, ctx, 3), UF_OK);
    uf_param *p = uf_params_add(set, "p.w", (uf_shape){1, n, 1, 1}, UF_INIT_HE);
    p->grad = uf_alloc(ctx, (size_t)n, sizeof(float));
    uf_adam o = plain_adam;
    o.clip = .5f;
    for (int t = 1; t <= 3; t++) {
        for (int i = 0; i < n; i++) p->grad[i] = uf_gaussian(9, (uint64_t)t, (uint64_t)i);
        assert_int_equal(uf_adam_step(ctx, set, &o, t, norm), UF_OK);
    }
    memcpy(out, p->value, (size_t)n * sizeof(float));
    uf_params_close(&set);
}

static void test_adam_same_for_any_threads(void **state) {
    fixture *f = *state;
    enum { N = 100003 };
    float *a = uf_alloc(f->ctx, N, sizeof *a), *b = uf_alloc(f->ctx, N, sizeof *b), norm[2] = {0};
    run_steps(f->ctx, 1, a, &norm[0], N);
    run_steps(f->ctx, 3, b, &norm[1], N);
    assert_memory_equal(a, b, N * sizeof *a);
    assert_memory_equal(&norm[0], &norm[1], sizeof norm[0]);
    assert_near(norm[0], sqrtf(N), 3.f);
    free(a);
    free(b);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_params_many),
        T(test_params_conflict),
        T(test_params_init),
        T(test_params_seed),
        T(test_params_freeze),
        T(test_conv_shapes_and_names),
        T(test_all_builders),
        T(test_first_failure_sticks),
        T(test_refusals),
        T(test_unknown_backend),
        T(test_grad_marks),
        T(test_adam_by_hand),
        T(test_adam_decay_group_and_frozen),
        T(test_adam_clip),
        T(test_adam_average),
        T(test_adam_refuses_nan),
        T(test_adam_same_for_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

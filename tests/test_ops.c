/* Every op against central differences, and every backend against the oracle, over the list in cases.h. */
#include "cases.h"
#include "cpu_kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct rig { /* a case, built, with loss = sum(out * fixed noise) */
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_node *in[CASE_INPUTS], *out, *noise, *loss;
    float *x[CASE_INPUTS];
    int n_in;
    size_t n_out;
} rig;

static float *random_values(size_t n, uint64_t stream, float from, float to) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        float v = from == 0 && to == 0 ? uf_gaussian(7, stream, i) : from + (to - from) * uf_uniform(7, stream, i);
        if (fabsf(v) < .03f) v = v < 0 ? v - .03f : v + .03f; /* away from kinks */
        x[i] = v;
    }
    return x;
}

static void rig_open_threads(rig *r, const op_case *c, const uf_plan_options *options, bool frozen, int threads) {
    memset(r, 0, sizeof *r);
    assert_int_equal(uf_ctx_open(&r->ctx), UF_OK);
    uf_ctx_set_threads(r->ctx, threads);
    assert_int_equal(uf_params_open(&r->params, r->ctx, 3), UF_OK);
    assert_int_equal(uf_graph_open(&r->graph, r->ctx, r->params), UF_OK);
    for (; r->n_in < CASE_INPUTS && c->in[r->n_in].n; r->n_in++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", r->n_in);
        r->in[r->n_in] = uf_input(r->graph, name, c->in[r->n_in]);
        r->in[r->n_in]->needs_grad = true;
        r->x[r->n_in] = random_values(uf_count(c->in[r->n_in]), 100u + (uint64_t)r->n_in, c->from, c->to);
    }
    r->out = uf_output(c->build(r->graph, r->in));
    if (!r->out) fail_msg("%s: %s", c->name, uf_ctx_error(r->ctx));
    r->n_out = uf_count(r->out->shape);
    r->noise = uf_input(r->graph, "noise", r->out->shape);
    r->loss = uf_reduce(uf_binary(r->out, "mul", r->noise), "sum", 15);
    for (int i = 0; i < uf_params_n(r->params); i++) { /* norms and gates away from their plain start */
        uf_param *p = uf_params_at(r->params, i);
        for (size_t k = 0; k < uf_count(p->shape); k++)
            if (!strstr(p->name, ".u")) p->value[k] += .2f * uf_uniform(9, (uint64_t)i, k);
        p->frozen = frozen;
    }
    uf_plan_options o = *options;
    o.loss = o.mode == UF_INFER ? NULL : r->loss;
    o.seed = 5;
    if (uf_plan_open(&r->plan, r->ctx, r->graph, &o) < 0) fail_msg("%s: %s", c->name, uf_ctx_error(r->ctx));
    for (int i = 0; i < r->n_in; i++) assert_int_equal(uf_plan_set(r->plan, r->in[i], r->x[i]), UF_OK);
    float *noise = random_values(r->n_out, 200, 0, 0);
    assert_int_equal(uf_plan_set(r->plan, r->noise, noise), UF_OK);
    free(noise);
}

static void rig_open(rig *r, const op_case *c, const uf_plan_options *options, bool frozen) { rig_open_threads(r, c, options, frozen, 2); }

static void rig_close(rig *r) {
    for (int i = 0; i < r->n_in; i++) free(r->x[i]);
    uf_plan_close(&r->plan);
    uf_graph_close(&r->graph);
    uf_params_close(&r->params);
    uf_ctx_close(&r->ctx);
}

/* The loss in double: the scalar itself is rounded too coarsely for differences. */
static double loss_of(rig *r) {
    float *out = malloc(r->n_out * sizeof *out), *noise = random_values(r->n_out, 200, 0, 0);
    double sum = 0;
    assert_int_equal(uf_plan_run(r->plan), UF_OK);
    assert_int_equal(uf_plan_get(r->plan, r->out, out), UF_OK);
    for (size_t i = 0; i < r->n_out; i++) sum += (double)out[i] * (double)noise[i];
    free(out);
    free(noise);
    return sum;
}

/* Buffers that a training pass changes (running statistics, power iteration) are put back before every evaluation. */
static float **save_buffers(const rig *r) {
    float **saved = calloc((size_t)uf_params_n(r->params) + 1, sizeof *saved);
    for (int i = 0; i < uf_params_n(r->params); i++) {
        uf_param *p = uf_params_at(r->params, i);
        if (!p->buffer) continue;
        saved[i] = malloc(uf_count(p->shape) * sizeof(float));
        memcpy(saved[i], p->value, uf_count(p->shape) * sizeof(float));
    }
    return saved;
}

static void restore_buffers(rig *r, float **saved) {
    for (int i = 0; i < uf_params_n(r->params); i++)
        if (saved[i]) memcpy(uf_params_at(r->params, i)->value, saved[i], uf_count(uf_params_at(r->params, i)->shape) * sizeof(float));
}

static void free_buffers(rig *r, float **saved) {
    for (int i = 0; i < uf_params_n(r->params); i++) free(saved[i]);
    free(saved);
}

typedef struct error { /* |a-b| and |b| over a tensor */
    double difference, length;
} error;

static void add_error(error *e, double a, double b) {
    e->difference += (a - b) * (a - b);
    e->length += b * b;
}

static double relative(const error *e) { return sqrt(e->difference) / (sqrt(e->length) + 1e-6); }

/* The derivative along one element: central differences at two steps, extrapolated (Richardson 1911), so that what is left
 * of the curvature is of fourth order and the steps can be large beside float32's rounding. */
static double slope(rig *r, float **saved, float *at, float *element, float step, const uf_node *input) {
    float old = *element;
    double d[2];
    for (int k = 0; k < 2; k++) {
        double h = (double)step / (1 + k), f[2];
        float moved[2];
        for (int s = 0; s < 2; s++) {
            moved[s] = *element = old + (float)(s ? -h : h);
            if (input) assert_int_equal(uf_plan_set(r->plan, input, at), UF_OK);
            restore_buffers(r, saved);
            f[s] = loss_of(r);
        }
        d[k] = (f[0] - f[1]) / ((double)moved[0] - (double)moved[1]);
    }
    *element = old;
    if (input) assert_int_equal(uf_plan_set(r->plan, input, at), UF_OK);
    return (4 * d[1] - d[0]) / 3;
}

/* At most 24 elements of a tensor, spread over it. */
static void check_tensor(rig *r, const op_case *c, float **saved, float *at, size_t n, const float *grad,
                         const uf_node *input, error *e) {
    float step = c->step > 0 ? c->step : 1e-2f;
    size_t stride = n / 24 + 1;
    for (size_t i = 0; i < n; i += stride) add_error(e, (double)grad[i], slope(r, saved, at, &at[i], step, input));
}

/* In a chain, every weight moves every activation, and some ReLU lies within a step of its kink: one such is 1 %. While
 * training, a spectral norm's vectors follow the weights, and count as constants. */
static double limit_of(const op_case *c) {
    return strncmp(c->name, "chain", 5) && strncmp(c->name, "spectral", 8) ? 1e-3 : 2e-2;
}

static void gradient_case(const op_case *c) {
    rig r;
    rig_open(&r, c, &(uf_plan_options){.mode = UF_EXACT}, false);
    float **saved = save_buffers(&r);
    assert_int_equal(uf_plan_run(r.plan), UF_OK);
    assert_int_equal(uf_plan_backward(r.plan), UF_OK);
    for (int i = 0; i < r.n_in; i++) {
        bool constant = (!strncmp(c->name, "bce", 3) || !strncmp(c->name, "hinge", 5) ||
                         !strncmp(c->name, "cross_entropy", 13)) && i == 1;
        size_t n = uf_count(c->in[i]);
        float *grad = malloc(n * sizeof *grad);
        error e = {0};
        if (!constant) {
            assert_int_equal(uf_plan_get_grad(r.plan, r.in[i], grad), UF_OK);
            check_tensor(&r, c, saved, r.x[i], n, grad, r.in[i], &e);
        }
        free(grad);
        if (relative(&e) > limit_of(c)) fail_msg("%s: gradient to input %d is off by %.2g", c->name, i, relative(&e));
    }
    for (int i = 0; i < uf_params_n(r.params); i++) {
        uf_param *p = uf_params_at(r.params, i);
        error e = {0};
        if (p->buffer) continue;
        size_t n = uf_count(p->shape);
        float *grad = malloc(n * sizeof *grad);
        memcpy(grad, p->grad, n * sizeof *grad);
        check_tensor(&r, c, saved, p->value, n, grad, NULL, &e);
        free(grad);
        if (relative(&e) > limit_of(c)) fail_msg("%s: gradient to '%s' is off by %.2g", c->name, p->name, relative(&e));
    }
    free_buffers(&r, saved);
    rig_close(&r);
}

static void test_gradients(void **state) {
    (void)state;
    for (int i = 0; i < UF_LEN(cases); i++) gradient_case(&cases[i]);
}

static void test_every_op_has_a_case(void **state) {
    (void)state;
    for (int i = 0; uf_ops[i]; i++) {
        bool found = !strcmp(uf_ops[i]->name, "input") || !strcmp(uf_ops[i]->name, "param");
        for (int k = 0; k < UF_LEN(cases) && !found; k++) {
            size_t n = strcspn(cases[k].name, "/");
            found = strlen(uf_ops[i]->name) == n && !strncmp(uf_ops[i]->name, cases[k].name, n);
        }
        if (!found) fail_msg("op '%s' has no case in cases.h", uf_ops[i]->name);
    }
}

/* Values and all gradients of a plan beside the oracle's. */
static void compare(const op_case *c, const uf_plan_options *o, bool frozen, double tolerance, const char *what) {
    rig a, b;
    bool train = o->mode == UF_TRAIN;
    uf_plan_options oracle = {.mode = o->mode, .backend = "ref"};
    rig_open(&a, c, o, frozen);
    rig_open(&b, c, &oracle, frozen);
    assert_int_equal(uf_plan_run(a.plan), UF_OK);
    assert_int_equal(uf_plan_run(b.plan), UF_OK);
    float *ya = malloc(a.n_out * sizeof *ya), *yb = malloc(a.n_out * sizeof *yb);
    assert_int_equal(uf_plan_get(a.plan, a.out, ya), UF_OK);
    assert_int_equal(uf_plan_get(b.plan, b.out, yb), UF_OK);
    error e = {0};
    for (size_t i = 0; i < a.n_out; i++) add_error(&e, (double)ya[i], (double)yb[i]);
    if (!(relative(&e) <= tolerance)) fail_msg("%s, %s: values are off by %.2g", c->name, what, relative(&e));
    free(ya);
    free(yb);
    if (train) {
        assert_int_equal(uf_plan_backward(a.plan), UF_OK);
        assert_int_equal(uf_plan_backward(b.plan), UF_OK);
    }
    for (int i = 0; train && i < a.n_in; i++) {
        size_t n = uf_count(c->in[i]);
        float *ga = calloc(n, sizeof *ga), *gb = calloc(n, sizeof *gb);
        int got = uf_plan_get_grad(a.plan, a.in[i], ga), want = uf_plan_get_grad(b.plan, b.in[i], gb);
        assert_int_equal(got, want);
        error g = {0};
        for (size_t k = 0; k < n; k++) add_error(&g, (double)ga[k], (double)gb[k]);
        if (!(relative(&g) <= 2 * tolerance)) fail_msg("%s, %s: gradient to input %d is off by %.2g", c->name, what, i, relative(&g));
        free(ga);
        free(gb);
    }
    for (int i = 0; i < uf_params_n(a.params); i++) {
        uf_param *p = uf_params_at(a.params, i), *q = uf_params_at(b.params, i);
        error g = {0};
        for (size_t k = 0; k < uf_count(p->shape); k++) {
            if (p->buffer) add_error(&g, (double)p->value[k], (double)q->value[k]);
            else if (train && !frozen) add_error(&g, (double)p->grad[k], (double)q->grad[k]);
        }
        if (!(relative(&g) <= 2 * tolerance)) fail_msg("%s, %s: '%s' is off by %.2g", c->name, what, p->name, relative(&g));
    }
    rig_close(&a);
    rig_close(&b);
}

static void compare_all(uf_dtype dtype, double tolerance) {
    for (int i = 0; i < UF_LEN(cases); i++)
        for (int k = 0; k < 6; k++) {
            bool unfused = k & 1, frozen = k >= 4;
            uf_plan_options o = {.mode = k < 2 ? UF_INFER : UF_TRAIN, .dtype = dtype, .no_fuse = unfused};
            static const char *const what[] = {"inference", "inference unfused", "training", "training unfused", "frozen",
                                               "frozen unfused"};
            /* a chain rounds five times, and a rounding can switch a ReLU */
            double t = dtype == UF_BF16 && !strncmp(cases[i].name, "chain", 5) ? 5 * tolerance : tolerance;
            compare(&cases[i], &o, frozen, t, what[k]);
        }
}

static void test_cpu_float32(void **state) {
    (void)state;
    compare_all(UF_F32, 1e-4);
}

static void test_cpu_bf16(void **state) {
    (void)state;
    if (!uf_cpu_has_bf16()) skip();
    compare_all(UF_BF16, 2e-2);
}

/* A training step with one thread and with two: the same bits, which runs that are resumed elsewhere and processes that share one rely on. */
static void same_bits(const op_case *c, uf_dtype dtype) {
    rig r[2];
    for (int k = 0; k < 2; k++) {
        rig_open_threads(&r[k], c, &(uf_plan_options){.mode = UF_TRAIN, .dtype = dtype}, false, k + 1);
        assert_int_equal(uf_plan_run(r[k].plan), UF_OK);
        assert_int_equal(uf_plan_backward(r[k].plan), UF_OK);
    }
    float *y[2];
    for (int k = 0; k < 2; k++) {
        y[k] = malloc(r[0].n_out * sizeof **y);
        assert_int_equal(uf_plan_get(r[k].plan, r[k].out, y[k]), UF_OK);
    }
    if (memcmp(y[0], y[1], r[0].n_out * sizeof **y)) fail_msg("%s: values change with the number of threads", c->name);
    for (int k = 0; k < 2; k++) free(y[k]);
    for (int i = 0; i < r[0].n_in; i++) {
        size_t n = uf_count(c->in[i]);
        for (int k = 0; k < 2; k++) {
            y[k] = calloc(n, sizeof **y);
            uf_plan_get_grad(r[k].plan, r[k].in[i], y[k]);
        }
        if (memcmp(y[0], y[1], n * sizeof **y)) fail_msg("%s: the gradient to input %d changes with the number of threads", c->name, i);
        for (int k = 0; k < 2; k++) free(y[k]);
    }
    for (int i = 0; i < uf_params_n(r[0].params); i++) {
        uf_param *p = uf_params_at(r[0].params, i), *q = uf_params_at(r[1].params, i);
        const float *a = p->buffer ? p->value : p->grad, *b = p->buffer ? q->value : q->grad;
        if (a && memcmp(a, b, uf_count(p->shape) * sizeof *a)) fail_msg("%s: what '%s' gets changes with the number of threads", c->name, p->name);
    }
    for (int k = 0; k < 2; k++) rig_close(&r[k]);
}

/* Of networks' size: small sums are not shared among threads. */
BUILD(b_deep3, uf_conv2d(x[0], "c", (uf_conv){.out = 256, .no_bias = true}))
BUILD(b_deep1, uf_conv2d(x[0], "c", (uf_conv){.out = 512, .k = 1}))
BUILD(b_deep2, uf_conv2d(x[0], "c", (uf_conv){.out = 256, .stride = 2}))
BUILD(b_deep_gru, uf_gru(x[0], "g", 64, 2, false))
BUILD(b_deep_bn, uf_batch_norm(x[0], "n"))
static const op_case deep[] = {
    {"conv2d/3x3 deep", {{2, 256, 2, 2}}, b_deep3, 0, 0, 0},    {"conv2d/3x3 deep, large", {{1, 128, 40, 32}}, b_deep3, 0, 0, 0},
    {"conv2d/1x1 deep", {{2, 384, 2, 2}}, b_deep1, 0, 0, 0},    {"conv2d/1x1 deep, large", {{1, 128, 32, 40}}, b_deep1, 0, 0, 0},
    {"conv2d/stride deep", {{2, 128, 4, 4}}, b_deep2, 0, 0, 0}, {"conv2d/few", {{2, 1, 64, 64}}, b_deep3, 0, 0, 0},
    {"gru/deep", {{2, 64, 100, 16}}, b_deep_gru, 0, 0, 0},      {"batch_norm/large", {{4, 64, 32, 32}}, b_deep_bn, 0, 0, 0},
    {"attention/deep", {{1, 32, 8, 8}, {1, 32, 4, 4}, {1, 128, 4, 4}}, b_att, 0, 0, 0},
    {"attention/deep, large", {{1, 32, 32, 24}, {1, 32, 16, 12}, {1, 128, 16, 12}}, b_att, 0, 0, 0},
};

static void test_threads_change_no_bit(void **state) {
    (void)state;
    for (int i = 0; i < UF_LEN(deep); i++) {
        same_bits(&deep[i], UF_F32);
        if (uf_cpu_has_bf16()) same_bits(&deep[i], UF_BF16);
    }
    for (int i = 0; i < UF_LEN(cases); i++) {
        same_bits(&cases[i], UF_F32);
        if (uf_cpu_has_bf16()) same_bits(&cases[i], UF_BF16);
    }
}

/* Powers of vectors, from the quietest sound to far beyond the loudest, against the library's; lengths that end inside a vector. */
static void test_powers(void **state) {
    (void)state;
    enum { N = 4099 };
    static const float e[] = {-.35f, .15f, .5f, .5f * (1 / .3f - 1), -1, 3, 0};
    static float re[N], im[N], y[N + 1];
    for (int i = 0; i < N; i++) {
        re[i] = expf(24.f * (uf_uniform(3, 1, (uint64_t)i) - .5f));
        im[i] = re[i] * uf_gaussian(3, 2, (uint64_t)i);
    }
    re[0] = im[0] = 0;
    for (int k = 0; k < UF_LEN(e); k++) {
        y[N] = 7;
        uf_powers(N, re, im, 1e-6f, e[k], y);
        for (int i = 0; i < N; i++) {
            double want = pow((double)(re[i] * re[i] + im[i] * im[i] + 1e-6f), (double)e[k]);
            if (!(fabs((double)y[i] / want - 1) < 2e-6)) fail_msg("(%g^2 + %g^2)^%g is %.8g, not %.8g", (double)re[i], (double)im[i], (double)e[k], (double)y[i], want);
        }
        assert_true(y[N] == 7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_has_a_case),
        cmocka_unit_test(test_powers),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_cpu_float32),
        cmocka_unit_test(test_cpu_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

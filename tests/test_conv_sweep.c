/* Convolutions of the cpu backend beside the oracle's, over shapes drawn from a seed. oneDNN before 3.6 computed bf16
 * weight gradients wrongly on pictures 360 or more wide, on processors with AMX: no list made by hand held such a shape.
 *
 *     test_conv_sweep                  the short run
 *     test_conv_sweep wide             the long one, half of it 340 to 376 wide
 *     test_conv_sweep wide SEED CASE   one case again
 *
 * Each case is printed before it runs: after a crash or a hang, the last line is the one to replay. */
#include "engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct sweep {
    const char *name;
    int n_cases;
    double most_macs; /* multiply-adds of one forward pass: the oracle's patience */
    bool wide;
    uint64_t seed;
    int first;
} sweep;

static sweep run = {.name = "short", .n_cases = 250, .most_macs = 2e6, .seed = 1};
static const sweep wide_run = {.name = "wide", .n_cases = 500, .most_macs = 6e7, .wide = true, .seed = 1};

typedef struct conv_case {
    uf_shape x;
    uf_conv conv; /* all fields explicit, pad -1 for none */
    int threads;  /* the library shares weight gradients among them by shape */
    bool folded;  /* frozen, with a fixed norm behind it that becomes a part of it: gradients go through to the data alone */
} conv_case;

enum { VALUE, TO_DATA, TO_WEIGHTS, TO_BIAS, N_RESULTS };

typedef struct results {
    float *at[N_RESULTS];
    size_t n[N_RESULTS];
} results;

typedef struct dice {
    uint64_t seed, stream, index;
} dice;

static int roll(dice *d, int n) {
    uint32_t r[4];
    uf_philox(d->seed, d->stream, d->index++, r);
    return (int)(r[0] % (uint32_t)n);
}

/* Half of them around the vector blocks of 16 and 64, where the library changes its ways. */
static int roll_channels(dice *d) {
    static const int edges[] = {1, 2, 3, 15, 16, 17, 32, 33, 48, 63, 64, 65, 128, 130};
    return roll(d, 2) ? edges[roll(d, UF_LEN(edges))] : 1 + roll(d, 130);
}

static int roll_side(dice *d) {
    static const int most[] = {16, 64, 160, 400};
    return 1 + roll(d, most[roll(d, UF_LEN(most))]);
}

static int pad_of(const uf_conv *o) { return o->pad < 0 ? 0 : o->dilation * (o->k - 1) / 2; }
static int reach(const uf_conv *o) { return o->dilation * (o->k - 1) + 1; }
static int side_out(const uf_conv *o, int side) { return (side + 2 * pad_of(o) - reach(o)) / o->stride + 1; }

static double macs(const conv_case *c) {
    const uf_conv *o = &c->conv;
    return (double)c->x.n * o->out * (c->x.c / o->groups) * o->k * o->k * side_out(o, c->x.h) * side_out(o, c->x.w);
}

static conv_case roll_case(dice *d) {
    static const int kernels[] = {1, 3, 3, 3, 4, 5}, threads[] = {1, 2, 4};
    conv_case c = {.x = {1 + roll(d, 4), roll_channels(d), roll_side(d), roll_side(d)}};
    if (run.wide && roll(d, 2)) c.x.w = 340 + roll(d, 37);
    c.conv = (uf_conv){.out = roll_channels(d), .k = kernels[roll(d, UF_LEN(kernels))], .stride = 1 + roll(d, 2),
                       .pad = roll(d, 4) ? 0 : -1, .dilation = roll(d, 6) ? 1 : 2, .groups = 1,
                       .no_bias = roll(d, 4) == 0};
    switch (roll(d, 8)) {
    case 0: c.conv.groups = c.conv.out = c.x.c; break; /* depthwise */
    case 1:                                            /* two or three groups of the channels rolled, halved */
        c.conv.groups = 2 + roll(d, 2);
        c.x.c = (c.x.c / 2 + 1) * c.conv.groups;
        c.conv.out = (c.conv.out / 2 + 1) * c.conv.groups;
        break;
    }
    c.threads = threads[roll(d, UF_LEN(threads))];
    c.folded = roll(d, 4) == 0;
    if (c.folded && c.conv.groups == 1 && roll(d, 4)) { /* as networks have them */
        c.x.c = 16 * (1 + roll(d, 6));
        c.conv.out = 16 * (1 + roll(d, 6));
        c.conv.k = 3;
        c.conv.stride = c.conv.dilation = 1;
    }
    return c;
}

/* Too much work is taken off the height and the samples; widths and channels are what the sweep is about. */
static conv_case draw(int index) {
    dice d = {run.seed, (uint64_t)index, 0};
    for (;;) {
        conv_case c = roll_case(&d);
        int least = reach(&c.conv) - 2 * pad_of(&c.conv);
        if (c.x.h < least || c.x.w < least) continue;
        while (macs(&c) > run.most_macs && c.x.h / 2 >= least && c.x.h > 1) c.x.h /= 2;
        if (macs(&c) > run.most_macs) c.x.n = 1;
        if (macs(&c) <= run.most_macs) return c;
    }
}

static void describe(char *to, size_t n, int index, const conv_case *c) {
    const uf_conv *o = &c->conv;
    snprintf(to, n, "%s %llu %d: %dx%dx%dx%d -> %d channels, kernel %d, stride %d, pad %d, dilation %d, %d groups%s%s, %d threads",
             run.name, (unsigned long long)run.seed, index, c->x.n, c->x.c, c->x.h, c->x.w, o->out, o->k, o->stride,
             pad_of(o), o->dilation, o->groups, o->no_bias ? ", no bias" : "", c->folded ? ", folded norm" : "", c->threads);
}

/* Multiples of 1/64 in [-1, 1]: bf16 holds them exactly, so that its results differ by their own last rounding only. */
static float *fill(float *x, size_t n, uint64_t stream) {
    if (!x) x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = rintf(128 * uf_uniform(run.seed, stream, i) - 64) / 64;
    return x;
}

static void copy_gradient(results *r, int which, const uf_params *params, const char *name) {
    const uf_param *p = uf_params_find(params, name);
    if (!p) return;
    r->n[which] = uf_count(p->shape);
    r->at[which] = malloc(r->n[which] * sizeof(float));
    assert_non_null(r->at[which]);
    memcpy(r->at[which], p->grad, r->n[which] * sizeof(float));
}

static void set_noise(uf_plan *plan, const uf_node *input, uint64_t stream) {
    float *x = fill(NULL, uf_count(input->shape), stream);
    assert_int_equal(uf_plan_set(plan, input, x), UF_OK);
    free(x);
}

/* Scales that are powers of two, and quarters to be added: folded, weights and biases are still numbers that bf16 holds. */
static void fold_exactly(uf_params *params) {
    static const char *const added[] = {"norm.mean", "norm.beta", "c.b"};
    uf_param *var = uf_params_find(params, "norm.var"), *gamma = uf_params_find(params, "norm.gamma");
    assert_true(var && gamma);
    for (size_t i = 0; i < uf_count(var->shape); i++) {
        gamma->value[i] = copysignf(i % 2 ? .5f : 1.f, gamma->value[i]);
        var->value[i] = (float)(pow(4, (double)(i % 3) - 1) - 1e-5);
    }
    for (int k = 0; k < UF_LEN(added); k++) {
        uf_param *p = uf_params_find(params, added[k]);
        for (size_t i = 0; p && i < uf_count(p->shape); i++) p->value[i] = rintf(4 * p->value[i]) / 4;
    }
}

/* Value and gradients with loss = sum(y * noise), so that the gradient of y is the noise. */
static void compute(const conv_case *c, const char *backend, uf_dtype dtype, results *r) {
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *g;
    uf_plan *plan;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_ctx_set_threads(ctx, c->threads);
    assert_int_equal(uf_params_open(&params, ctx, 0), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, params), UF_OK);
    uf_node *x = uf_input(g, "x", c->x);
    x->needs_grad = true;
    uf_graph_training(g, false);
    uf_node *y = uf_conv2d(x, "c", c->conv);
    y = uf_output(c->folded ? uf_batch_norm(y, "norm") : y);
    if (!y) fail_msg("%s", uf_ctx_error(ctx));
    uf_node *noise = uf_input(g, "noise", y->shape);
    uf_plan_options o = {.mode = UF_TRAIN, .backend = backend, .dtype = dtype,
                         .loss = uf_reduce(uf_binary(y, "mul", noise), "sum", 15)};
    for (int i = 0; i < uf_params_n(params); i++)
        fill(uf_params_at(params, i)->value, uf_count(uf_params_at(params, i)->shape), 1u << 20 | (unsigned)i);
    if (c->folded) {
        fold_exactly(params);
        uf_params_freeze(params, "", true);
    }
    if (uf_plan_open(&plan, ctx, g, &o) < 0) fail_msg("%s", uf_ctx_error(ctx));
    set_noise(plan, x, 2u << 20);
    set_noise(plan, noise, 3u << 20);
    *r = (results){.n = {uf_count(y->shape), uf_count(x->shape)}};
    for (int i = VALUE; i <= TO_DATA; i++) assert_non_null(r->at[i] = malloc(r->n[i] * sizeof(float)));
    assert_int_equal(uf_plan_run(plan), UF_OK);
    assert_int_equal(uf_plan_get(plan, y, r->at[VALUE]), UF_OK);
    assert_int_equal(uf_plan_backward(plan), UF_OK);
    assert_int_equal(uf_plan_get_grad(plan, x, r->at[TO_DATA]), UF_OK);
    if (!c->folded) {
        copy_gradient(r, TO_WEIGHTS, params, "c.w");
        copy_gradient(r, TO_BIAS, params, "c.b");
    }
    uf_plan_close(&plan);
    uf_graph_close(&g);
    uf_params_close(&params);
    uf_ctx_close(&ctx);
}

static void results_free(results *r) {
    for (int i = 0; i < N_RESULTS; i++) free(r->at[i]);
}

/* The worst element, so that a few wrong ones among a million do not hide, beside the root mean square of those that are
 * not 0: a 1x1 kernel of stride 2 leaves three in four untouched. `rounding` of each element's size is allowed first. */
static double distance(const float *a, const float *b, size_t n, double rounding) {
    double worst = 0, square = 0, n_used = 1e-6;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]), size = fabs((double)b[i]);
        if (!isfinite(d)) return INFINITY;
        worst = fmax(worst, d - rounding * size);
        square += size * size;
        n_used += b[i] != 0;
    }
    return worst / (sqrt(square / n_used) + 1e-6);
}

/* Where Winograd's transforms round their sums to bf16 once more, a result is off by some thousandths; so it is where the norm is no part of the convolution
 * after all (1x1 kernels of stride 2 whose channels do not come in sixteens: uf_conv_fusible()) and that one's own result is stored as bf16. */
static double limit(const conv_case *c, bool bf16) {
    const uf_conv *o = &c->conv;
    if (bf16 && c->folded && o->k == 1 && o->stride == 2 && (c->x.c % 16 || o->out % 16)) return .02;
    return bf16 && o->k == 3 && o->stride == 1 && o->dilation == 1 && o->groups == 1 ? .02 : 1e-4;
}

static double farthest; /* for the closing line */

static int compare(const char *what, const conv_case *c, const results *want, const results *got, bool bf16) {
    static const char *const name[] = {"value", "gradient to the data", "gradient to the weights", "gradient to the bias"};
    int n_bad = 0;
    for (int i = 0; i < N_RESULTS; i++) {
        assert_true(got->n[i] == want->n[i]);
        if (!want->n[i]) continue;
        bool rounded = bf16 && i <= TO_DATA; /* activations are stored as bf16, 8 bits long; gradients of parameters are not */
        double d = distance(got->at[i], want->at[i], want->n[i], rounded ? 0x1p-8 : 0);
        farthest = fmax(farthest, d);
        if (d <= limit(c, bf16)) continue;
        print_error("%s, %s: the %s is off by %.2g\n", what, bf16 ? "bf16" : "float32", name[i], d);
        n_bad++;
    }
    return n_bad;
}

static int run_case(int index) {
    conv_case c = draw(index);
    results want, got;
    char what[256];
    int n_bad = 0;
    describe(what, sizeof what, index, &c);
    print_message("%s\n", what);
    fflush(stdout);
    compute(&c, "ref", UF_F32, &want);
    for (int bf16 = 0; bf16 <= (int)uf_cpu_has_bf16(); bf16++) {
        compute(&c, "cpu", bf16 ? UF_BF16 : UF_F32, &got);
        n_bad += compare(what, &c, &want, &got, bf16);
        results_free(&got);
    }
    results_free(&want);
    return n_bad;
}

/* Goes on after a failure: the shapes that fail together tell where the trouble lies. */
static void test_sweep(void **state) {
    (void)state;
    int n_bad = 0;
    for (int i = 0; i < run.n_cases; i++) n_bad += run_case(run.first + i);
    print_message("the farthest is %.2g of its root mean square\n", farthest);
    if (n_bad) fail_msg("%d results are off; replay one: test_conv_sweep %s SEED CASE", n_bad, run.name);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
    if (argc > 1 && !strcmp(argv[1], wide_run.name)) run = wide_run;
    if (argc > 2) run.seed = strtoull(argv[2], NULL, 10);
    if (argc > 3) {
        run.first = atoi(argv[3]);
        run.n_cases = 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

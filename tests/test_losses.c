/* The measures against published values, the loss table against arithmetic. */
#include "losses.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Sharma, Wu, Dalal 2005, table 1: L a b, L a b, difference. */
static const double sharma[][7] = {
    {50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425},
    {50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615},
    {50, 2.8361, -74.0200, 50, 0, -82.7485, 3.4412},
    {50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0000},
    {50, -1.1848, -84.8006, 50, 0, -82.7485, 1.0000},
    {50, -0.9009, -85.5211, 50, 0, -82.7485, 1.0000},
    {50, 0, 0, 50, -1, 2, 2.3669},
    {50, -1, 2, 50, 0, 0, 2.3669},
    {50, 2.4900, -0.0010, 50, -2.4900, 0.0009, 7.1792},
    {50, 2.4900, -0.0010, 50, -2.4900, 0.0010, 7.1792},
    {50, 2.4900, -0.0010, 50, -2.4900, 0.0011, 7.2195},
    {50, 2.4900, -0.0010, 50, -2.4900, 0.0012, 7.2195},
    {50, -0.0010, 2.4900, 50, 0.0009, -2.4900, 4.8045},
    {50, -0.0010, 2.4900, 50, 0.0010, -2.4900, 4.8045},
    {50, -0.0010, 2.4900, 50, 0.0011, -2.4900, 4.7461},
    {50, 2.5, 0, 50, 0, -2.5, 4.3065},
    {50, 2.5, 0, 73, 25, -18, 27.1492},
    {50, 2.5, 0, 61, -5, 29, 22.8977},
    {50, 2.5, 0, 56, -27, -3, 31.9030},
    {50, 2.5, 0, 58, 24, 15, 19.4535},
    {50, 2.5, 0, 50, 3.1736, 0.5854, 1.0000},
    {50, 2.5, 0, 50, 3.2972, 0, 1.0000},
    {50, 2.5, 0, 50, 1.8634, 0.5757, 1.0000},
    {50, 2.5, 0, 50, 3.2592, 0.3350, 1.0000},
    {60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644},
    {63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630},
    {61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731},
    {35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645},
    {22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373},
    {36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146},
    {90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441},
    {90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381},
    {6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377},
    {2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082},
};

static void test_ciede2000(void **state) {
    (void)state;
    for (int i = 0; i < UF_LEN(sharma); i++) {
        double d = uf_ciede2000_lab(sharma[i], sharma[i] + 3);
        if (fabs(d - sharma[i][6]) > 1e-4) fail_msg("pair %d: %.4f, published %.4f", i + 1, d, sharma[i][6]);
    }
}

static void test_pictures(void **state) {
    (void)state;
    static const uint8_t red[] = {255, 0, 0, 255, 0, 0}, grey[] = {90, 90, 90, 91, 91, 91}, two[] = {255, 0, 0, 0, 0, 255};
    uf_rgb a = {red, 2, 1, 6}, b = {grey, 2, 1, 6}, c = {two, 2, 1, 6};
    assert_true(fabs(uf_ciede2000(a, a)) < 1e-9);
    assert_true(uf_ciede2000(a, b) > 30);
    assert_true(fabs(uf_colorfulness(b)) < 1e-9);
    /* one colour: no deviation, rg = 255, yb = 127.5 */
    assert_true(fabs(uf_colorfulness(a) - .3 * sqrt(255. * 255 + 127.5 * 127.5)) < 1e-9);
    assert_true(uf_colorfulness(c) > uf_colorfulness(a));
    assert_true(fabs(uf_grey_share(b) - 1) < 1e-9 && fabs(uf_grey_share(a)) < 1e-9);
    assert_true(uf_ab_psnr(a, a) > 90 && uf_ab_psnr(a, b) < 20);
}

/* sRGB's primaries in CIELAB, D65 (published to four decimals by Lindbloom's calculator): through a and b to grey's 0, and
 * white and black are 100 apart. */
static void test_lab(void **state) {
    (void)state;
    static const struct {
        uint8_t rgb[3];
        double a, b;
    } known[] = {{{255, 0, 0}, 80.0925, 67.2032}, {{0, 255, 0}, -86.1827, 83.1793}, {{0, 0, 255}, 79.1875, -107.8602}};
    static const uint8_t grey[3] = {119, 119, 119}, white[3] = {255, 255, 255}, black[3] = {0, 0, 0};
    for (int i = 0; i < UF_LEN(known); i++) {
        double mse = (known[i].a * known[i].a + known[i].b * known[i].b) / 2;
        double got = uf_ab_psnr((uf_rgb){known[i].rgb, 1, 1, 3}, (uf_rgb){grey, 1, 1, 3});
        if (fabs(got - 10 * log10(255. * 255 / mse)) > 2e-3) fail_msg("primary %d: %.4f dB", i, got);
    }
    assert_true(fabs(uf_ciede2000((uf_rgb){white, 1, 1, 3}, (uf_rgb){black, 1, 1, 3}) - 100) < 1e-3);
    /* padded rows: what lies between them is not looked at */
    static const uint8_t padded[] = {255, 0, 0, 9, 9, 255, 0, 0, 7, 7};
    assert_true(fabs(uf_ciede2000((uf_rgb){padded, 1, 2, 5}, (uf_rgb){padded + 5, 1, 2, 0})) < 1e-9);
    assert_true(fabs(uf_grey_share((uf_rgb){padded, 1, 2, 5})) < 1e-9);
}

/* Weights, smoothing: against arithmetic by hand. */
static void test_values(void **state) {
    (void)state;
    uf_ctx *ctx = NULL;
    uf_params *params = NULL;
    uf_graph *g = NULL;
    uf_plan *plan = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    assert_int_equal(uf_params_open(&params, ctx, 1), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, params), UF_OK);
    uf_node *p = uf_input(g, "p", (uf_shape){1, 2, 1, 1}), *q = uf_input(g, "q", (uf_shape){1, 2, 1, 1});
    uf_node *label = uf_input(g, "label", (uf_shape){1, 1, 1, 1});
    uf_node *fp[3] = {p, uf_scale(p, 2.f, 0.f), p}, *fq[3] = {q, uf_scale(q, 2.f, 0.f), q};
    const float weight[3] = {1.f, .5f, 0.f};
    uf_loss_in in = {.predicted = p, .target = q, .predicted_features = fp, .target_features = fq, .n_features = 3,
                     .feature_weight = weight};
    uf_node *l1 = uf_output(uf_loss_find("l1")->build(&in)), *l2 = uf_output(uf_loss_find("l2")->build(&in));
    uf_node *feature = uf_output(uf_loss_find("feature")->build(&in));
    uf_node *rebalanced = uf_output(uf_loss_find("rebalanced")->build(&in));
    in = (uf_loss_in){.predicted = p, .target = label, .smoothing = .2f};
    uf_node *ce = uf_output(uf_loss_find("cross_entropy")->build(&in));
    assert_int_equal(uf_plan_open(&plan, ctx, g, &(uf_plan_options){.mode = UF_EXACT}), UF_OK);
    const float ps[2] = {1, -2}, qs[2] = {3, -1}, one = 1;
    float v;
    uf_plan_set(plan, p, ps);
    uf_plan_set(plan, q, qs);
    uf_plan_set(plan, label, &one);
    assert_int_equal(uf_plan_run(plan), UF_OK);
    uf_plan_get(plan, l1, &v);
    assert_true(fabsf(v - 1.5f) < 1e-6f); /* (2 + 1) / 2 */
    uf_plan_get(plan, l2, &v);
    assert_true(fabsf(v - 2.5f) < 1e-6f); /* (4 + 1) / 2 */
    uf_plan_get(plan, feature, &v);
    assert_true(fabsf(v - 3.f) < 1e-6f); /* 1.5 + .5 * 3 */
    uf_plan_get(plan, rebalanced, &v);
    assert_true(fabsf(v - 2.5f * (sqrtf(10.f) / .15f + .2f)) < 1e-3f);
    uf_plan_get(plan, ce, &v);
    double lse = log1p(exp(3.)) - 2; /* log(e^1 + e^-2), about -2 */
    assert_true(fabs((double)v - (.9 * (lse + 2) + .1 * (lse - 1))) < 1e-5); /* 1 - .2 + .2/2 on the label */
    uf_plan_close(&plan);
    const float none[3] = {0};
    in = (uf_loss_in){.predicted_features = fp, .target_features = fq, .n_features = 3, .feature_weight = none};
    assert_null(uf_loss_find("feature")->build(&in));
    assert_int_equal(uf_graph_status(g), UF_EINVAL); /* not a silent nothing */
    assert_null(uf_loss_find("nothing"));
    uf_graph_close(&g);
    uf_params_close(&params);
    uf_ctx_close(&ctx);
}

/* Every loss in the table: builds, is zero where it should be, and has a finite gradient that lowers it. */
static void test_table(void **state) {
    (void)state;
    for (int i = 0; uf_losses[i]; i++) {
        bool classes = !strcmp(uf_losses[i]->name, "cross_entropy");
        uf_ctx *ctx = NULL;
        uf_params *params = NULL;
        uf_graph *g = NULL;
        uf_plan *plan = NULL;
        assert_int_equal(uf_ctx_open(&ctx), UF_OK);
        assert_int_equal(uf_params_open(&params, ctx, 1), UF_OK);
        assert_int_equal(uf_graph_open(&g, ctx, params), UF_OK);
        bool sound = uf_losses[i]->sound;
        int n = sound ? 2 * 2400 : 120;
        uf_node *x = uf_input(g, "x", sound ? (uf_shape){2, 1, 1, 2400} : (uf_shape){2, 4, 3, 5});
        uf_node *t = uf_input(g, "t", classes ? (uf_shape){2, 1, 3, 5} : x->shape);
        x->needs_grad = true;
        uf_node *fx[] = {x}, *ft[] = {t};
        uf_loss_in in = {.predicted = x, .target = t, .predicted_features = fx, .target_features = ft, .n_features = 1};
        uf_node *loss = uf_output(uf_losses[i]->build(&in));
        assert_non_null(loss);
        assert_int_equal(uf_plan_open(&plan, ctx, g, &(uf_plan_options){.mode = UF_EXACT, .loss = loss}), UF_OK);
        static float xs[4800], ts[4800], grad[4800];
        float before, after;
        for (int k = 0; k < n; k++) {
            xs[k] = uf_gaussian(1, 1, (uint64_t)k);
            ts[k] = classes ? (float)(k % 4) : uf_gaussian(1, 2, (uint64_t)k);
        }
        uf_plan_set(plan, x, xs);
        uf_plan_set(plan, t, ts);
        assert_int_equal(uf_plan_run(plan), UF_OK);
        assert_int_equal(uf_plan_backward(plan), UF_OK);
        uf_plan_get(plan, loss, &before);
        uf_plan_get_grad(plan, x, grad);
        for (int k = 0; k < n; k++) xs[k] -= .1f * grad[k];
        uf_plan_set(plan, x, xs);
        assert_int_equal(uf_plan_run(plan), UF_OK);
        uf_plan_get(plan, loss, &after);
        assert_true(isfinite(before) && (before > 0 || sound) && after < before);
        if (uf_losses[i]->pairs) { /* the second picture is the first, moved */
            for (int k = 0; k < 60; k++) {
                int from_x = k % 5 + UF_MOTION_X, from_y = k / 5 % 3 + UF_MOTION_Y;
                xs[60 + k] = from_x < 5 && from_y < 3 ? xs[k / 15 * 15 + from_y * 5 + from_x] : 9.f;
            }
            uf_plan_set(plan, x, xs);
        }
        if (!classes) {
            uf_plan_set(plan, t, xs);
            assert_int_equal(uf_plan_run(plan), UF_OK);
            uf_plan_get(plan, loss, &after);
            assert_true(strcmp(uf_losses[i]->name, "snr") ? fabsf(after) < 1e-7f : after < -50);
        }
        uf_plan_close(&plan);
        uf_graph_close(&g);
        uf_params_close(&params);
        uf_ctx_close(&ctx);
    }
}

/* Windows last as long at every rate. */
static void test_rates(void **state) {
    (void)state;
    static const struct { const char *name; int window[3]; } want[] = {{"spectrum", {512}}, {"resolutions", {256, 1024, 2048}}};
    for (int i = 0; i < UF_LEN(want); i++)
        for (int times = 1; times <= 3; times += 2) {
            uf_ctx *ctx;
            uf_params *params;
            uf_graph *g = NULL;
            int n = 0;
            assert_int_equal(uf_ctx_open(&ctx), UF_OK);
            assert_int_equal(uf_params_open(&params, ctx, 1), UF_OK);
            assert_int_equal(uf_graph_open(&g, ctx, params), UF_OK);
            uf_node *p = uf_input(g, "p", (uf_shape){1, 1, 1, times * 4096}), *q = uf_input(g, "q", p->shape);
            assert_non_null(uf_losses[uf_loss_index(want[i].name)]->build(&(uf_loss_in){.predicted = p, .target = q, .rate = 16000 * times}));
            for (int k = 0; k < uf_graph_n(g); k++) {
                const uf_node *x = uf_graph_at(g, k);
                if (!strcmp(x->op->name, "stft")) assert_int_equal(x->attr.fft, times * want[i].window[n++ / 2]); /* of both */
            }
            assert_int_equal(n, want[i].window[1] ? 6 : 2);
            uf_graph_close(&g);
            uf_params_close(&params);
            uf_ctx_close(&ctx);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ciede2000),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_lab),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

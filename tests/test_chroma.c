/* The chroma stages, without media: the filter that keeps colours steady, luma-guided upsampling, the network's size. */
#include "colorizer.h"
#include "pipeline.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state) {
    return uf_ctx_open((uf_ctx **)state) == UF_OK ? 0 : -1;
}

static int teardown(void **state) {
    uf_ctx_close((uf_ctx **)state);
    return 0;
}

enum { SW = 48, SH = 40, SN = SW * SH };

static void scene(float *luma, int which, int shift) {
    for (int i = 0; i < SN; i++) {
        int x = i % SW + shift, y = i / SW;
        luma[i] = which ? 0.5f + 0.4f * sinf((float)x * 0.15f) * cosf((float)y * 0.3f)
                        : 0.3f + 0.2f * (float)((x / 6 + y / 6) % 2) + 0.1f * sinf((float)x);
    }
}

static void test_flicker_and_cut(void **state) {
    uf_ctx *ctx = *state;
    uf_steady *s = NULL;
    static float luma[SN], chroma[2 * SN];
    float in_change = 0, out_change = 0, last_in = 0, last_out = 0;
    assert_int_equal(uf_steady_open(&s, ctx, SW, SH), UF_OK);
    for (int t = 0; t < 60; t++) {
        float noise = uf_gaussian(1, 2, (uint64_t)t) * 0.02f, value = (t < 40 ? 0.2f : -0.2f) + noise;
        bool cut;
        scene(luma, t >= 40, t / 2);
        for (int i = 0; i < 2 * SN; i++) chroma[i] = value;
        cut = uf_steady_push(s, luma, chroma);
        assert_true(cut == (t == 0 || t == 40));
        if (cut) for (int i = 0; i < 2 * SN; i++) assert_true(chroma[i] == value);
        if (t > 10 && t < 40) {
            in_change += fabsf(value - last_in);
            out_change += fabsf(chroma[SN / 2 + SW / 2] - last_out);
        }
        last_in = value;
        last_out = chroma[SN / 2 + SW / 2];
    }
    assert_true(out_change < 0.4f * in_change);
    uf_steady_close(&s);
}

/* A colour that moves with its luma stays with it: little is left behind. */
static void test_motion(void **state) {
    uf_ctx *ctx = *state;
    uf_steady *s = NULL;
    static float luma[SN], chroma[2 * SN];
    assert_int_equal(uf_steady_open(&s, ctx, SW, SH), UF_OK);
    for (int t = 0; t < 12; t++) {
        for (int i = 0; i < SN; i++) {
            int x = i % SW - 2 * t - 4, y = i / SW - 12;
            bool inside = x >= 0 && x < 12 && y >= 0 && y < 16;
            luma[i] = inside ? 0.8f : 0.3f + 0.02f * (float)((i / SW / 4 + i % SW / 4) % 2);
            chroma[i] = inside ? 0.3f : 0;
            chroma[SN + i] = 0;
        }
        uf_steady_push(s, luma, chroma);
    }
    assert_true(chroma[20 * SW + 22 + 4 + 6] > 0.25f);
    assert_true(chroma[20 * SW + 6] < 0.03f);
    uf_steady_close(&s);
}

/* A shard that starts one period early gives the same bits. */
static void test_fixed_points(void **state) {
    enum { P = UF_STEADY_PERIOD };
    uf_ctx *ctx = *state;
    uf_steady *whole = NULL, *shard = NULL;
    static float luma[SN], a[2 * SN], b[2 * SN];
    assert_int_equal(uf_steady_open(&whole, ctx, SW, SH), UF_OK);
    assert_int_equal(uf_steady_open(&shard, ctx, SW, SH), UF_OK);
    for (int t = 0; t < 3 * P; t++) {
        scene(luma, 0, t / 8);
        for (int i = 0; i < 2 * SN; i++) a[i] = b[i] = uf_uniform(3, (uint64_t)t, (uint64_t)i) - 0.5f;
        uf_steady_push(whole, luma, a);
        if (t < P) continue;
        uf_steady_push(shard, luma, b);
        if (t >= 2 * P + UF_STEADY_FADE) assert_memory_equal(a, b, sizeof(a));
    }
    uf_steady_close(&whole);
    uf_steady_close(&shard);
}

static void test_guided(void **state) {
    enum { SMALL = 32, BIG = 128 };
    uf_ctx *ctx = *state;
    uf_guided *g = NULL;
    static float luma[SMALL * SMALL], chroma[2 * SMALL * SMALL], guide[BIG * BIG], cb[BIG * BIG], cr[BIG * BIG];
    assert_int_equal(uf_guided_open(&g, ctx, SMALL, SMALL, BIG, BIG, 0, 0), UF_OK);
    for (int i = 0; i < BIG * BIG; i++) guide[i] = i % BIG < 66 ? 0.2f : 0.8f;
    for (int i = 0; i < SMALL * SMALL; i++) {
        int x = i % SMALL; /* the edge is at 16.5: half of column 16 is dark */
        luma[i] = x < 16 ? 0.2f : x == 16 ? 0.5f : 0.8f;
        chroma[i] = x < 16 ? -0.2f : x == 16 ? 0 : 0.2f;
        chroma[SMALL * SMALL + i] = 0.1f;
    }
    uf_guided_run(g, luma, chroma, guide, BIG, cb, cr);
    for (int i = 0; i < BIG * BIG; i++) assert_true(fabsf(cr[i] - 0.1f) < 1e-3f);
    for (int y = 0; y < BIG; y++) { /* the colour's edge is as sharp as the guide's, not four pixels wide */
        assert_true(cb[y * BIG + 64] < -0.15f && cb[y * BIG + 65] < -0.15f);
        assert_true(cb[y * BIG + 66] > 0.15f && cb[y * BIG + 67] > 0.15f);
    }
    uf_guided_close(&g);
}

static void test_fit(void **state) {
    int w, h;
    (void)state;
    uf_colorizer_fit(720, 576, 256, 32, &w, &h);
    assert_int_equal(w, 320);
    assert_int_equal(h, 256);
    uf_colorizer_fit(720, 576, 0, 32, &w, &h); /* the default */
    assert_int_equal(w, 256);
    assert_int_equal(h, 192);
    uf_colorizer_fit(100, 1000, 64, 32, &w, &h);
    assert_int_equal(w, 64);
    assert_int_equal(h, 640);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_flicker_and_cut), TEST(test_motion), TEST(test_fixed_points), TEST(test_guided), TEST(test_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

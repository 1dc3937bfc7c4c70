/* Highs: where a recording's band ends, and what is put above it. */
#include "fft.h"
#include "highs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HIGH_N = 65536 };

/* Noise that falls as voices do, up to a frequency, with pauses; its transforms are what is asked of it. */
static void cut_off_noise(uf_fft *f, double rate, double up_to, float *x) {
    for (int b = 0; b <= HIGH_N / 2; b++) {
        double hertz = b * rate / HIGH_N, gain = hertz < 80 || hertz > up_to ? 0 : 20 / (hertz + 200);
        for (int k = 0; k < 2; k++) f->bins[b][k] = (float)gain * uf_gaussian(4, (uint64_t)k, (uint64_t)b);
    }
    uf_fft_inverse(f);
    memcpy(x, f->time, HIGH_N * sizeof *x);
}

/* Mean square of x between two frequencies. */
static double power_between(uf_fft *f, const float *x, double rate, double from, double to) {
    double sum = 0;
    memcpy(f->time, x, HIGH_N * sizeof *x);
    uf_fft_forward(f);
    for (int b = (int)(from * HIGH_N / rate); b < (int)(to * HIGH_N / rate); b++)
        sum += (double)f->bins[b][0] * (double)f->bins[b][0] + (double)f->bins[b][1] * (double)f->bins[b][1];
    return sum;
}

static int extend(uf_ctx *ctx, const uf_highs_options *o, int block, const float *x, int n, float *y) {
    uf_highs *h = NULL;
    float *const *out;
    int done = 0, got;
    assert_int_equal(uf_highs_open(&h, ctx, o), UF_OK);
    for (int at = 0; at <= n; at += block) {
        int some = n - at < block ? n - at : block;
        if (some) assert_int_equal(uf_highs_push(h, &(const float *){x + at}, some), UF_OK);
        for (int last = 0; last <= (at + block > n); last++) {
            if (last) assert_int_equal(uf_highs_push(h, NULL, 0), UF_OK);
            uf_highs_pull(h, &out, &got);
            if (got) memcpy(y + done, out[0], (size_t)got * sizeof *y);
            done += got;
        }
    }
    uf_highs_close(&h);
    return done;
}

/* The end of the band is found; above it comes something that is weaker than what is below, and below it nothing changes. */
static void test_highs(void **state) {
    (void)state;
    static const double ends[] = {3400, 4000, 7000, 8000, 11000, 16000};
    static float x[HIGH_N], y[3][6 * HIGH_N];
    const double rate = 44100;
    uf_ctx *ctx = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_fft f;
    assert_true(uf_fft_open(&f, HIGH_N));
    for (int i = 0; i <= UF_LEN(ends); i++) {
        double end = i < UF_LEN(ends) ? ends[i] : rate / 2;
        uf_rolloff *r = NULL;
        cut_off_noise(&f, rate, end, x);
        assert_int_equal(uf_rolloff_open(&r, ctx, (int)rate, 1), UF_OK);
        for (int at = 0; at < HIGH_N; at += 4096) assert_int_equal(uf_rolloff_push(r, &(const float *){x + at}, 4096), UF_OK);
        double found = uf_rolloff_hertz(r);
        uf_rolloff_close(&r);
        if (!(fabs(found - end) < 150)) fail_msg("a band that ends at %g Hz ends at %g", end, found);
        uf_highs_options o = {(int)rate, (int)rate, 1, found};
        assert_true(uf_highs_adds(&o) == (i < UF_LEN(ends)));
        if (i == UF_LEN(ends)) continue;
        assert_int_equal(extend(ctx, &o, HIGH_N, x, HIGH_N, y[0]), HIGH_N);
        assert_int_equal(extend(ctx, &o, 777, x, HIGH_N, y[1]), HIGH_N);
        assert_memory_equal(y[0], y[1], HIGH_N * sizeof *x);
        double octave = power_between(&f, x, rate, end / 2, end), above = power_between(&f, y[0], rate, end + 200, fmin(2 * end, 20000));
        if (!(above < .5 * octave && above > 1e-5 * octave)) fail_msg("above %g Hz: %g of the octave below", end, above / octave);
        for (int k = 0; k < HIGH_N; k++) y[1][k] = y[0][k] - x[k];
        double changed = power_between(&f, y[1], rate, 0, end - 300), all = power_between(&f, x, rate, 0, end - 300);
        if (!(changed < 1e-6 * all)) fail_msg("below %g Hz: changed by %g", end, changed / all);
    }
    uf_fft_close(&f);
    uf_ctx_close(&ctx);
}

/* From a telephone's rate to one that has room: as long, where it was, and silence stays. */
static void test_highs_of_low_rates(void **state) {
    (void)state;
    enum { N = 20011 };
    static float x[N], y[6 * N + 8], plain[6 * N + 8];
    uf_ctx *ctx = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_highs_options o = {8000, uf_highs_rate(8000), 1, 3800};
    assert_int_equal(o.rate_out, 48000);
    assert_int_equal(uf_highs_rate(44100), 44100);
    assert_int_equal(extend(ctx, &o, 1000, x, N, y), 6 * N);
    for (int i = 0; i < 6 * N; i++) assert_true(y[i] == 0.f);
    for (int i = 500; i < N; i += 1000) x[i] = .5f;
    assert_int_equal(extend(ctx, &o, 1000, x, N, y), 6 * N);
    o.rolloff = 23000; /* nothing can be added above */
    assert_int_equal(extend(ctx, &o, 1000, x, N, plain), 6 * N);
    double near = 0, all = 0;
    for (int i = 500; i + 100 < N; i += 1000) {
        int at = 6 * i - 100; /* each click's highest sample */
        for (int k = 6 * i - 100; k < 6 * i + 100; k++)
            if (plain[k] > plain[at]) at = k;
        assert_int_equal(at, 6 * i);
        for (int k = 6 * i - 3000; k < 6 * i + 3000 && k < 6 * N; k++) { /* and what is added is where the click is */
            double d = (double)y[k] - (double)plain[k];
            all += d * d;
            if (abs(k - 6 * i) < 500) near += d * d;
        }
    }
    assert_true(all > 0 && near > .9 * all);
    uf_highs_options short_one = {8000, 48000, 1, 3800};
    for (int n = 0; n < 4; n++) assert_int_equal(extend(ctx, &short_one, 100, x, n, y), 6 * n);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_highs), cmocka_unit_test(test_highs_of_low_rates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

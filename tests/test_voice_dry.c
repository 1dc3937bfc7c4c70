/* What a recording's own past tells of it: hum and the late room go, the voice stays. */
#include "engine.h"
#include "sound_measure.h"
#include "voice_dry.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctx.h"

enum { SECONDS = 4, EDGE = 2048 };

/* Bursts of noise like syllables: nothing in them tells what comes later. */
static void babble(float *x, int n, int rate) {
    for (int i = 0; i < n; i++) x[i] = i / (rate / 10) % 5 < 2 ? .1f * uf_gaussian(1, 3, (uint64_t)i) : 0.f;
}

/* The voice in what comes out of `x`, compared with the voice in x, dB. */
static double gain(uf_ctx *ctx, const float *voice, const float *x, int n, int wider) {
    uf_voice_dry *d = NULL;
    float *y = calloc((size_t)n, sizeof *y);
    assert_int_equal(uf_voice_dry_open(&d, ctx, n, wider, 0), UF_OK);
    double before = fmin(uf_si_sdr(voice + EDGE, x + EDGE, (size_t)(n - 2 * EDGE)), 80), after[2];
    for (int i = 0; i < 2; i++) { /* one stretch leaves nothing to the next */
        uf_voice_dry_run(d, x, voice, y);
        after[i] = uf_si_sdr(voice + EDGE, y + EDGE, (size_t)(n - 2 * EDGE));
    }
    assert_true(after[0] == after[1]);
    uf_voice_dry_close(&d);
    free(y);
    return after[0] - before;
}

static void at_rate(int wider) {
    int rate = 16000 * wider, n = SECONDS * rate - 100 /* no whole number of frames */;
    uf_ctx *ctx = open_ctx();
    float *voice = calloc((size_t)n, sizeof *voice), *x = calloc((size_t)n, sizeof *x);
    babble(voice, n, rate);
    for (int i = 0; i < n; i++) x[i] = voice[i] + .05f * sinf((float)(2 * 3.14159265358979 * fmod(440. * i / rate, 1)));
    double hum = gain(ctx, voice, x, n, wider);
    if (!(hum > 15)) fail_msg("a hum goes down by %.1f dB at %d Hz", hum, rate);
    memcpy(x, voice, (size_t)n * sizeof *x); /* echoes from 80 ms on, 300 ms long */
    for (int k = 0; k < 400; k++) {
        int late = rate * 8 / 100 + (int)(uf_uniform(1, 4, (uint64_t)k) * .3f * (float)rate);
        float g = .15f * uf_gaussian(1, 5, (uint64_t)k) * expf(-8.f * (float)late / (float)rate);
        for (int i = late; i < n; i++) x[i] += g * voice[i - late];
    }
    double room = gain(ctx, voice, x, n, wider);
    if (!(room > 2)) fail_msg("a room goes down by %.1f dB at %d Hz", room, rate);
    double nothing = gain(ctx, voice, voice, n, wider);
    if (!(nothing > -5)) fail_msg("what needs nothing comes out %.1f dB off at %d Hz", 80 + nothing, rate);
    memset(voice, 0, (size_t)n * sizeof *voice); /* no voice at all: finite, and no louder */
    uf_voice_dry *d = NULL;
    float *y = calloc((size_t)n, sizeof *y);
    double in = 0, out = 0;
    assert_int_equal(uf_voice_dry_open(&d, ctx, n, wider, 1), UF_OK);
    uf_voice_dry_run(d, x, voice, y);
    for (int i = 0; i < n; i++) in += (double)x[i] * (double)x[i], out += (double)y[i] * (double)y[i];
    assert_true(out <= 1.001 * in);
    memset(x, 0, (size_t)n * sizeof *x);
    uf_voice_dry_run(d, x, voice, y);
    for (int i = 0; i < n; i++) assert_true(y[i] == 0);
    uf_voice_dry_close(&d);
    free(voice);
    free(x);
    free(y);
    uf_ctx_close(&ctx);
}

static void test_narrow(void **state) {
    (void)state;
    at_rate(1);
}

static void test_wide(void **state) {
    (void)state;
    at_rate(3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

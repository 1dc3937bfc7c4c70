/* Scenes for several microphones: the same options give the same scene, its clocks are what its truth says, its files are whole. */
#include "array.h"
#include "sound_measure.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctx.h"
#include "folder.h"

enum { RATE = 16000 };

/* Something that comes and goes like a voice. */
static void voice_file(uf_ctx *ctx) {
    static float x[3 * RATE];
    char path[256];
    for (int i = 0; i < UF_LEN(x); i++) x[i] = (float)(.3 * sin(i * .05 + 3 * sin(i * .0007)) * fmax(sin(i * .0012), 0) + .05 * sin(i * .9) * fmax(sin(i * .003), 0));
    snprintf(path, sizeof path, "%s/a.wav", folder);
    assert_int_equal(uf_wave_write(ctx, path, x, UF_LEN(x), RATE, true), UF_OK);
}

static void open_mixer(uf_ctx *ctx, uf_mixer *m) {
    voice_file(ctx);
    *m = (uf_mixer){.rate = RATE};
    assert_int_equal(uf_sounds_open(&m->voice, ctx, &(uf_source){.path = folder}, 1, RATE), UF_OK);
}

static const uf_array_options usual = {.n_mics = 3, .seconds = 6, .seed = 4, .snr_from = 5, .snr_to = 5, .t60_from = .3, .t60_to = .3, .talkers = 2, .ppm = 100, .offset = 1,
                                       .habits = UF_ARRAY_USUAL & ~UF_HABIT_codec};

static uf_array *open_scene(uf_ctx *ctx, const uf_mixer *m, const uf_array_options *o) {
    uf_array *a = NULL;
    if (uf_array_open(&a, ctx, m, o) < 0) fail_msg("%s", uf_ctx_error(ctx));
    return a;
}

/* Whichever microphone is asked first, and after other scenes. */
static void test_same_scene(void **state) {
    (void)state;
    enum { N = 6 * RATE };
    static float heard[2][N], voice[N], early[2][N];
    uf_ctx *ctx = open_ctx();
    uf_mixer m;
    open_mixer(ctx, &m);
    uf_array_options o = usual;
    for (int moving = 0; moving < 2; moving++) {
        o.moving = moving;
        uf_array *a = open_scene(ctx, &m, &o), *b = open_scene(ctx, &m, &o);
        assert_int_equal(uf_array_n(a), N);
        assert_int_equal(uf_array_hear(b, 1, heard[1], NULL, NULL), UF_OK);
        for (int i = 0; i < o.n_mics; i++) {
            assert_int_equal(uf_array_hear(a, i, heard[0], voice, early[0]), UF_OK);
            assert_int_equal(uf_array_hear(b, i, heard[1], NULL, early[1]), UF_OK);
            assert_int_equal(uf_array_device(a, i, heard[0]), UF_OK);
            assert_int_equal(uf_array_device(b, i, heard[1]), UF_OK);
            assert_memory_equal(heard[0], heard[1], sizeof heard[0]);
            assert_memory_equal(early[0], early[1], sizeof early[0]);
            for (int k = 0; k < N; k++) assert_true(isfinite(heard[0][k]) && fabsf(heard[0][k]) <= 1);
            assert_true(uf_si_sdr(voice, early[0], N) > -5); /* the early part is part of the voice */
        }
        uf_array_close(&a);
        uf_array_close(&b);
    }
    uf_mixer_close(&m);
    uf_ctx_close(&ctx);
}

/* Voice over noise is what was asked for, mean of the microphones; and without noise, one microphone's gain is what it says. */
static void test_levels(void **state) {
    (void)state;
    enum { N = 6 * RATE };
    static float heard[N], voice[N];
    uf_ctx *ctx = open_ctx();
    uf_mixer m;
    open_mixer(ctx, &m);
    for (int snr = -5; snr <= 15; snr += 10) {
        uf_array_options o = usual;
        o.snr_from = o.snr_to = snr;
        o.habits = 0;
        uf_array *a = open_scene(ctx, &m, &o);
        double sum = 0, level = 0;
        for (int i = 0; i < o.n_mics; i++) {
            assert_int_equal(uf_array_hear(a, i, heard, voice, NULL), UF_OK);
            for (int k = 0; k < N; k++) heard[k] -= voice[k];
            level += log(uf_active_level(voice, N, RATE)) / o.n_mics;
            sum += 20 * log10(uf_active_level(voice, N, RATE) / uf_active_level(heard, N, RATE)) / o.n_mics;
        }
        if (fabs(sum - snr) > 1) fail_msg("%.2f dB instead of %d", sum, snr);
        assert_true(fabs(exp(level) - .05) < 1e-4);
        uf_array_close(&a);
    }
    uf_mixer_close(&m);
    uf_ctx_close(&ctx);
}

/* A wave of the scene's time, sampled by a device: sample p is the wave at the time at which the clock says p; and where samples are lost, the
 * clock jumps. */
static void test_clock(void **state) {
    (void)state;
    enum { N = 6 * RATE };
    static float x[N];
    uf_ctx *ctx = open_ctx();
    uf_mixer m;
    int n_lost = 0;
    open_mixer(ctx, &m);
    for (int i = 0; i < N; i++) x[i] = sinf((float)(2 * M_PI * fmod(700. * i / RATE, 1)));
    uf_array_options o = usual;
    o.ppm = 400;
    o.wander = true;
    o.n_mics = 8;
    o.habits |= UF_HABIT_partial;
    uf_array *a = open_scene(ctx, &m, &o);
    for (int mic = 0; mic < o.n_mics; mic++) {
        const uf_device_clock *c = &uf_array_mic(a, mic)->clock;
        float *y = NULL;
        size_t n = 0;
        double worst = 0;
        assert_int_equal(uf_array_sample(a, mic, x, &y, &n), UF_OK);
        assert_true(fabs((double)n - uf_device_clock_at(c, c->end)) < 2);
        for (double t = c->start + .01; t < c->end - .01; t += .0137) {
            double p = uf_device_clock_at(c, t), back = t; /* the time of the whole sample before */
            bool lost = false;
            for (int i = 0; i < c->n_losses; i++) lost = lost || fabs(p - (double)c->loss[i].at) < 2;
            if (lost) continue;
            back -= (p - floor(p)) / (c->rate * (1 + 1e-6 * c->ppm));
            worst = fmax(worst, fabs((double)y[(size_t)p] - sin(2 * M_PI * 700 * back)));
        }
        if (!(worst < 1e-3)) fail_msg("microphone %d: off by %.2g", mic, worst);
        n_lost += c->n_losses;
        free(y);
    }
    assert_true(n_lost > 0); /* else the seed tests nothing of it */
    uf_array_close(&a);
    uf_mixer_close(&m);
    uf_ctx_close(&ctx);
}

static void test_files(void **state) {
    (void)state;
    static const char *const names[] = {"mic-0.wav", "mic-2.wav", "voice-1.wav", "early-2.wav", "unrelated.wav"};
    uf_ctx *ctx = open_ctx();
    char recipe[256], out[256], path[512];
    voice_file(ctx);
    snprintf(recipe, sizeof recipe, "%s/speech.yaml", folder);
    snprintf(out, sizeof out, "%s/scene", folder);
    FILE *f = fopen(recipe, "w");
    fprintf(f, "model: speech\nout: w.safetensors\ntrain: [{path: a.wav}]\nvalid: [{path: a.wav}]\n"
               "stages: [{size: 4096, batch: 2, steps: 3, rate: 0.001}]\nlosses: {spectrum: 1}\n");
    fclose(f);
    uf_array_options o = usual;
    o.habits |= UF_HABIT_unrelated;
    if (uf_array_write(ctx, recipe, &o, &(uf_array_files){.dir = out}) < 0) fail_msg("%s", uf_ctx_error(ctx));
    for (int i = 0; i < UF_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        assert_int_equal(access(path, R_OK), 0);
    }
    snprintf(path, sizeof path, "%s/truth.json", out);
    json_t *truth = json_load_file(path, JSON_REJECT_DUPLICATES, NULL), *mics = json_object_get(truth, "microphones");
    assert_int_equal(json_array_size(mics), 3);
    assert_true(json_array_size(json_object_get(json_array_get(mics, 1), "clock")) >= 4);
    json_decref(truth);
    assert_int_equal(uf_array_write(ctx, recipe, &o, &(uf_array_files){.dir = out}), UF_EEXIST);
    uf_ctx_clear(ctx);
    o.n_mics = 0;
    assert_int_equal(uf_array_write(ctx, recipe, &o, &(uf_array_files){.dir = out}), UF_EINVAL);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_scene), cmocka_unit_test(test_levels), cmocka_unit_test(test_clock), cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

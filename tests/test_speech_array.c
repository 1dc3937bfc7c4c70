/* Microphones that hear each other: the scenes that the network learns from, what it makes of groups, and how it begins as `speech`. */
#include "array.h"
#include "sound_measure.h"
#include "voice_ears.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctx.h"
#include "folder.h"
#include "voice_of_sorts.h"

enum { RATE = 16000, MICS = 4, N = 16384 };
static const char speech[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";

/* ---- scenes --------------------------------------------------------------------------------------------------------------------- */

static void write_voice(uf_ctx *ctx) {
    static float x[6 * RATE];
    char path[256];
    for (int i = 0; i < UF_LEN(x); i++) x[i] = speak(i / (double)RATE);
    snprintf(path, sizeof path, "%s/a.wav", folder);
    assert_int_equal(uf_wave_write(ctx, path, x, UF_LEN(x), RATE, true), UF_OK);
}

static bool silent(const float *x) {
    for (int i = 0; i < N; i++)
        if (x[i] != 0) return false;
    return true;
}

/* A pure function of seed and number; two microphones and more, the first ones again where there are fewer; voices are as loud as in the recordings; the
 * last one may be what a filter made of the first, with more of the voice in it. */
static void test_scenes(void **state) {
    (void)state;
    enum { SCENES = 24 };
    static float x[MICS * N], v[MICS * N], again[2][MICS * N];
    int fewer = 0, steered = 0, all = 0;
    uf_ctx *ctx = open_ctx();
    uf_mixer m = {.rate = RATE};
    write_voice(ctx);
    assert_int_equal(uf_sounds_open(&m.voice, ctx, &(uf_source){.path = folder}, 1, RATE), UF_OK);
    for (uint64_t k = 0; k < SCENES; k++) {
        if (uf_array_mix(ctx, &m, 5, k, MICS, N, x, v) < 0) fail_msg("%s", uf_ctx_error(ctx));
        if (k == 3) assert_int_equal(uf_array_mix(ctx, &m, 5, k, MICS, N, again[0], again[1]), UF_OK);
        if (k == 3) assert_memory_equal(again[0], x, sizeof x);
        if (k == 3) assert_memory_equal(again[1], v, sizeof v);
        for (int i = 0; i < MICS * N; i++) assert_true(isfinite(x[i]) && isfinite(v[i]) && fabsf(x[i]) <= 1.5f);
        int n = MICS;
        for (int i = MICS - 1; i >= 2; i--)
            if (!memcmp(x + i * N, x, N * sizeof *x)) n = i;
        assert_memory_not_equal(x + N, x, N * sizeof *x);
        for (int i = n; i < MICS; i++) assert_memory_equal(v + i * N, v + (i - n) * N, N * sizeof *v);
        fewer += n < MICS;
        all += n == MICS;
        if (silent(v) || memcmp(v, v + (n - 1) * N, N * sizeof *v)) continue;
        steered++;
        double one = uf_si_sdr(v, x, N), beam = uf_si_sdr(v, x + (n - 1) * N, N);
        if (!(beam > one)) fail_msg("scene %d: the filter's result has %.1f dB, the microphone %.1f", (int)k, beam, one);
    }
    if (!(all > fewer && fewer > 2 && steered > 2 && steered < SCENES / 2)) fail_msg("%d whole scenes, %d with fewer, %d steered", all, fewer, steered);
    assert_int_equal(uf_ctx_error_code(ctx), UF_OK); /* a silent scene gives its place to another and leaves no complaint behind */
    uf_mixer_close(&m);
    uf_ctx_close(&ctx);
}

/* ---- the network ------------------------------------------------------------------------------------------------------------------ */

/* What it makes of x, `total` recordings in groups of `mics`; model: it, or `speech` on each. */
static void hear(uf_ctx *ctx, const uf_model *model, uf_params *set, int total, int mics, const float *x, float *y) {
    uf_graph *g = NULL;
    uf_plan *p = NULL;
    uf_built b = {.mics = mics};
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    uf_graph_training(g, false);
    assert_int_equal(model->build(g, (uf_shape){total, 1, 1, N}, &b), UF_OK);
    uf_output(b.out);
    assert_int_equal(uf_plan_open(&p, ctx, g, &(uf_plan_options){.mode = UF_INFER, .dtype = UF_F32}), UF_OK);
    assert_int_equal(uf_plan_set(p, b.sound, x), UF_OK);
    assert_int_equal(uf_plan_run(p), UF_OK);
    assert_int_equal(uf_plan_get(p, b.out, y), UF_OK);
    uf_plan_close(&p);
    uf_graph_close(&g);
}

static uf_params *make(uf_ctx *ctx, const uf_model *model) {
    uf_params *set = NULL;
    uf_graph *g = NULL;
    assert_int_equal(uf_params_open(&set, ctx, 7), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    assert_int_equal(model->build(g, (uf_shape){1, 1, 1, 4096}, &(uf_built){0}), UF_OK);
    uf_graph_close(&g);
    return set;
}

static void near(const float *a, const float *b, double least, const char *what) {
    double same = uf_si_sdr(a, b, N);
    if (!(same > least)) fail_msg("%s: %.1f dB", what, same);
}

/* From the weights of `speech` on it is that, whatever the others hear; then, with pools that say something, microphones hear those of their scene, in
 * whatever order, and nobody else. */
static void test_groups(void **state) {
    (void)state;
    float *x = sound(4 * N), *y = sound(4 * N), *z = sound(4 * N), *turned = sound(4 * N);
    uf_ctx *ctx = open_ctx();
    uf_weights *w = NULL;
    uf_params *one = make(ctx, &uf_model_speech), *set = make(ctx, &uf_model_speech_array);
    for (int m = 0; m < 4; m++)
        for (int i = 0; i < N; i++) x[m * N + i] = speak(i / (double)RATE) + .01f * (float)(1 + m) * uf_gaussian(3, (uint64_t)m, (uint64_t)i);
    assert_int_equal(uf_weights_open(&w, ctx, speech), UF_OK);
    assert_int_equal(uf_weights_load(w, one, true, NULL), UF_OK);
    assert_int_equal(uf_speech_init(ctx, w, set), UF_OK);
    uf_weights_close(&w);
    hear(ctx, &uf_model_speech, one, 4, 0, x, y);
    hear(ctx, &uf_model_speech_array, set, 4, 2, x, z);
    for (int m = 0; m < 4; m++) near(y + m * N, z + m * N, 80, "it does not begin as `speech`");
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        for (size_t k = 0; !strncmp(p->name, "pool.", 5) && strstr(p->name, ".mix.bn.gamma") && k < uf_count(p->shape); k++) p->value[k] = .5f;
    }
    hear(ctx, &uf_model_speech_array, set, 4, 2, x, y);
    memcpy(turned, x + N, N * sizeof *x); /* 1, 0, 2, silence */
    memcpy(turned + N, x, N * sizeof *x);
    memcpy(turned + 2 * N, x + 2 * N, N * sizeof *x);
    hear(ctx, &uf_model_speech_array, set, 4, 2, turned, z);
    near(y, z + N, 80, "the order of a scene's microphones counts");
    near(y + N, z, 80, "the order of a scene's microphones counts");
    if (!(uf_si_sdr(y + 2 * N, z + 2 * N, N) < 60)) fail_msg("what another microphone of the scene hears does not count");
    memcpy(turned, x, N * sizeof *x);
    memcpy(turned + N, x, N * sizeof *x);
    hear(ctx, &uf_model_speech_array, set, 2, 2, turned, y);
    hear(ctx, &uf_model_speech_array, set, 1, 0, x, z);
    near(y, z, 80, "a recording beside itself is not that recording alone");
    free(x);
    free(y);
    free(z);
    free(turned);
    uf_params_close(&one);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

/* ---- training ----------------------------------------------------------------------------------------------------------------------- */

static int train(uf_ctx *ctx, const char *model, const char *more, int batch) {
    char path[256], dir[256];
    write_voice(ctx);
    snprintf(path, sizeof path, "%s/array.yaml", folder);
    snprintf(dir, sizeof dir, "%s/run", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "model: %s\nout: w.safetensors\ntrain: [{path: a.wav}]\nvalid: [{path: a.wav}]\n%slosses: {spectrum: 1, l1: 1}\nstages: [{size: 8192, batch: %d, steps: 2, rate: 0.0001}]\n",
            model, more, batch);
    fclose(f);
    return uf_train(ctx, path, &(uf_train_options){.out_dir = dir, .overwrite = true});
}

/* The whole trainer on scenes. */
static void test_training(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    if (train(ctx, "speech-array", "mics: 2\n", 4) < 0) fail_msg("%s", uf_ctx_error(ctx));
    char path[256];
    uf_params *set = make(ctx, &uf_model_speech_array);
    snprintf(path, sizeof path, "%s/run/w.safetensors", folder);
    assert_int_equal(uf_model_load(ctx, &uf_model_speech_array, set, path), UF_OK);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

static void refused(const char *model, const char *more, int batch, const char *why) {
    uf_ctx *ctx = open_ctx();
    assert_int_equal(train(ctx, model, more, batch), UF_EINVAL);
    if (!strstr(uf_ctx_error(ctx), why)) fail_msg("%s", uf_ctx_error(ctx));
    uf_ctx_close(&ctx);
}

static void test_recipes(void **state) {
    (void)state;
    refused("speech-array", "mics: 2\n", 3, "a batch of 3 is not whole scenes of 2 microphones");
    refused("speech-array", "", 4, "mics is 0");
    refused("speech-array", "mics: 9\n", 9, "mics is 9");
    refused("speech", "mics: 2\n", 4, "'mics' is for model 'speech-array'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenes),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_recipes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

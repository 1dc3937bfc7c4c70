/* What the network hears of several recordings: in pieces, a second time, and whom it chooses as the reference. */
#include "models.h"
#include "reference.h"
#include "sound_measure.h"
#include "voice_ears.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctx.h"
#include "voice_of_sorts.h"

static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";

/* Long recordings are heard in pieces: the same for any number of threads, and what the network makes of them in one. */
static void test_ears(void **state) {
    (void)state;
    enum { N = 40 * 8192 };
    uf_ctx *ctx = open_ctx();
    uf_voice_net net;
    uf_voice_ears ears;
    float *x = sound(N), *whole = sound(N), *y[2] = {sound(N), sound(N)}, *again[2] = {sound(N), sound(N)}, *none = sound(N);
    for (int i = 0; i < N; i++) x[i] = speak(i / 16000.) + .02f * uf_gaussian(1, 11, (uint64_t)i);
    none[5] = 3;
    for (int t = 0; t < 2; t++) {
        uf_ctx_set_threads(ctx, t ? 3 : 1);
        const float *in[2] = {NULL, x};
        float *out[2] = {none, y[t]};
        assert_int_equal(uf_voice_ears_open(&ears, ctx, path, &(uf_voice_ears_options){.most = 2, .float32 = true, .again = true}), UF_OK);
        assert_int_equal(uf_voice_ears_hear(&ears, 2, N, in, out), UF_OK);
        assert_int_equal(uf_voice_ears_hear(&ears, 1, 8192, in + 1, &whole), UF_OK); /* another length between */
        assert_int_equal(uf_voice_ears_hear(&ears, 2, N, in, out), UF_OK);
        assert_int_equal(uf_voice_ears_hear_again(&ears, 1, N, in + 1, (const float *[]){y[t]}, &again[t]), UF_OK);
        uf_voice_ears_close(&ears);
    }
    assert_memory_equal(y[0], y[1], N * sizeof(float));
    assert_memory_equal(again[0], again[1], N * sizeof(float));
    assert_true(none[5] == 3);
    assert_int_equal(uf_voice_net_open(&net, ctx, strdup(path), &(uf_voice_net_options){.model = &uf_model_speech, .float32 = true, .again = true}), UF_OK);
    assert_int_equal(uf_voice_net_resize(&net, N), UF_OK);
    assert_int_equal(uf_voice_net_hear(&net, x, whole), UF_OK);
    double same = uf_si_sdr(whole, y[0], N);
    assert_int_equal(uf_voice_net_hear_again(&net, x, whole), UF_OK);
    double same_again = uf_si_sdr(whole, again[0], N), differ = uf_si_sdr(y[0], again[0], N);
    if (!(same > 25 && same_again > 25 && differ < 40)) fail_msg("in pieces it is another voice: %.1f dB, heard again %.1f, the two hearings %.1f", same, same_again, differ);
    uf_voice_net_close(&net);
    float *owned[] = {x, whole, y[0], y[1], again[0], again[1], none};
    for (int i = 0; i < UF_LEN(owned); i++) free(owned[i]);
    uf_ctx_close(&ctx);
}

/* Recordings of one scene in pieces: the same for any number of threads, and what the network makes of them in one; one that is away is left as it is, and
 * the others are heard as if another stood in its place. */
static void test_ears_together(void **state) {
    (void)state;
    enum { N = 12 * 8192, MICS = 3 };
    static const char array[] = UNFADE_SOURCE_DIR "/models/weights/speech-array.safetensors";
    uf_ctx *ctx = open_ctx();
    uf_voice_ears ears;
    uf_voice_net net;
    float *x = sound(MICS * N), *whole = sound(MICS * N), *y[2] = {sound(MICS * N), sound(MICS * N)};
    for (int m = 0; m < MICS; m++)
        for (int i = 0; i < N; i++) x[m * N + i] = speak(i / 16000.) + .02f * (float)(1 + m) * uf_gaussian(1, (uint64_t)m, (uint64_t)i);
    for (int t = 0; t < 2; t++) {
        uf_ctx_set_threads(ctx, t ? 3 : 1);
        const float *in[MICS] = {x, NULL, x + 2 * N};
        float *out[MICS] = {y[t], y[t] + N, y[t] + 2 * N};
        y[t][N + 5] = 3;
        assert_int_equal(uf_voice_ears_open(&ears, ctx, array, &(uf_voice_ears_options){.most = MICS, .together = true, .float32 = true}), UF_OK);
        assert_int_equal(uf_voice_ears_hear(&ears, MICS, N, in, out), UF_OK);
        assert_true(y[t][N + 5] == 3);
        uf_voice_ears_close(&ears);
    }
    assert_memory_equal(y[0], y[1], MICS * N * sizeof(float));
    memcpy(x + N, x, N * sizeof *x);
    assert_int_equal(uf_voice_net_open(&net, ctx, strdup(array), &(uf_voice_net_options){.model = &uf_model_speech_array, .float32 = true, .together = MICS}), UF_OK);
    assert_int_equal(uf_voice_net_resize(&net, N), UF_OK);
    assert_int_equal(uf_voice_net_hear(&net, x, whole), UF_OK);
    for (int m = 0; m < MICS; m += 2) {
        double same = uf_si_sdr(whole + m * N, y[0] + m * N, N);
        if (!(same > 25)) fail_msg("microphone %d: in pieces it is another voice: %.1f dB", m, same);
    }
    uf_voice_net_close(&net);
    float *owned[] = {x, whole, y[0], y[1]};
    for (int i = 0; i < UF_LEN(owned); i++) free(owned[i]);
    uf_ctx_close(&ctx);
}

/* Whose weights a merge takes. */
static void test_ears_weights(void **state) {
    (void)state;
    static const char dir[] = UNFADE_SOURCE_DIR "/models/weights";
    static const struct {
        const char *wish, *each, *together; /* the ends of their names */
    } cases[] = {{NULL, "/speech.safetensors", "/speech-array.safetensors"},
                 {"/speech.safetensors", "/speech.safetensors", NULL},
                 {"/speech-array.safetensors", "/speech.safetensors", "/speech-array.safetensors"}};
    for (int k = 0; k < UF_LEN(cases); k++) {
        uf_ctx *ctx = open_ctx();
        char *each, *together, wish[512];
        snprintf(wish, sizeof wish, "%s%s", dir, cases[k].wish ? cases[k].wish : "");
        assert_int_equal(uf_voice_ears_weights(ctx, cases[k].wish ? wish : NULL, dir, &each, &together), UF_OK);
        assert_non_null(strstr(each, cases[k].each));
        if (cases[k].together) assert_non_null(strstr(together, cases[k].together));
        else assert_null(together);
        free(each);
        free(together);
        uf_ctx_close(&ctx);
    }
}

/* The microphone that hears the voice best over all decides, though it is not there all the time, has a hole in every stretch, and another hears it
 * better for a while. */
static void test_reference(void **state) {
    (void)state;
    enum { N = UF_REFERENCE_STRETCH };
    static const float noise[4][3] = {{.3f, .02f, .1f}, {.3f, 0, .1f}, {.3f, .3f, .1f}, {.3f, .02f, .1f}}; /* of a stretch, of a microphone; 0: away */
    uf_ctx *ctx = open_ctx();
    float *x[3];
    uf_reference *r = NULL;
    for (int m = 0; m < 3; m++) x[m] = sound(N);
    assert_int_equal(uf_reference_open(&r, ctx, 3, path, NULL, false, NULL), UF_OK);
    assert_int_equal(uf_reference_best(r), -1);
    for (int k = 0; k < UF_LEN(noise); k++) {
        const float *in[3];
        const double there[3] = {1, .9, 1};
        for (int m = 0; m < 3; m++) {
            for (int i = 0; i < there[m] * N; i++) x[m][i] = speak(i / 16000.) + noise[k][m] * uf_gaussian(2, (uint64_t)(3 * k + m), (uint64_t)i);
            in[m] = noise[k][m] > 0 ? x[m] : NULL;
        }
        assert_int_equal(uf_reference_hear(r, in, there), UF_OK);
    }
    assert_int_equal(uf_reference_best(r), 1);
    uf_reference_close(&r);
    assert_int_equal(uf_reference_open(&r, ctx, 3, path, NULL, false, NULL), UF_OK);
    for (int m = 0; m < 3; m++) memset(x[m], 0, N * sizeof *x[m]);
    assert_int_equal(uf_reference_hear(r, (const float *const *)x, NULL), UF_OK);
    assert_int_equal(uf_reference_best(r), -1); /* silence decides nothing */
    uf_reference_close(&r);
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < N; i++) x[m][i] = speak(i / 16000.) + (.02f + .0005f * (float)m) * uf_gaussian(2, (uint64_t)m, (uint64_t)i);
    for (int narrow = 0; narrow < 2; narrow++) { /* a telephone's recording, though it hears the voice a little better */
        assert_int_equal(uf_reference_open(&r, ctx, 3, path, NULL, false, narrow ? (double[]){3400, 20000, 8000} : NULL), UF_OK);
        assert_int_equal(uf_reference_hear(r, (const float *const *)x, NULL), UF_OK);
        assert_int_equal(uf_reference_best(r), narrow);
        uf_reference_close(&r);
    }
    for (int m = 0; m < 3; m++) free(x[m]);
    uf_ctx_close(&ctx);
}

/* A telephone's recording that hears the voice 3 dB better than a wide one decides unless there is little noise at both. */
static void test_reference_narrow(void **state) {
    (void)state;
    enum { N = UF_REFERENCE_STRETCH };
    static const double bands[] = {3400, 20000, 8000};
    static const struct {
        float noise;
        const double *band;
        int best;
    } cases[] = {{.02f, NULL, 0}, {.02f, bands, 1}, {.05f, bands, 0}, {.2f, bands, 0}};
    uf_ctx *ctx = open_ctx();
    float *x[3];
    for (int m = 0; m < 3; m++) x[m] = sound(N);
    for (int k = 0; k < UF_LEN(cases); k++) {
        uf_reference *r = NULL;
        for (int m = 0; m < 3; m++)
            for (int i = 0; i < N; i++) x[m][i] = speak(i / 16000.) + cases[k].noise * (m ? 1.4f + .1f * (float)m : 1.f) * uf_gaussian(2, (uint64_t)m, (uint64_t)i);
        assert_int_equal(uf_reference_open(&r, ctx, 3, path, NULL, false, cases[k].band), UF_OK);
        assert_int_equal(uf_reference_hear(r, (const float *const *)x, NULL), UF_OK);
        assert_int_equal(uf_reference_best(r), cases[k].best);
        uf_reference_close(&r);
    }
    for (int m = 0; m < 3; m++) free(x[m]);
    uf_ctx_close(&ctx);
}

/* Who hears the voice better but has come later decides if he is there for half of the time; not if he is there for a quarter and little better. */
static void test_reference_later(void **state) {
    (void)state;
    enum { N = UF_REFERENCE_STRETCH, STRETCHES = 4 };
    static const struct {
        float noise; /* of the other: .05 */
        int away, best;
    } cases[] = {{.08f, 2, 1}, {.06f, 3, 0}};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)};
    for (int k = 0; k < UF_LEN(cases); k++) {
        uf_reference *r = NULL;
        assert_int_equal(uf_reference_open(&r, ctx, 2, path, NULL, false, NULL), UF_OK);
        for (int at = 0; at < STRETCHES; at++) {
            for (int m = 0; m < 2; m++)
                for (int i = 0; i < N; i++) x[m][i] = speak(i / 16000.) + (m ? .05f : cases[k].noise) * uf_gaussian(2, (uint64_t)(2 * at + m), (uint64_t)i);
            assert_int_equal(uf_reference_hear(r, (const float *[]){x[0], at < cases[k].away ? NULL : x[1]}, NULL), UF_OK);
        }
        assert_int_equal(uf_reference_best(r), cases[k].best);
        uf_reference_close(&r);
    }
    for (int m = 0; m < 2; m++) free(x[m]);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ears),
        cmocka_unit_test(test_ears_together),
        cmocka_unit_test(test_ears_weights),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_reference_narrow),
        cmocka_unit_test(test_reference_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

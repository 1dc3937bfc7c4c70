/* The network that hears a second time: how it begins, what its whole band is, how it is trained, and what it hears of. */
#include "models.h"
#include "sound_measure.h"
#include "training.h"
#include "voice_net.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctx.h"
#include "folder.h"
#include "voice_of_sorts.h"

enum { T = 16 * UF_SPEECH_HOP };

static const char *shipped(const char *file) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/models/weights/%s", UNFADE_SOURCE_DIR, file);
    return path;
}

/* Of `m`, its parameters in `set`, for stretches of n samples: y, what it makes of the three. Weights: those of `init`, to begin from; NULL: those in set. */
static void run(uf_ctx *ctx, const uf_model *m, uf_params *set, const char *init, int n, const float *sound, const float *first, const float *whole, float *y) {
    uf_graph *g = NULL;
    uf_plan *p = NULL;
    uf_built b = {0};
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    uf_graph_training(g, false);
    assert_int_equal(m->build(g, (uf_shape){1, 1, 1, n}, &b), UF_OK);
    uf_output(b.out);
    if (init) {
        uf_weights *w = NULL;
        assert_int_equal(uf_weights_open(&w, ctx, init), UF_OK);
        if (uf_speech_init(ctx, w, set) < 0) fail_msg("%s", uf_ctx_error(ctx));
        uf_weights_close(&w);
    }
    assert_int_equal(uf_plan_open(&p, ctx, g, &(uf_plan_options){.mode = UF_INFER, .dtype = UF_F32}), UF_OK);
    assert_int_equal(uf_plan_set(p, b.sound, sound), UF_OK);
    assert_true(m->again == (b.first != NULL) && m->again == (b.whole != NULL));
    if (b.first) assert_int_equal(uf_plan_set(p, b.first, first), UF_OK);
    if (b.whole) assert_int_equal(uf_plan_set(p, b.whole, whole), UF_OK);
    assert_int_equal(uf_plan_run(p), UF_OK);
    assert_int_equal(uf_plan_get(p, b.out, y), UF_OK);
    uf_plan_close(&p);
    uf_graph_close(&g);
}

static uf_params *params(uf_ctx *ctx, uint64_t seed) {
    uf_params *set = NULL;
    assert_int_equal(uf_params_open(&set, ctx, seed), UF_OK);
    return set;
}

/* The parameters that `speech-again` begins with, after `speech`, as a file of `folder`. */
static const char *begun(uf_ctx *ctx) {
    static char path[300];
    float *x = sound(T);
    uf_params *set = params(ctx, 2);
    snprintf(path, sizeof path, "%s/again.safetensors", folder);
    run(ctx, &uf_model_speech_again, set, shipped("speech.safetensors"), T, x, x, x, x);
    const uf_meta meta[] = {{"model", "speech-again"}};
    assert_int_equal(uf_weights_write(ctx, path, set, &(uf_weights_save){.dtype = "F32", .meta = meta, .n_meta = 1, .overwrite = true}), UF_OK);
    uf_params_close(&set);
    free(x);
    return path;
}

/* Begun after `speech` it makes of the sound what `speech` does, three quarters of it where loudness counts, and lets a quarter of the first hearing
 * through; the recording does not matter yet. */
static void test_begins(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    uf_params *once = params(ctx, 1), *again = params(ctx, 2);
    float *x = sound(T), *y = sound(T), *z = sound(T), *none = sound(T);
    for (int i = 0; i < T; i++) x[i] = speak(.2 + i / 16000.) + .01f * uf_gaussian(1, 3, (uint64_t)i);
    run(ctx, &uf_model_speech, once, shipped("speech.safetensors"), T, x, NULL, NULL, y);
    run(ctx, &uf_model_speech_again, again, shipped("speech.safetensors"), T, x, none, x, z);
    double off = 0, all = 0, share = pow(.75, 1 / .3);
    for (int i = 0; i < T; i++) off += pow((double)z[i] - share * (double)y[i], 2), all += pow(share * (double)y[i], 2);
    if (!(all > 1e-4 && off < 1e-6 * all)) fail_msg("it begins apart from `speech`: %g of %g", off, all);
    run(ctx, &uf_model_speech_again, again, NULL, T, none, y, x, z);
    share = pow(.25, 1 / .3);
    for (int i = off = all = 0; i < T; i++) off += pow((double)z[i] - share * (double)y[i], 2), all += pow(share * (double)y[i], 2);
    if (!(all > 1e-8 && off < 1e-4 * all)) fail_msg("it begins without the first hearing: %g of %g", off, all);
    uf_params_close(&once);
    uf_params_close(&again);
    float *owned[] = {x, y, z, none};
    for (int i = 0; i < UF_LEN(owned); i++) free(owned[i]);
    uf_ctx_close(&ctx);
}

/* All three inputs tell, once there are parameters for them; and over the whole band it is the same below 8 kHz, of two files. */
static void test_whole_band(void **state) {
    (void)state;
    enum { W = UF_SPEECH_WIDER };
    uf_ctx *ctx = open_ctx();
    uf_params *low = params(ctx, 1), *wide = params(ctx, 2);
    float *x[3], *y = sound(T), *z = sound(W * T), *w[3];
    for (int k = 0; k < 3; k++) {
        x[k] = sound(T);
        w[k] = sound(W * T);
        for (int i = 0; i < W * T; i++) w[k][i] = speak(1.2 + .1 * k + i / 48000.) * (float)(.5 - .5 * cos(2 * M_PI * i / (W * T)));
        for (int i = 0; i < T; i++) x[k][i] = w[k][W * i];
    }
    run(ctx, &uf_model_speech_again, low, begun(ctx), T, x[0], x[1], x[2], y);
    run(ctx, &uf_model_speech_wide_again, wide, NULL, W * T, w[0], w[1], w[2], z); /* for its parameters alone */
    if (uf_speech_wide_again_load(ctx, wide, begun(ctx), shipped("speech-wide.safetensors")) < 0) fail_msg("%s", uf_ctx_error(ctx));
    run(ctx, &uf_model_speech_wide_again, wide, NULL, W * T, w[0], w[1], w[2], z);
    for (int i = 0; i < T; i++) z[i] = z[W * i];
    double same = uf_si_sdr(y, z, T * 3 / 4); /* not near the end, which is mirrored a little apart */
    if (!(same > 20)) fail_msg("over the whole band it is another voice: %.1f dB", same);
    assert_int_equal(uf_speech_wide_again_load(ctx, wide, shipped("speech.safetensors"), shipped("speech-wide.safetensors")), UF_EDATA);
    for (int k = 0; k < 3; k++) {
        float *quiet = sound(T), *other = sound(T);
        const float *in[] = {x[0], x[1], x[2]};
        for (int i = 0; i < uf_params_n(low); i++) {
            uf_param *p = uf_params_at(low, i);
            if (strcmp(p->name, "enc.whole.w")) continue;
            for (size_t j = 0; j < uf_count(p->shape); j++) p->value[j] = .1f * uf_gaussian(1, 9, j);
        }
        run(ctx, &uf_model_speech_again, low, NULL, T, x[0], x[1], x[2], y);
        in[k] = quiet;
        run(ctx, &uf_model_speech_again, low, NULL, T, in[0], in[1], in[2], other);
        assert_true(uf_si_sdr(y, other, T) < 40);
        free(quiet);
        free(other);
    }
    uf_params_close(&low);
    uf_params_close(&wide);
    for (int k = 0; k < 3; k++) free(x[k]), free(w[k]);
    free(y);
    free(z);
    uf_ctx_close(&ctx);
}

/* By weights of its own it hears what is left, the first hearing and the recording, all half a hop later; begun after `speech` it makes about what `speech`
 * makes of both hearings by itself. */
static void hears(const uf_model *m, const char *weights, const char *again) {
    int wider = m->rate / 16000, n = 12 * 8192 * wider;
    uf_ctx *ctx = open_ctx();
    uf_voice_net net[2];
    float *x = sound(n), *y[2] = {sound(n), sound(n)};
    for (int i = 0; i < n; i++) x[i] = speak(i / 16000. / wider) + .02f * uf_gaussian(1, 11, (uint64_t)i);
    for (int k = 0; k < 2; k++) {
        if (uf_voice_net_open(&net[k], ctx, weights, &(uf_voice_net_options){.model = m, .float32 = true, .again = true, .again_weights = k ? again : NULL}) < 0) fail_msg("%s", uf_ctx_error(ctx));
        assert_int_equal(uf_voice_net_resize(&net[k], n / 2), UF_OK);
        assert_int_equal(uf_voice_net_resize(&net[k], n), UF_OK);
        assert_int_equal(uf_voice_net_hear(&net[k], x, y[k]), UF_OK);
    }
    assert_memory_equal(y[0], y[1], (size_t)n * sizeof *x);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(uf_voice_net_hear_again(&net[k], x, y[k]), UF_OK);
        uf_voice_net_close(&net[k]);
    }
    double same = uf_si_sdr(y[0], y[1], (size_t)n);
    if (!(same > 22)) fail_msg("%s: %.1f dB like what it makes itself", m->name, same);
    free(x);
    for (int k = 0; k < 2; k++) free(y[k]);
    uf_ctx_close(&ctx);
}

static void test_hears(void **state) {
    (void)state;
    char weights[4096];
    uf_ctx *ctx = open_ctx();
    const char *again = begun(ctx);
    snprintf(weights, sizeof weights, "%s", shipped("speech.safetensors"));
    hears(&uf_model_speech, weights, again);
    snprintf(weights, sizeof weights, "%s", shipped("speech-wide.safetensors"));
    hears(&uf_model_speech_wide, weights, again);
    uf_voice_net net;
    assert_int_equal(uf_voice_net_open(&net, ctx, shipped("speech.safetensors"), &(uf_voice_net_options){.model = &uf_model_speech, .again = true, .again_weights = weights}), UF_EDATA);
    uf_voice_net_close(&net); /* weights of another network are refused */
    uf_ctx_close(&ctx);
}

/* ---- training ------------------------------------------------------------------------------------------------------------------- */

static struct { int n_open, n_run, n_closed, n; char weights[512]; } first;

static int first_open(void **state, uf_ctx *ctx, const char *weights, int n) {
    (void)ctx;
    static int here;
    snprintf(first.weights, sizeof first.weights, "%s", weights);
    first.n = n;
    first.n_open++;
    *state = &here;
    return UF_OK;
}

static int first_run(void *state, const float *recording, float *left, float *voice) {
    (void)state;
    for (int i = 0; i < first.n; i++) left[i] = recording[i], voice[i] = .5f * recording[i];
    first.n_run++;
    return UF_OK;
}

static void first_close(void **state) {
    *state = NULL;
    first.n_closed++;
}

static const uf_first_hearing hearing = {first_open, first_run, first_close};

static int train(uf_ctx *ctx, const char *more, const uf_first_hearing *with) {
    char path[300], dir[300];
    snprintf(path, sizeof path, "%s/recipe.yaml", folder);
    snprintf(dir, sizeof dir, "%s/run", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s\nout: w.safetensors\ntrain: [{path: voice}]\nvalid: [{path: voice}]\nlosses: {l1: 1}\nstages: [{size: 4096, batch: 2, steps: 3, rate: 0.0001}]\n", more);
    fclose(f);
    return uf_train(ctx, path, &(uf_train_options){.out_dir = dir, .overwrite = true, .hearing = with});
}

static void write_voice(void) {
    char path[300];
    snprintf(path, sizeof path, "%s/voice", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/voice/a.wav", folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    enum { N = 32000 };
    uint32_t bytes = N * 2, head[11] = {0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, 0x00010001, 16000, 32000, 0x00100002, 0x61746164, bytes};
    fwrite(head, 4, 11, f);
    for (int i = 0; i < N; i++) {
        int16_t v = (int16_t)(6000 * speak(i / 16000.));
        fwrite(&v, 2, 1, f);
    }
    fclose(f);
}

/* Every mixture goes through the first hearing, whose weights the recipe names; nothing else is trained that way. */
static void test_training(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    write_voice();
    if (train(ctx, "model: speech-again\nfirst: one.safetensors", &hearing) < 0) fail_msg("%s", uf_ctx_error(ctx));
    assert_true(first.n_run >= 3 * 2 + 2 && first.n_open == first.n_closed && first.n_open >= 2 && first.n == 4096);
    assert_non_null(strstr(first.weights, "/one.safetensors")); /* from the recipe's folder */
    static const struct { const char *more; const uf_first_hearing *with; int err; const char *says; } bad[] = {
        {"model: speech-again", &hearing, UF_EINVAL, "give the weights that hear first as 'first'"},
        {"model: speech\nfirst: one.safetensors", &hearing, UF_EINVAL, "'first' is for networks that hear a second time"},
        {"model: speech-again\nfirst: one.safetensors\nfinish: {size: 4096, batch: 2, critic_steps: 2, steps: 4, losses: {l1: 1}}", &hearing, UF_EINVAL, "has no adversarial finish"},
        {"model: speech-again\nfirst: one.safetensors", NULL, UF_EUNSUPPORTED, "nobody to hear first"},
    };
    for (int i = 0; i < UF_LEN(bad); i++) {
        assert_int_equal(train(ctx, bad[i].more, bad[i].with), bad[i].err);
        if (!strstr(uf_ctx_error(ctx), bad[i].says)) fail_msg("%s", uf_ctx_error(ctx));
        uf_ctx_clear(ctx);
    }
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begins),
        cmocka_unit_test(test_whole_band),
        cmocka_unit_test(test_hears),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

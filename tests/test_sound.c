/* Sound: measures against somebody else's, and the stream through the network: lengths, places, pieces, live. */
#include "live.h"
#include "models.h"
#include "pipeline.h"
#include "sound_measure.h"
#include "voice.h"
#include "voice_net.h"

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

/* ---- measures ---------------------------------------------------------------------------------------------------------------- */

enum { VECTOR = 20000 };

static void load(uf_ctx *ctx, const char *name, float *to, int n) {
    uf_params *set = NULL;
    uf_weights *w = NULL;
    assert_int_equal(uf_params_open(&set, ctx, 0), UF_OK);
    assert_non_null(uf_params_add(set, name, (uf_shape){1, 1, 1, n}, UF_INIT_ZERO));
    assert_int_equal(uf_weights_open(&w, ctx, UNFADE_SOURCE_DIR "/tests/vectors/stoi.safetensors"), UF_OK);
    assert_int_equal(uf_weights_load(w, set, false, NULL), UF_OK);
    memcpy(to, uf_params_at(set, 0)->value, (size_t)n * sizeof *to);
    uf_weights_close(&w);
    uf_params_close(&set);
}

static void test_measures(void **state) {
    (void)state;
    static const char *const names[] = {"noise", "babble", "quiet"};
    static float ref[VECTOR], test[VECTOR];
    uf_ctx *ctx = open_ctx();
    double stoi, estoi, lsd;
    load(ctx, "ref", ref, VECTOR);
    for (int i = 0; i < UF_LEN(names); i++) {
        char scores[32];
        float want[3];
        snprintf(scores, sizeof scores, "%s.scores", names[i]);
        load(ctx, names[i], test, VECTOR);
        load(ctx, scores, want, 3);
        assert_int_equal(uf_stoi(ctx, ref, test, VECTOR, &stoi, &estoi), UF_OK);
        double si_sdr = uf_si_sdr(ref, test, VECTOR);
        if (fabs(stoi - (double)want[0]) > 1e-3 || fabs(estoi - (double)want[1]) > 1e-3 || fabs(si_sdr - (double)want[2]) > 1e-3)
            fail_msg("%s: STOI %.5f (%.5f), ESTOI %.5f (%.5f), SI-SDR %.5f (%.5f)", names[i], stoi, (double)want[0], estoi, (double)want[1], si_sdr,
                     (double)want[2]);
        assert_int_equal(uf_lsd(ctx, ref, test, VECTOR, UF_STOI_RATE, &lsd), UF_OK);
        assert_true(lsd > 0);
    }
    for (int i = 0; i < VECTOR; i++) test[i] = .5f * ref[i]; /* quieter, and nothing else */
    assert_true(uf_si_sdr(ref, test, VECTOR) > 100);
    assert_int_equal(uf_lsd(ctx, ref, test, VECTOR, UF_STOI_RATE, &lsd), UF_OK);
    assert_true(lsd < 1e-3);
    assert_true(fabs(uf_segmental_snr(ref, test, VECTOR, UF_STOI_RATE) - 6.0206) < .01);
    assert_int_equal(uf_stoi(ctx, ref, test, 1000, &stoi, &estoi), UF_EDATA);
    static const int moves[] = {0, 1, -7, 480, -2000};
    for (int k = 0; k < UF_LEN(moves); k++) { /* late or early is found, and another sound is neither */
        int lag = 99;
        for (int i = 0; i < VECTOR; i++) test[i] = (i - moves[k] >= 0 && i - moves[k] < VECTOR ? ref[i - moves[k]] : 0.f) + .01f * uf_gaussian(1, 2, (uint64_t)i);
        assert_int_equal(uf_sound_lag(ctx, ref, test, VECTOR, 5000, &lag), UF_OK);
        assert_int_equal(lag, moves[k]);
        for (int i = 0; i < VECTOR; i++) test[i] = uf_gaussian(1, 3, (uint64_t)i);
        assert_int_equal(uf_sound_lag(ctx, ref, test, VECTOR, 5000, &lag), UF_OK);
        assert_int_equal(lag, 0);
    }
    uf_ctx_close(&ctx);
}

/* ---- the stream ----------------------------------------------------------------------------------------------------------------- */

/* A network that has learnt nothing, as a file: what it does is arbitrary, but always the same. */
static const char *weights_with(uf_ctx *ctx, const uf_model *m, bool room) {
    static char path[256];
    uf_params *set = NULL;
    uf_graph *g = NULL;
    uf_built b = {.keep_room = room};
    snprintf(path, sizeof path, "%s/random-%s%s.safetensors", folder, m->name, room ? "-room" : "");
    if (!access(path, F_OK)) return path;
    assert_int_equal(uf_params_open(&set, ctx, 5), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    assert_int_equal(m->build(g, uf_model_small(m), &b), UF_OK);
    static const char *const heads[][2] = {{"head.w", "head.b"}, {"head.room.w", "head.room.b"}, {"high.head.w", "high.head.b"}, {"high.head.room.w", "high.head.room.b"}};
    for (int k = 0; k < UF_LEN(heads); k++) { /* masks of about 1 */
        uf_param *head = uf_params_find(set, heads[k][0]), *bias = uf_params_find(set, heads[k][1]);
        for (size_t i = 0; head && i < uf_count(head->shape); i++) head->value[i] *= .05f;
        for (size_t i = 0; bias && i < uf_count(bias->shape); i++) bias->value[i] = i % 2 ? 0.f : .8f;
    }
    assert_int_equal(uf_weights_write(ctx, path, set, &(uf_weights_save){.overwrite = true}), UF_OK);
    uf_graph_close(&g);
    uf_params_close(&set);
    return path;
}

static const char *weights(uf_ctx *ctx, const uf_model *m) { return weights_with(ctx, m, false); }

/* n samples of each channel, pushed `block` by block. Returns how many samples were held back at most before the end. */
static int clean(uf_ctx *ctx, uf_voice_options o, int block, float *const *x, float *const *y, int n) {
    uf_voice *v = NULL;
    int done = 0, got, channels = o.channels, late = 0;
    const float *from[8];
    float *to[8];
    if (!o.weights) o.weights = weights(ctx, o.live ? &uf_model_speech_live : o.rate > 16000 ? &uf_model_speech_wide : &uf_model_speech);
    if (uf_voice_open(&v, ctx, &o) < 0) fail_msg("%s", uf_ctx_error(ctx));
    int most = 0;
    if (o.live) late = -(int)ceil(uf_voice_latency(v) * o.rate);
    for (int at = 0; at <= n; at += block) {
        int some = n - at < block ? n - at : block;
        for (int c = 0; c < channels; c++) from[c] = x[c] + at;
        if (some > 0) assert_int_equal(uf_voice_push(v, from, some), UF_OK);
        if (at + block > n) assert_int_equal(uf_voice_push(v, NULL, 0), UF_OK);
        do {
            for (int c = 0; c < channels; c++) to[c] = y[c] + done;
            got = uf_voice_pull(v, to, n - done < 777 ? n - done : 777);
            done += got;
        } while (got > 0 && done < n);
        if (o.live && at + some - done > most) most = at + some - done;
    }
    assert_int_equal(done, n);
    assert_int_equal(uf_voice_pull(v, y, 1), 0);
    uf_voice_close(&v);
    return late + most;
}

static void lengths_and_places(bool live) {
    static const struct { int rate, channels, n; } c[] = {{16000, 1, 1}, {16000, 2, 5000}, {7350, 1, 9001}, {48000, 2, 50001}, {44100, 8, 30000}, {192000, 1, 100000}, {16000, 1, 0}};
    uf_ctx *ctx = open_ctx();
    for (int i = 0; i < UF_LEN(c); i++) {
        float *x[8], *y[8];
        for (int k = 0; k < c[i].channels; k++) {
            x[k] = calloc((size_t)c[i].n + 1, sizeof(float));
            y[k] = calloc((size_t)c[i].n + 1, sizeof(float));
            for (int s = k; s < c[i].n; s += 1000) x[k][s] = .5f;
        }
        clean(ctx, (uf_voice_options){.rate = c[i].rate, .channels = c[i].channels, .wet = 1e-6, .live = live}, 4096, x, y, c[i].n);
        for (int k = 0; k < c[i].channels; k++) {
            for (int s = 0; s < c[i].n; s++) assert_true(fabsf(x[k][s] - y[k][s]) < 1e-4f); /* each click at its place */
            free(x[k]);
            free(y[k]);
        }
    }
    uf_ctx_close(&ctx);
}

static void test_lengths_and_places(void **state) {
    (void)state;
    lengths_and_places(false);
    lengths_and_places(true);
}

/* Over several chunks of the network, whatever the blocks; and what the network takes away is where it was. */
static void pieces(int rate) {
    const int N = rate / 50 * 968; /* 19 s */
    uf_ctx *ctx = open_ctx();
    float *x = calloc((size_t)N, sizeof *x), *y[3];
    const int block[] = {N, 999, 16000};
    for (int i = 0; i < N; i++) x[i] = .1f * uf_gaussian(1, 2, (uint64_t)i) * (float)(1 + sin(i * .0005));
    x[777] = NAN;
    for (int k = 0; k < 3; k++) {
        y[k] = calloc((size_t)N, sizeof *y[k]);
        clean(ctx, (uf_voice_options){.rate = rate, .channels = 1, .wet = 1}, block[k], &x, &y[k], N);
        if (k) assert_memory_equal(y[0], y[k], (size_t)N * sizeof *x);
    }
    x[777] = 0;
    double best = -1;
    int lag = 0;
    for (int d = -20; d <= 20; d++) {
        double dot = 0;
        for (int i = 20; i < N - 20; i++) dot += (double)x[i] * (double)y[0][i + d];
        if (dot > best) best = dot, lag = d;
    }
    assert_int_equal(lag, 0);
    memset(x, 0, (size_t)N * sizeof *x);
    clean(ctx, (uf_voice_options){.rate = rate, .channels = 1, .wet = 1}, 5000, &x, y, N);
    for (int i = 0; i < N; i++) assert_true(y[0][i] == 0.f); /* silence stays */
    free(x);
    for (int k = 0; k < 3; k++) free(y[k]);
    uf_ctx_close(&ctx);
}

static void test_pieces(void **state) {
    (void)state;
    pieces(16000);
    pieces(48000);
}

/* Heard again is a share of both passes: of the sound as it is, and half a hop later of what is left without what its past tells. */
static void test_again(void **state) {
    (void)state;
    enum { N = 16 * 8192, LATE = 128 };
    static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";
    uf_ctx *ctx = open_ctx();
    uf_voice_net once, again;
    uf_voice_dry *dry = NULL;
    float *x = calloc(N, sizeof *x), *later = calloc(N + LATE, sizeof *x), *y[3];
    for (int i = 0; i < 3; i++) y[i] = calloc(N, sizeof *x);
    for (int i = 0; i < N; i++) x[i] = .05f * uf_gaussian(1, 5, (uint64_t)i) + .1f * sinf((float)i * .05f) * (float)sin(i * .001);
    uf_voice_net_options o = {.model = &uf_model_speech, .float32 = true};
    assert_int_equal(uf_voice_net_open(&once, ctx, strdup(path), &o), UF_OK);
    o.again = true;
    assert_int_equal(uf_voice_net_open(&again, ctx, strdup(path), &o), UF_OK);
    assert_int_equal(uf_voice_net_resize(&once, N), UF_OK);
    assert_int_equal(uf_voice_net_resize(&again, N), UF_OK);
    assert_int_equal(uf_voice_dry_open(&dry, ctx, N, 1, 0), UF_OK);
    assert_int_equal(uf_voice_net_hear(&once, x, y[0]), UF_OK);
    uf_voice_dry_run(dry, x, y[0], later + LATE);
    assert_int_equal(uf_voice_net_hear(&once, later, y[1]), UF_OK);
    assert_int_equal(uf_voice_net_hear(&again, x, y[2]), UF_OK);
    assert_int_equal(uf_voice_net_hear_again(&again, x, y[2]), UF_OK);
    double differ = uf_si_sdr(y[0], y[2], N);
    for (int i = 0; i < N - LATE; i++) y[0][i] = .25f * y[0][i] + .75f * y[1][i + LATE];
    double same = uf_si_sdr(y[0], y[2], N);
    if (!(same > 60 && differ < 40)) fail_msg("%.1f dB like the shares, %.1f dB like the first", same, differ);
    uf_voice_net_close(&once);
    uf_voice_net_close(&again);
    uf_voice_dry_close(&dry);
    free(x);
    free(later);
    for (int i = 0; i < 3; i++) free(y[i]);
    uf_ctx_close(&ctx);
}

/* Weights that know the room give the voice alone as those that do not, to the bit; and what is not known is not made up. */
static void test_keep_room(void **state) {
    (void)state;
    enum { N = 20000 };
    static float x[N], y[3][N];
    float *from = x, *to[3] = {y[0], y[1], y[2]};
    uf_ctx *ctx = open_ctx();
    for (int i = 0; i < N; i++) x[i] = .1f * uf_gaussian(1, 2, (uint64_t)i);
    static const uf_model *const models[] = {&uf_model_speech, &uf_model_speech_live, &uf_model_speech_wide};
    for (int k = 0; k < UF_LEN(models); k++) {
        const uf_model *m = models[k];
        uf_voice_options o = {.rate = m->rate, .channels = 1, .wet = 1, .live = m == &uf_model_speech_live};
        clean(ctx, o, 4000, &from, &to[0], N);
        o.weights = weights_with(ctx, m, true);
        clean(ctx, o, 4000, &from, &to[1], N);
        assert_memory_equal(y[0], y[1], sizeof y[0]);
        o.keep_room = true;
        clean(ctx, o, 4000, &from, &to[2], N);
        double same = uf_si_sdr(y[0], y[2], N); /* another mask, of the same features */
        if (!(same > -10 && same < 40)) fail_msg("%s: the voice in its room is the voice without it to %.1f dB", m->name, same);
        o.weights = weights(ctx, m);
        uf_voice *v = NULL;
        assert_int_equal(uf_voice_open(&v, ctx, &o), UF_EDATA);
        assert_non_null(strstr(uf_ctx_error(ctx), "not trained to keep the room"));
        uf_ctx_clear(ctx);
    }
    uf_ctx_close(&ctx);
}

/* ---- live ----------------------------------------------------------------------------------------------------------------------- */

/* The network over all n samples at once, in float32 as live. */
static void whole(uf_ctx *ctx, const float *x, float *y, int n) {
    uf_params *set = NULL;
    uf_graph *g = NULL;
    uf_plan *p = NULL;
    uf_built b = {0};
    assert_int_equal(uf_params_open(&set, ctx, 1), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    uf_graph_training(g, false);
    assert_int_equal(uf_model_speech_live.build(g, (uf_shape){1, 1, 1, n}, &b), UF_OK);
    uf_output(b.out);
    assert_int_equal(uf_model_load(ctx, &uf_model_speech_live, set, weights(ctx, &uf_model_speech_live)), UF_OK);
    assert_int_equal(uf_plan_open(&p, ctx, g, &(uf_plan_options){.mode = UF_INFER, .dtype = UF_F32}), UF_OK);
    uf_plan_set(p, b.sound, x);
    assert_int_equal(uf_plan_run(p), UF_OK);
    assert_int_equal(uf_plan_get(p, b.out, y), UF_OK);
    uf_plan_close(&p);
    uf_graph_close(&g);
    uf_params_close(&set);
}

/* Hop by hop it is what the network makes of the whole recording, ends included: only the libraries' products for one frame and for many
 * add in another order. And one channel knows nothing of the other. */
static void test_live_is_whole(void **state) {
    (void)state;
    enum { N = 40 * UF_LIVE_HOP };
    static float x[2][N + UF_LIVE_HOP], y[2][N + UF_LIVE_HOP], want[N];
    uf_ctx *ctx = open_ctx();
    for (int n = 2 * UF_LIVE_HOP; n <= N; n += N - 2 * UF_LIVE_HOP) {
        uf_live *l = NULL;
        int done = 0;
        for (int i = 0; i < n; i++)
            for (int c = 0; c < 2; c++) x[c][i] = .05f * uf_gaussian(1, (uint64_t)c, (uint64_t)i) * (float)(1 + sin(i * .003));
        assert_int_equal(uf_live_open(&l, ctx, weights(ctx, &uf_model_speech_live), 2, false), UF_OK);
        for (int at = 0; at <= n; at += UF_LIVE_HOP) {
            const float *from[2] = {x[0] + at, x[1] + at};
            float *to[2] = {y[0] + done, y[1] + done};
            assert_int_equal(uf_live_push(l, at < n ? from : NULL), UF_OK);
            int got = uf_live_pull(l, to);
            assert_int_equal(got, at ? UF_LIVE_HOP : 0);
            done += got;
            assert_int_equal(uf_live_pull(l, to), 0);
        }
        assert_int_equal(done, n);
        for (int c = 0; c < 2; c++) {
            double most = 0;
            whole(ctx, x[c], want, n);
            for (int i = 0; i < n; i++) most = fmax(most, fabs((double)y[c][i] - (double)want[i]));
            if (!(most < 1e-6)) fail_msg("channel %d of %d samples: off by %.2g", c, n, most);
        }
        uf_live_close(&l);
    }
    uf_ctx_close(&ctx);
}

/* Whatever the blocks, the same bits; held back no longer than is said, and not much less; silence stays; and no number, however wild, is
 * remembered for long. */
static void test_live_blocks(void **state) {
    (void)state;
    enum { N = 30000 };
    static const int rates[] = {8000, 16000, 22050, 44100, 48000, 96000}, block[] = {N, 1, 333, 4097};
    static float x[2][N], y[4][2][N];
    uf_ctx *ctx = open_ctx();
    for (int r = 0; r < UF_LEN(rates); r++) {
        uf_voice_options o = {.rate = rates[r], .channels = 2, .wet = 1, .live = true};
        for (int i = 0; i < N; i++)
            for (int c = 0; c < 2; c++) x[c][i] = .1f * uf_gaussian(1, (uint64_t)c, (uint64_t)i) * (float)(1 + sin(i * .0005));
        for (int k = 0; k < UF_LEN(block); k++) {
            float *from[2] = {x[0], x[1]}, *to[2] = {y[k][0], y[k][1]};
            int late = clean(ctx, o, block[k], from, to, N);
            if (block[k] == 1 && (late > 0 || late < -rates[r] / 500)) fail_msg("at %d: %d samples later than it says", rates[r], late);
            if (k) assert_memory_equal(y[0], y[k], sizeof y[0]);
        }
    }
    memset(x, 0, sizeof x);
    float *from[2] = {x[0], x[1]}, *to[2] = {y[0][0], y[0][1]};
    uf_voice_options o = {.rate = 16000, .channels = 2, .wet = 1, .live = true};
    clean(ctx, o, 777, from, to, N);
    for (int i = 0; i < N; i++) assert_true(y[0][0][i] == 0.f && y[0][1][i] == 0.f);
    for (int i = 0; i < N; i++) x[0][i] = .1f * sinf((float)i);
    x[0][5000] = 3e38f;
    x[0][9000] = NAN;
    clean(ctx, o, 777, from, to, N);
    double before = 0, after = 0;
    for (int i = 1000; i < 4000; i++) before += fabs((double)y[0][0][i]), after += fabs((double)y[0][0][N - i]);
    assert_true(before > 1 && after > .5 * before && after < 2 * before);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_keep_room),
        cmocka_unit_test(test_lengths_and_places),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_live_is_whole),
        cmocka_unit_test(test_live_blocks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

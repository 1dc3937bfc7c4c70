/* Sound: measures against somebody else's, rooms and mixtures, and the stream through the network: lengths, places, pieces. */
#include "live.h"
#include "models.h"
#include "network.h"
#include "pipeline.h"
#include "sound_measure.h"
#include "sounds.h"
#include "voice.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"

static uf_ctx *open_ctx(void) {
    uf_ctx *ctx = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_ctx_set_threads(ctx, 2);
    return ctx;
}

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

/* ---- rooms and mixtures ------------------------------------------------------------------------------------------------------- */

/* Seconds in which the energy that is still to come falls from -5 to -25 dB, three times. */
static double ring(const float *x, int n, int rate) {
    double all = 0, left;
    int at[2] = {0, 0};
    for (int i = 0; i < n; i++) all += (double)x[i] * (double)x[i];
    left = all;
    for (int i = 0; i < n; i++) {
        left -= (double)x[i] * (double)x[i];
        if (left > all * pow(10, -.5)) at[0] = i;
        if (left > all * pow(10, -2.5)) at[1] = i;
    }
    return 3. * (at[1] - at[0]) / rate;
}

static void test_room(void **state) {
    (void)state;
    enum { RATE = 16000, N = 12800 };
    static float x[N];
    for (int i = 0; i < 4; i++) {
        uf_room r = {{6, 5, 2.8}, {1.5, 2, 1.5}, {3.5, 3, 1.2}, .2 + .15 * i};
        int direct, first = (int)lround(sqrt(4 + 1 + .09) / 343 * RATE);
        uf_room_response(&r, RATE, 1, (uint64_t)i, x, N, &direct);
        assert_int_equal(direct, first);
        for (int k = 0; k < first - 8; k++) assert_true(x[k] == 0.f); /* nothing is heard before it arrives */
        assert_true(x[first] > .6f && x[first] < 1.1f);
        double t60 = ring(x + first, N - first, RATE);
        if (!(t60 > .6 * r.t60 && t60 < 1.5 * r.t60)) fail_msg("rings for %.2f s instead of %.2f", t60, r.t60);
    }
}

static void write_wav(const char *name, int n, uint32_t rate) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint32_t bytes = (uint32_t)n * 2, head[11] = {0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, 0x00010001, rate, 2 * rate, 0x00100002, 0x61746164, bytes};
    fwrite(head, 4, 11, f);
    for (int i = 0; i < n; i++) {
        int16_t v = (int16_t)(8000 * sin(i * .05 + 3 * sin(i * .0007)) * fmax(sin(i * .0012), 0));
        fwrite(&v, 2, 1, f);
    }
    fclose(f);
}

static void test_mixtures(void **state) {
    (void)state;
    enum { N = 20000 };
    static float noisy[2][N], voice[2][N], room[2][N];
    uf_ctx *ctx = open_ctx();
    uf_mixer m = {.rate = 16000, .codecs = .4};
    uf_mixing *w[2];
    write_wav("a.wav", 30000, 16000);
    write_wav("b.wav", 9000, 22050);
    assert_int_equal(uf_sounds_open(&m.voice, ctx, &(uf_source){.path = folder}, 1, m.rate), UF_OK);
    uf_sounds *again; /* decoding, with a change of the rate, gives the same samples each time */
    assert_int_equal(uf_sounds_open(&again, ctx, &(uf_source){.path = folder}, 1, m.rate), UF_OK);
    for (uint64_t index = 0; index < 8; index++) {
        size_t n[2];
        const int16_t *a = uf_sounds_pick(m.voice, 1, index, &n[0]), *b = uf_sounds_pick(again, 1, index, &n[1]);
        assert_int_equal(n[0], n[1]);
        assert_memory_equal(a, b, n[0] * sizeof *a);
    }
    uf_sounds_close(&again);
    for (int i = 0; i < 2; i++) assert_int_equal(uf_mixing_open(&w[i], ctx, &m, N), UF_OK);
    for (uint64_t index = 0; index < 24; index++) {
        if (uf_mix(w[0], 3, index, noisy[0], voice[0], room[0]) < 0) continue;
        uf_mix(w[1], 9, index + 50, noisy[1], voice[1], room[1]); /* what came before leaves no trace */
        assert_int_equal(uf_mix(w[1], 3, index, noisy[1], voice[1], room[1]), UF_OK);
        assert_memory_equal(noisy[0], noisy[1], sizeof noisy[0]);
        assert_memory_equal(voice[0], voice[1], sizeof voice[0]);
        assert_memory_equal(room[0], room[1], sizeof room[0]);
        double sum = 0;
        for (int i = 0; i < N; i++) {
            assert_true(isfinite(noisy[0][i]) && isfinite(voice[0][i]) && fabsf(noisy[0][i]) <= 1.0001f);
            sum += fabs((double)voice[0][i]);
        }
        double snr = uf_si_sdr(voice[0], noisy[0], N);
        assert_true(sum > 0 && snr > -25 && snr < 60);
    }
    for (int i = 0; i < 2; i++) uf_mixing_close(&w[i]);
    uf_sounds_close(&m.voice);
    assert_int_equal(uf_sounds_open(&m.voice, ctx, &(uf_source){.path = (char *)"/nowhere"}, 1, 16000), UF_EIO);
    uf_ctx_close(&ctx);
}

/* What comes back from a codec is the same sound, where it was. */
static void test_codecs(void **state) {
    (void)state;
    enum { N = 32000, SIZE = 65536 };
    static float x[N], y[N], spectrum[SIZE / 2 + 1][2];
    uf_fft f;
    int n_here = 0;
    assert_true(uf_fft_open(&f, SIZE));
    for (int i = 0; i < N; i++) x[i] = .3f * (float)(sin(i * .09 + 4 * sin(i * .0011)) * fmax(sin(i * .0021), 0));
    for (int which = 0; which < uf_codecs_n(); which++) {
        memcpy(y, x, sizeof y);
        if (!uf_codec_pass(which, .5, 16000, y, N, &f, spectrum)) {
            assert_memory_equal(x, y, sizeof y);
            continue;
        }
        double snr = uf_si_sdr(x, y, N);
        if (!(snr > 8 && snr < 80)) fail_msg("%s gives %.1f dB back", uf_codec_name(which), snr);
        n_here++;
    }
    if (!n_here) skip(); /* an FFmpeg without encoders */
    uf_fft_close(&f);
}

/* What is recorded is the voice in its room, and noise; the voice as it should be is a part of that, or all of it where there is no room. */
static void test_mixture_of_rooms(void **state) {
    (void)state;
    enum { N = 20000, DRAWS = 40 };
    static float noisy[2][N], voice[2][N], room[2][N];
    uf_ctx *ctx = open_ctx();
    uf_mixer m = {.rate = 16000, .snr_from = 100, .snr_to = 100};
    uf_mixing *w = NULL;
    int n_dry = 0, n_clipped = 0, n_drawn = 0;
    write_wav("a.wav", 30000, 16000);
    assert_int_equal(uf_sounds_open(&m.voice, ctx, &(uf_source){.path = folder}, 1, m.rate), UF_OK);
    assert_int_equal(uf_mixing_open(&w, ctx, &m, N), UF_OK);
    for (uint64_t index = 0; index < DRAWS; index++) {
        m.snr_from = m.snr_to = 100;
        if (uf_mix(w, 3, index, noisy[0], voice[0], room[0]) < 0) continue;
        n_drawn++;
        bool clipped = uf_si_sdr(room[0], noisy[0], N) < 60;
        n_clipped += clipped;
        bool dry = !memcmp(voice[0], room[0], sizeof voice[0]);
        double part = uf_si_sdr(room[0], voice[0], N);
        n_dry += dry;
        if (!dry && !(part > -15 && part < 50)) fail_msg("mixture %d: the voice is %.1f dB of its room", (int)index, part);
        m.snr_from = m.snr_to = 3; /* louder noise: the same voice in the same room, at another level */
        assert_int_equal(uf_mix(w, 3, index, noisy[1], voice[1], room[1]), UF_OK);
        assert_true(uf_si_sdr(room[0], room[1], N) > 80 && uf_si_sdr(voice[0], voice[1], N) > 80);
        if (!clipped) assert_true(uf_si_sdr(room[1], noisy[1], N) < 12);
    }
    assert_true(n_drawn > DRAWS / 2 && n_clipped < n_drawn / 4 && n_dry > n_drawn / 5 && n_dry < 4 * n_drawn / 5);
    uf_mixing_close(&w);
    uf_sounds_close(&m.voice);
    uf_ctx_close(&ctx);
}

static uf_ctx *train(const char *more, int steps, const char *out) {
    uf_ctx *ctx = open_ctx();
    char path[256], dir[256];
    write_wav("a.wav", 30000, 16000);
    snprintf(path, sizeof path, "%s/speech.yaml", folder);
    snprintf(dir, sizeof dir, "%s/%s", folder, out);
    FILE *f = fopen(path, "w");
    fprintf(f, "model: speech\nout: w.safetensors\ntrain: [{path: a.wav}]\nvalid: [{path: a.wav}]\n%s"
               "stages: [{size: 4096, batch: 2, steps: %d, rate: 0.0001}]\nlosses: {spectrum: 1, resolutions: 0.5, snr: 0.01, l1: 1}\n", more, steps);
    fclose(f);
    if (uf_train(ctx, path, &(uf_train_options){.out_dir = dir, .overwrite = true}) < 0) fail_msg("%s", uf_ctx_error(ctx));
    return ctx;
}

/* A few steps of the whole trainer on sound. */
static void test_training(void **state) {
    (void)state;
    uf_ctx *ctx = train("", 3, "run");
    uf_ctx_close(&ctx);
}

/* Tensor `name` of a run's weights; 0: there is none. */
static int tensor(uf_ctx *ctx, const char *run, const char *name, float *to) {
    char path[256];
    uf_weights *w = NULL;
    uf_params *set = NULL;
    int n = 0;
    snprintf(path, sizeof path, "%s/%s/w.safetensors", folder, run);
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    assert_int_equal(uf_params_open(&set, ctx, 0), UF_OK);
    assert_non_null(uf_params_add(set, name, (uf_shape){8, 48, 3, 3}, UF_INIT_ZERO));
    assert_int_equal(uf_weights_load(w, set, false, &n), UF_OK);
    memcpy(to, uf_params_at(set, 0)->value, 8 * 48 * 9 * sizeof *to);
    uf_params_close(&set);
    uf_weights_close(&w);
    return n;
}

/* Weights that know no room begin a run that learns it, where the voice's mask is; without `room` nothing of it is learnt. */
static void test_training_begins_without_room(void **state) {
    (void)state;
    static float voice[8 * 48 * 9], room[8 * 48 * 9];
    uf_ctx *ctx = train("room: 0\n", 1, "plain");
    assert_int_equal(tensor(ctx, "plain", "head.w", voice), 1);
    assert_int_equal(tensor(ctx, "plain", "head.room.w", room), 0);
    uf_ctx_close(&ctx);
    ctx = train("init: plain/w.safetensors\n", 1, "both");
    assert_int_equal(tensor(ctx, "both", "head.room.w", room), 1);
    for (int i = 0; i < UF_LEN(voice); i++)
        if (fabsf(voice[i] - room[i]) > 1e-3f) fail_msg("%d: %g is %g", i, (double)voice[i], (double)room[i]);
    uf_ctx_close(&ctx);
    ctx = train("init: both/w.safetensors\n", 1, "again"); /* and weights that know it go on */
    assert_int_equal(tensor(ctx, "again", "head.room.w", room), 1);
    uf_ctx_close(&ctx);
}

/* With equal masks and equal targets each output has the same loss: the second counts as much as the recipe says, in loss and gradient. */
static void test_second_loss(void **state) {
    (void)state;
    enum { N = 4096 };
    static float wave[2][N];
    float share = .25f, loss[2], l1[UF_MAX_LOSSES] = {0};
    for (int i = 0; uf_losses[i]; i++) l1[i] = !strcmp(uf_losses[i]->name, "l1") || !strcmp(uf_losses[i]->name, "spectrum");
    uf_recipe r = {.model = (char *)"speech", .room = &share};
    uf_ctx *ctx = open_ctx();
    uf_params *set[2];
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++) wave[k][i] = .1f * uf_gaussian(1, (uint64_t)k, (uint64_t)i);
    for (int k = 0; k < 2; k++) {
        uf_network n;
        uf_network_options o = {.r = &r, .losses = l1, .batch = 1, .size = N, .train = true, .no_room = !k};
        assert_int_equal(uf_params_open(&set[k], ctx, 5), UF_OK);
        o.params = set[k];
        assert_int_equal(uf_network_open(&n, ctx, &o), UF_OK);
        uf_speech_start_room(set[k]);
        uf_plan_stale(n.plan);
        assert_int_equal(uf_network_set(&n, &(uf_batch){.noisy = wave[0], .voice = wave[1], .room = wave[1]}), UF_OK);
        assert_int_equal(uf_plan_run(n.plan), UF_OK);
        assert_int_equal(uf_plan_get(n.plan, n.loss, &loss[k]), UF_OK);
        uf_params_zero_grad(set[k]);
        assert_int_equal(uf_plan_backward(n.plan), UF_OK);
        uf_network_close(&n);
    }
    assert_true(fabsf(loss[1] / loss[0] - 1 - share) < 1e-3f);
    static const struct { const char *name, *of; float times; } want[] = {{"head.room.w", "head.w", .25f}, {"head.w", "head.w", 1.f}, {"dec.in.w", "dec.in.w", 1.25f}};
    for (int i = 0; i < UF_LEN(want); i++) {
        const uf_param *got = uf_params_find(set[1], want[i].name), *of = uf_params_find(set[0], want[i].of);
        double off = 0, all = 0;
        for (size_t k = 0; k < uf_count(got->shape); k++) {
            double w = (double)(want[i].times * of->grad[k]), d = (double)got->grad[k] - w;
            off += d * d;
            all += w * w;
        }
        if (!(all > 0 && off < 1e-4 * all)) fail_msg("gradient of %s: off by %.2g of %.2g", want[i].name, sqrt(off), sqrt(all));
    }
    for (int k = 0; k < 2; k++) uf_params_close(&set[k]);
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
    assert_int_equal(m->build(g, (uf_shape){1, 1, 1, 4096}, &b), UF_OK);
    static const char *const heads[][2] = {{"head.w", "head.b"}, {"head.room.w", "head.room.b"}};
    for (int k = 0; k <= room; k++) { /* masks of about 1 */
        uf_param *head = uf_params_find(set, heads[k][0]);
        for (size_t i = 0; i < uf_count(head->shape); i++) head->value[i] *= .05f;
        float *bias = uf_params_find(set, heads[k][1])->value;
        for (int i = 0; i < 8; i++) bias[i] = i % 2 ? 0.f : .8f;
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
    if (!o.weights) o.weights = weights(ctx, o.live ? &uf_model_speech_live : &uf_model_speech);
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
static void test_pieces(void **state) {
    (void)state;
    enum { N = 310000 };
    uf_ctx *ctx = open_ctx();
    float *x = calloc(N, sizeof *x), *y[3];
    static const int block[] = {N, 999, 16000};
    for (int i = 0; i < N; i++) x[i] = .1f * uf_gaussian(1, 2, (uint64_t)i) * (float)(1 + sin(i * .0005));
    x[777] = NAN;
    for (int k = 0; k < 3; k++) {
        y[k] = calloc(N, sizeof *y[k]);
        clean(ctx, (uf_voice_options){.rate = 16000, .channels = 1, .wet = 1}, block[k], &x, &y[k], N);
        if (k) assert_memory_equal(y[0], y[k], N * sizeof *x);
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
    memset(x, 0, N * sizeof *x);
    clean(ctx, (uf_voice_options){.rate = 16000, .channels = 1, .wet = 1}, 5000, &x, y, N);
    for (int i = 0; i < N; i++) assert_true(y[0][i] == 0.f); /* silence stays */
    free(x);
    for (int k = 0; k < 3; k++) free(y[k]);
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
    for (int live = 0; live < 2; live++) {
        const uf_model *m = live ? &uf_model_speech_live : &uf_model_speech;
        uf_voice_options o = {.rate = 16000, .channels = 1, .wet = 1, .live = live};
        clean(ctx, o, 4000, &from, &to[0], N);
        o.weights = weights_with(ctx, m, true);
        clean(ctx, o, 4000, &from, &to[1], N);
        assert_memory_equal(y[0], y[1], sizeof y[0]);
        o.keep_room = true;
        clean(ctx, o, 4000, &from, &to[2], N);
        double same = uf_si_sdr(y[0], y[2], N); /* another mask, of the same features */
        if (!(same > -10 && same < 40)) fail_msg("live %d: the voice in its room is the voice without it to %.1f dB", live, same);
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
        cmocka_unit_test(test_measures),           cmocka_unit_test(test_room),   cmocka_unit_test(test_mixtures), cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_mixture_of_rooms), cmocka_unit_test(test_training_begins_without_room), cmocka_unit_test(test_second_loss), cmocka_unit_test(test_keep_room),
        cmocka_unit_test(test_training),           cmocka_unit_test(test_lengths_and_places), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_live_is_whole),      cmocka_unit_test(test_live_blocks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

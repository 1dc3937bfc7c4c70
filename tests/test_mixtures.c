/* What the speech networks learn from: rooms, codecs, mixtures; and how a training on sound begins, goes on and grows. */
#include "models.h"
#include "network.h"
#include "sound_measure.h"
#include "sounds.h"

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

/* Half of it are pauses, in which there is nothing but noise of this amplitude. */
static void write_noisy_wav(const char *name, int n, uint32_t rate, double noise) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint32_t bytes = (uint32_t)n * 2, head[11] = {0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, 0x00010001, rate, 2 * rate, 0x00100002, 0x61746164, bytes};
    fwrite(head, 4, 11, f);
    for (int i = 0; i < n; i++) {
        double other = noise * (2. * (double)uf_uniform(1, 2, (uint64_t)i) - 1);
        int16_t v = (int16_t)(8000 * sin(i * .05 + 3 * sin(i * .0007)) * fmax(sin(i * .0012), 0) + other);
        fwrite(&v, 2, 1, f);
    }
    fclose(f);
}

static void write_wav(const char *name, int n, uint32_t rate) { write_noisy_wav(name, n, rate, 0); }

/* Voices that have noise of their own are left out where the recipe asks for a dynamic range; of a source that has no other nothing is left. */
static void test_dynamic_range(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    uf_sounds *s;
    char path[64];
    snprintf(path, sizeof path, "%s/range", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    uf_source from = {.path = path};
    write_noisy_wav("range/a.wav", 40000, 16000, 30); /* differences fall by about 20 dB in the pauses */
    for (int rate = 16000; rate <= 48000; rate += 32000) {
        from.dynamic_range = 30;
        assert_int_equal(uf_sounds_open(&s, ctx, &from, 1, rate), UF_EDATA);
        assert_non_null(strstr(uf_ctx_error(ctx), path));
        from.dynamic_range = 12;
        assert_int_equal(uf_sounds_open(&s, ctx, &from, 1, rate), UF_OK);
        uf_sounds_close(&s);
    }
    write_noisy_wav("range/b.wav", 50000, 16000, 1); /* 45 dB */
    write_noisy_wav("range/c.wav", 3000, 16000, 0);  /* too short to tell */
    from.dynamic_range = 30;
    assert_int_equal(uf_sounds_open(&s, ctx, &from, 1, 16000), UF_OK);
    for (uint64_t index = 0; index < 20; index++) {
        size_t n;
        uf_sounds_pick(s, 1, index, &n);
        assert_int_equal(n, 50000);
    }
    uf_sounds_close(&s);
    from.dynamic_range = 0; /* a pick of all */
    bool seen[3] = {false};
    assert_int_equal(uf_sounds_open(&s, ctx, &from, 1, 16000), UF_OK);
    for (uint64_t index = 0; index < 20; index++) {
        size_t n;
        uf_sounds_pick(s, 1, index, &n);
        seen[n == 40000 ? 0 : n == 50000 ? 1 : 2] = true;
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    uf_sounds_close(&s);
    uf_ctx_close(&ctx);
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

/* Mixtures of a made-up voice, drawn by settings of which only the second ones may make the noise another: the voice stays as it is. */
enum { MIXED = 20000, DRAWS = 40 };
static struct pair {
    uf_ctx *ctx;
    uf_mixer m;
    uf_mixing *w;
    float noisy[2][MIXED], voice[2][MIXED], room[2][MIXED];
} pair;

static void open_pair(void) {
    pair.ctx = open_ctx();
    pair.m = (uf_mixer){.rate = 16000, .snr_from = 3, .snr_to = 3};
    write_wav("a.wav", 30000, 16000);
    assert_int_equal(uf_sounds_open(&pair.m.voice, pair.ctx, &(uf_source){.path = folder}, 1, pair.m.rate), UF_OK);
    assert_int_equal(uf_mixing_open(&pair.w, pair.ctx, &pair.m, MIXED), UF_OK);
}

static void close_pair(void) {
    uf_mixing_close(&pair.w);
    uf_sounds_close(&pair.m.voice);
    uf_ctx_close(&pair.ctx);
}

static bool draw_first(uint64_t index) { return uf_mix(pair.w, 3, index, pair.noisy[0], pair.voice[0], pair.room[0]) == UF_OK; }

/* dB of the voice in its room over what else is heard. */
static double draw_second(uint64_t index) {
    assert_int_equal(uf_mix(pair.w, 3, index, pair.noisy[1], pair.voice[1], pair.room[1]), UF_OK);
    assert_true(uf_si_sdr(pair.room[0], pair.room[1], MIXED) > 80 && uf_si_sdr(pair.voice[0], pair.voice[1], MIXED) > 80);
    return uf_si_sdr(pair.room[1], pair.noisy[1], MIXED);
}

/* What is recorded is the voice in its room, and noise; the voice as it should be is a part of that, or all of it where there is no room. */
static void test_mixture_of_rooms(void **state) {
    (void)state;
    int n_dry = 0, n_clipped = 0, n_drawn = 0;
    open_pair();
    for (uint64_t index = 0; index < DRAWS; index++) {
        pair.m.snr_from = pair.m.snr_to = 100;
        if (!draw_first(index)) continue;
        n_drawn++;
        bool clipped = uf_si_sdr(pair.room[0], pair.noisy[0], MIXED) < 60;
        n_clipped += clipped;
        bool dry = !memcmp(pair.voice[0], pair.room[0], sizeof pair.voice[0]);
        double part = uf_si_sdr(pair.room[0], pair.voice[0], MIXED);
        n_dry += dry;
        if (!dry && !(part > -15 && part < 50)) fail_msg("mixture %d: the voice is %.1f dB of its room", (int)index, part);
        pair.m.snr_from = pair.m.snr_to = 3; /* louder noise: the same voice in the same room, at another level */
        double snr = draw_second(index);
        if (!clipped) assert_true(snr < 12);
    }
    assert_true(n_drawn > DRAWS / 2 && n_clipped < n_drawn / 4 && n_dry > n_drawn / 5 && n_dry < 4 * n_drawn / 5);
    close_pair();
}

/* The recorder's own noise, 12 to 42 dB below the voice, alone in half of the mixtures. */
static void test_mixture_with_hiss(void **state) {
    (void)state;
    int n_quiet = 0, n_drawn = 0;
    open_pair();
    for (uint64_t index = 0; index < DRAWS; index++) {
        pair.m.hiss = 0;
        if (!draw_first(index)) continue;
        pair.m.hiss = 1;
        double snr = draw_second(index);
        if (!(snr < 44)) fail_msg("mixture %d: the voice is %.1f dB over what should be hiss", (int)index, snr);
        n_drawn++;
        n_quiet += snr > 14; /* nothing but hiss, and that not the loudest, and not clipped */
    }
    assert_true(n_drawn > DRAWS / 2 && n_quiet > n_drawn / 4 && n_quiet < 3 * n_drawn / 4);
    close_pair();
}

/* Noises of all kinds 15 to 40 dB below the voice. */
static void test_mixture_quiet(void **state) {
    (void)state;
    int n_drawn = 0, n_clipped = 0, n_loud = 0;
    open_pair();
    for (uint64_t index = 0; index < DRAWS; index++) {
        pair.m.quiet = 0;
        if (!draw_first(index)) continue;
        pair.m.quiet = 1;
        double snr = draw_second(index);
        if (!(snr < 44)) fail_msg("mixture %d: the voice is %.1f dB over its noise", (int)index, snr);
        n_drawn++;
        n_loud += uf_si_sdr(pair.room[0], pair.noisy[0], MIXED) < 13; /* at 3 dB of the active level */
        n_clipped += snr < 13;
    }
    assert_true(n_drawn > DRAWS / 2 && n_loud > 4 * n_drawn / 5 && n_clipped < n_drawn / 4);
    close_pair();
}

/* steps 0: no stages. */
static uf_ctx *train_with(const char *more, int steps, const char *out, bool resume) {
    uf_ctx *ctx = open_ctx();
    char path[256], dir[256];
    write_wav("a.wav", 30000, 16000);
    snprintf(path, sizeof path, "%s/speech.yaml", folder);
    snprintf(dir, sizeof dir, "%s/%s", folder, out);
    FILE *f = fopen(path, "w");
    fprintf(f, "model: speech\nout: w.safetensors\ntrain: [{path: a.wav}]\nvalid: [{path: a.wav}]\n%slosses: {spectrum: 1, resolutions: 0.5, snr: 0.01, l1: 1}\n", more);
    if (steps) fprintf(f, "stages: [{size: 4096, batch: 2, steps: %d, rate: 0.0001}]\n", steps);
    fclose(f);
    if (uf_train(ctx, path, &(uf_train_options){.out_dir = dir, .overwrite = !resume, .resume = resume}) < 0) fail_msg("%s", uf_ctx_error(ctx));
    return ctx;
}

static uf_ctx *train(const char *more, int steps, const char *out) { return train_with(more, steps, out, false); }

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

/* The finish: the critic alone, then both; its checks, its best step, and the same weights when it goes on after a stop. */
static void test_finish(void **state) {
    (void)state;
    static float start[8 * 48 * 9], end[8 * 48 * 9], again[8 * 48 * 9];
    static const char finish[] = "room: 0\ninit: plain/w.safetensors\n"
                                 "finish: {size: 16384, batch: 2, critic_steps: 2, steps: 4, check_every: 2, gate: 10, rate: 0.001, losses: {l1: 1}}\n";
    uf_ctx *ctx = train("room: 0\n", 1, "plain");
    assert_int_equal(tensor(ctx, "plain", "head.w", start), 1);
    uf_ctx_close(&ctx);
    ctx = train(finish, 0, "finish");
    assert_int_equal(tensor(ctx, "finish", "head.w", end), 1);
    uf_ctx_close(&ctx);
    char path[256], line[256] = "";
    int n = 0;
    snprintf(path, sizeof path, "%s/finish/finish.csv", folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_string_equal(line, "step,generator_steps,critic_loss,si_sdr,segmental_snr,lsd,score\n");
    while (fgets(line, sizeof line, f)) {
        double lsd = 0, score = 0;
        assert_int_equal(sscanf(line, "%*d,%*d,%*f,%*f,%*f,%lf,%lf", &lsd, &score), 2);
        if (!n++) assert_true(lsd > 0 && fabs(score - 1) < 1e-6); /* shares of what they are at the start */
    }
    fclose(f);
    assert_int_equal(n, 3); /* at 0, 2 and 4 steps of both */
    ctx = train_with(finish, 0, "finish", true); /* over already: the same again */
    assert_int_equal(tensor(ctx, "finish", "head.w", again), 1);
    assert_memory_equal(again, end, sizeof end);
    uf_ctx_close(&ctx);
}

static bool in_block(const char *name, int block) {
    char from[16];
    snprintf(from, sizeof from, "block.%d.", block);
    return !strncmp(name, from, strlen(from));
}

/* The parameters of `all` but those whose name begins so, as a file. */
static void write_without(uf_ctx *ctx, const uf_params *all, const char *prefix, const char *path) {
    uf_params *some = NULL;
    assert_int_equal(uf_params_open(&some, ctx, 1), UF_OK);
    for (int i = 0; i < uf_params_n(all); i++) {
        const uf_param *p = uf_params_at(all, i);
        if (!strncmp(p->name, prefix, strlen(prefix))) continue;
        uf_param *q = uf_params_add(some, p->name, p->shape, UF_INIT_ZERO);
        assert_non_null(q);
        memcpy(q->value, p->value, uf_count(p->shape) * sizeof *p->value);
    }
    assert_int_equal(uf_weights_write(ctx, path, some, &(uf_weights_save){.dtype = "F32", .overwrite = true}), UF_OK);
    uf_params_close(&some);
}

/* Weights of fewer recurrent blocks go on as they are: what a new block adds is scaled by 0. Without another part they are refused. */
static void test_training_grows(void **state) {
    (void)state;
    uf_ctx *ctx = open_ctx();
    char path[256];
    uf_params *set[2];
    for (int k = 0; k < 2; k++) {
        uf_graph *g = NULL;
        assert_int_equal(uf_params_open(&set[k], ctx, (uint64_t)k + 1), UF_OK);
        assert_int_equal(uf_graph_open(&g, ctx, set[k]), UF_OK);
        assert_int_equal(uf_model_speech.build(g, (uf_shape){1, 1, 1, 4096}, &(uf_built){0}), UF_OK);
        uf_graph_close(&g);
    }
    snprintf(path, sizeof path, "%s/fewer.safetensors", folder);
    write_without(ctx, set[0], "block.2.", path);
    uf_weights *w = NULL;
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    assert_int_equal(uf_speech_init(ctx, w, set[1]), UF_OK);
    uf_weights_close(&w);
    int silent = 0;
    for (int i = 0; i < uf_params_n(set[1]); i++) {
        const uf_param *p = uf_params_at(set[1], i), *q = uf_params_find(set[0], p->name);
        if (!in_block(p->name, 2)) assert_memory_equal(p->value, q->value, uf_count(p->shape) * sizeof *p->value);
        if (!in_block(p->name, 2) || !strstr(p->name, ".mix.bn.gamma")) continue;
        silent++;
        for (size_t j = 0; j < uf_count(p->shape); j++) assert_true(p->value[j] == 0);
    }
    assert_int_equal(silent, 2); /* along time and along the bands */
    uf_params *wide = NULL; /* the network of the whole band begins with those below 8 kHz as well */
    uf_graph *g = NULL;
    assert_int_equal(uf_params_open(&wide, ctx, 3), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, wide), UF_OK);
    assert_int_equal(uf_model_speech_wide.build(g, (uf_shape){1, 1, 1, 12288}, &(uf_built){0}), UF_OK);
    uf_graph_close(&g);
    write_without(ctx, set[0], "nothing", path);
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    assert_int_equal(uf_speech_init(ctx, w, wide), UF_OK);
    uf_weights_close(&w);
    for (int i = 0; i < uf_params_n(set[0]); i++) {
        const uf_param *p = uf_params_at(set[0], i), *q = uf_params_find(wide, p->name);
        assert_memory_equal(q->value, p->value, uf_count(p->shape) * sizeof *p->value);
    }
    uf_params_close(&wide);
    write_without(ctx, set[0], "enc.down", path);
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    assert_int_equal(uf_speech_init(ctx, w, set[1]), UF_EDATA);
    uf_weights_close(&w);
    for (int k = 0; k < 2; k++) uf_params_close(&set[k]);
    uf_ctx_close(&ctx);
}

/* With equal masks and equal targets each output has the same loss: the second counts as much as the recipe says, in loss and gradient. */
static void test_second_loss(void **state) {
    (void)state;
    enum { N = 4096 };
    static float wave[2][N];
    float share[2] = {0, .25f}, loss[2], l1[UF_MAX_LOSSES] = {0};
    for (int i = 0; uf_losses[i]; i++) l1[i] = !strcmp(uf_losses[i]->name, "l1") || !strcmp(uf_losses[i]->name, "spectrum");
    uf_recipe r[2];
    uf_ctx *ctx = open_ctx();
    uf_params *set[2];
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++) wave[k][i] = .1f * uf_gaussian(1, (uint64_t)k, (uint64_t)i);
    for (int k = 0; k < 2; k++) {
        uf_network n;
        r[k] = (uf_recipe){.model = (char *)"speech", .room = &share[k]};
        uf_network_options o = {.r = &r[k], .losses = l1, .batch = 1, .size = N, .train = true};
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
    assert_true(fabsf(loss[1] / loss[0] - 1 - share[1]) < 1e-3f);
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

/* The frozen network that the loss `feature` looks through hears the result and what was wanted; where they are the same it costs nothing. */
static void test_feature_loss(void **state) {
    (void)state;
    enum { N = 4096 };
    static float wave[2][N];
    float none = 0, loss[2], feature[UF_MAX_LOSSES] = {0};
    uf_ctx *ctx = open_ctx();
    uf_params *set, *judge;
    uf_recipe r = {.model = (char *)"speech", .room = &none};
    uf_network n;
    feature[uf_loss_index("feature")] = 1;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++) wave[k][i] = .1f * uf_gaussian(1, (uint64_t)k, (uint64_t)i);
    assert_int_equal(uf_params_open(&set, ctx, 5), UF_OK);
    assert_int_equal(uf_params_open(&judge, ctx, 6), UF_OK);
    assert_int_equal(uf_network_open(&n, ctx, &(uf_network_options){.r = &r, .losses = feature, .params = set, .judge = judge, .batch = 1, .size = N, .train = true}), UF_OK);
    for (int k = 0; k < 2; k++) { /* against the noise, then against what the network made of it */
        assert_int_equal(uf_network_set(&n, &(uf_batch){.noisy = wave[0], .voice = wave[1]}), UF_OK);
        assert_int_equal(uf_plan_run(n.plan), UF_OK);
        assert_int_equal(uf_plan_get(n.plan, n.loss, &loss[k]), UF_OK);
        assert_int_equal(uf_plan_get(n.plan, n.out, wave[1]), UF_OK);
        if (k) continue; /* nothing to learn */
        uf_params_zero_grad(set);
        assert_int_equal(uf_plan_backward(n.plan), UF_OK);
    }
    assert_true(loss[0] > 1e-3f && loss[1] < .05f * loss[0]);
    double learns = 0;
    const uf_param *p = uf_params_find(set, "enc.in.w"), *q = uf_params_find(judge, "enc.in.w");
    for (size_t k = 0; k < uf_count(p->shape); k++) learns += fabs((double)p->grad[k]);
    assert_true(learns > 0 && q->frozen);
    uf_network_close(&n);
    uf_params_close(&set);
    uf_params_close(&judge);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_dynamic_range),
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_mixture_of_rooms),
        cmocka_unit_test(test_mixture_with_hiss),
        cmocka_unit_test(test_mixture_quiet),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_training_begins_without_room),
        cmocka_unit_test(test_training_grows),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_second_loss),
        cmocka_unit_test(test_feature_loss),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

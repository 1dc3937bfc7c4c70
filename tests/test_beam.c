/* Beams: lengths, places, pieces, microphones that are silent, wild or gone. */
#include "beam.h"
#include "fft.h"
#include "models.h"
#include "mvdr.h"
#include "reference.h"
#include "sound_measure.h"
#include "sound_reader.h"
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
#include "voice_of_sorts.h"

/* ---- the stream ---------------------------------------------------------------------------------------------------------------- */

/* A network that has learnt nothing, as a file: it lets most through, and always the same. */
static const char *weights(uf_ctx *ctx) {
    static char path[256];
    uf_params *set = NULL;
    uf_graph *g = NULL;
    uf_built b = {0};
    snprintf(path, sizeof path, "%s/random.safetensors", folder);
    if (!access(path, F_OK)) return path;
    assert_int_equal(uf_params_open(&set, ctx, 5), UF_OK);
    assert_int_equal(uf_graph_open(&g, ctx, set), UF_OK);
    assert_int_equal(uf_model_speech.build(g, (uf_shape){1, 1, 1, 4096}, &b), UF_OK);
    uf_param *head = uf_params_find(set, "head.w");
    for (size_t i = 0; i < uf_count(head->shape); i++) head->value[i] *= .05f;
    float *bias = uf_params_find(set, "head.b")->value;
    for (int i = 0; i < 8; i++) bias[i] = i % 2 ? 0.f : .9f;
    assert_int_equal(uf_weights_write(ctx, path, set, &(uf_weights_save){.overwrite = true}), UF_OK);
    uf_graph_close(&g);
    uf_params_close(&set);
    return path;
}

static float *told; /* (mics, n_told): shares of seconds, when somebody asks */
static int n_told;
static bool alone;  /* microphone 1 is: 0 is away all the time */

/* n samples of each, pushed `block` by block; microphone 1 is away from gone[0] to gone[1]. */
static int beam(uf_ctx *ctx, uf_beam_options o, int block, float *const *x, float *y, int n, const int *gone) {
    uf_beam *b = NULL;
    int done = 0, got;
    if (!o.weights) o.weights = weights(ctx);
    if (uf_beam_open(&b, ctx, &o) < 0) fail_msg("%s", uf_ctx_error(ctx));
    for (int at = 0; at < n;) {
        const float *from[32];
        float weight[32];
        int some = n - at < block ? n - at : block;
        for (int k = 0; gone && k < 2; k++)
            if (at < gone[k] && at + some > gone[k]) some = gone[k] - at;
        for (int m = 0; m < o.n_mics; m++) {
            from[m] = x[m] + at;
            weight[m] = !(gone && m == 1 && at >= gone[0] && at < gone[1]) && !(alone && !m);
        }
        if (uf_beam_push(b, from, weight, some) < 0) fail_msg("%s", uf_ctx_error(ctx));
        at += some;
        while ((got = uf_beam_pull(b, y + done, n - done < 777 ? n - done : 777)) > 0) done += got;
    }
    assert_int_equal(uf_beam_push(b, NULL, NULL, 0), UF_OK);
    while (done < n && (got = uf_beam_pull(b, y + done, n - done < 777 ? n - done : 777)) > 0) done += got;
    assert_int_equal(done, n);
    assert_int_equal(uf_beam_pull(b, y, 1), 0);
    int reference = uf_beam_reference(b);
    for (int m = 0; told && m < o.n_mics; m++)
        for (int s = 0; s < n_told; s++) told[m * n_told + s] = uf_beam_weight(b, m, s);
    uf_beam_close(&b);
    return reference;
}

/* Clicks, one a thousandth of a second at the sixteenth sample of each, come out where they went in, at every rate and length. */
static void test_places(void **state) {
    (void)state;
    static const struct { int rate, mics, n; bool mix; } c[] = {{16000, 3, 40000, false}, {48000, 2, 60000, false}, {8000, 2, 9000, false}, {44100, 2, 30011, false},
                                                                {16000, 2, 1, false}, {16000, 2, 0, false}, {16000, 1, 5000, false}, {16000, 3, 40000, true},
                                                                {48000, 2, 50001, true}, {44100, 1, 20000, true}, {16000, 2, 1, true}};
    uf_ctx *ctx = open_ctx();
    for (int i = 0; i < UF_LEN(c); i++) {
        int n = c[i].n, every = c[i].rate / 1000, lag = 99;
        float *x = sound(n), *y = sound(n), *all[3] = {x, x, x};
        double best = -1;
        for (int s = 16; s < n; s += every) x[s] = .2f * (1 + uf_uniform(1, 2, (uint64_t)s)); /* no two alike, else a shift by one is none */
        beam(ctx, (uf_beam_options){.n_mics = c[i].mics, .rate = c[i].rate, .reference = -1, .home = -1, .mix_only = c[i].mix}, 4096, all, y, n, NULL);
        for (int d = -40; d <= 40; d++) {
            double dot = 0;
            for (int s = 40; s < n - 40; s++) dot += (double)x[s] * (double)y[s + d];
            if (dot > best) best = dot, lag = d;
        }
        if (n > 100) assert_int_equal(lag, 0);
        for (int s = 0; s < n; s++) {
            assert_true(isfinite(y[s]));
            if (c[i].mix && fabsf(y[s] - x[s]) > 1e-5f) fail_msg("case %d, sample %d: %g instead of %g", i, s, (double)y[s], (double)x[s]);
        }
        free(x);
        free(y);
    }
    uf_ctx_close(&ctx);
}

/* Over several stretches, whatever the pieces in which it comes, with a microphone that is away for a while, wild numbers, and a silent one. */
static void test_pieces(void **state) {
    (void)state;
    enum { N = 140000 };
    static const int block[] = {N, 999}, gone[] = {60001, 110002};
    uf_ctx *ctx = open_ctx();
    for (int mix = 0; mix < 2; mix++) {
        float *x[3], *y[2];
        for (int m = 0; m < 3; m++) {
            x[m] = sound(N);
            for (int i = 0; m < 2 && i < N; i++) x[m][i] = speak(i / 16000.) * (float)(m + 1) + .01f * uf_gaussian(1, (uint64_t)m, (uint64_t)i);
        }
        x[0][777] = NAN;
        x[2][100000] = INFINITY;
        x[0][120000] = 3e38f;
        for (int k = 0; k < 2; k++) {
            y[k] = sound(N);
            beam(ctx, (uf_beam_options){.n_mics = 3, .rate = 16000, .reference = -1, .home = -1, .mix_only = mix}, block[k], x, y[k], N, gone);
            if (k) assert_memory_equal(y[0], y[k], N * sizeof(float));
        }
        if (!mix)
            for (int i = 0; i < N; i++) assert_true(isfinite(y[0][i]) && fabsf(y[0][i]) < 20);
        for (int m = 0; m < 3; m++) free(x[m]);
        for (int k = 0; k < 2; k++) free(y[k]);
    }
    uf_ctx_close(&ctx);
}

/* While the reference is away, the other tells what it would have heard: as loud as before, though that one hears a quarter of it. */
static void test_reference_away(void **state) {
    (void)state;
    enum { N = 60000 };
    static const int gone[] = {28000, 50000};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N);
    double there[2] = {0}, away[2] = {0};
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < N; i++) x[m][i] = (m ? 1.f : .25f) * speak(i / 16000.) + .003f * uf_gaussian(1, (uint64_t)m, (uint64_t)i);
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = 16000, .reference = 1, .keep_room = true}, 4096, x, y, N, gone);
    for (int i = 2000; i < N - 2000; i++) {
        double *to = i < gone[0] - 2000 || i > gone[1] + 2000 ? there : i > gone[0] + 2000 && i < gone[1] - 2000 ? away : NULL;
        if (!to) continue;
        to[0] += (double)y[i] * (double)speak(i / 16000.); /* of the voice: the quieter one's noise comes up with it */
        to[1] += pow((double)speak(i / 16000.), 2);
    }
    double db[2] = {20 * log10(there[0] / there[1]), 20 * log10(away[0] / away[1])};
    if (!(fabs(db[0]) < 2 && fabs(db[1]) < 3)) fail_msg("%.1f dB while it is there, %.1f dB while it is not", db[0], db[1]);
    for (int m = 0; m < 2; m++) free(x[m]);
    free(y);
    uf_ctx_close(&ctx);
}

/* The only one that is there has a hole of 25 ms: that is all that is lost. (It took a second and a half with it.) */
static void test_hole_alone(void **state) {
    (void)state;
    enum { N = 60000 };
    static const int gone[] = {28000, 28400};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N);
    double dot = 0, size = 0;
    for (int i = 0; i < N; i++) x[1][i] = .2f * speak(i / 16000.) + .1f * uf_gaussian(2, 1, (uint64_t)i);
    alone = true;
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = 16000, .reference = -1, .keep_room = true}, 4096, x, y, N, gone);
    alone = false;
    for (int i = 18000; i < 38000; i++) {
        if (i > gone[0] - 2000 && i < gone[1] + 2000) continue;
        dot += (double)y[i] * (double)x[1][i];
        size += pow((double)x[1][i], 2);
    }
    if (!(fabs(20 * log10(fabs(dot) / size + 1e-9)) < 1)) fail_msg("%.1f dB around a hole", 20 * log10(fabs(dot) / size + 1e-9));
    for (int m = 0; m < 2; m++) free(x[m]);
    free(y);
    uf_ctx_close(&ctx);
}

/* A hole of 25 ms in the reference costs 0.1 s to each side, not the block that it lies in and its neighbours. */
static void test_hole(void **state) {
    (void)state;
    enum { N = 60000 };
    static const int gone[] = {28000, 28400};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y[2] = {sound(N), sound(N)};
    for (int i = 0; i < N; i++) {
        x[0][i] = .3f * speak((i - 40) / 16000.) + .2f * speak((i - 163) / 16000.) + .05f * uf_gaussian(2, 0, (uint64_t)i);
        x[1][i] = speak(i / 16000.) + .1f * uf_gaussian(2, 1, (uint64_t)i);
    }
    for (int k = 0; k < 2; k++) beam(ctx, (uf_beam_options){.n_mics = 2, .rate = 16000, .reference = 1, .keep_room = true}, 4096, x, y[k], N, k ? gone : NULL);
    for (int i = 0; i < N; i++)
        if (i > gone[0] - 1600 && i < gone[1] + 1600) y[0][i] = y[1][i] = 0;
    double same = uf_si_sdr(y[0] + 12000, y[1] + 12000, 34000);
    if (!(same > 20)) fail_msg("around a hole the result is %.1f dB like the one without it", same);
    for (int m = 0; m < 2; m++) {
        free(x[m]);
        free(y[m]);
    }
    uf_ctx_close(&ctx);
}

/* The best one begins only after a while: until then the other is heard, as loud. (Covariances with one that is away made it 20 dB too quiet.) */
static void test_late_reference(void **state) {
    (void)state;
    enum { N = 60000 };
    static const int gone[] = {0, 40000};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N);
    double dot = 0, size = 0;
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < N; i++) x[m][i] = (m ? 1.f : .5f) * speak(i / 16000.) + .003f * uf_gaussian(2, (uint64_t)m, (uint64_t)i);
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = 16000, .reference = 1, .keep_room = true}, 4096, x, y, N, gone);
    for (int i = 2000; i < gone[1] - 4000; i++) {
        dot += (double)y[i] * (double)speak(i / 16000.);
        size += pow((double)speak(i / 16000.), 2);
    }
    if (!(fabs(20 * log10(dot / size)) < 3)) fail_msg("%.1f dB before the reference begins", 20 * log10(dot / size));
    for (int m = 0; m < 2; m++) free(x[m]);
    free(y);
    uf_ctx_close(&ctx);
}

/* Who has brought what: shares add to 1, are 0 where a microphone is away, and most with the one that hears the voice best and is the reference; the
 * same for any number of threads and whatever the pieces. */
static void test_shares(void **state) {
    (void)state;
    enum { N = 140000, SECONDS = 9 };
    static const int gone[] = {48000, 96000}, threads[] = {1, 2}, block[] = {N, 999};
    float *x[3], *y = sound(N), first[3][SECONDS];
    for (int m = 0; m < 3; m++) {
        x[m] = sound(N);
        for (int i = 0; i < N; i++) x[m][i] = speak(i / 16000.) + (m == 1 ? .002f : .05f) * uf_gaussian(4, (uint64_t)m, (uint64_t)i);
    }
    for (int mix = 0; mix < 2; mix++)
        for (int k = 0; k < 2; k++) {
            uf_ctx *ctx = open_ctx();
            uf_ctx_set_threads(ctx, threads[k]);
            float share[3][SECONDS];
            told = &share[0][0];
            n_told = SECONDS;
            beam(ctx, (uf_beam_options){.n_mics = 3, .rate = 16000, .reference = 1, .mix_only = mix}, block[k], x, y, N, gone);
            told = NULL;
            for (int s = 0; s < SECONDS; s++) {
                double sum = (double)share[0][s] + (double)share[1][s] + (double)share[2][s];
                if (!(fabs(sum - 1) < 1e-4)) fail_msg("shares of second %d add to %g", s, sum);
                if ((s < 2 || s > 6) && !(share[1][s] > share[0][s] && share[1][s] > share[2][s])) fail_msg("the reference has %g of second %d", (double)share[1][s], s);
                if (s > 2 && s < 6 && share[1][s] != 0) fail_msg("away, and yet %g of second %d", (double)share[1][s], s);
            }
            for (int s = 0; s < SECONDS; s++) printf("%d %d: %.3f %.3f %.3f\n", mix, s, (double)share[0][s], (double)share[1][s], (double)share[2][s]);
            if (k) assert_memory_equal(first, share, sizeof share);
            memcpy(first, share, sizeof share);
            uf_ctx_close(&ctx);
        }
    for (int m = 0; m < 3; m++) free(x[m]);
    free(y);
}

/* Alike, all silent, and as many as there may be; and what is asked for cannot be more. */
static void test_counts(void **state) {
    (void)state;
    enum { N = 16000 };
    uf_ctx *ctx = open_ctx();
    float *x[32], *y = sound(N);
    uf_beam *b = NULL;
    for (int m = 0; m < 32; m++) x[m] = sound(N);
    for (int mics = 1; mics <= 32; mics += 31) {
        for (int m = 0; m < 32; m++)
            for (int i = 0; i < N; i++) x[m][i] = speak(i / 16000.);
        beam(ctx, (uf_beam_options){.n_mics = mics, .rate = 16000, .reference = mics - 1, .keep_room = true}, 5000, x, y, N, NULL);
        assert_true(uf_si_sdr(x[0], y, N) > 15);
        for (int m = 0; m < 32; m++) memset(x[m], 0, N * sizeof(float));
        beam(ctx, (uf_beam_options){.n_mics = mics, .rate = 16000, .reference = -1, .home = -1}, 5000, x, y, N, NULL);
        for (int i = 0; i < N; i++) assert_true(y[i] == 0.f);
    }
    assert_int_equal(uf_beam_open(&b, ctx, &(uf_beam_options){.n_mics = 33, .rate = 16000}), UF_EUNSUPPORTED);
    assert_int_equal(uf_beam_open(&b, ctx, &(uf_beam_options){.n_mics = 2, .rate = 16000, .reference = 2}), UF_EUNSUPPORTED);
    for (int m = 0; m < 32; m++) free(x[m]);
    free(y);
    uf_ctx_close(&ctx);
}

/* One recording at 16 kHz as `clean` makes it. */
static void clean(uf_ctx *ctx, const char *path, const float *x, int n, float *y) {
    uf_voice *v = NULL;
    assert_int_equal(uf_voice_open(&v, ctx, &(uf_voice_options){.weights = path, .rate = 16000, .channels = 1, .wet = 1, .again = true}), UF_OK);
    assert_int_equal(uf_voice_push(v, &x, n), UF_OK);
    assert_int_equal(uf_voice_push(v, NULL, 0), UF_OK);
    assert_int_equal(uf_voice_pull(v, &y, n), n);
    uf_voice_close(&v);
}

/* One microphone by the voice, others that hear little but different noises: with the shipped network the merge is at least as good as what `clean`
 * makes of the best microphone; with several that hear the voice it is better. */
static void test_never_worse(void **state) {
    (void)state;
    enum { N = 80000 };
    static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";
    uf_ctx *ctx = open_ctx();
    float *x[3], *voice = sound(N), *single = sound(N), *merged = sound(N);
    for (int i = 0; i < N; i++) voice[i] = speak(i / 16000.);
    for (int m = 0; m < 3; m++) x[m] = sound(N);
    for (int bad = 0; bad < 2; bad++) {
        for (int m = 0; m < 3; m++)
            for (int i = 0; i < N; i++) {
                float hiss = .06f * uf_gaussian(1, (uint64_t)m, (uint64_t)i) * (bad && m ? 4.f : 1.f);
                x[m][i] = (m && bad ? .02f : 1.f) * voice[i] + hiss;
            }
        clean(ctx, path, x[0], N, single);
        int reference = beam(ctx, (uf_beam_options){.weights = path, .n_mics = 3, .rate = 16000, .reference = -1, .home = -1}, 16000, x, merged, N, NULL);
        double one = uf_si_sdr(voice, single, N), all = uf_si_sdr(voice, merged, N);
        if (bad) assert_int_equal(reference, 0);
        if (!(all > one + (bad ? -.2 : 1))) fail_msg("%s others: %.2f dB instead of %.2f", bad ? "bad" : "good", all, one);
    }
    for (int m = 0; m < 3; m++) free(x[m]);
    free(voice);
    free(single);
    free(merged);
    uf_ctx_close(&ctx);
}

/* Six in a room with next to no noise: what they make of the voice together is far better than what is made of one. */
static void test_many(void **state) {
    (void)state;
    enum { N = 80000, MANY = 6, ECHOES = 60 };
    static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";
    uf_ctx *ctx = open_ctx();
    float *x[MANY], *voice = sound(N), *single = sound(N), *merged = sound(N);
    for (int i = 0; i < N; i++) voice[i] = speak(i / 16000.);
    for (int m = 0; m < MANY; m++) {
        x[m] = sound(N);
        for (int i = 0; i < N; i++) x[m][i] = voice[i] + .003f * uf_gaussian(1, (uint64_t)m, (uint64_t)i);
        for (int e = 0; e < ECHOES; e++) {
            int late = 800 + (int)(6000 * uf_uniform(9, (uint64_t)m, (uint64_t)e));
            float gain = .12f * expf(-(float)late / 2500) * uf_gaussian(8, (uint64_t)m, (uint64_t)e);
            for (int i = late; i < N; i++) x[m][i] += gain * voice[i - late];
        }
    }
    clean(ctx, path, x[0], N, single);
    beam(ctx, (uf_beam_options){.weights = path, .n_mics = MANY, .rate = 16000, .reference = 0, .home = -1}, 16000, x, merged, N, NULL);
    double one = uf_si_sdr(voice, single, N), all = uf_si_sdr(voice, merged, N);
    if (!(all > one + 5)) fail_msg("%.1f dB, one alone %.1f", all, one);
    for (int m = 0; m < MANY; m++) free(x[m]);
    free(voice);
    free(single);
    free(merged);
    uf_ctx_close(&ctx);
}

/* Whoever wants to keep the room still wants the noise gone: weights that have learnt that take it. */
static void test_room_without_noise(void **state) {
    (void)state;
    enum { N = 80000 };
    static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *voice = sound(N), *y = sound(N);
    for (int i = 0; i < N; i++) {
        voice[i] = speak(i / 16000.);
        for (int m = 0; m < 2; m++) x[m][i] = voice[i] + .03f * uf_gaussian(5, (uint64_t)m, (uint64_t)i);
    }
    beam(ctx, (uf_beam_options){.weights = path, .n_mics = 2, .rate = 16000, .reference = 0, .keep_room = true}, 16000, x, y, N, NULL);
    double before = uf_si_sdr(voice, x[0], N), after = uf_si_sdr(voice, y, N);
    if (!(after > before + 6)) fail_msg("%.1f dB, from %.1f", after, before); /* two microphones alone give 3 */
    free(x[0]);
    free(x[1]);
    free(voice);
    free(y);
    uf_ctx_close(&ctx);
}

/* Energy from 2.2 to 3.3 kHz, at 16 kHz. */
static double above_band(const float *x, int n) {
    enum { SIZE = 1024 };
    uf_fft f;
    double sum = 0;
    assert_true(uf_fft_open(&f, SIZE));
    for (int at = 0; at + SIZE <= n; at += SIZE) {
        for (int i = 0; i < SIZE; i++) f.time[i] = x[at + i] * (float)(.5 - .5 * cos(2 * M_PI * i / SIZE));
        uf_fft_forward(&f);
        for (int b = 2200 * SIZE / 16000; b < 3300 * SIZE / 16000; b++) sum += (double)f.bins[b][0] * (double)f.bins[b][0] + (double)f.bins[b][1] * (double)f.bins[b][1];
    }
    uf_fft_close(&f);
    return sum;
}

/* The reference ends at 2 kHz: what is above comes from the other, as loud as if the reference had it. */
static void test_band(void **state) {
    (void)state;
    enum { N = 80000 };
    uf_ctx *ctx = open_ctx();
    float *x[2] = {NULL, sound(N)}, *voice = sound(N), *y = sound(N);
    uf_sound low = {0}, back = {0};
    for (int i = 0; i < N; i++) {
        voice[i] = speak(i / 16000.);
        x[1][i] = .5f * voice[i] + .002f * uf_gaussian(5, 1, (uint64_t)i);
    }
    assert_int_equal(uf_sound_at_rate(ctx, &(uf_sound){voice, N, 16000}, 4000, &low), UF_OK);
    assert_int_equal(uf_sound_at_rate(ctx, &low, 16000, &back), UF_OK);
    x[0] = sound(N);
    memcpy(x[0], back.x, (back.n < N ? back.n : N) * sizeof *back.x);
    for (int i = 0; i < N; i++) x[0][i] += .0005f * uf_gaussian(5, 0, (uint64_t)i);
    for (int told_so = 0; told_so < 2; told_so++) {
        double want = above_band(voice, N), before = above_band(x[0], N);
        beam(ctx, (uf_beam_options){.n_mics = 2, .rate = 16000, .reference = 0, .band = told_so ? (double[]){2000, 8000} : NULL}, 16000, x, y, N, NULL);
        double is = 10 * log10(above_band(y, N) / want);
        if (told_so ? !(is > -3 && is < 3) : !(is < -6)) fail_msg("%s its band: %.1f dB above it, %.1f in the reference", told_so ? "knowing" : "without", is, 10 * log10(before / want));
    }
    free(low.x);
    free(back.x);
    free(x[0]);
    free(x[1]);
    free(voice);
    free(y);
    uf_ctx_close(&ctx);
}

/* Two people at a table, each by a microphone of his own which hardly hears the other: the result follows who speaks, and both are about as loud. */
static void test_follows(void **state) {
    (void)state;
    enum { STRETCH = 2 * UF_REFERENCE_STRETCH, N = 2 * STRETCH };
    static const char path[] = UNFADE_SOURCE_DIR "/models/weights/speech.safetensors";
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N), *voice = sound(N);
    double loud[2] = {0};
    for (int i = 0; i < N; i++) {
        voice[i] = speak(i / 16000.);
        for (int m = 0; m < 2; m++) x[m][i] = voice[i] * (i / STRETCH == m ? 1.f : .03f) + .02f * uf_gaussian(4, (uint64_t)m, (uint64_t)i);
    }
    int reference = beam(ctx, (uf_beam_options){.weights = path, .n_mics = 2, .rate = 16000, .reference = -1, .home = 0}, 16000, x, y, N, NULL);
    assert_int_equal(reference, 1);
    for (int i = 0; i < N; i++) loud[i / STRETCH] += (double)y[i] * (double)y[i];
    if (!(fabs(10 * log10(loud[1] / loud[0])) < 1)) fail_msg("the second is %.1f dB louder", 10 * log10(loud[1] / loud[0]));
    double sdr = uf_si_sdr(voice + STRETCH + STRETCH / 2, y + STRETCH + STRETCH / 2, STRETCH / 2);
    if (!(sdr > 10)) fail_msg("the second: %.1f dB", sdr);
    free(x[0]);
    free(x[1]);
    free(y);
    free(voice);
    uf_ctx_close(&ctx);
}

/* Music: other levels come to the reference's, what one alone has is kept out where it does not agree, and a gap of one is filled by others. */
static void test_mix(void **state) {
    (void)state;
    enum { N = 48000 * 6 };
    static const int gone[] = {100000, 150000};
    uf_ctx *ctx = open_ctx();
    float *x[3], *y = sound(N);
    for (int m = 0; m < 3; m++) {
        x[m] = sound(N);
        for (int i = 0; i < N; i++) x[m][i] = (m == 1 ? .5f : 1.f) * (speak(i / 48000.) + .02f * uf_gaussian(1, 9, (uint64_t)i)) + .005f * uf_gaussian(1, (uint64_t)m, (uint64_t)i);
    }
    beam(ctx, (uf_beam_options){.n_mics = 3, .rate = 48000, .reference = 0, .mix_only = true}, 4096, x, y, N, gone);
    double error[2] = {0}, all = 0;
    for (int i = 0; i < N; i++) {
        double want = (double)speak(i / 48000.) + .02 * (double)uf_gaussian(1, 9, (uint64_t)i);
        error[0] += pow((double)x[0][i] - want, 2);
        error[1] += pow((double)y[i] - want, 2);
        all += want * want;
    }
    if (!(error[1] < .6 * error[0])) fail_msg("noise of %.1f dB became %.1f", 10 * log10(error[0] / all), 10 * log10(error[1] / all));
    for (int telephone = 0; telephone < 2; telephone++) { /* the loudest decides; not a telephone, where others hear more */
        for (int i = 0; i < N; i++) x[1][i] *= telephone ? 1 : 4;
        uf_beam_options o = {.n_mics = 3, .rate = 48000, .reference = -1, .mix_only = true, .band = telephone ? (double[]){8000, 3500, 20000} : NULL};
        int reference = beam(ctx, o, 4096, x, y, N, NULL);
        assert_int_equal(reference == 1, !telephone);
    }
    for (int m = 0; m < 3; m++) free(x[m]);
    free(y);
    uf_ctx_close(&ctx);
}

/* Amplitude of a wave of `hertz` in x. */
static double amplitude(const float *x, int n, int rate, double hertz) {
    uf_complex sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * cexp(-2 * M_PI * I * fmod(hertz * i / rate, 1));
    return 2 * cabs(sum) / n;
}

/* What is above the network's band comes from the microphone that has it, when the reference has none. */
static void test_highs(void **state) {
    (void)state;
    enum { N = 96000, RATE = 48000 };
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N);
    for (int i = 0; i < N; i++) {
        x[0][i] = (float)(.1 * sin(2 * M_PI * fmod(700. * i / RATE, 1)) + .03 * sin(2 * M_PI * fmod(5000. * i / RATE, 1)));
        x[1][i] = x[0][i] + (float)(.02 * sin(2 * M_PI * fmod(12000. * i / RATE, 1)));
    }
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = RATE, .reference = 0, .keep_room = true}, 4096, x, y, N, NULL);
    double high = amplitude(y, N, RATE, 12000), low = amplitude(y, N, RATE, 700);
    if (!(high > .01 && high < .03 && low > .08 && low < .12)) fail_msg("12 kHz: %.4f, 700 Hz: %.4f", high, low);
    memcpy(x[1], x[0], N * sizeof(float));
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = RATE, .reference = 0, .keep_room = true}, 4096, x, y, N, NULL);
    assert_true(amplitude(y, N, RATE, 12000) < 1e-4); /* nobody has any: none is made up */
    free(x[0]);
    free(x[1]);
    free(y);
    uf_ctx_close(&ctx);
}

/* Where the microphone of the highs is away, another one's are taken; its going and coming, at which its sound jumps, is not heard as clicks up there; and its
 * silence is not learnt from, or the filter would take what both hear for noise of the other's and turn it down. */
static void test_highs_go_on(void **state) {
    (void)state;
    enum { N = 144000, RATE = 48000 };
    static const int gone[] = {50003, 95007};
    uf_ctx *ctx = open_ctx();
    float *x[2] = {sound(N), sound(N)}, *y = sound(N);
    for (int i = 0; i < N; i++) {
        double low = .1 * cos(2 * M_PI * fmod(700. * i / RATE, 1)) + .03 * sin(2 * M_PI * fmod(5000. * i / RATE, 1));
        for (int m = 0; m < 2; m++) x[m][i] = (float)(low + .02 * sin(2 * M_PI * fmod((m ? 12000. : 13000.) * i / RATE, 1)));
    }
    beam(ctx, (uf_beam_options){.n_mics = 2, .rate = RATE, .reference = 1, .keep_room = true}, 4096, x, y, N, gone);
    double before = amplitude(y + 24000, 19200, RATE, 12000), own = amplitude(y + 60000, 28800, RATE, 12000), other = amplitude(y + 60000, 28800, RATE, 13000), after = amplitude(y + 105600, 19200, RATE, 12000);
    if (!(fabs(before - .02) < .001 && own < .001 && fabs(other - .02) < .002 && fabs(after - .02) < .001)) fail_msg("12 kHz before %.4f, meanwhile %.4f (13 kHz %.4f), after %.4f", before, own, other, after);
    for (int k = 0; k < 2; k++) {
        double click = 0;
        for (int i = 0; i < 192; i++) y[gone[k] - 96 + i] *= (float)(.5 - .5 * cos(2 * M_PI * i / 192));
        for (double hertz = 15000; hertz < 20000; hertz += 250) click = fmax(click, amplitude(y + gone[k] - 96, 192, RATE, hertz));
        if (!(click < 1e-5)) fail_msg("a click of %.6f where it %s", click, k ? "comes back" : "goes");
    }
    free(x[0]);
    free(x[1]);
    free(y);
    uf_ctx_close(&ctx);
}

/* A loud tone below says nothing of a soft noise above. */
static void test_gain_above(void **state) {
    (void)state;
    enum { N = 4096 };
    float heard[N], made[N];
    for (int i = 0; i < N; i++) {
        float low = (float)(.5 * sin(2 * M_PI * 500 * i / 16000)), high = (float)(.005 * sin(2 * M_PI * 7100 * i / 16000));
        heard[i] = low + high;
        made[i] = low + .25f * high;
    }
    for (int at = 0; at < N; at += 256) assert_true(fabsf(uf_voice_gain_above(heard, made, at, at + 256) - .25f) < .02f);
    memset(heard, 0, sizeof heard);
    assert_true(uf_voice_gain_above(heard, heard, 0, N) == 1.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_never_worse),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_mix),
        cmocka_unit_test(test_highs),
        cmocka_unit_test(test_highs_go_on),
        cmocka_unit_test(test_gain_above),
        cmocka_unit_test(test_room_without_noise),
        cmocka_unit_test(test_band),
        cmocka_unit_test(test_follows),
        cmocka_unit_test(test_reference_away),
        cmocka_unit_test(test_hole),
        cmocka_unit_test(test_hole_alone),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_late_reference),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

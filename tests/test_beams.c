/* What the network behind the merge's beam learns from, and how it begins. */
#include "models.h"
#include "sounds.h"

#include <math.h>
#include <setjmp.h>
#include <sndfile.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctx.h"
#include "folder.h"

enum { RATE = 16000 };

/* Channel c is .1 * (c + 1), and the voice as it should be rises over it. */
static void write_channels(const char *name, int channels, int n) {
    char path[300];
    SF_INFO info = {.samplerate = RATE, .channels = channels, .format = SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    SNDFILE *f = sf_open(path, SFM_WRITE, &info);
    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        float frame[8];
        for (int c = 0; c < channels; c++) frame[c] = .1f * (float)(c + 1);
        if (channels > UF_BEAMS_VOICE) frame[UF_BEAMS_VOICE] += .2f * (float)i / (float)n;
        assert_int_equal(sf_writef_float(f, frame, 1), 1);
    }
    sf_close(f);
}

/* Each stretch is a pure function of its number, of either round of one file, all channels equally loud; beside it there are holes now and then. */
static void test_stretches(void **state) {
    (void)state;
    enum { N = 4096, FILE_N = 5 * N, DRAWS = 200 };
    static float heard[2][UF_BEAMS_HEARD * N], voice[2][N];
    uf_ctx *ctx = open_ctx();
    uf_beams *b = NULL;
    write_channels("a.wav", UF_BEAMS_CHANNELS, FILE_N);
    assert_int_equal(uf_beams_open(&b, ctx, &(uf_source){.path = folder}, 1), UF_OK);
    int rounds[2] = {0, 0}, holes = 0;
    double first = 1, last = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        assert_int_equal(uf_beams_pick(b, 7, i, N, heard[0], voice[0]), UF_OK);
        float gain = (voice[0][N - 1] - voice[0][0]) / (.2f * (N - 1) / FILE_N), at = voice[0][0] / gain - .3f;
        assert_true(gain > .31f && gain < 3.2f);
        if (at < first) first = at;
        if (at > last) last = at;
        int round = heard[0][0] > .45f * gain;
        rounds[round]++;
        assert_true(fabsf(heard[0][N / 2] - .1f * gain * (float)(UF_BEAMS_FIRST + round + 1)) < 1e-3f * gain);
        bool hole = false;
        for (int k = N; k < UF_BEAMS_HEARD * N; k++) {
            float want = .1f * gain * (float)(k < 2 * N ? UF_BEAMS_MIC + 1 : UF_BEAMS_ALONE + 1);
            if (heard[0][k] == 0) hole = true;
            else assert_true(fabsf(heard[0][k] - want) < 1e-3f * gain);
            assert_true((heard[0][k] == 0) == (heard[0][N + k % N] == 0)); /* who is away says nothing at all */
        }
        holes += hole;
        if (i % 20) continue;
        assert_int_equal(uf_beams_pick(b, 9, i + 50, N, heard[1], voice[1]), UF_OK); /* what came before leaves no trace */
        assert_int_equal(uf_beams_pick(b, 7, i, N, heard[1], voice[1]), UF_OK);
        assert_memory_equal(heard[0], heard[1], sizeof heard[0]);
        assert_memory_equal(voice[0], voice[1], sizeof voice[0]);
    }
    assert_true(rounds[0] > DRAWS / 4 && rounds[1] > DRAWS / 4);
    assert_true(holes > DRAWS / 10 && holes < DRAWS / 2);
    assert_true(first < .02 && last > .13);
    uf_beams_close(&b);
    uf_ctx_close(&ctx);
}

/* Shorter than asked for: silence behind. Other files are refused by name. */
static void test_odd_files(void **state) {
    (void)state;
    enum { N = 4096 };
    static float heard[UF_BEAMS_HEARD * N], voice[N];
    uf_ctx *ctx = open_ctx();
    char path[300];
    for (int channels = 1; channels <= UF_BEAMS_CHANNELS; channels += UF_BEAMS_CHANNELS - 1) {
        uf_beams *b = NULL;
        write_channels("short.wav", channels, N / 2);
        snprintf(path, sizeof path, "%s/short.wav", folder);
        assert_int_equal(uf_beams_open(&b, ctx, &(uf_source){.path = path}, 1), UF_OK);
        int err = uf_beams_pick(b, 1, 0, N, heard, voice);
        if (channels == 1) assert_non_null(strstr(uf_ctx_error(ctx), "short.wav"));
        assert_int_equal(err, channels == 1 ? UF_EINVAL : UF_OK);
        uf_beams_close(&b);
    }
    assert_true(voice[N / 2 - 1] > 0 && voice[N / 2] == 0 && voice[N - 1] == 0);
    unlink(path);
    uf_ctx_close(&ctx);
}

typedef struct net {
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_built b;
} net;

static void net_open(net *n, uf_ctx *ctx, const uf_model *m, int size) {
    *n = (net){0};
    assert_int_equal(uf_params_open(&n->params, ctx, 5), UF_OK);
    assert_int_equal(uf_graph_open(&n->graph, ctx, n->params), UF_OK);
    uf_graph_training(n->graph, false);
    assert_int_equal(m->build(n->graph, (uf_shape){1, m->channels, 1, size}, &n->b), UF_OK);
    uf_output(n->b.out);
    assert_int_equal(uf_plan_open(&n->plan, ctx, n->graph, &(uf_plan_options){.mode = UF_INFER, .dtype = UF_F32}), UF_OK);
}

static void net_run(net *n, const float *x, float *y) {
    assert_int_equal(uf_plan_set(n->plan, n->b.sound, x), UF_OK);
    assert_int_equal(uf_plan_run(n->plan), UF_OK);
    assert_int_equal(uf_plan_get(n->plan, n->b.out, y), UF_OK);
}

static void net_close(net *n) {
    uf_plan_close(&n->plan);
    uf_graph_close(&n->graph);
    uf_params_close(&n->params);
}

static double apart(const float *a, const float *b, int n) {
    double off = 0, all = 0;
    for (int i = 0; i < n; i++) {
        off += pow((double)a[i] - (double)b[i], 2);
        all += pow((double)b[i], 2);
    }
    return sqrt(off / all);
}

/* From weights of `speech` it begins as that, whatever lies beside; once it has learnt to look there, that counts. */
static void test_begins_as_speech(void **state) {
    (void)state;
    enum { N = 8192 };
    static float x[UF_BEAMS_HEARD * N], y[3][N];
    uf_ctx *ctx = open_ctx();
    net speech, beam;
    char path[300];
    uf_weights *w = NULL;
    for (int i = 0; i < UF_LEN(x); i++) x[i] = .1f * uf_gaussian(1, 3, (uint64_t)i);
    net_open(&speech, ctx, &uf_model_speech, N);
    net_open(&beam, ctx, &uf_model_speech_beam, N);
    snprintf(path, sizeof path, "%s/speech.safetensors", folder);
    assert_int_equal(uf_weights_write(ctx, path, speech.params, &(uf_weights_save){.dtype = "F32", .overwrite = true}), UF_OK);
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_OK);
    assert_int_equal(uf_speech_init(ctx, w, beam.params), UF_OK);
    uf_weights_close(&w);
    uf_plan_stale(beam.plan);
    net_run(&speech, x, y[0]);
    net_run(&beam, x, y[1]);
    assert_true(apart(y[1], y[0], N) < 1e-5);
    uf_param *beside = uf_params_find(beam.params, "enc.beside.w");
    assert_non_null(beside);
    for (size_t i = 0; i < uf_count(beside->shape); i++) beside->value[i] = .05f * uf_gaussian(2, 3, i);
    uf_plan_stale(beam.plan);
    net_run(&beam, x, y[1]);
    memset(x + N, 0, 2 * N * sizeof *x);
    net_run(&beam, x, y[2]);
    assert_true(apart(y[1], y[0], N) > .01);
    assert_true(apart(y[2], y[0], N) < 1e-5); /* silence beside is nothing beside */
    net_close(&speech);
    net_close(&beam);
    unlink(path);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stretches),
        cmocka_unit_test(test_odd_files),
        cmocka_unit_test(test_begins_as_speech),
    };
    return cmocka_run_group_tests_name("beams", tests, setup, teardown);
}

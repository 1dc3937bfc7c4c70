/* Every network in the table builds, runs, and stays within its budget; the backends agree on it. */
#include "models.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct net {
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_built b;
} net;

/* room: the second output takes the first one's place. */
static void net_open_room(net *n, const uf_model *m, uf_shape luma, const uf_plan_options *o, bool room) {
    memset(n, 0, sizeof *n);
    n->b.keep_room = room;
    assert_int_equal(uf_ctx_open(&n->ctx), UF_OK);
    uf_ctx_set_threads(n->ctx, 2);
    assert_int_equal(uf_params_open(&n->params, n->ctx, 8), UF_OK);
    assert_int_equal(uf_graph_open(&n->graph, n->ctx, n->params), UF_OK);
    if (m->build(n->graph, luma, &n->b) < 0) fail_msg("%s: %s", m->name, uf_ctx_error(n->ctx));
    if (room) {
        assert_true(uf_same(n->b.room->shape, n->b.out->shape));
        n->b.out = n->b.room;
    }
    uf_output(n->b.out);
    if (uf_plan_open(&n->plan, n->ctx, n->graph, o) < 0) fail_msg("%s: %s", m->name, uf_ctx_error(n->ctx));
}

static void net_open(net *n, const uf_model *m, uf_shape luma, const uf_plan_options *o) { net_open_room(n, m, luma, o, false); }

static void net_close(net *n) {
    uf_plan_close(&n->plan);
    uf_graph_close(&n->graph);
    uf_params_close(&n->params);
    uf_ctx_close(&n->ctx);
}

static float *run(net *n) {
    const uf_node *in = n->b.sound ? n->b.sound : n->b.luma;
    float *x = malloc(uf_count(in->shape) * sizeof *x), *y = malloc(uf_count(n->b.out->shape) * sizeof *y);
    for (size_t i = 0; i < uf_count(in->shape); i++) x[i] = .5f + .5f * sinf((float)i * .05f);
    assert_int_equal(uf_plan_set(n->plan, in, x), UF_OK);
    if (n->b.chroma) { /* zeros: grey */
        float *c = calloc(uf_count(n->b.chroma->shape), sizeof *c);
        assert_int_equal(uf_plan_set(n->plan, n->b.chroma, c), UF_OK);
        free(c);
    }
    assert_int_equal(uf_plan_run(n->plan), UF_OK);
    assert_int_equal(uf_plan_get(n->plan, n->b.out, y), UF_OK);
    free(x);
    return y;
}

static double difference(const float *a, const float *b, size_t n) {
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return sqrt(d / (s + 1e-12));
}

static void backends_agree(const uf_model *m, bool room) {
    int step = m->multiple;
    uf_shape luma = m->rate ? (uf_shape){2, 1, 1, 8 * step} : (uf_shape){1, 1, 2 * step, 3 * step};
    net oracle;
    net_open_room(&oracle, m, luma, &(uf_plan_options){.mode = UF_INFER, .backend = "ref"}, room);
    float *want = run(&oracle);
    uf_dtype types[] = {UF_F32, UF_BF16};
    for (int k = 0; k < (uf_cpu_has_bf16() ? 2 : 1); k++) {
        net fast;
        net_open_room(&fast, m, luma, &(uf_plan_options){.mode = UF_INFER, .dtype = types[k]}, room);
        float *got = run(&fast);
        double d = difference(got, want, uf_count(oracle.b.out->shape));
        if (!(d < (k ? 4e-2 : 1e-4))) fail_msg("%s, %s: off by %.2g", m->name, k ? "bf16" : "float32", d);
        free(got);
        net_close(&fast);
    }
    free(want);
    net_close(&oracle);
}

static void test_backends_agree(void **state) {
    (void)state;
    for (int i = 0; uf_models[i]; i++)
        for (int room = 0; room <= uf_models[i]->rooms; room++) backends_agree(uf_models[i], room);
}

/* Of two outputs, the one that nobody wants costs nothing, and changes no bit of the other. */
static void test_rooms(void **state) {
    (void)state;
    for (int i = 0; uf_models[i]; i++) {
        if (!uf_models[i]->rooms) continue;
        const uf_plan_options o = {.mode = UF_INFER, .dtype = UF_F32};
        uf_shape wave = {1, 1, 1, 8 * uf_models[i]->multiple};
        net plain, both;
        net_open(&plain, uf_models[i], wave, &o);
        net_open_room(&both, uf_models[i], wave, &o, true);
        bool wide = uf_models[i] == &uf_model_speech_wide; /* a mask below 8 kHz, and one above */
        assert_int_equal(uf_params_n(both.params), uf_params_n(plain.params) + (wide ? 4 : 2));
        assert_true(uf_plan_macs(both.plan) == uf_plan_macs(plain.plan));
        float *voice = run(&plain), *room = run(&both);
        assert_true(difference(room, voice, uf_count(plain.b.out->shape)) > 1e-3);
        uf_speech_start_room(both.params);
        uf_plan_stale(both.plan);
        free(room);
        room = run(&both);
        assert_memory_equal(room, voice, uf_count(plain.b.out->shape) * sizeof *voice);
        free(voice);
        free(room);
        net_close(&plain);
        net_close(&both);
    }
}

/* Below 8 kHz `speech-wide` with the parameters of `speech` is `speech`: the same sound at three times the rate comes out the same. */
static void test_wide_is_speech(void **state) {
    (void)state;
    enum { T = 16 * UF_SPEECH_HOP };
    const uf_model *m[] = {&uf_model_speech, &uf_model_speech_wide};
    net n[2];
    float *y[2];
    for (int k = 0; k < 2; k++) net_open(&n[k], m[k], (uf_shape){1, 1, 1, T * (k ? UF_SPEECH_WIDER : 1)}, &(uf_plan_options){.mode = UF_INFER, .dtype = UF_F32});
    for (int i = 0; i < uf_params_n(n[0].params); i++) {
        const uf_param *p = uf_params_at(n[0].params, i);
        uf_param *q = uf_params_find(n[1].params, p->name);
        assert_non_null(q);
        memcpy(q->value, p->value, uf_count(p->shape) * sizeof *p->value);
    }
    uf_param *above = uf_params_find(n[1].params, "high.head.w"); /* a mask of zeros */
    memset(above->value, 0, uf_count(above->shape) * sizeof *above->value);
    uf_plan_stale(n[1].plan);
    for (int k = 0; k < 2; k++) {
        int size = T * (k ? UF_SPEECH_WIDER : 1);
        float *x = calloc((size_t)size, sizeof *x);
        for (int i = 0; i < size; i++) {
            double t = (double)i * T / size, swell = .5 - .5 * cos(2 * M_PI * t / T);
            for (int h = 1; h <= 24; h++) x[i] += (float)(.02 * swell * cos(h * (2 * M_PI * 329 / 16000 * t + h)));
        }
        y[k] = malloc((size_t)size * sizeof **y);
        assert_int_equal(uf_plan_set(n[k].plan, n[k].b.sound, x), UF_OK);
        assert_int_equal(uf_plan_run(n[k].plan), UF_OK);
        assert_int_equal(uf_plan_get(n[k].plan, n[k].b.out, y[k]), UF_OK);
        free(x);
    }
    for (int i = 0; i < T; i++) y[1][i] = y[1][UF_SPEECH_WIDER * i];
    double off = difference(y[1], y[0], T / 2); /* not near the end, which is mirrored a little apart */
    if (!(off < 3e-2)) fail_msg("off by %.2g", off);
    for (int k = 0; k < 2; k++) {
        free(y[k]);
        net_close(&n[k]);
    }
}

static void test_budget(void **state) {
    (void)state;
    net n;
    net_open(&n, &uf_model_color, (uf_shape){1, 1, 576, 736}, &(uf_plan_options){.mode = UF_INFER, .backend = "ref"});
    size_t values = 0;
    for (int i = 0; i < uf_params_n(n.params); i++) values += uf_count(uf_params_at(n.params, i)->shape);
    assert_true(values <= 12000000);
    assert_true(uf_plan_macs(n.plan) <= 22.5e9); /* at the frame's own size, padded: 22.3, more than the budget's 20 */
    net_close(&n);
    net_open(&n, &uf_model_color, (uf_shape){1, 1, 256, 320}, &(uf_plan_options){.mode = UF_INFER, .backend = "ref"});
    assert_true(uf_plan_macs(n.plan) <= 20e9); /* the budget, at the size to which a 720x576 frame is brought by default */
    net_close(&n);
}

static int init_from(net *to, const char *file) {
    uf_weights *w = NULL;
    uf_ctx_clear(to->ctx);
    assert_int_equal(uf_weights_open(&w, to->ctx, file), UF_OK);
    int err = uf_color_init(to->ctx, w, to->params);
    uf_weights_close(&w);
    return err;
}

/* color's encoder, started from features, sees what features sees of a grey picture; and other files are refused. */
static void test_color_init(void **state) {
    (void)state;
    uf_shape luma = {1, 1, 64, 64};
    uf_plan_options exact = {.mode = UF_EXACT};
    uf_weights_save save = {.overwrite = true};
    char path[] = "/tmp/unfade-models-XXXXXX";
    net f, c;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    net_open(&f, &uf_model_features, luma, &exact);
    net_open(&c, &uf_model_color, luma, &exact);
    for (int i = 0; i < uf_params_n(f.params); i++) { /* as after training: nothing is 0 or 1 */
        uf_param *p = uf_params_at(f.params, i);
        for (size_t k = 0; k < uf_count(p->shape); k++) p->value[k] += .05f * uf_uniform(5, (uint64_t)i, k);
    }
    assert_int_equal(uf_weights_write(f.ctx, path, f.params, &save), UF_OK);
    if (init_from(&c, path) < 0) fail_msg("%s", uf_ctx_error(c.ctx));
    free(run(&f));
    free(run(&c));
    for (int s = 0; s < UF_N_STAGES; s++) {
        size_t n = uf_count(f.b.stage[s]->shape);
        float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
        assert_int_equal(uf_plan_get(f.plan, f.b.stage[s], want), UF_OK);
        assert_int_equal(uf_plan_get(c.plan, c.b.stage[s], got), UF_OK);
        double d = difference(got, want, n);
        if (!(d < 1e-5)) fail_msg("stage %d differs by %.2g", s, d);
        free(want);
        free(got);
    }
    uf_params *other;
    float before = uf_params_find(c.params, "enc.stem.conv.w")->value[0];
    assert_int_equal(uf_params_open(&other, f.ctx, 2), UF_OK);
    assert_non_null(uf_params_add(other, "enc.stem.conv.w", (uf_shape){32, 6, 3, 3}, UF_INIT_ONE)); /* and no more */
    assert_int_equal(uf_weights_write(f.ctx, path, other, &save), UF_OK);
    assert_int_equal(init_from(&c, path), UF_EDATA);
    assert_non_null(strstr(uf_ctx_error(c.ctx), "`features`"));
    assert_true(uf_params_find(c.params, "enc.stem.conv.w")->value[0] == before);
    unlink(path);
    uf_params_close(&other);
    net_close(&f);
    net_close(&c);
}

/* Rates a layer group: the encoder's fine half, its coarse half, what is new. */
static void test_groups(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int group;
    } want[] = {{"enc.stem.conv.w", 0}, {"enc.2.1.b.bn.gamma", 0}, {"enc.3.down.conv.w", 1}, {"enc.4.0.a.conv.w", 1},
                {"dec.0.up.w", 2},      {"att.gamma", 2},          {"head.b", 2}};
    net n;
    net_open(&n, &uf_model_color, (uf_shape){1, 1, 32, 32}, &(uf_plan_options){.mode = UF_EXACT});
    for (int i = 0; i < UF_LEN(want); i++) {
        const uf_param *p = uf_params_find(n.params, want[i].name);
        if (!p || p->group != want[i].group) fail_msg("'%s': group %d", want[i].name, p ? p->group : -1);
    }
    assert_true(uf_params_find(n.params, "dec.0.up.w")->decay && !uf_params_find(n.params, "att.gamma")->decay);
    assert_true(uf_params_find(n.params, "enc.stem.bn.mean")->buffer);
    assert_null(uf_params_find(n.params, "enc.stem.conv.b"));
    assert_ptr_equal(uf_model_find("features"), &uf_model_features);
    assert_null(uf_model_find("nothing"));
    net_close(&n);
}

/* Every number of the network that its training would have moved: norms that scale and shift, and biases. */
static void stir(uf_params *set) {
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        for (size_t k = 0; k < uf_count(p->shape); k++) p->value[k] += .1f * uf_uniform(5, (uint64_t)i, k);
    }
}

/* One graph of one input, run by the oracle: out = what `make` builds of x. */
static void apply(net *n, uf_node *(*make)(uf_node *), uf_shape in, const float *x, float *out) {
    uf_graph *g;
    uf_plan *p;
    assert_int_equal(uf_graph_open(&g, n->ctx, n->params), UF_OK);
    uf_node *from = uf_input(g, "x", in), *to = uf_output(make(from));
    assert_int_equal(uf_plan_open(&p, n->ctx, g, &(uf_plan_options){.mode = UF_EXACT}), UF_OK);
    uf_plan_set(p, from, x);
    assert_int_equal(uf_plan_run(p), UF_OK);
    assert_int_equal(uf_plan_get(p, to, out), UF_OK);
    uf_plan_close(&p);
    uf_graph_close(&g);
}

static uf_node *analyse(uf_node *x) { return uf_transpose(uf_stft(x, UF_SPEECH_FFT, UF_SPEECH_HOP), 0, 1, 3, 2); }
static uf_node *synthesise(uf_node *x) {
    return uf_istft(uf_transpose(x, 0, 1, 3, 2), UF_SPEECH_FFT, UF_SPEECH_HOP, (x->shape.h - 1) * UF_SPEECH_HOP);
}

enum { STREAM_N = 2, STREAM_FRAMES = 13, BINS = UF_SPEECH_FFT / 2 + 1 };

/* The frames of `spectrum` through the network's stream, `at_once` at a time. */
static void stream(net *n, const uf_model *m, bool room, int at_once, const uf_plan_options *o, const float *spectrum, float *voice) {
    float *x = calloc((size_t)(STREAM_N * 2 * at_once * BINS), sizeof *x), *state = NULL;
    uf_graph *g = NULL;
    uf_plan *p = NULL;
    uf_built b = {.keep_room = room};
    assert_int_equal(uf_graph_open(&g, n->ctx, n->params), UF_OK);
    uf_graph_training(g, false);
    assert_int_equal(m->stream(g, STREAM_N, at_once, &b), UF_OK);
    if (room) b.out = b.room;
    uf_output(b.out);
    if (uf_plan_open(&p, n->ctx, g, o) < 0) fail_msg("%s", uf_ctx_error(n->ctx));
    for (int at = 0; at < STREAM_FRAMES; at += at_once) {
        size_t row = (size_t)(at_once * BINS);
        for (int c = 0; c < 2 * STREAM_N; c++) memcpy(x + (size_t)c * row, spectrum + (c * STREAM_FRAMES + at) * BINS, row * sizeof *x);
        uf_plan_set(p, b.spectrum, x);
        assert_int_equal(uf_plan_run(p), UF_OK);
        assert_int_equal(uf_plan_get(p, b.out, x), UF_OK);
        for (int c = 0; c < 2 * STREAM_N; c++) memcpy(voice + (c * STREAM_FRAMES + at) * BINS, x + (size_t)c * row, row * sizeof *x);
        for (int i = 0; i < b.n_states; i++) {
            assert_true(uf_same(b.state[i].before->shape, b.state[i].after->shape));
            state = realloc(state, uf_count(b.state[i].after->shape) * sizeof *state);
            assert_int_equal(uf_plan_get(p, b.state[i].after, state), UF_OK);
            uf_plan_set(p, b.state[i].before, state);
        }
    }
    uf_plan_close(&p);
    uf_graph_close(&g);
    free(state);
    free(x);
}

static void streams(const uf_model *m, bool room) {
    enum { T = (STREAM_FRAMES - 1) * UF_SPEECH_HOP, N = STREAM_N * 2 * STREAM_FRAMES * BINS };
    static const uf_plan_options with[] = {{.backend = "ref"}, {.dtype = UF_F32}};
    net n;
    float *sound = malloc(STREAM_N * T * sizeof *sound), *spectrum = malloc(N * sizeof *spectrum), *voice = malloc(N * sizeof *voice);
    float *want = malloc(STREAM_N * T * sizeof *want), *got = malloc(STREAM_N * T * sizeof *got);
    net_open_room(&n, m, (uf_shape){STREAM_N, 1, 1, T}, &(uf_plan_options){.mode = UF_EXACT}, room);
    stir(n.params);
    for (int k = 0; k < STREAM_N * T; k++) sound[k] = .2f * uf_uniform(3, 1, (uint64_t)k);
    uf_plan_set(n.plan, n.b.sound, sound);
    uf_plan_stale(n.plan);
    assert_int_equal(uf_plan_run(n.plan), UF_OK);
    assert_int_equal(uf_plan_get(n.plan, n.b.out, want), UF_OK);
    apply(&n, analyse, (uf_shape){STREAM_N, 1, 1, T}, sound, spectrum);
    for (int k = 0; k < 3; k++) {
        static const int at_once[] = {1, 13, 1};
        stream(&n, m, room, at_once[k], &with[k / 2], spectrum, voice);
        apply(&n, synthesise, (uf_shape){STREAM_N, 2, STREAM_FRAMES, BINS}, voice, got);
        double d = difference(got, want, STREAM_N * T);
        if (!(d < (k / 2 ? 1e-5 : 1e-7))) fail_msg("%s, %d frames at once: off by %.2g", m->name, at_once[k], d);
    }
    net_close(&n);
    float *all[] = {sound, spectrum, voice, want, got};
    for (int k = 0; k < UF_LEN(all); k++) free(all[k]);
}

/* From frame to frame it is the network that was trained on whole recordings. */
static void test_streams(void **state) {
    (void)state;
    for (int i = 0; uf_models[i]; i++)
        for (int room = 0; uf_models[i]->stream && room <= uf_models[i]->rooms; room++) streams(uf_models[i], room);
}

/* A sum of both gradients through the whole colorizer falls when followed. */
static void test_learns(void **state) {
    (void)state;
    net n;
    uf_adam a = {.rate = 1e-3f, .beta1 = .9f, .beta2 = .99f, .eps = 1e-8f};
    memset(&n, 0, sizeof n);
    assert_int_equal(uf_ctx_open(&n.ctx), UF_OK);
    assert_int_equal(uf_params_open(&n.params, n.ctx, 8), UF_OK);
    assert_int_equal(uf_graph_open(&n.graph, n.ctx, n.params), UF_OK);
    assert_int_equal(uf_model_color.build(n.graph, (uf_shape){2, 1, 32, 32}, &n.b), UF_OK);
    uf_node *t = uf_input(n.graph, "target", n.b.out->shape), *loss = uf_output(uf_l1(n.b.out, t));
    assert_int_equal(uf_plan_open(&n.plan, n.ctx, n.graph, &(uf_plan_options){.mode = UF_TRAIN, .loss = loss}), UF_OK);
    float x[2 * 32 * 32], y[2 * 2 * 16 * 16], first = 0, last = 0;
    for (int i = 0; i < UF_LEN(x); i++) x[i] = uf_uniform(1, 1, (uint64_t)i);
    for (int i = 0; i < UF_LEN(y); i++) y[i] = i / 256 % 2 ? .1f : -.1f;
    uf_plan_set(n.plan, n.b.luma, x);
    uf_plan_set(n.plan, t, y);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(uf_plan_run(n.plan), UF_OK);
        uf_plan_get(n.plan, loss, i ? &last : &first);
        uf_params_zero_grad(n.params);
        assert_int_equal(uf_plan_backward(n.plan), UF_OK);
        assert_int_equal(uf_adam_step(n.ctx, n.params, &a, i + 1, NULL), UF_OK);
    }
    assert_true(last < .7f * first);
    net_close(&n);
}

static void test_shipped_weights(void **state) {
    (void)state;
    for (int i = 0; uf_models[i]; i++) {
        char path[512];
        if (!uf_models[i]->file) continue;
        snprintf(path, sizeof path, "%s/models/weights/%s", UNFADE_SOURCE_DIR, uf_models[i]->file);
        if (access(path, F_OK)) continue; /* a clone without weights */
        net n;
        uf_weights *w = NULL;
        uf_shape small = uf_models[i]->rate ? (uf_shape){1, 1, 1, 8 * uf_models[i]->multiple} : (uf_shape){1, 1, 64, 64};
        net_open(&n, uf_models[i], small, &(uf_plan_options){.mode = UF_INFER, .backend = "ref"});
        int err = uf_weights_open(&w, n.ctx, path);
        if (err == UF_OK) err = uf_weights_load(w, n.params, true, NULL);
        if (err < 0) fail_msg("%s", uf_ctx_error(n.ctx));
        assert_string_equal(uf_weights_meta(w, "model"), uf_models[i]->name);
        assert_non_null(uf_weights_meta(w, "licence"));
        uf_weights_close(&w);
        net_close(&n);
    }
}

/* The mean of two, and a gain on the chroma; another network is refused. */
static void test_average(void **state) {
    (void)state;
    static const char *const files[] = {"/tmp/unfade-average-a", "/tmp/unfade-average-b", "/tmp/unfade-average-c"}, *const out = "/tmp/unfade-average-out";
    const uf_model *models[] = {&uf_model_color, &uf_model_color, &uf_model_features};
    const uf_plan_options infer = {.mode = UF_INFER, .backend = "ref"};
    net n[3];
    uf_weights *w = NULL;
    for (int i = 0; i < 3; i++) {
        const uf_meta meta[] = {{"model", models[i]->name}, {"licence", i ? "CC0" : "CC0, of a"}, {"recipe", "a: recipe\n"}};
        net_open(&n[i], models[i], (uf_shape){1, 1, 64, 64}, &infer);
        for (int k = 0; k < uf_params_n(n[i].params); k++) uf_params_at(n[i].params, k)->value[0] = (float)(i + 1);
        assert_int_equal(uf_weights_write(n[i].ctx, files[i], n[i].params, &(uf_weights_save){.meta = meta, .n_meta = 3, .overwrite = true}), UF_OK);
    }
    uf_average_options o = {.n = 2, .files = files, .shares = (double[]){1, 3}, .gain = 2, .note = "how", .overwrite = true};
    assert_int_equal(uf_model_average(n[0].ctx, out, &o), UF_OK);
    assert_int_equal(uf_weights_open(&w, n[0].ctx, out), UF_OK);
    assert_int_equal(uf_weights_load(w, n[0].params, true, NULL), UF_OK);
    for (int k = 0; k < uf_params_n(n[0].params); k++) {
        const uf_param *p = uf_params_at(n[0].params, k);
        bool head = !strcmp(p->name, "head.w") || !strcmp(p->name, "head.b");
        if (fabsf(p->value[0] - (head ? 3.5f : 1.75f)) > 1e-2f) fail_msg("%s: %g", p->name, (double)p->value[0]);
    }
    assert_non_null(strstr(uf_weights_meta(w, "recipe"), "0.750 of /tmp/unfade-average-b"));
    uf_weights_close(&w);
    o.n = 3;
    o.shares = NULL;
    assert_int_equal(uf_model_average(n[1].ctx, out, &o), UF_EDATA);
    for (int i = 0; i < 3; i++) {
        unlink(files[i]);
        net_close(&n[i]);
    }
    unlink(out);
}

/* Of networks for sound too, with both of their outputs. */
static void test_average_of_sound(void **state) {
    (void)state;
    static const char *const files[] = {"/tmp/unfade-average-d", "/tmp/unfade-average-e"}, *const out = "/tmp/unfade-average-f";
    net n[2];
    uf_weights *w = NULL;
    for (int i = 0; i < 2; i++) {
        const uf_meta meta[] = {{"model", "speech"}};
        net_open_room(&n[i], &uf_model_speech, uf_model_small(&uf_model_speech), &(uf_plan_options){.mode = UF_INFER, .backend = "ref"}, true);
        for (int k = 0; k < uf_params_n(n[i].params); k++) uf_params_at(n[i].params, k)->value[0] = (float)(i + 1);
        assert_int_equal(uf_weights_write(n[i].ctx, files[i], n[i].params, &(uf_weights_save){.meta = meta, .n_meta = 1, .overwrite = true}), UF_OK);
    }
    if (uf_model_average(n[0].ctx, out, &(uf_average_options){.n = 2, .files = files, .overwrite = true}) < 0) fail_msg("%s", uf_ctx_error(n[0].ctx));
    assert_int_equal(uf_weights_open(&w, n[0].ctx, out), UF_OK);
    assert_int_equal(uf_weights_load(w, n[0].params, true, NULL), UF_OK);
    uf_weights_close(&w);
    for (int k = 0; k < uf_params_n(n[0].params); k++) assert_true(fabsf(uf_params_at(n[0].params, k)->value[0] - 1.5f) < 1e-2f);
    for (int i = 0; i < 2; i++) {
        unlink(files[i]);
        net_close(&n[i]);
    }
    unlink(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_average),
        cmocka_unit_test(test_average_of_sound),
        cmocka_unit_test(test_backends_agree),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_color_init),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_wide_is_speech),
        cmocka_unit_test(test_shipped_weights),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

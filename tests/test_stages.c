/* The stages that mend old films: damage that is put in is found and taken out, and what has none stays as it is, to the bit. */
#include "chain.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { W = 261, H = 163, N = 40, SPOTS = 5 };

/* Structure of several sizes, finer than any block. */
static double scene(double x, double y) {
    return 120 + 35 * sin(x / 9.1 + .7 * sin(y / 13)) + 30 * cos(y / 7.3 - x / 31) + 14 * sin(x / 3.1) * cos(y / 3.7);
}

static double dice(int t, int which) { return (double)uf_uniform(9, (uint64_t)t, (uint64_t)which); }

typedef struct damage { bool dust, line, half, flicker, weave, mast, splice; double pan; } damage;

static void place(const damage *d, int t, double *x, double *y) {
    *x = d->pan * t + (d->weave ? 3 * (dice(t, 1) - .5) : 0);
    *y = d->splice && t == 0 ? 5 : d->weave ? 2 * (dice(t, 2) - .5) : 0;
}

static AVFrame *frame(const damage *d, int t, enum AVPixelFormat format) {
    AVFrame *f = av_frame_alloc();
    double x0, y0, gain = d->splice && t == N - 1 ? 1.2 : d->flicker ? 1 + .12 * (dice(t, 3) - .5) : 1;
    int depth = av_pix_fmt_desc_get(format)->comp[0].depth;
    f->format = format;
    f->width = W;
    f->height = H;
    f->pts = t;
    assert_true(av_frame_get_buffer(f, 0) >= 0);
    for (int p = 0; p < 4; p++)
        if (f->buf[p]) memset(f->buf[p]->data, 0, f->buf[p]->size);
    place(d, t, &x0, &y0);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double v = scene(x - x0, y - y0) * gain;
            if (d->mast && fabs(x - x0 - 120) < 1.1 && y > H / 4) v -= 50; /* of the picture: it moves along */
            if (d->line && (x == 90 || x == 91) && !(d->half && y > H / 2)) v += 45;
            for (int s = 0; d->dust && s < SPOTS; s++) {
                double dx = x - (12 + dice(t, 10 + s) * (W - 24)), dy = y - (12 + dice(t, 20 + s) * (H - 24));
                if (dx * dx + dy * dy < 9) v = s % 2 ? 8 : 248;
            }
            if (d->splice && ((t == 0 && y > 10 && y < 17) || (t == 20 && y > 140 && y < 150))) v = t ? 12 : 240;
            int sample = (int)(v * ((1 << depth) - 1) / 255 + .5);
            if (depth > 8) ((uint16_t *)(void *)(f->data[0] + (ptrdiff_t)y * f->linesize[0]))[x] = (uint16_t)sample;
            else f->data[0][(ptrdiff_t)y * f->linesize[0] + x] = (uint8_t)sample;
        }
    return f;
}

static double sample(const AVFrame *f, int x, int y) {
    bool deep = av_pix_fmt_desc_get(f->format)->comp[0].depth > 8;
    const uint8_t *row = f->data[0] + (ptrdiff_t)y * f->linesize[0];
    return deep ? ((const uint16_t *)(const void *)row)[x] : row[x];
}

typedef struct out { AVFrame *f[N]; int n; } out;

static int collect(void *user, AVFrame *f) {
    out *o = user;
    assert_true(o->n < N);
    o->f[o->n++] = f;
    return UF_OK;
}

static void run(const damage *d, enum AVPixelFormat format, const char *stage, out *o, int64_t *n_changed) {
    uf_ctx *ctx;
    uf_chain *c;
    uf_chain_options options = { 0 };
    int index = 0;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    for (int i = 0; uf_stages[i]; i++)
        if (!strcmp(uf_stages[i]->name, stage)) options.strength[index = i] = 1;
    AVFrame *first = frame(d, 0, format);
    assert_int_equal(uf_chain_open(&c, ctx, first, &options), UF_OK);
    av_frame_free(&first);
    o->n = 0;
    for (int t = 0; t < N; t++) assert_int_equal(uf_chain_push(c, frame(d, t, format), collect, o), UF_OK);
    assert_int_equal(uf_chain_push(c, NULL, collect, o), UF_OK);
    assert_int_equal(o->n, N);
    *n_changed = uf_chain_n_changed(c, index);
    uf_chain_close(&c);
    uf_ctx_close(&ctx);
    for (int t = 0; t < N; t++) assert_int_equal(o->f[t]->pts, t); /* none lost, none twice, in order */
}

static void clear(out *o) {
    for (int t = 0; t < o->n; t++) av_frame_free(&o->f[t]);
}

/* Root mean square difference, in 8-bit steps, of what came out to what `d` would have shown. */
static double distance(const out *o, const damage *d, enum AVPixelFormat format, int from, int to) {
    double sum = 0, one = 255. / ((1 << av_pix_fmt_desc_get(format)->comp[0].depth) - 1);
    for (int t = from; t < to; t++) {
        AVFrame *f = frame(d, t, format);
        for (int y = 8; y < H - 8; y++)
            for (int x = 8; x < W - 8; x++) sum += pow((sample(o->f[t], x, y) - sample(f, x, y)) * one, 2);
        av_frame_free(&f);
    }
    return sqrt(sum / ((to - from) * (double)(W - 16) * (H - 16)));
}

static void clean_film_stays(void **state) {
    (void)state;
    for (int i = 0; uf_stages[i]; i++)
        for (int k = 0; k < 4; k++) {
            damage d = { .pan = k * 1.3 };
            enum AVPixelFormat format = k % 2 ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_GRAY8;
            int64_t n;
            out o;
            run(&d, format, uf_stages[i]->name, &o, &n);
            if (n) printf("%s, pan %g: %d frames changed\n", uf_stages[i]->name, d.pan, (int)n);
            assert_int_equal(n, 0);
            assert_true(distance(&o, &d, format, 0, N) == 0);
            clear(&o);
        }
}

static void dust_and_lines_go(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        damage d = { .dust = true, .line = k > 1, .pan = .8 * k }, whole = { .pan = .8 * k };
        enum AVPixelFormat format = k % 2 ? AV_PIX_FMT_YUV444P12 : AV_PIX_FMT_YUV420P;
        int64_t n;
        out o, as_it_was = { .n = N };
        run(&d, format, "scratch", &o, &n);
        assert_int_equal(n, N); /* a scene's first and last learn from two frames of one side */
        for (int t = 0; t < N; t++) as_it_was.f[t] = frame(&d, t, format);
        double before = distance(&as_it_was, &whole, format, 1, N - 1), after = distance(&o, &whole, format, 1, N - 1);
        for (int t = 0; t < N; t += N - 1) assert_true(distance(&o, &whole, format, t, t + 1) < .8 * distance(&as_it_was, &whole, format, t, t + 1));
        if (after >= .4 * before) printf("case %d: %.2f before, %.2f after\n", k, before, after);
        assert_true(after < .4 * before);
        clear(&o);
        clear(&as_it_was);
    }
}

static void short_scratches_go_masts_stay(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        damage d = { .line = true, .half = true, .pan = 1.1 * k }, whole = { .pan = 1.1 * k }, mast = { .mast = true, .pan = 2.4 };
        int64_t n;
        out o, as_it_was = { .n = N };
        run(&d, AV_PIX_FMT_GRAY8, "scratch", &o, &n);
        if (n < N * 3 / 4) printf("half a line, pan %g: in %d frames\n", d.pan, (int)n);
        assert_true(n >= N * 3 / 4);
        for (int t = 0; t < N; t++) as_it_was.f[t] = frame(&d, t, AV_PIX_FMT_GRAY8);
        double before = distance(&as_it_was, &whole, AV_PIX_FMT_GRAY8, 0, N), after = distance(&o, &whole, AV_PIX_FMT_GRAY8, 0, N);
        if (after >= .5 * before) printf("half a line, pan %g: %.2f before, %.2f after\n", d.pan, before, after);
        assert_true(after < .5 * before);
        clear(&o);
        clear(&as_it_was);
        run(&mast, AV_PIX_FMT_GRAY8, "scratch", &o, &n);
        assert_int_equal(n, 0);
        clear(&o);
    }
}

/* A jump and a bar in the first frame, a bar within, a flash in the last: those are mended, and no other frame. */
static void splices_go(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        damage d = { .splice = true, .pan = .7 * k }, whole = { .pan = .7 * k };
        enum AVPixelFormat format = k ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_GRAY8;
        int64_t n;
        out o, as_it_was = { .n = N };
        run(&d, format, "splice", &o, &n);
        assert_int_equal(n, 3);
        for (int t = 0; t < N; t++) as_it_was.f[t] = frame(&d, t, format);
        static const int at[] = { 0, 20, N - 1 };
        for (int i = 0; i < UF_LEN(at); i++) {
            double before = distance(&as_it_was, &whole, format, at[i], at[i] + 1), after = distance(&o, &whole, format, at[i], at[i] + 1);
            if (after >= .2 * before) printf("frame %d: %.2f before, %.2f after\n", at[i], before, after);
            assert_true(after < .2 * before);
        }
        clear(&o);
        clear(&as_it_was);
    }
}

static void flicker_goes(void **state) {
    damage d = { .flicker = true, .pan = 1 }, still = { .pan = 1 };
    int64_t n;
    out o, as_it_was = { .n = N };
    (void)state;
    run(&d, AV_PIX_FMT_GRAY8, "deflicker", &o, &n);
    assert_true(n > N * 3 / 4);
    for (int t = 0; t < N; t++) as_it_was.f[t] = frame(&d, t, AV_PIX_FMT_GRAY8);
    assert_true(distance(&o, &still, AV_PIX_FMT_GRAY8, 0, N) < .45 * distance(&as_it_was, &still, AV_PIX_FMT_GRAY8, 0, N));
    clear(&o);
    clear(&as_it_was);
}

/* What is left of the sway: how much neighbouring frames, the pan taken off, differ. */
static double unrest(const out *o) {
    double sum = 0;
    for (int t = 1; t < N; t++)
        for (int y = 8; y < H - 8; y++)
            for (int x = 8; x < W - 8; x++) sum += fabs(sample(o->f[t], x, y) - sample(o->f[t - 1], x, y));
    return sum / ((N - 1) * (double)(W - 16) * (H - 16));
}

static void sway_goes(void **state) {
    damage d = { .weave = true };
    int64_t n;
    out o, as_it_was = { .n = N };
    (void)state;
    run(&d, AV_PIX_FMT_GRAY8, "steady", &o, &n);
    assert_true(n > N * 3 / 4);
    for (int t = 0; t < N; t++) as_it_was.f[t] = frame(&d, t, AV_PIX_FMT_GRAY8);
    assert_true(unrest(&o) < .35 * unrest(&as_it_was));
    clear(&o);
    clear(&as_it_was);
}

/* Later frames do not depend on where the film was begun, beyond the window: what resuming needs. */
static void window_is_finite(void **state) {
    const damage d = { .dust = true, .flicker = true, .weave = true };
    uf_chain_options all = { .strength = { 1, 1, 1, 1 } };
    uf_ctx *ctx;
    out o[2];
    (void)state;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    for (int k = 0; k < 2; k++) {
        uf_chain *c;
        AVFrame *first = frame(&d, 0, AV_PIX_FMT_GRAY8);
        assert_int_equal(uf_chain_open(&c, ctx, first, &all), UF_OK);
        av_frame_free(&first);
        o[k].n = 0;
        for (int t = k * 5; t < N; t++) assert_int_equal(uf_chain_push(c, frame(&d, t, AV_PIX_FMT_GRAY8), collect, &o[k]), UF_OK);
        assert_int_equal(uf_chain_push(c, NULL, collect, &o[k]), UF_OK);
        uf_chain_close(&c);
    }
    for (int t = 5 + 8 + 2 * UF_STAGE_REACH; t < N; t++)
        for (int y = 0; y < H; y++) assert_memory_equal(o[0].f[t]->data[0] + (ptrdiff_t)y * o[0].f[t]->linesize[0], o[1].f[t - 5]->data[0] + (ptrdiff_t)y * o[1].f[t - 5]->linesize[0], W);
    clear(&o[0]);
    clear(&o[1]);
    uf_ctx_close(&ctx);
}

static void rgb_is_refused(void **state) {
    uf_ctx *ctx;
    uf_chain *c = NULL;
    uf_chain_options one = { .strength = { 1 } };
    AVFrame *f = av_frame_alloc();
    (void)state;
    f->format = AV_PIX_FMT_RGB24;
    f->width = f->height = 64;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    assert_int_equal(uf_chain_open(&c, ctx, f, &one), UF_EUNSUPPORTED);
    assert_null(c);
    av_frame_free(&f);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(clean_film_stays), cmocka_unit_test(dust_and_lines_go), cmocka_unit_test(short_scratches_go_masts_stay), cmocka_unit_test(splices_go),
                                        cmocka_unit_test(flicker_goes),
                                        cmocka_unit_test(sway_goes), cmocka_unit_test(window_is_finite), cmocka_unit_test(rgb_is_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Several recordings of one event: recordings are made here, with known clocks, and found again. */
#include "merge.h"
#include "pipeline.h"

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

/* ---- an event and its recorders ------------------------------------------------------------------------------------------------- */

enum { EVENT = 16000 }; /* Hz */

/* Something like speech: syllables of harmonics and of hiss, each with its own two formants, and pauses. Event number `seed`. */
static float *event(uint64_t seed, double seconds, int *n) {
    *n = (int)(seconds * EVENT);
    float *x = calloc((size_t)*n, sizeof *x);
    uint64_t k = 0;
    for (double at = .2; at < seconds - .5; k++) {
        double length = .08 + .22 * (double)uf_uniform(seed, 1, k), pitch = 90 + 120 * (double)uf_uniform(seed, 2, k), level = .05 + .25 * (double)uf_uniform(seed, 3, k);
        double f1 = 250 + 600 * (double)uf_uniform(seed, 4, k), f2 = 900 + 1700 * (double)uf_uniform(seed, 5, k), bend = .6 * ((double)uf_uniform(seed, 6, k) - .5);
        bool hiss = uf_uniform(seed, 7, k) < .3f;
        double phase = 0, a[2] = {0}, b[2] = {0};
        for (int i = 0; i < (int)(length * EVENT); i++) {
            double t = i / (double)EVENT / length;
            phase += pitch * (1 + bend * t) / EVENT;
            double in = hiss ? (double)uf_gaussian(seed, 100 + k, (uint64_t)i) * .5 : phase >= 1 ? 6 : 0, out = 0;
            if (phase >= 1) phase -= 1;
            for (int f = 0; f < 2; f++) { /* two resonances */
                double hz = f ? f2 + (hiss ? 2500 : 0) : f1, r = exp(-M_PI * (80 + 60 * f) / EVENT), *s = f ? b : a;
                double y = in + 2 * r * cos(2 * M_PI * hz / EVENT) * s[0] - r * r * s[1];
                s[1] = s[0];
                s[0] = y;
                out += y * (f ? .02 : .04);
            }
            x[(int)(at * EVENT) + i] += (float)(level * out * sin(M_PI * t));
        }
        at += length + .03 + (uf_uniform(seed, 8, k) < .12f ? 1.2f * uf_uniform(seed, 9, k) : .08f * uf_uniform(seed, 10, k));
    }
    return x;
}

typedef struct mic {
    int rate;
    double ppm, wander;   /* its clock is too fast by so much; and swings by so much within ten minutes */
    double start, length; /* s of the event */
    double snr;           /* dB of white noise; 0: none */
    double sign;          /* 0: 1 */
    double lose_at, lose; /* s: at this time of the event it loses so much */
    double delay[3];      /* s, of up to three talkers, who take turns every `turn` s */
    double turn;
    double out_at, out;   /* s: at this time of the event it writes silence for so long */
} mic;

/* Its own time at an event's time, less what it has lost. */
static double own(const mic *m, double t) {
    double s = t - m->start;
    s += s * m->ppm * 1e-6 + m->wander * 1e-6 * 600 / (2 * M_PI) * (1 - cos(2 * M_PI * s / 600));
    return m->lose > 0 && t > m->lose_at ? s - m->lose : s;
}

static double event_time(const mic *m, double is) { /* inverse of own(), where it has not lost anything */
    double t = is + m->start;
    bool after = m->lose > 0 && is > own(m, m->lose_at);
    mic whole = *m;
    whole.lose = 0;
    for (int i = 0; i < 8; i++) t += (after ? is + m->lose : is) - own(&whole, t);
    return t;
}

enum { SIDE = 16, STEPS = 1024 };

/* A second interpolation, not the program's: x at a place between its samples. */
static double at(const float *x, int n, double place) {
    static float table[STEPS + 1][2 * SIDE];
    if (table[0][SIDE - 1] == 0.f)
        for (int p = 0; p <= STEPS; p++)
            for (int k = 0; k < 2 * SIDE; k++) {
                double t = p / (double)STEPS + SIDE - 1 - k, w = .5 + .5 * cos(M_PI * t / (SIDE + 1));
                table[p][k] = (float)(w * (fabs(t) < 1e-9 ? 1 : sin(M_PI * t) / (M_PI * t)));
            }
    int base = (int)floor(place);
    const float *row = table[(int)lround((place - base) * STEPS)];
    float sum = 0;
    if (base < SIDE || base >= n - SIDE) return 0;
    for (int k = 0; k < 2 * SIDE; k++) sum += x[base - SIDE + 1 + k] * row[k];
    return (double)sum;
}

static void write_head(FILE *f, int n, int rate, int channels) {
    uint32_t frame = 2 * (uint32_t)channels, bytes = (uint32_t)n * frame, kind = (uint32_t)channels << 16 | 1, depth = 16u << 16 | frame;
    uint32_t head[11] = {0x46464952, 36 + bytes, 0x45564157, 0x20746d66, 16, kind, (uint32_t)rate, frame * (uint32_t)rate, depth, 0x61746164, bytes};
    fwrite(head, 4, 11, f);
}

static const char *record(const char *name, const float *x, int n_x, const mic *m, uint64_t seed) {
    static char path[UF_MERGE_MOST][256];
    static int which;
    char *to = path[which++ % UF_MERGE_MOST];
    snprintf(to, 256, "%s/%s", folder, name);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    double power = 0;
    for (int i = 0; i < n_x; i++) power += (double)x[i] * (double)x[i] / n_x;
    double noise = m->snr != 0 ? sqrt(power / pow(10, m->snr / 10)) : 0;
    int n = (int)((m->length > 0 ? m->length : n_x / (double)EVENT - m->start) * m->rate);
    write_head(f, n, m->rate, 1);
    int16_t *out = calloc((size_t)n, sizeof *out);
    for (int i = 0; i < n; i++) {
        double t = event_time(m, (double)i / m->rate);
        int talker = m->turn > 0 ? (int)(t / m->turn) % 3 : 0;
        double v = (m->sign < 0 ? -1 : 1) * at(x, n_x, (t - m->delay[talker]) * EVENT) + noise * (double)uf_gaussian(seed, 77, (uint64_t)i);
        v = m->out > 0 && t > m->out_at && t < m->out_at + m->out ? 0 : 32000 * v;
        out[i] = (int16_t)lrint(v > 32767 ? 32767 : v < -32768 ? -32768 : v);
    }
    fwrite(out, 2, (size_t)n, f);
    free(out);
    fclose(f);
    return to;
}

/* ---- how well they were found --------------------------------------------------------------------------------------------------- */

static void listen(uf_ctx *ctx, uf_take *t, const char *path) {
    *t = (uf_take){.path = path};
    if (uf_take_listen(t, ctx, folder, NULL) < 0) fail_msg("%s", uf_ctx_error(ctx));
}

/* Of recording a against recording b: 95 % of the time it lies nearer than this to its place, s; *ppm: error of its clock. */
static double off(const uf_take *a, const mic *ma, const uf_take *b, const mic *mb, double *ppm) {
    enum { MOST = 100000 };
    static double e[MOST];
    int n = 0;
    double t0 = fmax(ma->start, mb->start) + .5, t1 = fmin(ma->start + (double)a->n_low / UF_MERGE_RATE, mb->start + (double)b->n_low / UF_MERGE_RATE) - 1;
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    if (t1 < t0 + 2) t0 = fmin(ma->start, mb->start), t1 = t0 + 20; /* they never meet: by their clocks */
    for (double t = t0; t < t1 && n < MOST; t += .1) {
        if ((ma->lose > 0 && fabs(t - ma->lose_at) < ma->lose + .3) || (mb->lose > 0 && fabs(t - mb->lose_at) < mb->lose + .3)) continue;
        double common = uf_clock_inverse(&b->clock, own(mb, t)), error = uf_clock_read(&a->clock, common, NULL) - own(ma, t);
        e[n++] = error;
        sx += t; sy += error; sxx += t * t; sxy += t * error;
    }
    assert_true(n > 10);
    *ppm = 1e6 * (n * sxy - sx * sy) / (n * sxx - sx * sx);
    for (int i = 0; i < n; i++) e[i] = fabs(e[i]);
    uf_sort(e, (size_t)n);
    return e[(int)(.95 * n)];
}

static bool shows; /* what was found, for people */

static void show(const uf_take *t) {
    if (shows)
        print_message("%s: placed %d by %d, z %.1f, scatter %.1f us, +-%.3f ppm, agree %.2f, steps %d, ppm %.3f, polarity %g %s\n", strrchr(t->path, '/') + 1, t->placed, t->parent,
                      t->score, 1e6 * t->scatter, t->error_ppm, t->agree, t->n_steps, t->placed ? uf_clock_ppm(&t->clock) : 0, t->polarity, t->refused);
}

/* Records event x by n recorders and places them; all must be nearer than `limit` seconds, and their clocks than 1 ppm. */
static void place(uf_ctx *ctx, const float *x, int n_x, const mic *m, int n, int root, uf_take *t, double limit, double limit_ppm) {
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "mic%d.wav", i);
        listen(ctx, &t[i], record(name, x, n_x, &m[i], (uint64_t)i));
    }
    if (uf_place_all(ctx, t, n, &(uf_place_options){.clock = root}) < 0) fail_msg("%s", uf_ctx_error(ctx));
    for (int i = 0; i < n; i++) {
        show(&t[i]);
        if (!t[i].placed) fail_msg("recorder %d: %s (%.1f)", i, t[i].refused, t[i].score);
    }
    int first = 0;
    while (t[first].parent >= 0) first++;
    for (int i = 0; i < n; i++) {
        double ppm, far = i == first ? ppm = 0 : off(&t[i], &m[i], &t[first], &m[first], &ppm);
        if (shows) print_message("   %d is off by %.1f us, %.3f ppm\n", i, 1e6 * far, ppm);
        if (!(far < limit && fabs(ppm) < limit_ppm)) fail_msg("recorder %d is off by %.1f us, %.3f ppm", i, 1e6 * far, ppm);
        double sign = (m[i].sign < 0 ? -1 : 1) * (m[first].sign < 0 ? -1 : 1);
        if (t[i].polarity != sign) fail_msg("recorder %d: polarity %g", i, t[i].polarity);
    }
}

static void close_takes(uf_take *t, int n) {
    for (int i = 0; i < n; i++) uf_take_close(&t[i]);
}

static const double sample = 1 / 16000.; /* s: what "aligned" means */

/* Clocks up to 400 ppm off and a wandering one, rates, noise as loud as the event, a negative, half a second lost. */
static void test_clocks(void **state) {
    (void)state;
    static const mic m[] = {
        {.rate = 16000, .ppm = 0, .snr = 20},
        {.rate = 48000, .ppm = 100, .start = 3.3, .snr = 5},
        {.rate = 44100, .ppm = -400, .start = 11.25, .snr = 0.1, .sign = -1},
        {.rate = 16000, .ppm = 10, .start = 60, .length = 60, .snr = 10},
        {.rate = 22050, .ppm = -50, .start = 2, .snr = 15, .lose_at = 100, .lose = .5},
        {.rate = 16000, .ppm = 30, .start = 0, .snr = 15, .wander = 10},
    };
    uf_take t[UF_LEN(m)];
    uf_ctx *ctx = open_ctx();
    int n;
    float *x = event(1, 180, &n);
    place(ctx, x, n, m, UF_LEN(m), 0, t, .3 * sample, .3);
    for (int i = 0; i < UF_LEN(m); i++) assert_int_equal(t[i].n_steps, i == 4);
    const uf_clock *c = &t[4].clock; /* the hole lies where it lies */
    for (int k = 1; k < c->n; k++)
        if (c->knot[k].opens) {
            if (fabs(c->knot[k - 1].at - 100) > .1 || fabs(c->knot[k].at - c->knot[k - 1].at - .5) > .01)
                fail_msg("the hole is from %.3f to %.3f", c->knot[k - 1].at, c->knot[k].at);
        }
    close_takes(t, UF_LEN(m));
    free(x);
    uf_ctx_close(&ctx);
}

/* Losses of a few hundredths of a second, near a beginning and near an end, in noise as loud as the event; and a dropout, in which nothing is lost. */
static void test_losses(void **state) {
    (void)state;
    static const mic m[] = {
        {.rate = 16000, .snr = 10},
        {.rate = 16000, .ppm = 60, .start = 1, .snr = 3, .lose_at = 5, .lose = .025},
        {.rate = 44100, .ppm = -90, .start = 2.5, .snr = 0.1, .lose_at = 36, .lose = .04},
        {.rate = 16000, .ppm = 25, .start = 0.7, .snr = 5, .out_at = 17, .out = 2},
    };
    uf_take t[UF_LEN(m)];
    uf_ctx *ctx = open_ctx();
    int n;
    float *x = event(6, 40, &n);
    place(ctx, x, n, m, UF_LEN(m), 0, t, .5 * sample, 100); /* in a pause nobody can tell where, which a slope over all of it shows */
    for (int i = 0; i < UF_LEN(m); i++) {
        assert_int_equal(t[i].n_steps, m[i].lose > 0);
        if (!(t[i].error_ppm < 1 && fabs(uf_clock_ppm(&t[i].clock) - m[i].ppm) < 1)) fail_msg("recorder %d: %.3f ppm", i, uf_clock_ppm(&t[i].clock));
        for (int k = 1; k < t[i].clock.n; k++) {
            const uf_knot *b = &t[i].clock.knot[k], *a = b - 1;
            double by = (b->is - a->is) - (b->at - a->at);
            if (b->opens && (fabs(by + m[i].lose) > .2 * sample || fabs(a->at - m[i].lose_at) > 1.2)) fail_msg("recorder %d lost %.4f s at %.2f", i, -by, a->at);
        }
    }
    close_takes(t, UF_LEN(m));
    free(x);
    uf_ctx_close(&ctx);
}

/* A jump that evidence on both sides of a silence shows is taken, one moment that errs is not; what is far costs more. */
static void test_course(void **state) {
    (void)state;
    enum { N = 12, STATES = 6 };
    static const int place[STATES] = {0, 1, 2, 20, 21, 300};
    static const int seen[N] = {0, 0, 0, 5, 0, 1, -1, -1, 4, 4, 4, 4}, want[N] = {0, 0, 0, 0, 0, 1, 1, 1, 4, 4, 4, 4};
    uf_course c = {.place = place, .n_states = STATES, .creep = 1, .jump = 30, .leap = 40, .least = 8, .near = 50};
    float score[N][STATES] = {{0}};
    int got[N];
    uf_ctx *ctx = open_ctx();
    for (int k = 0; k < N; k++)
        if (seen[k] >= 0) score[k][seen[k]] = 20;
    assert_int_equal(uf_course_find(ctx, &c, &score[0][0], N, got), UF_OK);
    for (int k = 0; k < N; k++)
        if (k != 6 && k != 7) assert_int_equal(got[k], want[k]); /* in the silence it may jump when it likes */
    for (int k = 8; k < N; k++) score[k][5] = 30; /* worth a leap, where that costs 40 */
    assert_int_equal(uf_course_find(ctx, &c, &score[0][0], N, got), UF_OK);
    assert_int_equal(got[N - 1], 5);
    c.leap = 140;
    assert_int_equal(uf_course_find(ctx, &c, &score[0][0], N, got), UF_OK);
    assert_int_equal(got[N - 1], 4);
    uf_ctx_close(&ctx);
}

/* Three talkers take turns, up to 2 m nearer to one recorder than to another. */
static void test_talkers(void **state) {
    (void)state;
    static const mic m[] = {
        {.rate = 16000, .snr = 20, .delay = {.001, .006, .004}, .turn = 7},
        {.rate = 16000, .ppm = 80, .start = 5, .snr = 10, .delay = {.005, .002, .003}, .turn = 7},
        {.rate = 48000, .ppm = -25, .start = 1, .snr = 10, .delay = {.002, .001, .007}, .turn = 7},
    };
    uf_take t[UF_LEN(m)];
    uf_ctx *ctx = open_ctx();
    int n;
    float *x = event(2, 150, &n);
    place(ctx, x, n, m, UF_LEN(m), 0, t, .012, 1); /* their places are ambiguous by the talkers' distances, their clocks are not */
    for (int i = 0; i < UF_LEN(m); i++) assert_int_equal(t[i].n_steps, 0);
    close_takes(t, UF_LEN(m));
    free(x);
    uf_ctx_close(&ctx);
}

/* Recordings that meet only through others; one that begins 20 minutes late; one whose clock is nobody's choice, as it has lost something. */
static void test_chain(void **state) {
    (void)state;
    static const mic m[] = {
        {.rate = 8000, .ppm = 20, .length = 70, .snr = 15},
        {.rate = 16000, .ppm = -30, .start = 40, .length = 1260, .snr = 15, .lose_at = 600, .lose = .08},
        {.rate = 11025, .ppm = 100, .start = 1200, .length = 90, .snr = 15},
        {.rate = 16000, .ppm = 5, .start = 30, .length = 1250, .snr = 15},
    };
    uf_take t[UF_LEN(m)];
    uf_ctx *ctx = open_ctx();
    int n;
    float *x = event(3, 1300, &n);
    place(ctx, x, n, m, UF_LEN(m), -1, t, sample, 1);
    assert_int_equal(t[3].parent, -1);
    assert_int_equal(t[1].n_steps, 1);
    close_takes(t, UF_LEN(m));
    free(x);
    uf_ctx_close(&ctx);
}

/* What does not belong to the others is named, and they go on. */
static void test_strangers(void **state) {
    (void)state;
    static const mic m[] = {
        {.rate = 16000, .snr = 20},
        {.rate = 16000, .ppm = 60, .start = 12, .snr = 10},
        {.rate = 16000, .snr = 20}, /* of another event */
        {.rate = 16000, .snr = 20}, /* the first once more */
    };
    enum { N = UF_LEN(m) + 1 };
    uf_take t[N];
    uf_ctx *ctx = open_ctx();
    int n, n_other;
    float *x = event(4, 60, &n), *other = event(5, 60, &n_other), *silence = calloc((size_t)n, sizeof *silence);
    listen(ctx, &t[0], record("a.wav", x, n, &m[0], 1));
    listen(ctx, &t[1], record("b.wav", x, n, &m[1], 2));
    listen(ctx, &t[2], record("other.wav", other, n_other, &m[2], 3));
    listen(ctx, &t[3], record("again.wav", x, n, &m[3], 1));
    listen(ctx, &t[4], record("silence.wav", silence, n, &(mic){.rate = 16000}, 1));
    assert_int_equal(uf_place_all(ctx, t, N, &(uf_place_options){.clock = -1}), UF_OK);
    for (int i = 0; i < N; i++) show(&t[i]);
    assert_true(t[0].placed && t[1].placed && !t[2].placed && !t[3].placed && !t[4].placed);
    assert_int_equal(t[3].same_as, 0);
    assert_non_null(strstr(t[3].refused, "a.wav"));
    assert_non_null(strstr(t[2].refused, "heard"));
    assert_non_null(strstr(t[4].refused, "silence"));
    close_takes(t, N);
    free(x);
    free(other);
    free(silence);
    uf_ctx_close(&ctx);
}

/* ---- what a recording is worth -------------------------------------------------------------------------------------------------------- */

/* Two channels of 16 bit in the test's folder. */
static void write_stereo(char path[256], int16_t (*x)[2], int n, int rate) {
    snprintf(path, 256, "%s/quality.wav", folder);
    FILE *f = fopen(path, "wb");
    write_head(f, n, rate, 2);
    fwrite(x, (size_t)n * sizeof *x, 1, f);
    fclose(f);
}

static void test_quality(void **state) {
    (void)state;
    enum { RATE = 16000, N = 6 * RATE };
    static int16_t x[N][2];
    char path[256];
    uf_ctx *ctx = open_ctx();
    uf_take t;
    for (int i = 0; i < N; i++) x[i][0] = (int16_t)(3000 * uf_gaussian(1, 1, (uint64_t)i) * (float)(1.2 + sin(i * .0007))), x[i][1] = 0;
    for (int i = 20000; i < 20800; i++) x[i][0] = 0;                    /* 50 ms of silence */
    for (int i = 40000; i < 40480; i++) x[i][0] = x[i - 480][0];        /* 30 ms repeated */
    for (int i = 60000; i < 60010; i++) x[i][0] = 32767;                /* and a clip */
    for (int round = 0; round < 2; round++) {
        if (round)
            for (int i = 0; i < N; i++) x[i][1] = (int16_t)-x[i][0]; /* the other channel is dead, and then upside down */
        write_stereo(path, x, N, RATE);
        listen(ctx, &t, path);
        assert_int_equal(t.n, N);
        assert_int_equal(t.n_low, N / 2);
        assert_int_equal(t.quality.n_clipped, 1);
        assert_int_equal(t.quality.n_drops, 2);
        assert_true(labs(t.drop[0].from - 20000) < 4 && labs(t.drop[0].to - 20800) < 4);
        assert_true(t.drop[1].from > 39900 && t.drop[1].from <= 40064 && t.drop[1].to >= 40400 && t.drop[1].to < 40560);
        assert_int_equal(t.quality.n_dead, !round);
        assert_int_equal(t.quality.n_flipped, round);
        assert_true(t.quality.level > -22 && t.quality.level < -16 && t.quality.floor < t.quality.level - 6);
        assert_true(t.quality.rolloff > 7000 && t.quality.rolloff < 8000);
        uf_take_close(&t);
    }
    uf_ctx_close(&ctx);
}

/* What was cut off, and made quieter after that, is known by its flat peaks; they are no repeated buffers. A hum's round peaks are not flat. */
static void test_clipped(void **state) {
    (void)state;
    enum { RATE = 16000, N = 6 * RATE };
    static int16_t x[N][2];
    char path[256];
    uf_ctx *ctx = open_ctx();
    uf_take t;
    for (int clipped = 0; clipped < 2; clipped++) {
        for (int i = 0; i < N; i++) {
            double v = clipped ? 4000 * sin(i * .31) * (1.1 + sin(i * .003)) + 1500 * (double)uf_gaussian(1, 1, (uint64_t)i) : 40 * sin(i * .02);
            x[i][0] = x[i][1] = (int16_t)fmin(fmax(v, -2000), 2000);
        }
        write_stereo(path, x, N, RATE);
        listen(ctx, &t, path);
        assert_true(clipped ? t.quality.n_clipped > 1000 : t.quality.n_clipped == 0);
        assert_true(fabs(t.quality.clipped_at - (clipped ? 2000 / 32768. : 1)) < 1e-6);
        assert_int_equal(t.quality.n_drops, 0);
        uf_take_close(&t);
    }
    uf_ctx_close(&ctx);
}

/* ---- resampling ------------------------------------------------------------------------------------------------------------------------- */

/* n_in samples of x through a clock, in blocks; there may be NULL. */
static int resample(uf_ctx *ctx, const uf_drift_options *o, const float *x, int n_in, int block, float *y, uint8_t *there, int n_out) {
    uf_drift *d = NULL;
    int done = 0, given = 0;
    bool ended = false;
    assert_int_equal(uf_drift_open(&d, ctx, o), UF_OK);
    while (done < n_out) {
        float *to = y + done;
        int want = n_out - done < block ? n_out - done : block, got = uf_drift_pull(d, &to, there + done, want);
        done += got;
        if (got) continue;
        assert_false(ended);
        const float *from = x + given;
        int n = n_in - given < block ? n_in - given : block;
        assert_int_equal(uf_drift_push(d, &from, n), UF_OK);
        ended = n == 0;
        given += n;
    }
    uf_drift_close(&d);
    return given;
}

/* A chirp, recorded by a clock that wanders and loses 0.1 s, comes back as it was: at its place, with nothing added; whatever the blocks, to the bit. */
static void drifts_back(int from_rate, int to_rate) {
    enum { MOST = 48000 };
    static float x[5 * MOST], y[3][6 * MOST];
    static uint8_t there[3][6 * MOST];
    int n_in = 5 * from_rate, n_out = 6 * to_rate, block[] = {n_in, 1000, 37};
    uf_knot k[] = {{1, .25, true}, {2, 1.2502, false}, {3, 2.2501, false}, {3.1, 2.2501, true}, {6, 5.15, false}};
    uf_clock c = {.knot = k, .n = UF_LEN(k)};
    uf_ctx *ctx = open_ctx();
    for (int i = 0; i < n_in; i++) {
        double t = uf_clock_inverse(&c, (double)i / from_rate);
        x[i] = (float)sin(2 * M_PI * (100 * t + 800 * t * t));
    }
    for (int i = 0; i < 3; i++)
        resample(ctx, &(uf_drift_options){.channels = 1, .from_rate = from_rate, .to_rate = to_rate, .clock = &c, .from = .5}, x, n_in, block[i], y[i], there[i], n_out);
    assert_memory_equal(y[0], y[1], (size_t)n_out * sizeof **y);
    assert_memory_equal(y[0], y[2], (size_t)n_out * sizeof **y);
    assert_memory_equal(there[0], there[2], (size_t)n_out);
    double worst = 0;
    for (int i = 0; i < n_out; i++) {
        double t = .5 + i / (double)to_rate, own = uf_clock_read(&c, t, NULL);
        bool hole = t > 3 && t < 3.1, outside = own < 0 || own > (n_in - 1.) / from_rate;
        assert_true(there[0][i] == !(hole || outside) || fabs(own) < 1e-6 || fabs(t - 3) < 1e-6 || fabs(t - 3.1) < 1e-6 || fabs(own - (n_in - 1.) / from_rate) < 2. / to_rate);
        if (hole || outside) assert_true(y[0][i] == 0.f || !hole);
        else if (own > .01 && own < 4.98 && fabs(t - 3.05) > .06 && fabs(own - 1.2502) > .001 ) worst = fmax(worst, fabs((double)y[0][i] - sin(2 * M_PI * (100 * t + 800 * t * t))));
    }
    if (!(worst < 1e-3)) fail_msg("off by %.2g", worst);
    uf_ctx_close(&ctx);
}

static void test_drift(void **state) {
    (void)state;
    drifts_back(44100, 48000);
    drifts_back(48000, 48000); /* the filter changes little from sample to sample: many at once */
}

/* Onsets that lie late by some frames, among others that have nothing to do with them: found near the clock, and further off where they are clear. */
static void test_onsets(void **state) {
    (void)state;
    enum { N = 60 * UF_MERGE_FLUX };
    static const int late[] = {0, -13, 33, -35};
    uf_knot same[] = {{0, 0, true}, {60, 60, false}};
    double at[] = {0, 60}, lag[] = {0, 0};
    uf_fit f = {.at = at, .lag = lag, .n = 2};
    float *a = calloc(N, sizeof *a), *b = calloc(N, sizeof *b);
    uf_take parent = {.flux = a, .n_flux = N, .clock = {.knot = same, .n = 2}}, take = {.flux = b, .n_flux = N};
    for (int k = 0; k < UF_LEN(late); k++) {
        for (int i = 0; i < N; i++) a[i] = uf_gaussian(3, 1, (uint64_t)i);
        for (int i = 0; i < N; i++) {
            int from = i - late[k];
            b[i] = (from >= 0 && from < N ? a[from] : 0) + uf_gaussian(3, 2, (uint64_t)i);
        }
        double is = uf_onset_late(&parent, &take, &f) * UF_MERGE_FLUX;
        if (!(fabs(is - late[k]) < 1)) fail_msg("late by %d frames, found %.2f", late[k], is);
    }
    for (int i = 0; i < N; i++) b[i] = .1f * (i >= 7 ? a[i - 7] : 0) + .15f * (i >= 33 ? a[i - 33] : 0) + .01f * uf_gaussian(3, 2, (uint64_t)i); /* half as much again is not clear */
    assert_true(fabs(uf_onset_late(&parent, &take, &f) * UF_MERGE_FLUX - 7) < 1);
    free(a);
    free(b);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drift), cmocka_unit_test(test_quality), cmocka_unit_test(test_clipped), cmocka_unit_test(test_clocks), cmocka_unit_test(test_talkers), cmocka_unit_test(test_chain),
        cmocka_unit_test(test_strangers), cmocka_unit_test(test_losses), cmocka_unit_test(test_course), cmocka_unit_test(test_onsets),
    };
    shows = argc > 1 && !strcmp(argv[1], "show");
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, setup, teardown);
}

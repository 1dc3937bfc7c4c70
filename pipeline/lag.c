/* How far two recordings are apart, window by window, once it is known roughly: generalised cross-correlation with phase transform (Knapp & Carter
 * 1976, IEEE TASSP 24). */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 8192, MARGIN = 40 };
static const double low_hz = 200, high_hz = 3600;

typedef struct tracker { /* a thread's */
    uf_ctx *ctx;
    const uf_lag_options *o;
    uf_fft fft;
    uf_sinc sinc;
    float *raw, *window, (*other)[2];
    int n;
    double loud; /* dB, of the parent's last window */
    double bend; /* s by which the guess changes within the last windows */
} tracker;

static int tracker_open(tracker *t, uf_ctx *ctx, const uf_lag_options *o, int n) {
    *t = (tracker){ .ctx = ctx, .o = o, .n = n };
    bool ok = uf_fft_open(&t->fft, n);
    t->raw = uf_alloc(ctx, (size_t)n + n / 100 + 2 * MARGIN + 8, sizeof(float));
    t->window = uf_alloc(ctx, (size_t)n, sizeof(float));
    t->other = uf_alloc(ctx, (size_t)n / 2 + 1, sizeof(*t->other));
    if (!ok || !t->raw || !t->window || !t->other || uf_sinc_open(&t->sinc, ctx, 16, 1) < 0)
        return uf_fail(ctx, UF_ENOMEM, "out of memory for measuring how far '%s' is from '%s'", o->take->path, o->parent->path);
    uf_fft_window(n, t->window);
    return UF_OK;
}

static void tracker_close(tracker *t) {
    uf_fft_close(&t->fft);
    uf_sinc_close(&t->sinc);
    free(t->raw);
    free(t->window);
    free(t->other);
}

static double loudness(const tracker *t) {
    double sum = 1e-12;
    for (int i = 0; i < t->n; i++) sum += (double)t->fft.time[i] * (double)t->fft.time[i];
    return 10 * log10(sum / (.375 * t->n)); /* of Hann's window */
}

static double guess_at(const uf_lag_options *o, double at) {
    const uf_guess *g = o->guess;
    int i = 0;
    if (o->n_guess == 1) return g[0].lag;
    while (i + 2 < o->n_guess && g[i + 1].at <= at) i++;
    return g[i].lag + (at - g[i].at) * (g[i + 1].lag - g[i].lag) / (g[i + 1].at - g[i].at);
}

/* n samples to the transform, whose first lies at `from` and the one behind the last at `to`, s of the recording's own time. UF_EOF: it has none there. */
static int fetch(tracker *t, const uf_take *take, double from, double to) {
    double first = from * UF_MERGE_RATE, step = (to - from) * UF_MERGE_RATE / t->n;
    int64_t base = (int64_t)floor(first) - MARGIN;
    if (first < 0 || to * UF_MERGE_RATE > (double)take->n_low || !(step > .99 && step < 1.01)) return UF_EOF;
    int n_raw = (int)ceil(step * t->n) + 2 * MARGIN, n_silent = 0;
    UF_TRY(uf_take_read(take, t->ctx, base, n_raw, t->raw));
    for (int i = 0; i < n_raw; i++) n_silent += t->raw[i] == 0.f;
    if (n_silent > .9 * n_raw) return UF_EOF; /* a dropout says nothing */
    uf_sinc_line(&t->sinc, t->raw, n_raw, first - (double)base, step, t->fft.time, t->n);
    for (int i = 0; i < t->n; i++) t->fft.time[i] *= t->window[i];
    uf_fft_forward(&t->fft);
    return UF_OK;
}

/* The parent's spectrum to `other`, the recording's to the transform: windows that begin at `from`, common time. */
static int fetch_both(tracker *t, double from, double late) {
    bool there[2];
    double to = from + (double)t->n / UF_MERGE_RATE;
    double a = uf_clock_read(&t->o->parent->clock, from, &there[0]), b = uf_clock_read(&t->o->parent->clock, to, &there[1]);
    if (!there[0] || !there[1]) return UF_EOF;
    UF_TRY(fetch(t, t->o->parent, a, b));
    t->loud = loudness(t);
    memcpy(t->other, t->fft.bins, ((size_t)t->n / 2 + 1) * sizeof(*t->other));
    double bend = guess_at(t->o, to) - guess_at(t->o, from); /* a step of the guess is none of the window */
    if (fabs(bend) > .002 * (to - from)) bend = 0;
    t->bend = bend;
    return fetch(t, t->o->take, from + late, to + late + bend);
}

/* ---- one window ---------------------------------------------------------------------------------------------------------------- */

/* Phases only, but for a rest of the weight: bins that hold nothing but noise count a little less. */
static void whiten(tracker *t, int low, int high) {
    for (int k = 0; k <= t->n / 2; k++) {
        const float *y = t->other[k];
        float *x = t->fft.bins[k];
        float re = x[0] * y[0] + x[1] * y[1], im = x[1] * y[0] - x[0] * y[1], size = sqrtf(re * re + im * im);
        bool in = k >= low && k <= high && size > 0;
        x[0] = in ? re / size : 0;
        x[1] = in ? im / size : 0;
    }
}

void uf_lag_span(const uf_lag_options *o, double *from, double *to) {
    const uf_clock *c = &o->parent->clock;
    *from = fmax(uf_clock_inverse(c, 0), -guess_at(o, 0));
    *to = fmin(uf_clock_inverse(c, (double)o->parent->n_low / UF_MERGE_RATE), 1e9);
    double end = (double)o->take->n_low / UF_MERGE_RATE - guess_at(o, *to);
    for (int i = 0; i < o->n_guess; i++) *from = fmin(*from, o->guess[i].at), end = fmax(end, o->guess[i].at);
    *to = fmin(*to, end);
}

/* ---- stretches of windows ------------------------------------------------------------------------------------------------------------- */

/* The windows of one stretch, on the guess's clock, into its correlations. */
static int gather(tracker *t, double from, uf_stretch *s) {
    int low = (int)(low_hz * t->n / UF_MERGE_RATE), high = (int)(high_hz * t->n / UF_MERGE_RATE);
    const uf_quality *q = &t->o->parent->quality;
    double middle = 0;
    for (double at = from; at < from + s->seconds - 1e-6; at += t->o->hop) {
        int got = fetch_both(t, at, guess_at(t->o, at));
        if (got == UF_EOF) continue;
        UF_TRY(got);
        bool loud = t->loud > q->level - 3, quiet = t->loud < q->floor + 3 && !loud;
        double back = guess_at(t->o, at) + .5 * t->bend - guess_at(t->o, at + .5 * t->n / UF_MERGE_RATE);
        if (fabs(back) > 1e-3) continue; /* a step of the guess */
        whiten(t, low, high);
        uf_fft_inverse(&t->fft);
        for (int l = -UF_STRETCH_SIDE; l <= UF_STRETCH_SIDE; l++) {
            float r = t->fft.time[(l + t->n) % t->n];
            s->all[l + UF_STRETCH_SIDE] += r;
            if (loud) s->loud[l + UF_STRETCH_SIDE] += r;
            if (quiet) s->quiet[l + UF_STRETCH_SIDE] += r;
        }
        s->n++;
        s->n_loud += loud;
        s->n_quiet += quiet;
        middle += at + .5 * t->n / UF_MERGE_RATE;
    }
    if (s->n) s->at = middle / s->n;
    return UF_OK;
}

int uf_lag_stretches(uf_ctx *ctx, const uf_lag_options *o, double from, double to, double seconds, uf_stretch **out, int *n_out) {
    int n = (int)((to - from) / seconds), failed = UF_OK;
    if (n < 1) n = 1;
    uf_stretch *all = uf_alloc(ctx, (size_t)n, sizeof(*all));
    if (!all) return UF_ENOMEM;
#pragma omp parallel num_threads(uf_ctx_threads(ctx))
    {
        tracker t;
        int err = tracker_open(&t, ctx, o, N);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n; i++) {
            all[i].seconds = seconds;
            if (err >= UF_OK && !uf_ctx_cancelled(ctx)) err = gather(&t, from + i * seconds, &all[i]);
        }
#pragma omp critical
        if (err < 0) failed = err;
        tracker_close(&t);
    }
    if (uf_ctx_cancelled(ctx)) failed = uf_fail(ctx, UF_EINTR, "stopped; nothing was written");
    *n_out = 0;
    for (int i = 0; i < n; i++)
        if (all[i].n) all[(*n_out)++] = all[i];
    if (failed < 0) free(all);
    else *out = all;
    return failed;
}

/* ---- the place of a step ---------------------------------------------------------------------------------------------------------- */

/* What the window has of the pattern; 0 where one of them has no sound. */
static double likeness(tracker *t, const float *pattern, double from, double late) {
    double sum = 0;
    if (fetch_both(t, from, late) < 0) return 0;
    whiten(t, (int)(low_hz * t->n / UF_MERGE_RATE), (int)(high_hz * t->n / UF_MERGE_RATE));
    uf_fft_inverse(&t->fft);
    for (int l = -UF_PATTERN_SIDE; l <= UF_PATTERN_SIDE; l++) sum += (double)pattern[l + UF_PATTERN_SIDE] * (double)t->fft.time[(l + t->n) % t->n];
    return sum;
}

int uf_lag_step(uf_ctx *ctx, const uf_lag_options *o, const uf_lag_sides *s, double from, double to, double *is) {
    enum { SHORT = 2048, HOP = 64 };
    tracker t;
    double sum = 0, best = 0, last = from;
    *is = .5 * (from + to);
    UF_TRY(tracker_open(&t, ctx, o, SHORT));
    for (int i = 0; i * HOP < (to - from) * UF_MERGE_RATE; i++) {
        double own = from + ((double)i * HOP - SHORT / 2) / UF_MERGE_RATE; /* before the step the first lag is right */
        double drifted = s->rate * (own - .5 * (from + to)), before = s->before + drifted, after = s->after + drifted;
        sum += likeness(&t, s->pattern, own - before, before) - likeness(&t, s->pattern, own - after, after);
        if (sum > best || !i) {
            best = sum;
            *is = last = from + (i + .5) * HOP / UF_MERGE_RATE;
        } else if (sum >= best) last += (double)HOP / UF_MERGE_RATE; /* nothing is heard: it may be anywhere in there */
    }
    *is = .5 * (*is + last);
    tracker_close(&t);
    return UF_OK;
}

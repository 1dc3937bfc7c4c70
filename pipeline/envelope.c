/* How loud a recording's bands are, and when they become louder: what tells recordings of one event apart from others, whatever rooms, gains, equalisers and
 * codecs did to them. Levels find the event in noise that is louder than it; onsets (spectral flux: Dixon 2006, Proc. DAFx) say when it was, more finely. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHORT = 256, LONG = 512, HOP = UF_MERGE_RATE / UF_MERGE_FLUX, EVERY = UF_MERGE_FLUX / UF_MERGE_COARSE, BANDS = UF_MERGE_BANDS, RISES = 20, PIECE = 4096 };

static const float LEAST = 1e-9f; /* power of silence */

struct uf_envelope {
    uf_ctx *ctx;
    uf_fft small, large;
    float window[SHORT], wide_window[LONG], wait[LONG + PIECE];
    int n_wait;
    float mean[RISES], past[4][RISES];
    int rise_edge[RISES + 1], edge[BANDS + 1];
    float *flux, *power;    /* n_flux; (n_power, BANDS) */
    int64_t n_flux, n_power;
    size_t room_flux, room_power;
};

static int grow(uf_ctx *ctx, float **at, size_t *room, int64_t n) {
    if ((size_t)n <= *room) return UF_OK;
    float *more = realloc(*at, (2 * (size_t)n + 65536) * sizeof(*more));
    if (!more) return uf_fail(ctx, UF_ENOMEM, "out of memory for %lld measurements; give shorter recordings", (long long)n);
    *at = more;
    *room = 2 * (size_t)n + 65536;
    return UF_OK;
}

/* n bands of equal width in mel, of which each has a bin of its own. */
static void make_bands(int *edge, int n, int size) {
    const double low = 1127 * log(1 + 150 / 700.), high = 1127 * log(1 + 3600 / 700.);
    for (int b = 0; b <= n; b++) {
        double hz = 700 * (exp((low + (high - low) * b / n) / 1127) - 1);
        edge[b] = (int)lround(hz * size / UF_MERGE_RATE);
        if (b && edge[b] <= edge[b - 1]) edge[b] = edge[b - 1] + 1;
    }
}

static void powers(uf_fft *f, const float *x, const float *window, const int *edge, int n, float *power) {
    for (int i = 0; i < f->n; i++) f->time[i] = x[i] * window[i];
    uf_fft_forward(f);
    for (int b = 0; b < n; b++) {
        power[b] = LEAST;
        for (int k = edge[b]; k < edge[b + 1]; k++) power[b] += f->bins[k][0] * f->bins[k][0] + f->bins[k][1] * f->bins[k][1];
    }
}

/* By how much the bands have become louder in 10 ms. */
static float rise(uf_envelope *e, const float *x) {
    bool first = !e->n_flux;
    float sum = 0, power[RISES];
    powers(&e->small, x, e->window, e->rise_edge, RISES, power);
    for (int b = 0; b < RISES; b++) {
        e->mean[b] = first ? power[b] : e->mean[b] + (power[b] - e->mean[b]) / (3 * UF_MERGE_FLUX);
        float now = logf(power[b] + .03f * e->mean[b]), up = now - e->past[3][b];
        if (!first && up > 0) sum += up;
        for (int k = 3; k > 0; k--) e->past[k][b] = first ? now : e->past[k - 1][b];
        e->past[0][b] = now;
    }
    return sum;
}

int uf_envelope_open(uf_envelope **out, uf_ctx *ctx) {
    uf_envelope *e = uf_alloc(ctx, 1, sizeof(*e));
    if (!e) return UF_ENOMEM;
    e->ctx = ctx;
    bool ok = uf_fft_open(&e->small, SHORT);
    if (!uf_fft_open(&e->large, LONG) || !ok) {
        uf_envelope_close(&e);
        return uf_fail(ctx, UF_ENOMEM, "out of memory for spectra");
    }
    uf_fft_window(SHORT, e->window);
    uf_fft_window(LONG, e->wide_window);
    make_bands(e->rise_edge, RISES, SHORT);
    make_bands(e->edge, BANDS, LONG);
    *out = e;
    return UF_OK;
}

void uf_envelope_close(uf_envelope **pe) {
    uf_envelope *e = *pe;
    if (!e) return;
    uf_fft_close(&e->small);
    uf_fft_close(&e->large);
    free(e->flux);
    free(e->power);
    free(e);
    *pe = NULL;
}

static int push_some(uf_envelope *e, const float *x, int n) {
    memcpy(e->wait + e->n_wait, x, (size_t)n * sizeof(*x));
    e->n_wait += n;
    int at = 0;
    for (; at + LONG <= e->n_wait; at += HOP) {
        UF_TRY(grow(e->ctx, &e->flux, &e->room_flux, e->n_flux + 1));
        if (e->n_flux % EVERY == 0) {
            UF_TRY(grow(e->ctx, &e->power, &e->room_power, (e->n_power + 1) * BANDS));
            powers(&e->large, e->wait + at, e->wide_window, e->edge, BANDS, e->power + e->n_power++ * BANDS);
        }
        e->flux[e->n_flux] = rise(e, e->wait + at);
        e->n_flux++;
    }
    memmove(e->wait, e->wait + at, (size_t)(e->n_wait - at) * sizeof(float));
    e->n_wait -= at;
    return UF_OK;
}

int uf_envelope_push(uf_envelope *e, const float *x, int n) {
    for (int at = 0; at < n; at += PIECE) UF_TRY(push_some(e, x + at, n - at < PIECE ? n - at : PIECE));
    return UF_OK;
}

/* x less its mean within `side` samples, its outliers cut: a door must not outweigh an hour of speech. Deviation 1. */
static void level(const float *x, int64_t n, int side, float *y) {
    double sum = 0, square = 0, kept = 0;
    for (int64_t i = 0; i < side && i < n; i++) sum += (double)x[i];
    for (int64_t i = 0; i < n; i++) {
        if (i + side < n) sum += (double)x[i + side];
        if (i - side - 1 >= 0) sum -= (double)x[i - side - 1];
        int64_t count = (i + side < n ? side : n - 1 - i) + (i < side ? i : side) + 1;
        y[i] = x[i] - (float)(sum / (double)count);
        square += (double)y[i] * (double)y[i];
    }
    float most = 4 * (float)sqrt(square / (double)(n ? n : 1));
    for (int64_t i = 0; i < n; i++) y[i] = fmaxf(fminf(y[i], most), -most), kept += (double)y[i] * (double)y[i];
    float unit = (float)(1 / sqrt(kept / (double)(n ? n : 1) + 1e-20));
    for (int64_t i = 0; i < n && kept > 0; i++) y[i] *= unit;
}

/* The band's usual power, noise or not: below it, or far below what it has at times, nothing is to be told. */
static float usual(const uf_envelope *e, int band) {
    enum { SAMPLES = 4096 };
    float some[SAMPLES], sum = 0;
    int64_t step = e->n_power / SAMPLES + 1;
    int n = 0;
    for (int64_t i = 0; i < e->n_power && n < SAMPLES; i += step)
        if (e->power[i * BANDS + band] > 2 * LEAST) sum += some[n++] = e->power[i * BANDS + band];
    uf_sort_floats(some, (size_t)n);
    return n ? fmaxf(some[n / 2], .01f * sum / (float)n) : 1;
}

typedef double square[BANDS][BANDS];

static void multiply(square a, square b, square to) {
    square y = { { 0 } };
    for (int i = 0; i < BANDS; i++)
        for (int k = 0; k < BANDS; k++)
            for (int j = 0; j < BANDS; j++) y[i][j] += a[i][k] * b[k][j];
    memcpy(to, y, sizeof(y));
}

/* c^-1/2 in place, c symmetric and positive: by Newton's and Schulz' iteration (Higham 2008, Functions of Matrices, 6.3). */
static void inverse_root(square c) {
    square z = { { 0 } }, t;
    double trace = 0;
    for (int i = 0; i < BANDS; i++) trace += c[i][i], z[i][i] = 1;
    for (int i = 0; i < BANDS; i++)
        for (int k = 0; k < BANDS; k++) c[i][k] /= trace;
    for (int round = 0; round < 40; round++) {
        multiply(z, c, t);
        for (int i = 0; i < BANDS; i++)
            for (int k = 0; k < BANDS; k++) t[i][k] = (i == k ? 1.5 : 0) - .5 * t[i][k];
        multiply(c, t, c);
        multiply(t, z, z);
    }
    for (int i = 0; i < BANDS; i++)
        for (int k = 0; k < BANDS; k++) c[i][k] = z[i][k] / sqrt(trace);
}

/* What all bands do at once counts once, not twelve times; what they do by themselves is as good a sign. */
static void whiten(float *x, int64_t n) {
    static const double rest = .02;
    square c = { { 0 } };
    for (int64_t i = 0; i < n; i++)
        for (int b = 0; b < BANDS; b++)
            for (int k = 0; k <= b; k++) c[b][k] += (double)x[b * n + i] * (double)x[k * n + i] / (double)n;
    for (int b = 0; b < BANDS; b++) {
        c[b][b] += rest;
        for (int k = 0; k < b; k++) c[k][b] = c[b][k];
    }
    inverse_root(c);
    for (int64_t i = 0; i < n; i++) {
        double y[BANDS] = { 0 };
        for (int b = 0; b < BANDS; b++)
            for (int k = 0; k < BANDS; k++) y[b] += c[b][k] * (double)x[k * n + i];
        for (int b = 0; b < BANDS; b++) x[b * n + i] = (float)fmax(fmin(y[b], 4), -4);
    }
}

int uf_envelope_finish(uf_envelope *e, float **flux, int64_t *n_flux, float **bands, int64_t *n_bands) {
    enum { FLUX_SIDE = UF_MERGE_FLUX / 2, SIDE = 30 };
    float *y = uf_alloc(e->ctx, (size_t)e->n_flux + 1, sizeof(float)), *x = uf_alloc(e->ctx, (size_t)e->n_power + 1, sizeof(float));
    float *all = uf_alloc(e->ctx, (size_t)e->n_power * BANDS + 1, sizeof(float));
    bool ok = y && x && all;
    if (ok) level(e->flux, e->n_flux, FLUX_SIDE, y);
    for (int b = 0; b < BANDS && ok; b++) {
        float floor = usual(e, b);
        for (int64_t i = 0; i < e->n_power; i++) x[i] = logf(e->power[i * BANDS + b] + floor);
        level(x, e->n_power, SIDE, all + b * e->n_power);
    }
    if (ok && e->n_power) whiten(all, e->n_power);
    free(x);
    if (!ok) {
        free(y);
        free(all);
        return UF_ENOMEM;
    }
    *flux = y;
    *n_flux = e->n_flux;
    *bands = all;
    *n_bands = e->n_power;
    return UF_OK;
}

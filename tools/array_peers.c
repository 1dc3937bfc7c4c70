/* Other people's ways to one signal out of several microphones, written anew from their papers, to be measured beside ours. */
#include "array_bench.h"

#include "mvdr.h"
#include "spectra.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = 1024, BINS = FFT / 2 + 1 };

static double level(const float *x, int n) {
    double sum = 1e-12;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / n);
}

void uf_peer_sum(int n_mics, const float *const *x, int n, float *y) {
    memset(y, 0, (size_t)n * sizeof *y);
    for (int m = 0; m < n_mics; m++) {
        float gain = (float)(1 / (level(x[m], n) * n_mics));
        for (int i = 0; i < n; i++) y[i] += gain * x[m][i];
    }
}

/* ---- MVDR with a blind mask --------------------------------------------------------------------------------------------------------- */

typedef struct blind {
    int mics, frames;
    uf_spectra spectra;
    float *x, *y; /* (BINS, mics, 2, frames), (BINS, 2, frames) */
    uf_complex *speech, *noise, *scratch, *w;
    float *sorted;
} blind;

static uf_complex bin(const blind *d, int m, int t, int b) {
    const float *re = d->x + 2 * ((size_t)b * (size_t)d->mics + (size_t)m) * (size_t)d->frames + t;
    return (double)re[0] + I * (double)re[d->frames];
}

/* Power of bin b in frame t at the median microphone is taken against its own tenth percentile over time: 10 dB above it is voice. */
static void covariances(blind *d, int b) {
    float power[UF_MOST_MICS];
    uf_complex v[UF_MOST_MICS];
    memset(d->speech, 0, (size_t)(d->mics * d->mics) * sizeof *d->speech);
    memset(d->noise, 0, (size_t)(d->mics * d->mics) * sizeof *d->noise);
    float *kept = d->sorted + d->frames;
    for (int t = 0; t < d->frames; t++) {
        for (int m = 0; m < d->mics; m++) v[m] = bin(d, m, t, b), power[m] = (float)creal(v[m] * conj(v[m]));
        uf_sort_floats(power, (size_t)d->mics);
        d->sorted[t] = kept[t] = power[d->mics / 2];
    }
    uf_sort_floats(d->sorted, (size_t)d->frames);
    float floor_of = d->sorted[d->frames / 10];
    for (int t = 0; t < d->frames; t++) {
        uf_complex *to = kept[t] > 10 * floor_of ? d->speech : d->noise;
        for (int m = 0; m < d->mics; m++) v[m] = bin(d, m, t, b);
        for (int m = 0; m < d->mics; m++)
            for (int k = 0; k < d->mics; k++) to[m * d->mics + k] += v[m] * conj(v[k]);
    }
}

static void filter(blind *d, int reference) {
    int all[UF_MOST_MICS];
    for (int m = 0; m < d->mics; m++) all[m] = m;
    for (int b = 0; b < BINS; b++) {
        float *re = d->y + 2 * (size_t)b * (size_t)d->frames, *im = re + d->frames;
        covariances(d, b);
        uf_mvdr(d->mics, d->speech, d->noise, d->mics, all, reference, 1e-4, d->scratch, d->w);
        for (int t = 0; t < d->frames; t++) {
            uf_complex sum = 0;
            for (int m = 0; m < d->mics; m++) sum += conj(d->w[m]) * bin(d, m, t, b);
            re[t] = (float)creal(sum);
            im[t] = (float)cimag(sum);
        }
    }
}

int uf_peer_blind(uf_ctx *ctx, int n_mics, const float *const *x, int n, int reference, float *y) {
    blind d = {.mics = n_mics};
    size_t size = (size_t)n_mics * (size_t)n_mics;
    bool all = uf_spectra_open(&d.spectra, FFT);
    d.frames = all ? (n + d.spectra.hop - 1) / d.spectra.hop : 0;
    size_t row = 2 * (size_t)d.frames;
    d.x = uf_alloc(ctx, BINS * (size_t)n_mics * row, sizeof *d.x);
    d.y = uf_alloc(ctx, BINS * row, sizeof *d.y);
    d.sorted = uf_alloc(ctx, row, sizeof *d.sorted);
    d.speech = uf_alloc(ctx, (UF_MVDR_SCRATCH + 2) * size + 3 * (size_t)n_mics, sizeof *d.speech);
    all = all && d.x && d.y && d.sorted && d.speech;
    if (all) {
        d.noise = d.speech + size;
        d.w = d.noise + size;
        d.scratch = d.w + n_mics;
        for (int m = 0; m < n_mics; m++) uf_spectra_analyse(&d.spectra, x[m], n, d.frames, d.x + (size_t)m * row, (size_t)n_mics * row);
        filter(&d, reference);
        uf_spectra_synthesise(&d.spectra, d.y, d.frames, y, n);
    }
    uf_spectra_close(&d.spectra);
    free(d.x);
    free(d.y);
    free(d.sorted);
    free(d.speech);
    return all ? UF_OK : UF_ENOMEM;
}

/* ---- BeamformIt ---------------------------------------------------------------------------------------------------------------------- */

enum { BEST = 4, MOST_DELAY = 400 }; /* delays that are looked at, samples */

typedef struct summing {
    int mics, n, window, hop, pieces;
    uf_fft fft;
    float (*reference)[2];
    int *delay;    /* (mics, pieces, BEST) */
    float *height; /* ... how much they agree there */
} summing;

static void spectrum(summing *s, const float *x, int at) {
    for (int i = 0; i < s->fft.n; i++) s->fft.time[i] = i < s->window && at + i < s->n ? x[at + i] * (float)(.5 - .5 * cos(2 * M_PI * i / s->window)) : 0.f;
    uf_fft_forward(&s->fft);
}

/* The BEST highest peaks of GCC-PHAT between s->reference and x. */
static void peaks(summing *s, const float *x, int at, int *delay, float *height) {
    int bins = s->fft.n / 2 + 1;
    spectrum(s, x, at);
    for (int b = 0; b < bins; b++) {
        float re = s->fft.bins[b][0] * s->reference[b][0] + s->fft.bins[b][1] * s->reference[b][1];
        float im = s->fft.bins[b][1] * s->reference[b][0] - s->fft.bins[b][0] * s->reference[b][1], size = sqrtf(re * re + im * im) + 1e-12f;
        s->fft.bins[b][0] = re / size;
        s->fft.bins[b][1] = im / size;
    }
    uf_fft_inverse(&s->fft);
    for (int k = 0; k < BEST; k++) height[k] = -1, delay[k] = 0;
    for (int d = -MOST_DELAY; d <= MOST_DELAY; d++) {
        int i = (d + s->fft.n) % s->fft.n, k = BEST;
        float v = s->fft.time[i] / (float)s->fft.n;
        if (v < s->fft.time[(i + 1) % s->fft.n] / (float)s->fft.n || v < s->fft.time[(i + s->fft.n - 1) % s->fft.n] / (float)s->fft.n) continue;
        while (k > 0 && v > height[k - 1]) k--;
        for (int j = BEST - 1; j > k; j--) height[j] = height[j - 1], delay[j] = delay[j - 1];
        if (k < BEST) height[k] = v, delay[k] = d;
    }
}

/* The way through the candidates of one channel that is high and does not jump; it ends up at each piece's place 0. */
static int viterbi(uf_ctx *ctx, summing *s, int m) {
    int *delay = s->delay + (size_t)m * (size_t)s->pieces * BEST, *from = uf_alloc(ctx, (size_t)s->pieces * BEST, sizeof *from);
    float *height = s->height + (size_t)m * (size_t)s->pieces * BEST, before[BEST], now[BEST];
    if (!from) return UF_ENOMEM;
    for (int k = 0; k < BEST; k++) before[k] = logf(fmaxf(height[k], 1e-4f));
    for (int p = 1; p < s->pieces; p++) {
        for (int k = 0; k < BEST; k++) {
            float most = -1e30f;
            for (int j = 0; j < BEST; j++) {
                float v = before[j] - .1f * fminf(fabsf((float)(delay[p * BEST + k] - delay[(p - 1) * BEST + j])), 100.f);
                if (v > most) most = v, from[p * BEST + k] = j;
            }
            now[k] = most + logf(fmaxf(height[p * BEST + k], 1e-4f));
        }
        memcpy(before, now, sizeof before);
    }
    int best = 0;
    for (int k = 1; k < BEST; k++)
        if (before[k] > before[best]) best = k;
    for (int p = s->pieces - 1; p >= 0; p--) {
        int next = from[p * BEST + best];
        delay[p * BEST] = delay[p * BEST + best];
        height[p * BEST] = height[p * BEST + best];
        best = next;
    }
    free(from);
    return UF_OK;
}

/* The channel that agrees most with all others, over the whole recording. */
static int reference_of(summing *s, const float *const *x) {
    double most = -1;
    int best = 0, delay[BEST];
    float height[BEST];
    for (int r = 0; r < s->mics; r++) {
        double sum = 0;
        for (int p = 0; p < s->pieces; p += 8) {
            spectrum(s, x[r], p * s->hop);
            memcpy(s->reference, s->fft.bins, (size_t)(s->fft.n / 2 + 1) * sizeof *s->reference);
            for (int m = 0; m < s->mics; m++) {
                if (m == r) continue;
                peaks(s, x[m], p * s->hop, delay, height);
                sum += (double)height[0];
            }
        }
        if (sum > most) most = sum, best = r;
    }
    return best;
}

/* Pieces fade into each other; a channel's share follows how much it agrees, and one that agrees with nobody is left out. */
static void add(summing *s, const float *const *x, float *y) {
    double share[UF_MOST_MICS], gain[UF_MOST_MICS];
    for (int m = 0; m < s->mics; m++) share[m] = 1. / s->mics, gain[m] = 1 / level(x[m], s->n);
    memset(y, 0, (size_t)s->n * sizeof *y);
    for (int p = 0; p < s->pieces; p++) {
        double sum = 0, used = 0, now[UF_MOST_MICS];
        for (int m = 0; m < s->mics; m++) sum += now[m] = fmax((double)s->height[((size_t)m * (size_t)s->pieces + (size_t)p) * BEST], 1e-4);
        for (int m = 0; m < s->mics; m++) {
            share[m] = .95 * share[m] + .05 * now[m] / sum;
            now[m] = now[m] / sum < 1. / (4. * s->mics) ? 0 : share[m];
            used += now[m];
        }
        for (int i = 0; i < 2 * s->hop; i++) {
            int at = (p - 1) * s->hop + i + s->window / 2;
            float fade = 1.f - fabsf((float)(i - s->hop) + .5f) / (float)s->hop;
            if (at < 0 || at >= s->n) continue;
            for (int m = 0; m < s->mics; m++) {
                int from = at + s->delay[((size_t)m * (size_t)s->pieces + (size_t)p) * BEST];
                if (from >= 0 && from < s->n) y[at] += fade * (float)(now[m] / used * gain[m]) * x[m][from];
            }
        }
    }
}

int uf_peer_beamformit(uf_ctx *ctx, int n_mics, const float *const *x, int n, int rate, float *y, int *reference) {
    summing s = {.mics = n_mics, .n = n, .window = rate / 2, .hop = rate / 4};
    int size = 1024, err = UF_OK;
    while (size < 2 * s.window) size *= 2;
    s.pieces = n / s.hop + 1;
    size_t all = (size_t)n_mics * (size_t)s.pieces * BEST;
    bool fft = uf_fft_open(&s.fft, size);
    s.reference = uf_alloc(ctx, (size_t)size / 2 + 1, sizeof *s.reference);
    s.delay = uf_alloc(ctx, all, sizeof *s.delay);
    s.height = uf_alloc(ctx, all, sizeof *s.height);
    if (!fft || !s.reference || !s.delay || !s.height) err = UF_ENOMEM;
    if (err == UF_OK) *reference = reference_of(&s, x);
    for (int p = 0; err == UF_OK && p < s.pieces; p++) {
        spectrum(&s, x[*reference], p * s.hop);
        memcpy(s.reference, s.fft.bins, (size_t)(size / 2 + 1) * sizeof *s.reference);
        for (int m = 0; m < n_mics; m++) {
            size_t at = ((size_t)m * (size_t)s.pieces + (size_t)p) * BEST;
            peaks(&s, x[m], p * s.hop, s.delay + at, s.height + at);
            if (m == *reference) s.delay[at] = 0;
        }
    }
    for (int m = 0; err == UF_OK && m < n_mics; m++)
        if (m != *reference) err = viterbi(ctx, &s, m);
    if (err == UF_OK) add(&s, x, y);
    uf_fft_close(&s.fft);
    free(s.reference);
    free(s.delay);
    free(s.height);
    return err;
}

/* How the pattern of a pair's correlation moves: all of its peaks, direct sound and reflections, move together when a clock runs, whoever speaks. The
 * drift of the coherence between two times (Chinaev, Enzner et al. 2021, EUSIPCO: DWACD) is taken here between every stretch and the mean of all others, moved
 * to their places: the longest baseline that there is, reached step by step. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = 4096, BINS = FFT / 2 + 1, ROUNDS = 3, LOW = 200 * FFT / UF_MERGE_RATE, HIGH = 3600 * FFT / UF_MERGE_RATE };
static const double near_reach = .003; /* s: what a clock does between two stretches */
static const double found = 6;                           /* deviations */

typedef float bins[BINS][2];
typedef struct pattern {
    uf_fft fft;
    bins *s, sum, product; /* s: n; sum: of those that are placed, moved */
    double *moved, *share; /* s; how much of it is in the sum */
    const uf_stretch *stretch;
    int n;
} pattern;

/* sum += x, moved back by `seconds`, times `share` */
static void add(pattern *p, bins x, double seconds, double share) {
    double w = 2 * M_PI * seconds * UF_MERGE_RATE / FFT, re = cos(w * LOW), im = sin(w * LOW), c = cos(w), s = sin(w);
    for (int k = LOW; k <= HIGH; k++) {
        double a = (double)x[k][0], b = (double)x[k][1], next = re * c - im * s;
        p->sum[k][0] += (float)(share * (a * re - b * im));
        p->sum[k][1] += (float)(share * (a * im + b * re));
        im = re * s + im * c;
        re = next;
    }
}

static double correlation(const pattern *p, double lag, double *bend, double *slope) {
    double w = 2 * M_PI / FFT, re = cos(w * LOW * lag), im = sin(w * LOW * lag), c = cos(w * lag), s = sin(w * lag), value = 0;
    *bend = *slope = 0;
    for (int k = LOW; k <= HIGH; k++) {
        double a = (double)p->product[k][0], b = (double)p->product[k][1], v = a * re - b * im, next = re * c - im * s;
        value += 2 * v;
        *slope += 2 * w * k * (-a * im - b * re);
        *bend -= 2 * w * k * w * k * v;
        im = re * s + im * c;
        re = next;
    }
    return value;
}

/* By how much x is later than the sum, within `reach` (s) of `around`; its height in deviations. */
static double compare(pattern *p, bins x, double around, double reach, double *height) {
    float(*b)[2] = p->fft.bins;
    memset(b, 0, sizeof(bins));
    memset(p->product, 0, sizeof(bins));
    for (int k = LOW; k <= HIGH; k++) {
        p->product[k][0] = b[k][0] = x[k][0] * p->sum[k][0] + x[k][1] * p->sum[k][1];
        p->product[k][1] = b[k][1] = x[k][1] * p->sum[k][0] - x[k][0] * p->sum[k][1];
    }
    uf_fft_inverse(&p->fft);
    const float *r = p->fft.time;
    int from = (int)ceil((around - reach) * UF_MERGE_RATE), to = (int)floor((around + reach) * UF_MERGE_RATE), best = from;
    double square = 1e-30, bend, slope;
    for (int i = 0; i < FFT; i++) square += (double)r[i] * (double)r[i] / FFT;
    for (int l = from; l <= to; l++)
        if (r[(l + 2 * FFT) % FFT] > r[(best + 2 * FFT) % FFT]) best = l;
    double lag = best, value = correlation(p, lag, &bend, &slope);
    for (int i = 0; i < 3 && bend < 0; i++) {
        double move = -slope / bend;
        if (fabs(lag + move - best) > 1) break;
        lag += move;
        value = correlation(p, lag, &bend, &slope);
    }
    *height = value / sqrt(square);
    return lag / UF_MERGE_RATE;
}

/* ---- from stretch to stretch ---------------------------------------------------------------------------------------------------------- */

/* From a stretch that is placed to the others on one side of it. */
static void follow(pattern *p, int start, int way) {
    double last = p->moved[start], rate = 0, height;
    for (int k = start + way; k >= 0 && k < p->n; k += way) {
        double guess = last + rate * (p->stretch[k].at - p->stretch[k - way].at), near = compare(p, p->s[k], guess, near_reach, &height);
        p->moved[k] = height > .5 * found ? near : guess;
        p->share[k] = height > .5 * found ? 1 : 0;
        if (p->share[k] > 0) add(p, p->s[k], p->moved[k], 1);
        if (p->share[k] > 0 && abs(k - start) > 3) rate += .2 * ((p->moved[k] - last) / (p->stretch[k].at - p->stretch[k - way].at) - rate);
        last = p->moved[k];
    }
}

/* Each against all others, where they are now. */
static void refine(pattern *p, uf_lag *lag) {
    for (int round = 0; round < ROUNDS; round++) {
        memset(p->sum, 0, sizeof(p->sum));
        for (int k = 0; k < p->n; k++)
            if (p->share[k] > 0) add(p, p->s[k], p->moved[k], p->share[k]);
        for (int k = 0; k < p->n; k++) {
            double height;
            if (p->share[k] > 0) add(p, p->s[k], p->moved[k], -p->share[k]);
            double now = compare(p, p->s[k], p->moved[k], .001, &height);
            if (p->share[k] > 0) add(p, p->s[k], p->moved[k], p->share[k]);
            p->share[k] = height > .5 * found;
            if (p->share[k] > 0) p->moved[k] = now;
            lag[k] = (uf_lag){ .at = p->stretch[k].at, .lag = p->moved[k], .q = height, .level = -1 };
        }
    }
}

/* ---- the voice in it -------------------------------------------------------------------------------------------------------------------- */

static void transform(pattern *p, const float *r, bins to) {
    memset(p->fft.time, 0, FFT * sizeof(float));
    for (int l = -UF_STRETCH_SIDE; l <= UF_STRETCH_SIDE; l++) p->fft.time[(l + FFT) % FFT] = r[l + UF_STRETCH_SIDE];
    uf_fft_forward(&p->fft);
    memcpy(to, p->fft.bins, sizeof(bins));
}

/* No room is so clear that the peak is twice as high as all others: they are copies. */
static bool stands_alone(const float *r, int peak) {
    for (int l = -UF_STRETCH_SIDE; l <= UF_STRETCH_SIDE; l++)
        if (abs(l - peak) > UF_MERGE_RATE / 1000 && 2 * fabsf(r[(l + FFT) % FFT]) > fabsf(r[(peak + FFT) % FFT])) return false;
    return true;
}

/* What is there when it is loud and not when it is quiet: a fan has a place too, and is not meant. Near `around`, where onsets were alike: they are
 * heard directly before they are heard from the walls. */
static void find_voice(pattern *p, double around, double *late, double *polarity) {
    static const double reach = .004, far_reach = .012; /* s: what onsets err by; what levels do */
    bins *x = p->s; /* no longer needed */
    double n_loud = 0, n_quiet = 0, bend, slope;
    for (int k = 0; k < p->n; k++) n_loud += p->stretch[k].n_loud, n_quiet += p->stretch[k].n_quiet;
    memset(p->sum, 0, sizeof(p->sum));
    for (int k = 0; k < p->n; k++) {
        transform(p, n_loud > 0 ? p->stretch[k].loud : p->stretch[k].all, *x);
        add(p, *x, p->moved[k], 1 / fmax(n_loud, 1));
        transform(p, p->stretch[k].quiet, *x);
        if (n_loud > 0 && n_quiet >= .05 * n_loud) add(p, *x, p->moved[k], -1 / n_quiet);
    }
    memset(p->fft.bins, 0, sizeof(bins));
    for (int k = LOW; k <= HIGH; k++)
        for (int c = 0; c < 2; c++) p->product[k][c] = p->fft.bins[k][c] = p->sum[k][c];
    uf_fft_inverse(&p->fft);
    int from = (int)ceil((around - 3 * reach) * UF_MERGE_RATE), to = (int)floor((around + 3 * reach) * UF_MERGE_RATE), best = from, highest = 0;
    double most = 0;
    for (int l = from; l <= to; l++) {
        double away = ((double)l / UF_MERGE_RATE - around) / reach, height = fabs((double)p->fft.time[(l + FFT) % FFT]) * exp(-.5 * away * away);
        if (height > most) most = height, best = l;
    }
    for (int l = -UF_STRETCH_SIDE; l <= UF_STRETCH_SIDE; l++)
        if (fabsf(p->fft.time[(l + FFT) % FFT]) > fabsf(p->fft.time[(highest + FFT) % FFT])) highest = l;
    if (fabs((double)highest / UF_MERGE_RATE - around) < far_reach && stands_alone(p->fft.time, highest)) best = highest;
    double lag = best, value = correlation(p, lag, &bend, &slope);
    for (int i = 0; i < 3 && bend * value < 0; i++) {
        double move = -slope / bend;
        if (fabs(lag + move - best) > 1) break;
        lag += move;
        value = correlation(p, lag, &bend, &slope);
    }
    *late = lag / UF_MERGE_RATE;
    *polarity = value < 0 ? -1 : 1;
}

int uf_coherence_track(uf_ctx *ctx, const uf_stretch *s, int n, double onset, uf_lag *lag, double *late, double *polarity) {
    pattern *p = uf_alloc(ctx, 1, sizeof(*p));
    if (!p) return UF_ENOMEM;
    p->stretch = s;
    p->n = n;
    p->s = uf_alloc(ctx, (size_t)n, sizeof(*p->s));
    p->moved = uf_alloc(ctx, 2 * (size_t)n, sizeof(*p->moved));
    p->share = p->moved ? p->moved + n : NULL;
    int err = uf_fft_open(&p->fft, FFT) && p->s && p->moved ? UF_OK : uf_fail(ctx, UF_ENOMEM, "out of memory for %d stretches of sound; give shorter recordings", n);
    if (err == UF_OK) {
        int start = 0;
        double most = -1;
        for (int k = 0; k < n; k++) {
            double peak = 0;
            transform(p, s[k].all, p->s[k]);
            for (int l = 0; l < UF_STRETCH_LAGS; l++) peak = fmax(peak, fabs((double)s[k].all[l]));
            if (peak > most) most = peak, start = k;
        }
        p->share[start] = 1;
        add(p, p->s[start], 0, 1);
        follow(p, start, 1);
        follow(p, start, -1);
        refine(p, lag);
        find_voice(p, onset - p->moved[n / 2], late, polarity);
    }
    uf_fft_close(&p->fft);
    free(p->s);
    free(p->moved);
    free(p);
    return err;
}

/* Where a recorder has lost something: from there on the whole pattern of the pair's correlation, direct sound and reflections of whoever speaks and whatever
 * hums, lies elsewhere. The pattern is taken where it is clearest, and grows from there as the course of its place becomes known. */
#include "merge.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { FFT = 4096, BINS = FFT / 2 + 1, HALF = UF_PATTERN_SIDE, STATES = UF_STRETCH_LAGS, SEED = 16, FEWEST = 4, SLOPES = 20 };
static const double reach[] = { 5, 15, 45, 1e9, 1e9 }; /* s from the seed, round by round */
static const double least = .003;                      /* s: less is none */
static const double share = .35;                       /* of a window's evidence that its neighbours do not have: they overlap */
static const double top = 10, some = 2;                /* deviations: no single window decides; what a window has that is heard */

typedef struct worker { /* a thread's */
    uf_fft fft;
    float sum[UF_STRETCH_LAGS];
} worker;

typedef struct seed { double height, slope; int at; } seed; /* of a peak: what it is, at which rate of the clock, and where */

typedef struct finder {
    uf_ctx *ctx;
    worker *worker;
    int n_workers;
    const uf_stretch *w;
    int n, from, to, seed, middle; /* windows from..to-1 are looked at; middle: the seed's lag */
    double slope;            /* of the lags at the seed, samples a second */
    float pattern[UF_PATTERN_LAGS], bins[BINS][2];
    float *score;            /* (n, STATES) */
    int *state;              /* n */
    float *z;                /* n: deviations at its place */
    int place[STATES];
    double strength;         /* deviations that a window has at its place */
} finder;

/* By how much the clock has moved window k's lags since the seed, samples, if nothing else did. */
static int drift(const finder *f, int k) { return (int)lround(f->slope * (f->w[k].at - f->w[f->seed].at)); }

/* The highest peak of the sum of a few windows from k on, if the clock's rate is `slope`: what its height is, and where. */
static float peak(const finder *f, float *sum, int k, int length, double slope, int *at) {
    float most = 0;
    memset(sum, 0, UF_STRETCH_LAGS * sizeof(*sum));
    for (int i = 0; i < length; i++) {
        int moved = (int)lround(slope * (f->w[k + i].at - f->w[k].at));
        for (int l = moved < 0 ? -moved : 0; l < UF_STRETCH_LAGS && l + moved < UF_STRETCH_LAGS; l++) sum[l] += f->w[k + i].all[l + moved];
    }
    for (int l = HALF; l < UF_STRETCH_LAGS - HALF; l++)
        if (fabsf(sum[l]) > most) most = fabsf(sum[l]), *at = l;
    return most;
}

/* Where, and at which rate, a few neighbours agree most. What a guess of the rate errs by is less for longer recordings. */
static int find_seed(finder *f) {
    double span = fmax(f->w[f->n - 1].at - f->w[0].at, 1), most = 0, slope = fmin(1e-3, .06 / span) * UF_MERGE_RATE / SLOPES;
    int length = f->n < SEED ? f->n : SEED, n = (f->n - length) / (SEED / 2) + 1;
    seed *found = uf_alloc(f->ctx, (size_t)n, sizeof(*found));
    if (!found) return UF_ENOMEM;
#pragma omp parallel for schedule(dynamic) num_threads(f->n_workers)
    for (int k = 0; k < n; k++)
        for (int i = -SLOPES; i <= SLOPES; i++) {
            int at = 0;
            double height = (double)peak(f, f->worker[omp_get_thread_num()].sum, k * (SEED / 2), length, i * slope, &at);
            if (height > found[k].height) found[k] = (seed){ height, i * slope, at };
        }
    for (int k = 0; k < n; k++)
        if (found[k].height > most) most = found[k].height, f->seed = k * (SEED / 2), f->middle = found[k].at, f->slope = found[k].slope;
    free(found);
    return UF_OK;
}

static double deviation_of(const float *r, int n) {
    double square = 1e-30;
    for (int i = 0; i < n; i++) square += (double)r[i] * (double)r[i] / n;
    return sqrt(square);
}

void uf_pattern_shrink(float *p) {
    float limit = (float)deviation_of(p, UF_PATTERN_LAGS) * 1.5f;
    for (int l = 0; l < UF_PATTERN_LAGS; l++) p[l] = copysignf(fmaxf(fabsf(p[l]) - limit, 0), p[l]);
}

/* The pattern from windows at their places. */
static void learn(finder *f, int from, int to, bool first) {
    float *p = f->pattern;
    memset(p, 0, sizeof(f->pattern));
    for (int k = from; k < to; k++) {
        int moved = drift(f, k) + (first ? 0 : f->place[f->state[k]]);
        if (!first && f->z[k] < some) continue;
        for (int l = -HALF; l <= HALF; l++) {
            int at = f->middle + moved + l;
            if (at >= 0 && at < UF_STRETCH_LAGS) p[l + HALF] += f->w[k].all[at];
        }
    }
    float square = 1e-20f;
    uf_pattern_shrink(p);
    for (int l = 0; l < UF_PATTERN_LAGS; l++) square += p[l] * p[l];
    for (int l = 0; l < UF_PATTERN_LAGS; l++) p[l] /= sqrtf(square);
    uf_fft *t = &f->worker->fft;
    memset(t->time, 0, FFT * sizeof(float));
    for (int l = -HALF; l <= HALF; l++) t->time[(l + FFT) % FFT] = p[l + HALF];
    uf_fft_forward(t);
    memcpy(f->bins, t->bins, sizeof(f->bins));
}

/* What a window has in common with the pattern, wherever it may have moved. */
static void compare(const finder *f, uf_fft *t, int k) {
    float *score = f->score + (size_t)k * STATES;
    double unit = 1 / (deviation_of(f->w[k].all, UF_STRETCH_LAGS) * FFT);
    int drifted = drift(f, k);
    memset(t->time, 0, FFT * sizeof(float));
    memcpy(t->time, f->w[k].all, sizeof(f->w[k].all));
    uf_fft_forward(t);
    for (int b = 0; b < BINS; b++) {
        float re = t->bins[b][0] * f->bins[b][0] + t->bins[b][1] * f->bins[b][1];
        t->bins[b][1] = t->bins[b][1] * f->bins[b][0] - t->bins[b][0] * f->bins[b][1];
        t->bins[b][0] = re;
    }
    uf_fft_inverse(t);
    for (int s = 0; s < STATES; s++) {
        int at = f->middle + f->place[s] + drifted;
        double z = at >= 0 && at < UF_STRETCH_LAGS ? fmin((double)t->time[at] * unit, top) : 0;
        score[s] = (float)(share * uf_course_worth(z, f->strength));
    }
}

/* How strong windows are where they were placed: most of those that are heard. */
static void judge(finder *f) {
    double sum = 0;
    int n = 0;
    for (int k = f->from; k < f->to; k++) {
        double worth = (double)f->score[(size_t)k * STATES + (size_t)f->state[k]] / share;
        f->z[k] = (float)(log(fmax(expm1(worth), 1e-3)) / f->strength + .5 * f->strength);
        if (f->z[k] > some) sum += (double)f->z[k], n++;
    }
    f->strength = n ? fmin(fmax(sum / n, 2.5), 5) : 3;
}

static int grow(finder *f) {
    const uf_course c = { .place = f->place, .n_states = STATES, .creep = 1.5f, .jump = 16, .leap = 16, .near = STATES, .least = (int)(least * UF_MERGE_RATE) };
    UF_TRY(find_seed(f));
    int first = f->seed, last = first + SEED < f->n ? first + SEED : f->n;
    f->strength = 3;
    learn(f, first, last, true);
    for (int round = 0; round < UF_LEN(reach); round++) {
        f->from = first;
        f->to = last;
        while (f->from > 0 && f->w[first].at - f->w[f->from - 1].at < reach[round]) f->from--;
        while (f->to < f->n && f->w[f->to].at - f->w[first].at < reach[round]) f->to++;
#pragma omp parallel for num_threads(f->n_workers)
        for (int k = f->from; k < f->to; k++) compare(f, &f->worker[omp_get_thread_num()].fft, k);
        UF_TRY(uf_course_find(f->ctx, &c, f->score + (size_t)f->from * STATES, f->to - f->from, f->state + f->from));
        judge(f);
        learn(f, f->from, f->to, false);
        if (uf_ctx_cancelled(f->ctx)) return uf_fail(f->ctx, UF_EINTR, "stopped; nothing was written");
    }
    return UF_OK;
}

/* One more; where there is no room, the smallest has to go: two places that take turns, as two talkers do, must not push out what was lost. */
static void note(uf_jump *jump, int *n, uf_jump more) {
    int smallest = 0;
    if (*n < UF_FIT_STEPS) {
        jump[(*n)++] = more;
        return;
    }
    for (int i = 1; i < *n; i++)
        if (fabs(jump[i].by) < fabs(jump[smallest].by)) smallest = i;
    if (fabs(more.by) <= fabs(jump[smallest].by)) return;
    memmove(jump + smallest, jump + smallest + 1, (size_t)(*n - 1 - smallest) * sizeof(*jump));
    jump[*n - 1] = more;
}

/* Steps between windows; windows that speak for their places, less what the pattern's is. */
static void report(const finder *f, uf_lag *lag, int *n_lags, uf_jump *jump, int *n_jumps) {
    for (int k = 0; k < f->n; k++) {
        int moved = f->place[f->state[k]], before = k ? f->place[f->state[k - 1]] : moved;
        if (abs(moved - before) >= least * UF_MERGE_RATE)
            note(jump, n_jumps, (uf_jump){ .at = .5 * (f->w[k].at + f->w[k - 1].at), .by = (double)(moved - before) / UF_MERGE_RATE });
        if (f->z[k] > some) lag[(*n_lags)++] = (uf_lag){ .at = f->w[k].at, .lag = (double)(moved + drift(f, k)) / UF_MERGE_RATE, .q = (double)f->z[k], .level = -1 };
    }
}

static bool open_workers(finder *f) {
    f->worker = uf_alloc(f->ctx, (size_t)uf_ctx_threads(f->ctx), sizeof(*f->worker));
    while (f->worker && f->n_workers < uf_ctx_threads(f->ctx))
        if (!uf_fft_open(&f->worker[f->n_workers++].fft, FFT)) return false;
    return f->worker != NULL;
}

int uf_steps_find(uf_ctx *ctx, const uf_stretch *w, int n, uf_lag *lag, int *n_lags, uf_jump *jump, int *n_jumps) {
    *n_lags = *n_jumps = 0;
    if (n < FEWEST) return UF_EOF;
    finder *f = uf_alloc(ctx, 1, sizeof(*f));
    if (!f) return UF_ENOMEM;
    f->ctx = ctx;
    f->w = w;
    f->n = n;
    for (int s = 0; s < STATES; s++) f->place[s] = s - UF_STRETCH_SIDE;
    f->score = uf_alloc(ctx, (size_t)n * STATES, sizeof(float));
    f->state = uf_alloc(ctx, (size_t)n, sizeof(*f->state));
    f->z = uf_alloc(ctx, (size_t)n, sizeof(*f->z));
    int err = open_workers(f) && f->score && f->state && f->z ? UF_OK : uf_fail(ctx, UF_ENOMEM, "out of memory for %d windows of sound; give shorter recordings", n);
    if (err == UF_OK) err = grow(f);
    if (err == UF_OK) report(f, lag, n_lags, jump, n_jumps);
    for (int i = 0; i < f->n_workers; i++) uf_fft_close(&f->worker[i].fft);
    free(f->worker);
    free(f->score);
    free(f->state);
    free(f->z);
    free(f);
    return err;
}

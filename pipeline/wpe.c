#include "mvdr.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Several builds of one function; the loader takes what the processor has. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KERNEL __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define KERNEL
#endif

KERNEL void uf_correlate(const float *ar, const float *ai, const float *br, const float *bi, int n, float *out) {
    float re = 0, im = 0;
#pragma omp simd reduction(+ : re, im)
    for (int i = 0; i < n; i++) {
        re += ar[i] * br[i] + ai[i] * bi[i];
        im += ai[i] * br[i] - ar[i] * bi[i];
    }
    out[0] = re;
    out[1] = im;
}

/* y -= conj(g) x */
KERNEL static void take(float gr, float gi, const float *xr, const float *xi, int n, float *yr, float *yi) {
    for (int i = 0; i < n; i++) {
        yr[i] -= gr * xr[i] + gi * xi[i];
        yi[i] -= gr * xi[i] - gi * xr[i];
    }
}

typedef struct work {
    uf_complex *r, *g;    /* (K,K); mics rows of K */
    float *x;             /* mics*2 rows with silence before them */
    float *q, *weight;    /* 2 rows; 1/power */
    int pad, row;
} work;

static int unknowns(const uf_wpe_options *o) { return o->mics * o->taps; }

size_t uf_wpe_scratch(const uf_wpe_options *o) {
    size_t k = (size_t)unknowns(o), row = (size_t)(o->frames + o->delay + o->taps), m = (size_t)o->mics;
    return (k * k + m * k) * sizeof(uf_complex) + (2 * m + 3) * row * sizeof(float);
}

static work divide(const uf_wpe_options *o, void *scratch) {
    int k = unknowns(o);
    work w = { .r = scratch, .pad = o->delay + o->taps };
    w.row = o->frames + w.pad;
    w.g = w.r + k * k;
    w.x = (float *)(w.g + o->mics * k);
    w.q = w.x + (size_t)2 * (size_t)o->mics * (size_t)w.row;
    w.weight = w.q + 2 * w.row;
    return w;
}

/* Row (mic a, tap i): what was heard delay + i frames before. */
static const float *before(const uf_wpe_options *o, const work *w, int a, int i, int part) {
    return w->x + (size_t)(2 * a + part) * (size_t)w->row + w->pad - o->delay - i;
}

/* 1 / the power of what is left so far, mean of the microphones. */
static void weigh(const uf_wpe_options *o, float *const *re, float *const *im, float *weight) {
    double mean = 0;
    for (int t = 0; t < o->frames; t++) {
        float p = 0;
        for (int m = 0; m < o->mics; m++) p += re[m][t] * re[m][t] + im[m][t] * im[m][t];
        weight[t] = p / (float)o->mics;
        mean += (double)weight[t] / o->frames;
    }
    for (int t = 0; t < o->frames; t++) weight[t] = 1.f / (weight[t] + (float)(1e-3 * mean) + 1e-20f);
}

static void correlate(const uf_wpe_options *o, const work *w) {
    int n = o->frames, k = unknowns(o);
    for (int row = 0; row < k; row++) {
        const float *zr = before(o, w, row / o->taps, row % o->taps, 0), *zi = before(o, w, row / o->taps, row % o->taps, 1);
        float *qr = w->q, *qi = w->q + w->row, s[2];
        for (int t = 0; t < n; t++) {
            qr[t] = zr[t] * w->weight[t];
            qi[t] = zi[t] * w->weight[t];
        }
        for (int col = 0; col <= row; col++) {
            uf_correlate(qr, qi, before(o, w, col / o->taps, col % o->taps, 0), before(o, w, col / o->taps, col % o->taps, 1), n, s);
            w->r[row * k + col] = (double)s[0] + I * (double)s[1];
        }
        for (int m = 0; m < o->mics; m++) {
            const float *x = w->x + (size_t)(2 * m) * (size_t)w->row + w->pad;
            uf_correlate(qr, qi, x, x + w->row, n, s);
            w->g[m * k + row] = (double)s[0] + I * (double)s[1];
        }
    }
}

static bool predict(const uf_wpe_options *o, const work *w) {
    int k = unknowns(o);
    double mean = 0;
    for (int i = 0; i < k; i++) mean += creal(w->r[i * k + i]) / k;
    if (!(mean > 1e-12)) return false; /* silence */
    for (int i = 0; i < k; i++) w->r[i * k + i] += o->ridge * mean;
    if (!uf_cholesky(k, w->r)) return false;
    for (int m = 0; m < o->mics; m++) uf_cholesky_solve(k, w->r, w->g + m * k);
    return true;
}

void uf_wpe(const uf_wpe_options *o, const float *weight, float *const *re, float *const *im, void *scratch) {
    work w = divide(o, scratch);
    int n = o->frames, k = unknowns(o);
    memset(w.x, 0, (size_t)2 * (size_t)o->mics * (size_t)w.row * sizeof(*w.x));
    for (int m = 0; m < o->mics; m++) {
        float *x = w.x + (size_t)(2 * m) * (size_t)w.row + w.pad;
        memcpy(x, re[m], (size_t)n * sizeof(float));
        memcpy(x + w.row, im[m], (size_t)n * sizeof(float));
    }
    for (int round = 0; round < (weight ? 1 : o->rounds); round++) {
        if (weight) memcpy(w.weight, weight, (size_t)n * sizeof(float));
        else weigh(o, re, im, w.weight);
        correlate(o, &w);
        if (!predict(o, &w)) return;
        for (int m = 0; m < o->mics; m++) {
            const float *x = w.x + (size_t)(2 * m) * (size_t)w.row + w.pad;
            memcpy(re[m], x, (size_t)n * sizeof(float));
            memcpy(im[m], x + w.row, (size_t)n * sizeof(float));
            for (int row = 0; row < k; row++)
                take((float)creal(w.g[m * k + row]), (float)cimag(w.g[m * k + row]), before(o, &w, row / o->taps, row % o->taps, 0),
                     before(o, &w, row / o->taps, row % o->taps, 1), n, re[m], im[m]);
        }
    }
}

float uf_wpe_share(const float *x, const float *left, const float *voice, int frames) {
    double dot = 0, size = 1e-20;
    for (int t = 0; t < 2 * frames; t++) {
        double away = (double)x[t] - (double)left[t];
        dot += ((double)x[t] - (double)voice[t]) * away;
        size += away * away;
    }
    return (float)fmin(fmax(dot / size, 0), 1);
}

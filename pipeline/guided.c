/* Fast guided filter: He & Sun 2015, arXiv:1505.00996. The local linear model chroma = a * luma + b is fitted at the
 * network's size and applied at the film's, so colour edges follow luma edges, in O(pixels). */
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

enum { RADIUS = 2, N_MAPS = 4 };   /* maps: a and b of Cb, a and b of Cr */
static const float EPSILON = 1e-3f; /* luma variance under which a region counts as flat: grain, not an edge */

struct uf_guided {
    int w, h, out_w, out_h;
    float *work;       /* 4 planes: means and box filter scratch */
    float *map;        /* (N_MAPS,h,w) */
    float *row[2];     /* (N_MAPS,out_w): two source rows widened to the output */
    float *column;     /* w running sums */
    int *x0;           /* out_w left neighbours */
    float *fx;         /* out_w weights of the right neighbour */
    float scale_y, shift_y;
};

static float clampf(float x, float lo, float hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

int uf_guided_open(uf_guided **out, uf_ctx *ctx, int w, int h, int out_w, int out_h, float shift_x, float shift_y) {
    size_t n = (size_t)w * (size_t)h;
    uf_guided *g = uf_alloc(ctx, 1, sizeof(*g));
    if (!g) return UF_ENOMEM;
    *g = (uf_guided){ .w = w, .h = h, .out_w = out_w, .out_h = out_h, .shift_y = shift_y };
    g->scale_y = (float)h / (float)out_h;
    g->work = uf_alloc(ctx, 5 * n, sizeof(float));
    g->map = uf_alloc(ctx, N_MAPS * n, sizeof(float));
    g->column = uf_alloc(ctx, (size_t)w, sizeof(float));
    g->row[0] = uf_alloc(ctx, N_MAPS * (size_t)out_w, sizeof(float));
    g->row[1] = uf_alloc(ctx, N_MAPS * (size_t)out_w, sizeof(float));
    g->x0 = uf_alloc(ctx, (size_t)out_w, sizeof(int));
    g->fx = uf_alloc(ctx, (size_t)out_w, sizeof(float));
    if (!g->work || !g->map || !g->column || !g->row[0] || !g->row[1] || !g->x0 || !g->fx) {
        uf_guided_close(&g);
        return UF_ENOMEM;
    }
    for (int x = 0; x < out_w; x++) {
        float at = clampf(((float)x + 0.5f + shift_x) * (float)w / (float)out_w - 0.5f, 0, (float)(w - 1));
        g->x0[x] = (int)at > w - 2 ? (w > 1 ? w - 2 : 0) : (int)at;
        g->fx[x] = w > 1 ? at - (float)g->x0[x] : 0;
    }
    *out = g;
    return UF_OK;
}

void uf_guided_close(uf_guided **g) {
    if (!g || !*g) return;
    free((*g)->work);
    free((*g)->map);
    free((*g)->column);
    free((*g)->row[0]);
    free((*g)->row[1]);
    free((*g)->x0);
    free((*g)->fx);
    free(*g);
    *g = NULL;
}

static void box_row(const float *x, float *y, int w, float scale) {
    float sum = 0;
    for (int i = 0; i < RADIUS && i < w; i++) sum += x[i];
    for (int i = 0; i < w; i++) {
        int lo = i - RADIUS, hi = i + RADIUS;
        if (hi < w) sum += x[hi];
        if (lo > 0) sum -= x[lo - 1];
        y[i] = sum * scale / (float)((hi < w ? hi : w - 1) - (lo > 0 ? lo : 0) + 1);
    }
}

/* Mean over the (2*RADIUS+1)^2 window, cut at the borders; x and y may be the same. t: scratch of one plane. */
static void box(const uf_guided *g, const float *x, float *y, float *t) {
    int w = g->w, h = g->h;
    float *sum = g->column;
    memset(sum, 0, (size_t)w * sizeof(float));
    memcpy(t, x, (size_t)w * (size_t)h * sizeof(float));
    for (int r = 0; r < RADIUS && r < h; r++)
        for (int i = 0; i < w; i++) sum[i] += t[(size_t)r * (size_t)w + (size_t)i];
    for (int r = 0; r < h; r++) {
        int lo = r - RADIUS, hi = r + RADIUS;
        const float *add = t + (size_t)hi * (size_t)w, *sub = t + (size_t)(lo - 1) * (size_t)w;
        if (hi < h) for (int i = 0; i < w; i++) sum[i] += add[i];
        if (lo > 0) for (int i = 0; i < w; i++) sum[i] -= sub[i];
        box_row(sum, y + (size_t)r * (size_t)w, w, 1.0f / (float)((hi < h ? hi : h - 1) - (lo > 0 ? lo : 0) + 1));
    }
}

static void fit(uf_guided *g, const float *luma, const float *chroma) {
    size_t n = (size_t)g->w * (size_t)g->h;
    float *mean = g->work, *var = mean + n, *mp = var + n, *cov = mp + n, *t = cov + n;
    for (size_t i = 0; i < n; i++) var[i] = luma[i] * luma[i];
    box(g, luma, mean, t);
    box(g, var, var, t);
    for (size_t i = 0; i < n; i++) var[i] = var[i] - mean[i] * mean[i] + EPSILON;
    for (int c = 0; c < 2; c++) {
        const float *p = chroma + (size_t)c * n;
        float *a = g->map + (size_t)(2 * c) * n, *b = a + n;
        for (size_t i = 0; i < n; i++) cov[i] = luma[i] * p[i];
        box(g, p, mp, t);
        box(g, cov, cov, t);
        for (size_t i = 0; i < n; i++) {
            a[i] = (cov[i] - mean[i] * mp[i]) / var[i];
            b[i] = mp[i] - a[i] * mean[i];
        }
        box(g, a, a, t);
        box(g, b, b, t);
    }
}

static void widen(const uf_guided *g, int y, float *row) {
    size_t n = (size_t)g->w * (size_t)g->h;
    int right = g->w > 1;
    for (int m = 0; m < N_MAPS; m++) {
        const float *s = g->map + (size_t)m * n + (size_t)y * (size_t)g->w;
        float *d = row + (size_t)m * (size_t)g->out_w;
        for (int x = 0; x < g->out_w; x++) {
            const float *p = s + g->x0[x];
            d[x] = p[0] + g->fx[x] * (p[right] - p[0]);
        }
    }
}

void uf_guided_run(uf_guided *g, const float *luma, const float *chroma, const float *guide, size_t stride,
                   float *cb, float *cr) {
    int have[2] = { -1, -1 };
    size_t w = (size_t)g->out_w;
    fit(g, luma, chroma);
    for (int y = 0; y < g->out_h; y++) {
        float at = clampf(((float)y + 0.5f + g->shift_y) * g->scale_y - 0.5f, 0, (float)(g->h - 1));
        int y0 = (int)at, y1 = y0 + 1 < g->h ? y0 + 1 : y0;
        float f = at - (float)y0;
        const float *p, *q, *in = guide + (size_t)y * stride;
        float *u = cb + (size_t)y * stride, *v = cr + (size_t)y * stride;
        if (have[y0 & 1] != y0) widen(g, have[y0 & 1] = y0, g->row[y0 & 1]);
        if (have[y1 & 1] != y1) widen(g, have[y1 & 1] = y1, g->row[y1 & 1]);
        p = g->row[y0 & 1];
        q = g->row[y1 & 1];
        for (size_t x = 0; x < w; x++) {
            float a = p[x] + f * (q[x] - p[x]), b = p[w + x] + f * (q[w + x] - p[w + x]);
            float c = p[2 * w + x] + f * (q[2 * w + x] - p[2 * w + x]), d = p[3 * w + x] + f * (q[3 * w + x] - p[3 * w + x]);
            u[x] = clampf(a * in[x] + b, -0.5f, 0.5f);
            v[x] = clampf(c * in[x] + d, -0.5f, 0.5f);
        }
    }
}

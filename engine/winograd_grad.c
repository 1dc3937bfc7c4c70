/* Gradient of a 3x3 convolution's weights over Winograd's tiles: dg = G' (sum over tiles of B'dB times A dy A') G. */
#include "winograd.h"
#include "onednn.h"

#include <stdlib.h>
#include <string.h>

enum { P = UF_WINO_POINTS, WIDE = UF_WINO_WIDE, TILES = 256, ROWS = 48 };

struct uf_wino_grad {
    uf_wino_spec spec;
    const uf_wino_kernels *k;
    int tiles_y, tiles_x, n_tiles, n_threads;
    void *zero; /* a pixel of the border */
};

bool uf_wino_grad_fits(const uf_wino_spec *s) { return uf_wino_fits(s) && !s->to_data; }

int uf_wino_grad_open(uf_wino_grad **out, uf_ctx *ctx, const uf_wino_spec *s) {
    uf_wino_grad *w = uf_alloc(ctx, 1, sizeof *w);
    if (!w) return UF_ENOMEM;
    w->spec = *s;
    w->k = uf_product_kernels_of(s->dtype);
    w->tiles_y = (s->y.h + 1) / 2;
    w->tiles_x = (s->y.w + 1) / 2;
    w->n_tiles = s->x.n * w->tiles_y * w->tiles_x;
    w->n_threads = s->n_threads;
    w->zero = uf_alloc(ctx, (size_t)(s->x.c > s->y.c ? s->x.c : s->y.c), w->k->size);
    if (!w->zero) {
        uf_wino_grad_close(&w);
        return UF_ENOMEM;
    }
    *out = w;
    return UF_OK;
}

void uf_wino_grad_close(uf_wino_grad **pw) {
    if (!*pw) return;
    free((*pw)->zero);
    free(*pw);
    *pw = NULL;
}

static size_t points(int c) { return (size_t)(P * TILES) * (size_t)c; }

size_t uf_wino_grad_scratch(const uf_wino_grad *w) {
    size_t in = (size_t)w->spec.x.c, out = (size_t)w->spec.y.c;
    return (points(w->spec.x.c) + points(w->spec.y.c)) * w->k->size + (size_t)P * in * out * sizeof(float);
}

/* Pixels side x side of a picture (N,C,H,W) from (y, x) on; a tile past the last one is all border. */
static void pixels(const uf_wino_grad *w, uf_shape s, const char *picture, int tile, int top, int left, int side,
                   const void *px[P]) {
    int n = tile / w->tiles_x / w->tiles_y, y = tile / w->tiles_x % w->tiles_y * 2 - top, x = tile % w->tiles_x * 2 - left;
    for (int i = 0; i < side * side; i++) {
        int h = y + i / side, v = x + i % side;
        bool inside = tile < w->n_tiles && h >= 0 && h < s.h && v >= 0 && v < s.w;
        size_t at = ((size_t)n * (size_t)s.h + (size_t)h) * (size_t)s.w + (size_t)v;
        px[i] = inside ? picture + at * (size_t)s.c * w->k->size : (const char *)w->zero;
    }
}

/* Rows of `group` tiles: the points of one picture, (P, TILES/group, c, group). */
static void read_tiles(const uf_wino_grad *w, uf_shape s, const char *picture, int first, int at, int top, int left, int side,
                       char *to) {
    const void *px[2][P];
    for (int t = 0; t < w->k->group; t++) pixels(w, s, picture, first + at + t, top, left, side, px[t]);
    w->k->points(px, side * side, s.c, to + (size_t)at * (size_t)s.c * w->k->size, (size_t)TILES * (size_t)s.c);
}

/* Rows [from, from + rows) of one point's (x.c, y.c) sums. */
static void multiply(const uf_wino_grad *w, int p, int from, int n_tiles, bool add, const char *v, const char *q,
                     float *sums) {
    size_t in = (size_t)w->spec.x.c, out = (size_t)w->spec.y.c, size = w->k->size, group = (size_t)w->k->group;
    int rows = w->spec.x.c - from < ROWS ? w->spec.x.c - from : ROWS;
    for (int wide = 0; wide < w->spec.y.c; wide += WIDE) {
        int width = w->spec.y.c - wide < WIDE ? w->spec.y.c - wide : WIDE;
        uf_product a = {
            .rows = rows, .n_vectors = width / 16, .k = n_tiles, .add = add,
            .v = v + ((size_t)p * TILES * in + (size_t)from * group) * size, .next_row = group, .ldv = in,
            .u = q + ((size_t)p * TILES * out + (size_t)wide * group) * size, .ldu = out * group,
            .m = sums + ((size_t)p * in + (size_t)from) * out + wide, .ldm = out};
        w->k->product_t(&a);
    }
}

/* G' u G of the filters of one input channel, n output channels at a time. */
static void finish(const uf_wino_grad *w, int c, const float *sums, float *dw) {
    size_t in = (size_t)w->spec.x.c, out = (size_t)w->spec.y.c;
    for (size_t o = 0; o < out; o++) {
        float u[P], t[12];
        for (int p = 0; p < P; p++) u[p] = sums[((size_t)p * in + (size_t)c) * out + o];
        for (int j = 0; j < 4; j++) {
            float half = .5f * (u[4 + j] + u[8 + j]);
            t[j] = u[j] + half;
            t[4 + j] = .5f * (u[4 + j] - u[8 + j]);
            t[8 + j] = half + u[12 + j];
        }
        float *g = dw + (o * in + (size_t)c) * 9;
        for (int i = 0; i < 3; i++) {
            float half = .5f * (t[4 * i + 1] + t[4 * i + 2]);
            g[3 * i] += t[4 * i] + half;
            g[3 * i + 1] += .5f * (t[4 * i + 1] - t[4 * i + 2]);
            g[3 * i + 2] += half + t[4 * i + 3];
        }
    }
}

void uf_wino_grad_run(const uf_wino_grad *w, const void *x, const void *dy, float *dw, void *scratch) {
    int c = w->spec.x.c, group = w->k->group;
    char *v = scratch, *q = v + points(c) * w->k->size;
    float *sums = (float *)(void *)(q + points(w->spec.y.c) * w->k->size);
#pragma omp parallel num_threads(w->n_threads)
    {
        for (int first = 0; first < w->n_tiles; first += TILES) {
            int n = w->n_tiles - first < TILES ? w->n_tiles - first : TILES;
            n = (n + group - 1) / group * group;
#pragma omp for
            for (int t = 0; t < n; t += group) {
                read_tiles(w, w->spec.x, x, first, t, w->spec.top, w->spec.left, 4, v);
                read_tiles(w, w->spec.y, dy, first, t, 0, 0, 2, q);
            }
#pragma omp for schedule(dynamic) collapse(2)
            for (int p = 0; p < P; p++)
                for (int from = 0; from < c; from += ROWS) multiply(w, p, from, n, first > 0, v, q, sums);
        }
#pragma omp for
        for (int i = 0; i < c; i++) finish(w, i, sums, dw);
    }
}

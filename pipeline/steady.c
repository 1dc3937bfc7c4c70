/* Temporal chroma filter: cuts, block matching, recursive blend. See pipeline.h for what it depends on. */
#include "pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 8, REACH = 6, GRID = 16, N_BINS = 32 };
static const float KEEP = 0.85f;  /* share of the past where luma agrees */
static const float SIGMA = 0.04f; /* luma difference (box mean, [0,1]) at which the past counts exp(-1) as much */
static const float MOVE_COST = 0.002f; /* mean difference a moved block must gain over staying */

typedef struct track { /* one recursion */
    float *chroma; /* (2,h,w) */
    bool valid;
} track;

struct uf_steady {
    int w, h;
    int64_t index;      /* frames since the start of the film */
    int fading;         /* frames left until track[1] has taken over, 0: only track[0] */
    bool seen;
    track track[2];
    float *luma, *next; /* (h,w), box-smoothed: of the last frame and of this one */
    float *keep;        /* (h,w) weight of the past */
    int *from;          /* (h,w) where each pixel came from */
    float *warped;      /* (2,h,w) */
    float histogram[N_BINS], grid[GRID * GRID];
};

int uf_steady_open(uf_steady **out, uf_ctx *ctx, int w, int h)
{
    size_t n = (size_t)w * (size_t)h;
    uf_steady *s = uf_alloc(ctx, 1, sizeof(*s));
    if (!s) return UF_ENOMEM;
    s->w = w;
    s->h = h;
    s->track[0].chroma = uf_alloc(ctx, 2 * n, sizeof(float));
    s->track[1].chroma = uf_alloc(ctx, 2 * n, sizeof(float));
    s->luma = uf_alloc(ctx, n, sizeof(float));
    s->next = uf_alloc(ctx, n, sizeof(float));
    s->keep = uf_alloc(ctx, n, sizeof(float));
    s->from = uf_alloc(ctx, n, sizeof(int));
    s->warped = uf_alloc(ctx, 2 * n, sizeof(float));
    if (!s->track[0].chroma || !s->track[1].chroma || !s->luma || !s->next || !s->keep || !s->from || !s->warped) {
        uf_steady_close(&s);
        return UF_ENOMEM;
    }
    *out = s;
    return UF_OK;
}

void uf_steady_close(uf_steady **s)
{
    if (!s || !*s) return;
    free((*s)->track[0].chroma);
    free((*s)->track[1].chroma);
    free((*s)->luma);
    free((*s)->next);
    free((*s)->keep);
    free((*s)->from);
    free((*s)->warped);
    free(*s);
    *s = NULL;
}

/* 3x3 mean, edges repeated: grain must not look like motion. */
static void smooth(const float *x, float *y, int w, int h)
{
    for (int r = 0; r < h; r++) {
        const float *a = x + (ptrdiff_t)(r ? r - 1 : 0) * w, *b = x + (ptrdiff_t)r * w;
        const float *c = x + (ptrdiff_t)(r + 1 < h ? r + 1 : r) * w;
        for (int i = 0; i < w; i++) {
            int p = i ? i - 1 : 0, q = i + 1 < w ? i + 1 : i;
            y[(ptrdiff_t)r * w + i] = (a[p] + a[i] + a[q] + b[p] + b[i] + b[q] + c[p] + c[i] + c[q]) * (1.0f / 9);
        }
    }
}

/* Luma histogram, and block means less their common mean (a flash or a fade is no cut). */
static void describe(const float *luma, int w, int h, float *histogram, float *grid)
{
    float count[GRID * GRID] = { 0 }, mean = 0, one = 1.0f / (float)(w * h);
    memset(histogram, 0, N_BINS * sizeof(float));
    memset(grid, 0, sizeof(count));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            float v = luma[(ptrdiff_t)y * w + x];
            int bin = (int)(v * N_BINS), cell = y * GRID / h * GRID + x * GRID / w;
            histogram[bin < 0 ? 0 : bin >= N_BINS ? N_BINS - 1 : bin] += one;
            grid[cell] += v;
            count[cell] += 1;
        }
    for (int i = 0; i < GRID * GRID; i++) mean += (grid[i] /= count[i] > 0 ? count[i] : 1) / (GRID * GRID);
    for (int i = 0; i < GRID * GRID; i++) grid[i] -= mean;
}

/* A cut moves the histogram and leaves little of the old structure. Blocks are compared relative to the contrast of both
 * pictures, so that dark scenes are cut too. */
static bool find_cut(uf_steady *s, const float *luma)
{
    float histogram[N_BINS], grid[GRID * GRID], moved = 0, change = 0, contrast = 0;
    describe(luma, s->w, s->h, histogram, grid);
    for (int i = 0; i < N_BINS; i++) moved += 0.5f * fabsf(histogram[i] - s->histogram[i]);
    for (int i = 0; i < GRID * GRID; i++) {
        change += fabsf(grid[i] - s->grid[i]);
        contrast += 0.5f * (fabsf(grid[i]) + fabsf(s->grid[i]));
    }
    change /= contrast + 0.01f * GRID * GRID;
    memcpy(s->histogram, histogram, sizeof(histogram));
    memcpy(s->grid, grid, sizeof(grid));
    return change > 0.95f || (change > 0.55f && moved > 0.3f) || (change > 0.3f && moved > 0.6f);
}

static float block_difference(const uf_steady *s, int x, int y, int bw, int bh, int dx, int dy, float stop)
{
    float sum = 0;
    for (int r = 0; r < bh && sum < stop; r++) {
        const float *a = s->next + (ptrdiff_t)(y + r) * s->w + x;
        const float *b = s->luma + (ptrdiff_t)(y + r + dy) * s->w + x + dx;
        float line = 0;
        for (int i = 0; i < bw; i++) line += fabsf(a[i] - b[i]);
        sum += line;
    }
    return sum;
}

/* Full search around each block; staying wins unless moving is clearly better. */
static void follow(uf_steady *s)
{
    for (int y = 0; y < s->h; y += BLOCK)
        for (int x = 0; x < s->w; x += BLOCK) {
            int bw = s->w - x < BLOCK ? s->w - x : BLOCK, bh = s->h - y < BLOCK ? s->h - y : BLOCK, best_x = 0, best_y = 0;
            float cost = MOVE_COST * (float)(bw * bh), best = block_difference(s, x, y, bw, bh, 0, 0, 1e30f) - cost;
            for (int dy = -REACH; dy <= REACH && best > 0; dy++) {
                if (y + dy < 0 || y + dy + bh > s->h) continue;
                for (int dx = -REACH; dx <= REACH; dx++) {
                    float d;
                    if (x + dx < 0 || x + dx + bw > s->w) continue;
                    d = block_difference(s, x, y, bw, bh, dx, dy, best);
                    if (d < best) best = d, best_x = dx, best_y = dy;
                }
            }
            for (int r = 0; r < bh; r++)
                for (int i = 0; i < bw; i++)
                    s->from[(ptrdiff_t)(y + r) * s->w + x + i] = (y + r + best_y) * s->w + x + i + best_x;
        }
}

static void weigh(uf_steady *s)
{
    size_t n = (size_t)s->w * (size_t)s->h;
    for (size_t i = 0; i < n; i++) {
        float d = (s->next[i] - s->luma[s->from[i]]) * (1 / SIGMA);
        s->keep[i] = KEEP * expf(-d * d);
    }
}

static void blend(uf_steady *s, track *t, const float *chroma)
{
    size_t n = (size_t)s->w * (size_t)s->h;
    if (!t->valid) {
        memcpy(t->chroma, chroma, 2 * n * sizeof(float));
        t->valid = true;
        return;
    }
    for (int c = 0; c < 2; c++) {
        const float *past = t->chroma + (size_t)c * n, *now = chroma + (size_t)c * n;
        float *to = s->warped + (size_t)c * n;
        for (size_t i = 0; i < n; i++) to[i] = now[i] + s->keep[i] * (past[s->from[i]] - now[i]);
    }
    memcpy(t->chroma, s->warped, 2 * n * sizeof(float));
}

static void emit(uf_steady *s, float *chroma)
{
    size_t n = 2 * (size_t)s->w * (size_t)s->h;
    float f;
    if (s->fading == 0) {
        memcpy(chroma, s->track[0].chroma, n * sizeof(float));
        return;
    }
    f = 1 - (float)s->fading / (UF_STEADY_FADE + 1);
    for (size_t i = 0; i < n; i++)
        chroma[i] = s->track[0].chroma[i] + f * (s->track[1].chroma[i] - s->track[0].chroma[i]);
    if (--s->fading == 0) { /* the younger filter becomes the only one */
        track old = s->track[0];
        s->track[0] = s->track[1];
        s->track[1] = old;
        s->track[1].valid = false;
    }
}

bool uf_steady_push(uf_steady *s, const float *luma, float *chroma)
{
    float *old = s->luma;
    bool cut = find_cut(s, luma) || !s->seen;
    smooth(luma, s->next, s->w, s->h);
    if (cut) {
        s->track[0].valid = s->track[1].valid = false;
        s->fading = 0;
    } else {
        follow(s);
        weigh(s);
    }
    if (s->index > 0 && s->index % UF_STEADY_PERIOD == 0 && !cut) {
        s->track[1].valid = false;
        s->fading = UF_STEADY_FADE;
    }
    blend(s, &s->track[0], chroma);
    if (s->fading) blend(s, &s->track[1], chroma);
    emit(s, chroma);
    s->luma = s->next;
    s->next = old;
    s->seen = true;
    s->index++;
    return cut;
}

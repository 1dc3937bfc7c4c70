/* A scratch stands for many frames: a narrow line of one sign that stands out from both of its sides, in strip after strip of the picture, and
 * in the frames beside it too (after Kokaram, Motion Picture Restoration, 1998, chapter 8). It does not go along when the picture moves, as masts
 * and seams do; and one that ends inside the picture must be straighter and more even than things are. */
#include "scratch_lines.h"

#include "motion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STRIPS = 16, SIDE = 4, APART = 6, SWAY = 5, WIDEST = 5, AROUND = 24 };
static const float LINE = .008f; /* height of a scratch over what lies beside it */

typedef struct frame {
    float *mean;           /* (n,w): of a column of a strip */
    float *p;              /* (n,w): by how much a column of a strip is above both of its sides, or (negative) below both */
    float noise[MOST_STRIPS]; /* mean |p| */
    int n;                 /* strips: fewer in a small picture, so that noise sinks */
} frame;

typedef struct line { int x0, x1, from, to; } line; /* columns; strips from..to-1 */

UF_CLONES static void add_row(const float *row, int w, float *sum) {
    for (int x = 0; x < w; x++) sum[x] += row[x];
}

/* How far mean[x] is out of the range of its sides; an edge is at neither end of it. */
UF_CLONES static void stand_out(const float *mean, int w, float *p) {
    for (int x = SIDE; x + SIDE < w; x++) {
        float left = .5f * (mean[x - 4] + mean[x - 3]), right = .5f * (mean[x + 3] + mean[x + 4]);
        float high = left > right ? left : right, low = left < right ? left : right, over = mean[x] - high, under = mean[x] - low;
        p[x] = (over > 0 ? over : 0) + (under < 0 ? under : 0);
    }
}

static void profile(const uf_stage_size *s, const float *luma, frame *f) {
    f->n = s->h < 256 ? MOST_STRIPS / 2 : MOST_STRIPS;
    for (int i = 0; i < f->n; i++) {
        int from = i * s->h / f->n, to = (i + 1) * s->h / f->n;
        float *p = f->p + (ptrdiff_t)i * s->w, *mean = f->mean + (ptrdiff_t)i * s->w, sum = 0;
        for (int y = from; y < to; y++) add_row(luma + y * s->pitch, s->w, mean);
        for (int x = 0; x < s->w && to > from; x++) mean[x] /= (float)(to - from);
        stand_out(mean, s->w, p);
        for (int x = 0; x < s->w; x++) sum += fabsf(p[x]);
        f->noise[i] = sum / (float)s->w;
    }
}

/* In how many of the strips column x, or one within `reach` of it, stands out with this sign. */
static int standing(const frame *f, int w, const line *l, int x, int reach, float sign, float least) {
    int n = 0;
    for (int i = l->from; i < l->to; i++) {
        float most = 0;
        for (int c = x - reach; c <= x + reach; c++)
            if (c >= 0 && c < w) most = fmaxf(most, sign * f->p[(ptrdiff_t)i * w + c]);
        n += most > 2.5f * f->noise[i] + least;
    }
    return n;
}

static float height(const frame *f, int w, const line *l, int x, float sign) {
    float sum = 0;
    for (int i = l->from; i < l->to; i++) sum += sign * f->p[(ptrdiff_t)i * w + x];
    return sum / (float)(l->to - l->from);
}

/* All strips, when column x stands out in nearly all; else the longest row of strips in which it does, but for one. */
static line longest(const frame *f, int w, int x, float sign, float least) {
    line best = { x, x, 0, f->n };
    if (standing(f, w, &best, x, 0, sign, least) >= f->n - f->n / 8) return best;
    bool stands[MOST_STRIPS + 3] = { false };
    for (int i = 0; i < f->n; i++) stands[i] = sign * f->p[(ptrdiff_t)i * w + x] > 2.5f * f->noise[i] + least;
    best.to = 0;
    for (int from = 0; from < f->n; from++) {
        int to = from, gaps = 0;
        while (stands[to] || (to > from && stands[to + 1] && stands[to + 2] && gaps++ == 0)) to++; /* it may be lost in what is as dark, for a while */
        if (to - from > best.to - best.from) best.from = from, best.to = to;
    }
    return best;
}

/* Only the strongest within reach counts. */
static bool is_peak(const frame *f, int w, const line *l, int x, float here) {
    for (int c = x - APART; c <= x + APART; c++)
        if (c >= 0 && c < w && (c < x ? fabsf(height(f, w, l, c, 1)) >= here : c > x && fabsf(height(f, w, l, c, 1)) > here)) return false;
    return true;
}

/* Columns x0..x1 become a line from what is left of them to what is right. */
static void bridge(uf_stage_work *k, const line *l, int n_strips) {
    int from = l->from * k->size.h / n_strips, to = l->to * k->size.h / n_strips;
    for (int y = from; y < to; y++) {
        float *r = k->out + y * k->size.pitch, a = .5f * (r[l->x0 - 1] + r[l->x0 - 2]), b = .5f * (r[l->x1 + 1] + r[l->x1 + 2]);
        for (int x = l->x0; x <= l->x1; x++) {
            r[x] = a + (b - a) * (float)(x - l->x0 + 1) / (float)(l->x1 - l->x0 + 2);
            k->mask[(ptrdiff_t)y * k->size.w + x] = 255;
        }
    }
}

/* How far what is around the line has moved in another frame, the line itself left out. */
static int drift(const frame *now, const frame *other, int w, const line *l, int x) {
    float least = 1e30f;
    int best = 0;
    for (int k = 0; k <= 4 * SWAY; k++) { /* 0, -1, 1, -2, ...: staying wins */
        int s = k % 2 ? -(k + 1) / 2 : k / 2;
        float sum = 0;
        for (int i = l->from; i < l->to; i++)
            for (int c = x - AROUND; c <= x + AROUND; c++)
                if (abs(c - x) > SIDE && abs(c + s - x) > SIDE && c >= 2 * SWAY && c + 2 * SWAY < w)
                    sum += fabsf(now->mean[(ptrdiff_t)i * w + c] - other->mean[(ptrdiff_t)i * w + c + s]);
        if (sum < least) least = sum, best = s;
    }
    return best;
}

/* The line is a thing of the picture: where that moves by 2 columns or more, the line has moved as far, and has left its place. */
static bool goes_along(const frame f[3], int w, int x, float sign, const line *l, float here) {
    for (int i = 1; i < 3; i++) {
        int by = drift(&f[0], &f[i], w, l, x);
        float there = 0, stayed = 0;
        for (int s = -1; s <= 1; s++) {
            there = x + by + s >= 0 && x + by + s < w ? fmaxf(there, height(&f[i], w, l, x + by + s, sign)) : there;
            stayed = fmaxf(stayed, height(&f[i], w, l, x + s, sign));
        }
        if (abs(by) >= 2 && there > .7f * here && stayed < .7f * here) return true;
    }
    return false;
}

/* One that ends inside the picture is high, thin, as high in one strip as in another (what it crosses may be as dark as itself, now and then),
 * and the same in the frames beside it: of narrow things in clean films none was so. */
static bool is_short_scratch(const frame f[3], int w, int x, float sign, float least, const line *l) {
    int from = l->from + 1, n = l->to - l->from - 2; /* it may end within its outer strips */
    line inner = { l->x0, l->x1, from, from + n };
    float each[MOST_STRIPS], off[MOST_STRIPS], squares = 0, high, most, here = height(&f[0], w, &inner, x, sign);
    for (int i = 0; i < n; i++) {
        each[i] = sign * f[0].p[(ptrdiff_t)(from + i) * w + x];
        squares += (each[i] - here) * (each[i] - here);
    }
    high = uf_stage_median(each, n);
    for (int i = 0; i < n; i++) off[i] = fabsf(each[i] - high);
    if (l->x1 - l->x0 >= WIDEST - 1 || high < 1.5f * least || uf_stage_median(off, n) > .22f * high || squares > .25f * here * here * (float)n) return false;
    for (int i = 1; i < 3; i++) {
        most = 0;
        for (int c = x - SWAY; c <= x + SWAY; c++) most = fmaxf(most, height(&f[i], w, &inner, c, sign));
        if (most < .7f * here || most > 1.4f * here) return false;
    }
    return true;
}

static bool is_line(const frame f[3], int w, int x, float sign, float least, line *l) {
    *l = longest(&f[0], w, x, sign, .5f * least);
    int n = l->to - l->from;
    bool whole = n == f[0].n;
    if (16 * n < 7 * f[0].n) return false; /* a little less than half of the height */
    float here = height(&f[0], w, l, x, sign);
    if (here < least || !is_peak(&f[0], w, l, x, here)) return false;
    for (int i = 1; i < 3; i++)
        if (standing(&f[i], w, l, x, SWAY, sign, .5f * least) < n - 1 - n / 8) return false;
    while (l->x0 > x - 2 && height(&f[0], w, l, l->x0 - 1, sign) > .25f * here) l->x0--;
    while (l->x1 < x + 2 && height(&f[0], w, l, l->x1 + 1, sign) > .25f * here) l->x1++;
    if (goes_along(f, w, x, sign, l, here) || (!whole && !is_short_scratch(f, w, x, sign, least, l))) return false;
    return true;
}

int uf_scratch_lines(uf_ctx *ctx, uf_stage_work *k, const float *const beside[2], int *n_lines) {
    int w = k->size.w;
    size_t n = (size_t)MOST_STRIPS * (size_t)w;
    float *all = uf_alloc(ctx, 6 * n, sizeof(float)), least = LINE / k->strength;
    const float *luma[] = { k->luma[UF_STAGE_REACH], beside[0], beside[1] };
    frame f[3];
    if (!all) return UF_ENOMEM;
    for (int i = 0; i < 3; i++) {
        f[i].p = all + (size_t)i * n;
        f[i].mean = f[i].p + 3 * n;
        profile(&k->size, luma[i], &f[i]);
    }
    for (int x = APART + 1; x + APART + 1 < w; x++)
        for (float sign = -1; sign <= 1; sign += 2) {
            line l;
            if (!is_line(f, w, x, sign, least, &l)) continue;
            bridge(k, &l, f[0].n);
            ++*n_lines;
        }
    free(all);
    return UF_OK;
}

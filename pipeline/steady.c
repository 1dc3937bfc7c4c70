/* Temporal chroma filter: cuts, block matching, recursive blend. See pipeline.h for what it depends on. */
#include "motion.h"
#include "pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float KEEP = 0.85f;  /* share of the past where luma agrees */
static const float SIGMA = 0.04f; /* luma difference (box mean, [0,1]) at which the past counts exp(-1) as much */

typedef struct track { /* one recursion */
    float *chroma; /* (2,h,w) */
    bool valid;
} track;

struct uf_steady {
    int w, h;
    int64_t index;      /* frames since the start of the film */
    int fading;         /* frames left until track[1] has taken over, 0: only track[0] */
    uf_cuts cuts;
    uf_vector *vectors; /* one a block */
    track track[2];
    float *luma, *next; /* (h,w), box-smoothed: of the last frame and of this one */
    float *keep;        /* (h,w) weight of the past */
    int *from;          /* (h,w) where each pixel came from */
    float *warped;      /* (2,h,w) */
};

int uf_steady_open(uf_steady **out, uf_ctx *ctx, int w, int h) {
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
    s->vectors = uf_alloc(ctx, (size_t)(w / UF_BLOCK + 1) * (size_t)(h / UF_BLOCK + 1), sizeof(*s->vectors));
    s->warped = uf_alloc(ctx, 2 * n, sizeof(float));
    if (!s->track[0].chroma || !s->track[1].chroma || !s->luma || !s->next || !s->keep || !s->from || !s->vectors || !s->warped) {
        uf_steady_close(&s);
        return UF_ENOMEM;
    }
    *out = s;
    return UF_OK;
}

void uf_steady_close(uf_steady **s) {
    if (!s || !*s) return;
    free((*s)->track[0].chroma);
    free((*s)->track[1].chroma);
    free((*s)->luma);
    free((*s)->next);
    free((*s)->keep);
    free((*s)->from);
    free((*s)->vectors);
    free((*s)->warped);
    free(*s);
    *s = NULL;
}

/* 3x3 mean, edges repeated: grain must not look like motion. */
static void smooth(const float *x, float *y, int w, int h) {
    for (int r = 0; r < h; r++) {
        const float *a = x + (ptrdiff_t)(r ? r - 1 : 0) * w, *b = x + (ptrdiff_t)r * w;
        const float *c = x + (ptrdiff_t)(r + 1 < h ? r + 1 : r) * w;
        for (int i = 0; i < w; i++) {
            int p = i ? i - 1 : 0, q = i + 1 < w ? i + 1 : i;
            y[(ptrdiff_t)r * w + i] = (a[p] + a[i] + a[q] + b[p] + b[i] + b[q] + c[p] + c[i] + c[q]) * (1.0f / 9);
        }
    }
}

/* Full search around each block of the last picture. */
static void follow(uf_steady *s) {
    int across = (s->w + UF_BLOCK - 1) / UF_BLOCK;
    uf_motion_follow(s->vectors, s->next, s->luma, s->w, s->h, s->w);
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) {
            uf_vector v = s->vectors[y / UF_BLOCK * across + x / UF_BLOCK];
            s->from[(ptrdiff_t)y * s->w + x] = (y + v.y) * s->w + x + v.x;
        }
}

static void weigh(uf_steady *s) {
    size_t n = (size_t)s->w * (size_t)s->h;
    for (size_t i = 0; i < n; i++) {
        float d = (s->next[i] - s->luma[s->from[i]]) * (1 / SIGMA);
        s->keep[i] = KEEP * expf(-d * d);
    }
}

static void blend(uf_steady *s, track *t, const float *chroma) {
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

static void emit(uf_steady *s, float *chroma) {
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

bool uf_steady_push(uf_steady *s, const float *luma, float *chroma) {
    bool cut = uf_cuts_push(&s->cuts, luma, s->w, s->h, s->w);
    uf_steady_push_known(s, cut, luma, chroma);
    return cut;
}

void uf_steady_push_known(uf_steady *s, bool cut, const float *luma, float *chroma) {
    float *old = s->luma;
    cut |= s->index == 0;
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
    s->index++;
}

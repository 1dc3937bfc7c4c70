/* AdamW: Kingma & Ba, arXiv:1412.6980; decoupled decay: Loshchilov & Hutter, arXiv:1711.05101.
 *
 * All tensors are cut into pieces of one fixed length. Threads share the pieces and sums are added in piece order, so
 * the thread count does not change a bit of the result. */
#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_PIECE = 16384, N_LANES = 8 };

typedef struct piece {
    uf_param *param;
    size_t from, n;
    double sum; /* of squared gradients */
} piece;

typedef struct rates {
    float rate, decay, b1, b2, c1, c2, eps, scale, average;
} rates;

static bool learns(const uf_param *p) { return !p->frozen && !p->buffer && p->grad; }
/* Running statistics are averaged with the weights that they belong to. */
static bool averages(const uf_param *p, const uf_adam *o) {
    return o->average > 0 && !p->frozen && (p->buffer || p->grad);
}

static int state(uf_ctx *ctx, uf_param *p, const uf_adam *o) {
    size_t n = uf_count(p->shape);
    if (learns(p) && !p->m && !(p->m = uf_alloc(ctx, n, sizeof(float)))) return UF_ENOMEM;
    if (learns(p) && !p->v && !(p->v = uf_alloc(ctx, n, sizeof(float)))) return UF_ENOMEM;
    if (averages(p, o) && !p->average) {
        if (!(p->average = uf_alloc(ctx, n, sizeof(float)))) return UF_ENOMEM;
        memcpy(p->average, p->value, n * sizeof(float));
    }
    return UF_OK;
}

static int cut(uf_ctx *ctx, uf_params *set, piece **out, int *n_pieces) {
    size_t n = 0;
    for (int i = 0; i < uf_params_n(set); i++)
        if (learns(uf_params_at(set, i))) n += uf_count(uf_params_at(set, i)->shape) / N_PIECE + 1;
    piece *pieces = uf_alloc(ctx, n, sizeof *pieces);
    if (!pieces) return UF_ENOMEM;
    int k = 0;
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        size_t count = learns(p) ? uf_count(p->shape) : 0;
        for (size_t from = 0; from < count; from += N_PIECE)
            pieces[k++] = (piece){p, from, count - from < N_PIECE ? count - from : N_PIECE, 0};
    }
    *out = pieces;
    *n_pieces = k;
    return UF_OK;
}

/* Lanes, because without them the additions wait for each other. */
static double sum_squares(const float *g, size_t n) {
    double lane[N_LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + N_LANES <= n; i += N_LANES)
        for (int k = 0; k < N_LANES; k++) lane[k] += (double)g[i + (size_t)k] * (double)g[i + (size_t)k];
    for (; i < n; i++) sum += (double)g[i] * (double)g[i];
    for (int k = 0; k < N_LANES; k++) sum += lane[k];
    return sum;
}

static int measure(uf_ctx *ctx, piece *pieces, int n, int64_t t, double *norm) {
#pragma omp parallel for num_threads(uf_ctx_threads(ctx))
    for (int i = 0; i < n; i++) pieces[i].sum = sum_squares(pieces[i].param->grad + pieces[i].from, pieces[i].n);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(pieces[i].sum))
            return uf_fail(ctx, UF_EDATA, "the gradient of '%s' is not finite at step %lld; lower the rate, or resume "
                           "from the last checkpoint", pieces[i].param->name, (long long)t);
        sum += pieces[i].sum;
    }
    *norm = sqrt(sum);
    return UF_OK;
}

static void average(float *restrict a, const float *restrict w, size_t n, float keep) {
    for (size_t i = 0; i < n; i++) a[i] += (1.f - keep) * (w[i] - a[i]);
}

static void update(const piece *s, rates r) {
    uf_param *p = s->param;
    float *restrict w = p->value + s->from, *restrict m = p->m + s->from, *restrict v = p->v + s->from;
    const float *restrict g = p->grad + s->from;
    float keep = 1.f - r.rate * (p->decay ? r.decay : 0.f);
    for (size_t i = 0; i < s->n; i++) {
        float d = g[i] * r.scale;
        m[i] = r.b1 * m[i] + (1.f - r.b1) * d;
        v[i] = r.b2 * v[i] + (1.f - r.b2) * d * d;
        w[i] = keep * w[i] - r.rate * (m[i] * r.c1) / (sqrtf(v[i] * r.c2) + r.eps);
    }
    if (r.average > 0) average(p->average + s->from, w, s->n, r.average);
}

static float group_rate(const uf_adam *o, int group) {
    return o->group_rate && group < o->n_groups ? o->group_rate[group] : 1.f;
}

static rates rates_at(const uf_adam *o, int64_t t, double norm) {
    rates r = {.rate = o->rate, .b1 = o->beta1, .b2 = o->beta2, .eps = o->eps, .decay = o->decay};
    r.average = fminf(o->average, (float)(1 + t) / (float)(10 + t)); /* the random start is forgotten quickly */
    r.scale = o->clip > 0 && norm > (double)o->clip ? (float)((double)o->clip / norm) : 1.f;
    r.c1 = (float)(1 / (1 - pow((double)o->beta1, (double)t)));
    r.c2 = (float)(1 / (1 - pow((double)o->beta2, (double)t)));
    return r;
}

int uf_adam_step(uf_ctx *ctx, uf_params *set, const uf_adam *o, int64_t t, float *norm) {
    if (t < 1) return uf_fail(ctx, UF_EINVAL, "step %lld: steps count from 1", (long long)t);
    piece *pieces = NULL;
    int n = 0;
    double length = 0;
    for (int i = 0; i < uf_params_n(set); i++) UF_TRY(state(ctx, uf_params_at(set, i), o));
    UF_TRY(cut(ctx, set, &pieces, &n));
    int err = measure(ctx, pieces, n, t, &length);
    if (err < 0) goto end;
    if (norm) *norm = (float)length;
    rates r = rates_at(o, t, length);
#pragma omp parallel for num_threads(uf_ctx_threads(ctx))
    for (int i = 0; i < n; i++) {
        rates own = r;
        own.rate *= group_rate(o, pieces[i].param->group);
        update(&pieces[i], own);
    }
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        if (p->buffer && averages(p, o)) average(p->average, p->value, uf_count(p->shape), r.average);
    }
end:
    free(pieces);
    return err;
}

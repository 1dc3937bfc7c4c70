/* Batch norm [+ residual] [+ relu] on the cpu, where it cannot be folded into the convolution before it. */
#include "plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { X, Y, RESIDUAL, GAMMA, BETA, MEAN, VAR };

typedef struct norm_keep {
    float *mean, *istd;    /* (C): of the batch, or running */
    float *k0, *k1, *k2;   /* (C): factors of either pass */
    float *partial;        /* UF_PIECES * 2C */
    double *sums;          /* 2C */
    bool batch;            /* statistics of the batch */
} norm_keep;

static void keep_close(void *priv) {
    norm_keep *k = priv;
    if (!k) return;
    free(k->mean);
    free(k->partial);
    free(k->sums);
    free(k);
}

static norm_keep *keep_open(uf_plan *p, const uf_node *norm) {
    size_t c = (size_t)norm->shape.c;
    norm_keep *k = uf_alloc(p->ctx, 1, sizeof *k);
    if (!k) return NULL;
    k->batch = p->options.mode == UF_TRAIN && norm->attr.mode != 0;
    k->mean = uf_alloc(p->ctx, 5 * c, sizeof(float));
    k->partial = uf_alloc(p->ctx, UF_PIECES * 2 * c, sizeof(float));
    k->sums = uf_alloc(p->ctx, 2 * c, sizeof(double));
    if (!k->mean || !k->partial || !k->sums) {
        keep_close(k);
        return NULL;
    }
    k->istd = k->mean + c;
    k->k0 = k->istd + c;
    k->k1 = k->k0 + c;
    k->k2 = k->k1 + c;
    return k;
}

static size_t rows_of(uf_shape s) { return (size_t)s.n * (size_t)s.h * (size_t)s.w; }

static void batch_statistics(uf_plan *p, uf_step *s, norm_keep *k, const uf_node *norm) {
    int c = norm->shape.c;
    size_t rows = rows_of(norm->shape);
    float *mean = uf_use(p, s, MEAN), *var = uf_use(p, s, VAR), m = norm->attr.momentum;
    p->kernels->moments(rows, c, uf_use(p, s, X), k->partial, k->sums);
    for (int i = 0; i < c; i++) {
        double mu = k->sums[i] / (double)rows, v = fmax(k->sums[c + i] / (double)rows - mu * mu, 0);
        k->mean[i] = (float)mu;
        k->istd[i] = (float)(1 / sqrt(v + (double)norm->attr.eps));
        mean[i] += m * ((float)mu - mean[i]);
        var[i] += m * ((float)(v * (double)rows / (double)(rows > 1 ? rows - 1 : 1)) - var[i]);
    }
}

static const uf_node *norm_of(const uf_plan *p, const uf_node *n) {
    const uf_node *norm = uf_tensor_of(p, n)->group.norm;
    return norm ? norm : n;
}

static int run_forward(uf_plan *p, uf_step *s) {
    norm_keep *k = s->priv;
    const uf_node *norm = norm_of(p, s->node);
    int c = norm->shape.c;
    const float *gamma = uf_use(p, s, GAMMA), *beta = uf_use(p, s, BETA);
    if (k->batch) {
        batch_statistics(p, s, k, norm);
    } else {
        const float *mean = uf_use(p, s, MEAN), *var = uf_use(p, s, VAR);
        for (int i = 0; i < c; i++) {
            k->mean[i] = mean[i];
            k->istd[i] = 1.f / sqrtf(var[i] + norm->attr.eps);
        }
    }
    for (int i = 0; i < c; i++) {
        k->k0[i] = gamma[i] * k->istd[i];
        k->k1[i] = beta[i] - k->mean[i] * k->k0[i];
    }
    p->kernels->affine(rows_of(s->shape), c, uf_use(p, s, X), k->k0, k->k1, uf_use(p, s, RESIDUAL), s->i[0],
                       uf_use(p, s, Y));
    return UF_OK;
}

int uf_norm_forward(uf_plan *p, const uf_node *n) {
    uf_tensor *t = uf_tensor_of(p, n);
    const uf_node *norm = norm_of(p, n);
    int in[5];
    for (int i = 0; i < 5; i++)
        if ((in[i] = uf_value(p, norm->in[i], i ? UF_PLAIN : UF_NATIVE)) < 0) return in[i];
    int residual = t->group.residual ? uf_value(p, t->group.residual, UF_NATIVE) : UF_NO_BUF;
    int y = uf_value_new(p, n, UF_NATIVE);
    norm_keep *k = y < 0 ? NULL : keep_open(p, norm);
    if (!k) return UF_ENOMEM;
    uf_step *s = uf_plan_step(p, n, run_forward);
    if (!s) {
        keep_close(k);
        return UF_ENOMEM;
    }
    s->priv = t->keep = k;
    s->close = keep_close;
    s->i[0] = t->group.act != NULL;
    int use[] = {in[0], y, residual, in[1], in[2], in[3], in[4]};
    for (int i = 0; i < UF_LEN(use); i++) uf_step_use(p, s, use[i]);
    return UF_OK;
}

enum { B_X, B_DY, B_Y, B_G, B_DX, B_GAMMA, B_DGAMMA, B_DBETA };

static int run_backward(uf_plan *p, uf_step *s) {
    norm_keep *k = s->priv;
    const uf_node *norm = norm_of(p, s->node);
    int c = norm->shape.c;
    size_t rows = rows_of(s->shape);
    const float *gamma = uf_use(p, s, B_GAMMA);
    float *dgamma = uf_use(p, s, B_DGAMMA), *dbeta = uf_use(p, s, B_DBETA);
    void *g = uf_use(p, s, B_G), *dx = uf_use(p, s, B_DX), *y = uf_use(p, s, B_Y), *dy = uf_use(p, s, B_DY);
    p->kernels->norm_sums(rows, c, uf_use(p, s, B_X), dy, y, k->mean, g, k->partial, k->sums);
    for (int i = 0; i < c; i++) {
        float s1 = (float)k->sums[i], s2 = (float)k->sums[c + i], istd = k->istd[i];
        if (dgamma) dgamma[i] += istd * s2;
        if (dbeta) dbeta[i] += s1;
        k->k0[i] = gamma[i] * istd;
        k->k1[i] = k->batch ? -k->k0[i] * istd * istd * s2 / (float)rows : 0.f;
        k->k2[i] = k->batch ? -k->k0[i] * s1 / (float)rows - k->k1[i] * k->mean[i] : 0.f;
    }
    if (g) { /* already masked for the residual */
        dy = g;
        y = NULL;
    }
    if (dx) p->kernels->norm_dx(rows, c, uf_use(p, s, B_X), dy, y, k->k0, k->k1, k->k2, dx);
    return UF_OK;
}

int uf_norm_backward(uf_plan *p, const uf_node *n) {
    uf_tensor *t = uf_tensor_of(p, n);
    const uf_node *norm = norm_of(p, n), *x = norm->in[0], *residual = t->group.residual;
    bool to_residual = residual && uf_wants_grad(p, residual), to_x = uf_wants_grad(p, x);
    int dy = uf_grad(p, n, UF_NATIVE);
    int xv = uf_value(p, x, UF_NATIVE), gamma = uf_value(p, norm->in[1], UF_PLAIN);
    int y = t->group.act ? uf_value(p, n, UF_NATIVE) : UF_NO_BUF;
    int g = to_residual && t->group.act ? uf_plan_buf(p, uf_bytes(p, n->shape, UF_NATIVE)) : UF_NO_BUF;
    int dx = to_x ? uf_plan_buf(p, uf_bytes(p, n->shape, UF_NATIVE)) : UF_NO_BUF;
    int dparam[2];
    for (int i = 0; i < 2; i++)
        dparam[i] = uf_wants_grad(p, norm->in[1 + i]) ? uf_plan_param(p, norm->in[1 + i]->param, true) : UF_NO_BUF;
    uf_step *s = uf_plan_step(p, n, run_backward);
    if (!s) return UF_ENOMEM;
    s->priv = t->keep;
    int use[] = {xv, dy, y, g, dx, gamma, dparam[0], dparam[1]};
    for (int i = 0; i < UF_LEN(use); i++) uf_step_use(p, s, use[i]);
    if (to_residual) UF_TRY(uf_grad_add(p, residual, t->group.act ? g : dy, UF_NATIVE));
    return to_x ? uf_grad_add(p, x, dx, UF_NATIVE) : UF_OK;
}

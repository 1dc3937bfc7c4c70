/* Self-attention over the places of a picture (Zhang et al. 2018, arXiv:1805.08318) on the cpu: float32 matrix products
 * by oneDNN over blocks of queries, so that the score matrix never exists whole. Channels-last rows are the matrices. */
#include "onednn.h"
#include "plan.h"

#include <string.h>

enum { BLOCK = 256, Q = 0, K, V, Y, WORK, DY, DQ, DK, DV };

typedef struct sizes {
    int m, n, d, e; /* queries, keys, their channels, value channels */
} sizes;

static sizes sizes_of(const uf_node *n) {
    uf_shape q = n->in[0]->shape, k = n->in[1]->shape;
    return (sizes){q.h * q.w, k.h * k.w, q.c, n->shape.c};
}

static size_t work_floats(sizes s, bool back) {
    size_t m = (size_t)s.m, n = (size_t)s.n, d = (size_t)s.d, e = (size_t)s.e;
    size_t once = m * d + n * d + n * e + m * e + (size_t)BLOCK * n;
    return back ? 2 * once : once;
}

/* Scores of `rows` queries against all keys, then softmax along each row. */
static int scores(sizes s, int rows, float scale, const float *q, const float *k, float *out) {
    UF_TRY(uf_sgemm(false, true, rows, s.n, s.d, scale, q, s.d, k, s.d, 0.f, out, s.n));
    uf_softmax_rows((size_t)rows, (size_t)s.n, out);
    return UF_OK;
}

static void widen(const uf_plan *p, const void *x, int sample, size_t n, float *y) {
    p->kernels->widen(n, (const char *)x + (size_t)sample * n * p->kernels->size, y);
}

static void narrow(const uf_plan *p, const float *x, int sample, size_t n, void *y) {
    p->kernels->narrow(n, x, (char *)y + (size_t)sample * n * p->kernels->size);
}

static int run_forward(uf_plan *p, uf_step *st) {
    sizes s = sizes_of(st->node);
    size_t md = (size_t)s.m * (size_t)s.d, nd = (size_t)s.n * (size_t)s.d, ne = (size_t)s.n * (size_t)s.e;
    size_t me = (size_t)s.m * (size_t)s.e;
    float *q = uf_use(p, st, WORK), *k = q + md, *v = k + nd, *y = v + ne, *score = y + me;
    for (int b = 0; b < st->shape.n; b++) {
        widen(p, uf_use(p, st, Q), b, md, q);
        widen(p, uf_use(p, st, K), b, nd, k);
        widen(p, uf_use(p, st, V), b, ne, v);
        for (int at = 0; at < s.m; at += BLOCK) {
            int rows = s.m - at < BLOCK ? s.m - at : BLOCK;
            UF_TRY(scores(s, rows, st->node->attr.scale, q + (size_t)at * (size_t)s.d, k, score));
            UF_TRY(uf_sgemm(false, false, rows, s.e, s.n, 1.f, score, s.n, v, s.e, 0.f, y + (size_t)at * (size_t)s.e,
                            s.e));
        }
        narrow(p, y, b, me, uf_use(p, st, Y));
    }
    return UF_OK;
}

int uf_attention_forward(uf_plan *p, const uf_node *n) {
    int use[5];
    for (int i = 0; i < 3; i++)
        if ((use[i] = uf_value(p, n->in[i], UF_NATIVE)) < 0) return use[i];
    use[Y] = uf_value_new(p, n, UF_NATIVE);
    use[WORK] = uf_plan_buf(p, work_floats(sizes_of(n), false) * sizeof(float));
    uf_step *s = use[Y] < 0 || use[WORK] < 0 ? NULL : uf_plan_step(p, n, run_forward);
    if (!s) return UF_ENOMEM;
    for (int i = 0; i < 5; i++) uf_step_use(p, s, use[i]);
    return UF_OK;
}

/* dz = scale * s (ds - sum_j s ds), the softmax's gradient, in place of ds. */
static void softmax_back(sizes s, int rows, float scale, const float *score, float *ds) {
#pragma omp parallel for
    for (int i = 0; i < rows; i++) {
        const float *r = score + (size_t)i * (size_t)s.n;
        float *d = ds + (size_t)i * (size_t)s.n, sum = 0;
        for (int j = 0; j < s.n; j++) sum += r[j] * d[j];
        for (int j = 0; j < s.n; j++) d[j] = scale * r[j] * (d[j] - sum);
    }
}

static int run_backward(uf_plan *p, uf_step *st) {
    sizes s = sizes_of(st->node);
    size_t md = (size_t)s.m * (size_t)s.d, nd = (size_t)s.n * (size_t)s.d, ne = (size_t)s.n * (size_t)s.e;
    size_t me = (size_t)s.m * (size_t)s.e, bn = (size_t)BLOCK * (size_t)s.n;
    float *q = uf_use(p, st, WORK), *k = q + md, *v = k + nd, *dy = v + ne, *score = dy + me, *ds = score + bn;
    float *dq = ds + bn, *dk = dq + md, *dv = dk + nd, scale = st->node->attr.scale;
    for (int b = 0; b < st->shape.n; b++) {
        widen(p, uf_use(p, st, Q), b, md, q);
        widen(p, uf_use(p, st, K), b, nd, k);
        widen(p, uf_use(p, st, V), b, ne, v);
        widen(p, uf_use(p, st, DY), b, me, dy);
        memset(dk, 0, nd * sizeof *dk);
        memset(dv, 0, ne * sizeof *dv);
        for (int at = 0; at < s.m; at += BLOCK) {
            int rows = s.m - at < BLOCK ? s.m - at : BLOCK;
            const float *qb = q + (size_t)at * (size_t)s.d, *g = dy + (size_t)at * (size_t)s.e;
            UF_TRY(scores(s, rows, scale, qb, k, score));
            UF_TRY(uf_sgemm(true, false, s.n, s.e, rows, 1.f, score, s.n, g, s.e, 1.f, dv, s.e));
            UF_TRY(uf_sgemm(false, true, rows, s.n, s.e, 1.f, g, s.e, v, s.e, 0.f, ds, s.n));
            softmax_back(s, rows, scale, score, ds);
            UF_TRY(uf_sgemm(false, false, rows, s.d, s.n, 1.f, ds, s.n, k, s.d, 0.f, dq + (size_t)at * (size_t)s.d, s.d));
            UF_TRY(uf_sgemm(true, false, s.n, s.d, rows, 1.f, ds, s.n, qb, s.d, 1.f, dk, s.d));
        }
        float *from[] = {dq, dk, dv};
        size_t count[] = {md, nd, ne};
        for (int i = 0; i < 3; i++)
            if (uf_use(p, st, DQ + i)) narrow(p, from[i], b, count[i], uf_use(p, st, DQ + i));
    }
    return UF_OK;
}

int uf_attention_backward(uf_plan *p, const uf_node *n) {
    int use[9];
    for (int i = 0; i < 3; i++) {
        use[i] = uf_value(p, n->in[i], UF_NATIVE);
        use[DQ + i] = uf_wants_grad(p, n->in[i]) ? uf_plan_buf(p, uf_bytes(p, n->in[i]->shape, UF_NATIVE)) : UF_NO_BUF;
    }
    use[Y] = UF_NO_BUF;
    use[WORK] = uf_plan_buf(p, work_floats(sizes_of(n), true) * sizeof(float));
    use[DY] = uf_grad(p, n, UF_NATIVE);
    uf_step *s = use[WORK] < 0 || use[DY] < 0 ? NULL : uf_plan_step(p, n, run_backward);
    if (!s) return UF_ENOMEM;
    for (int i = 0; i < 9; i++) uf_step_use(p, s, use[i]);
    for (int i = 0; i < 3; i++)
        if (use[DQ + i] >= 0) UF_TRY(uf_grad_add(p, n->in[i], use[DQ + i], UF_NATIVE));
    return UF_OK;
}

/* Gradients of gated recurrent units: as forward, from the last step to the first, and everything that needs a step's gradients is made of them while they are near. */
#include "cpu_gru.h"
#include "products.h"

#include <stdlib.h>
#include <string.h>

enum { X, WX, WH, FIRST, Y, AUX, WORK, DY, DX, DWX, DWH, DBX, DBH, DFIRST, N_USE };
enum { ROWS = UF_GRU_ROWS, SHARES = 8 }; /* sums are cut into so many parts whatever the thread count, so that the same input gives the same bits */

typedef struct grad_keep {
    uf_dtype dtype;                     /* of the products */
    uf_packed wx, wh;                   /* the weights the other way round */
    uf_outer dwx[SHARES], dwh[SHARES];
} grad_keep;

static void keep_close(void *priv) {
    grad_keep *k = priv;
    if (!k) return;
    uf_packed_close(&k->wx);
    uf_packed_close(&k->wh);
    for (int i = 0; i < SHARES; i++) {
        uf_outer_close(&k->dwx[i]);
        uf_outer_close(&k->dwh[i]);
    }
    free(k);
}

static grad_keep *keep_open(uf_plan *p, const uf_node *n) {
    uf_gru_sizes s = uf_gru_sizes_of(n);
    grad_keep *k = uf_alloc(p->ctx, 1, sizeof *k);
    if (!k) return NULL;
    k->dtype = uf_packed_fits(p->dtype, 3 * s.out) ? p->dtype : UF_F32;
    int err = uf_packed_open(&k->wx, p->ctx, k->dtype, 3 * s.out, s.in);
    if (err == UF_OK) err = uf_packed_open(&k->wh, p->ctx, k->dtype, 3 * s.out, s.out);
    for (int i = 0; err == UF_OK && i < SHARES; i++) {
        err = uf_outer_open(&k->dwx[i], p->ctx, k->dtype, 3 * s.out, s.in);
        if (err == UF_OK) err = uf_outer_open(&k->dwh[i], p->ctx, k->dtype, 3 * s.out, s.out);
    }
    if (err == UF_OK) return k;
    keep_close(k);
    return NULL;
}

/* Scratch of one share, for ROWS sequences; the gates' gradients before the recurrent bias' part (ga) and with it (gb). */
typedef struct lane {
    float *ga, *gb, *carry, *back, *dx, *x, *dy, *before, *sum_a, *sum_b;
    float *typed_a, *typed_b, *zeros; /* in the products' type */
} lane;

static size_t lane_carve(const uf_gru_sizes *s, const grad_keep *k, float *from, lane *l) {
    size_t o = (size_t)s->out, in = (size_t)s->in;
    size_t count[] = {ROWS * 3 * o, ROWS * 3 * o, ROWS * o, ROWS * (size_t)k->wh.wide, ROWS * (size_t)k->wx.wide, ROWS * (in > o ? in : o), ROWS * o, ROWS * o, 3 * o, 3 * o, ROWS * 3 * o, ROWS * 3 * o, ROWS * o};
    float **to[] = {&l->ga, &l->gb, &l->carry, &l->back, &l->dx, &l->x, &l->dy, &l->before, &l->sum_a, &l->sum_b, &l->typed_a, &l->typed_b, &l->zeros};
    return uf_carve(from, UF_LEN(count), count, to);
}

/* `rows` rows of n in the plan's type, `apart` elements from one to the next, as the products take them: *ld apart. */
static const void *typed(const uf_plan *p, const grad_keep *k, int rows, size_t n, const void *x, size_t apart, float *scratch, size_t *ld) {
    *ld = apart;
    if (k->dtype == p->dtype) return x;
    for (size_t r = 0; r < (size_t)rows; r++) p->kernels->widen_alone(n, (const char *)x + r * apart * p->kernels->size, scratch + r * n);
    *ld = n;
    return scratch;
}

/* The same of rows of float32 that lie together. */
static const void *narrowed(const uf_plan *p, const grad_keep *k, size_t n, const float *x, float *scratch) {
    if (k->dtype == UF_F32) return x;
    p->kernels->narrow_alone(n, x, scratch);
    return scratch;
}

static void add_rows(int rows, size_t n, const float *x, float *sum) {
    for (int r = 0; r < rows; r++, x += n)
        for (size_t i = 0; i < n; i++) sum[i] += x[i];
}

/* All steps of `rows` sequences that lie side by side, from `from` on. */
static void run_rows(uf_plan *p, uf_step *st, const uf_gru_sizes *s, int share, int from, int rows, const lane *l) {
    grad_keep *k = st->priv;
    const char *x = uf_use(p, st, X), *y = uf_use(p, st, Y), *dy = uf_use(p, st, DY), *first = uf_use(p, st, FIRST);
    char *dx = uf_use(p, st, DX);
    const float *aux = uf_use(p, st, AUX);
    bool learn_x = uf_use(p, st, DWX), learn_h = uf_use(p, st, DWH); /* frozen weights want nothing */
    size_t in = (size_t)s->in, o = (size_t)s->out, size = p->kernels->size, n = (size_t)rows;
    memset(l->carry, 0, n * o * sizeof *l->carry);
    for (int i = s->steps - 1; i >= 0; i--) {
        size_t at = uf_gru_place(s, from, i), ld;
        const char *state = i ? y + uf_gru_place(s, from, i - 1) * o * size : first ? first + (size_t)from * o * size : (const char *)l->zeros;
        size_t state_apart = i ? s->apart * o : o;
        for (size_t r = 0; r < n; r++) {
            size_t here = at + r * s->apart;
            p->kernels->widen_alone(o, dy + here * o * size, l->dy);
            p->kernels->widen_alone(o, state + r * state_apart * size, l->before);
            uf_gru_step_back(o, aux + here * 4 * o, l->before, l->dy, l->carry + r * o, l->ga + r * 3 * o, l->gb + r * 3 * o);
        }
        add_rows(rows, 3 * o, l->ga, l->sum_a);
        add_rows(rows, 3 * o, l->gb, l->sum_b);
        const void *a = narrowed(p, k, n * 3 * o, l->ga, l->typed_a), *b = narrowed(p, k, n * 3 * o, l->gb, l->typed_b);
        uf_packed_multiply(&k->wh, rows, b, 3 * o, l->back);
        for (size_t r = 0; r < n; r++)
            for (size_t j = 0; j < o; j++) l->carry[r * o + j] += l->back[r * (size_t)k->wh.wide + j];
        if (learn_x) {
            const void *u = typed(p, k, rows, in, x + at * in * size, s->apart * in, l->x, &ld);
            uf_outer_add(&k->dwx[share], rows, a, 3 * o, u, ld);
        }
        if (learn_h) {
            const void *u = typed(p, k, rows, o, state, state_apart, l->x, &ld);
            uf_outer_add(&k->dwh[share], rows, b, 3 * o, u, ld);
        }
        if (!dx) continue;
        uf_packed_multiply(&k->wx, rows, a, 3 * o, l->dx);
        for (size_t r = 0; r < n; r++) p->kernels->narrow_alone(in, l->dx + r * (size_t)k->wx.wide, dx + (at + r * s->apart) * in * size);
    }
    if (uf_use(p, st, DFIRST)) p->kernels->narrow_alone(n * o, l->carry, (char *)uf_use(p, st, DFIRST) + (size_t)from * o * size);
}

static void add(size_t n, const float *x, float *to) {
    for (size_t i = 0; to && i < n; i++) to[i] += x[i];
}

static int run_backward(uf_plan *p, uf_step *st) {
    grad_keep *k = st->priv;
    uf_gru_sizes s = uf_gru_sizes_of(st->node);
    lane l[SHARES];
    size_t each = lane_carve(&s, k, NULL, &l[0]), o3 = 3 * (size_t)s.out;
    float *work = uf_use(p, st, WORK);
    int groups = uf_gru_groups(&s, ROWS);
    uf_packed_set(&k->wx, uf_use(p, st, WX), true);
    uf_packed_set(&k->wh, uf_use(p, st, WH), true);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < SHARES; i++) {
        lane_carve(&s, k, work + (size_t)i * each, &l[i]);
        memset(l[i].sum_a, 0, o3 * sizeof(float));
        memset(l[i].sum_b, 0, o3 * sizeof(float));
        memset(l[i].zeros, 0, (size_t)(ROWS * s.out) * sizeof(float));
        for (int g = groups * i / SHARES; g < groups * (i + 1) / SHARES; g++) {
            int from, rows = uf_gru_group(&s, ROWS, g, &from);
            run_rows(p, st, &s, i, from, rows, &l[i]);
        }
    }
    for (int i = 0; i < SHARES; i++) {
        if (uf_use(p, st, DWX)) uf_outer_take(&k->dwx[i], uf_use(p, st, DWX));
        if (uf_use(p, st, DWH)) uf_outer_take(&k->dwh[i], uf_use(p, st, DWH));
        add(o3, l[i].sum_a, uf_use(p, st, DBX));
        add(o3, l[i].sum_b, uf_use(p, st, DBH));
    }
    return UF_OK;
}

int uf_gru_backward(uf_plan *p, const uf_node *n) {
    uf_gru_sizes s = uf_gru_sizes_of(n);
    lane l;
    int use[N_USE];
    grad_keep *k = keep_open(p, n);
    if (!k) return UF_ENOMEM;
    use[X] = uf_value(p, n->in[0], UF_NATIVE);
    for (int i = 0; i < 4; i++) use[DWX + i] = uf_wants_grad(p, n->in[1 + i]) ? uf_plan_param(p, n->in[1 + i]->param, true) : UF_NO_BUF;
    use[WX] = uf_value(p, n->in[1], UF_PLAIN);
    use[WH] = uf_value(p, n->in[2], UF_PLAIN);
    use[Y] = uf_value(p, n, UF_NATIVE);
    use[AUX] = uf_tensor_of(p, n)->aux;
    use[WORK] = uf_plan_buf(p, SHARES * lane_carve(&s, k, NULL, &l) * sizeof(float));
    use[DY] = uf_grad(p, n, UF_NATIVE);
    use[DX] = uf_wants_grad(p, n->in[0]) ? uf_plan_buf(p, uf_bytes(p, n->in[0]->shape, UF_NATIVE)) : UF_NO_BUF;
    bool first = n->n_in > 5;
    use[FIRST] = first ? uf_value(p, n->in[5], UF_NATIVE) : UF_NO_BUF;
    use[DFIRST] = first && uf_wants_grad(p, n->in[5]) ? uf_plan_buf(p, uf_bytes(p, n->in[5]->shape, UF_NATIVE)) : UF_NO_BUF;
    uf_step *st = uf_plan_step(p, n, run_backward);
    if (!st) {
        keep_close(k);
        return UF_ENOMEM;
    }
    st->priv = k;
    st->close = keep_close;
    for (int i = 0; i < N_USE; i++) uf_step_use(p, st, use[i]);
    if (use[DFIRST] >= 0) UF_TRY(uf_grad_add(p, n->in[5], use[DFIRST], UF_NATIVE));
    return use[DX] >= 0 ? uf_grad_add(p, n->in[0], use[DX], UF_NATIVE) : UF_OK;
}

/* Gated recurrent units on the cpu, step by step for a few sequences together, whose states stay in the nearest cache. Products are in the plan's type, as
 * convolutions are; the gates, the state that goes on and all of the gradient are float32. */
#include "onednn.h"
#include "plan.h"
#include "products.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { X, WX, WH, BX, BH, FIRST, Y, AUX, WORK, DY, DX, DWX, DWH, DBX, DBH, DFIRST, N_USE };
enum { SHARES = 2 }; /* backward the sequences are cut into so many parts whatever the thread count, so that the same input gives the same bits */
enum { ROWS = 16 };  /* sequences together at most */

typedef struct sizes {
    int places, sequences, steps, in, out;
    bool rows, reverse;
    size_t w, hw;
} sizes;

static sizes sizes_of(const uf_node *n) {
    uf_shape s = n->shape;
    bool rows = n->attr.axis == 2;
    return (sizes){.places = s.n * s.h * s.w, .sequences = s.n * (rows ? s.w : s.h), .steps = rows ? s.h : s.w, .in = n->in[0]->shape.c,
                   .out = s.c, .rows = rows, .reverse = n->attr.reverse, .w = (size_t)s.w, .hw = (size_t)s.h * (size_t)s.w};
}

/* Place of step i of sequence q. */
static size_t place(const sizes *s, int q, int i) {
    size_t t = (size_t)(s->reverse ? s->steps - 1 - i : i), k = (size_t)q;
    return s->rows ? k / s->w * s->hw + t * s->w + k % s->w : k * s->w + t;
}

typedef struct work {
    float *x, *gx, *y, *h, *gh, *dy, *dgh, *before;
} work;

/* n arrays of count[i] floats out of `from`, each on a border of 64 bytes; from NULL: only how many floats they take together. */
static size_t carve(float *from, int n, const size_t *count, float **const *to) {
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (from) *to[i] = from + at;
        at += (count[i] + 15) / 16 * 16;
    }
    return at;
}

static size_t work_carve(const sizes *s, float *from, work *w) {
    size_t p = (size_t)s->places, o = (size_t)s->out, q = (size_t)s->sequences;
    size_t count[] = {p * (size_t)s->in, p * 3 * o, p * o, q * o, q * 3 * o, p * o, p * 3 * o, p * o};
    float **to[] = {&w->x, &w->gx, &w->y, &w->h, &w->gh, &w->dy, &w->dgh, &w->before};
    return carve(from, UF_LEN(count), count, to);
}

/* The states before the first step, a row a sequence: channels-last states lie as the sequences are counted. */
static void first_state(const sizes *s, uf_plan *p, uf_step *st, float *h) {
    size_t n = (size_t)s->sequences * (size_t)s->out;
    if (uf_use(p, st, FIRST)) p->kernels->widen(n, uf_use(p, st, FIRST), h);
    else memset(h, 0, n * sizeof *h);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

typedef struct gru_keep {
    uf_packed wx, wh;
    bool constant; /* weights change only when the caller says so (uf_plan_stale) */
} gru_keep;

static void keep_close(void *priv) {
    gru_keep *k = priv;
    if (!k) return;
    uf_packed_close(&k->wx);
    uf_packed_close(&k->wh);
    free(k);
}

static gru_keep *keep_open(uf_plan *p, const uf_node *n) {
    sizes s = sizes_of(n);
    gru_keep *k = uf_alloc(p->ctx, 1, sizeof *k);
    if (!k) return NULL;
    k->constant = uf_is_constant(p, n->in[1]) && uf_is_constant(p, n->in[2]);
    uf_dtype tx = uf_packed_fits(p->dtype, s.in) ? p->dtype : UF_F32, th = uf_packed_fits(p->dtype, s.out) ? p->dtype : UF_F32;
    if (uf_packed_open(&k->wx, p->ctx, tx, s.in, 3 * s.out) < 0 || uf_packed_open(&k->wh, p->ctx, th, s.out, 3 * s.out) < 0) {
        keep_close(k);
        return NULL;
    }
    return k;
}

/* Scratch of one thread, for ROWS sequences. */
typedef struct lane {
    float *gx, *gh, *h, *x; /* x: the input in float32, where the plan's type does not fit */
} lane;

static size_t lane_carve(const sizes *s, const gru_keep *k, float *from, lane *l) {
    size_t wide = (size_t)k->wx.wide, count[] = {ROWS * wide, ROWS * wide, ROWS * (size_t)s->out, ROWS * (size_t)s->in};
    float **to[] = {&l->gx, &l->gh, &l->h, &l->x};
    return carve(from, UF_LEN(count), count, to);
}

/* All steps of `rows` sequences that lie side by side, from `from` on. */
static void run_rows(uf_plan *p, uf_step *st, const sizes *s, int from, int rows, const lane *l) {
    const gru_keep *k = st->priv;
    const float *bx = uf_use(p, st, BX), *bh = uf_use(p, st, BH);
    const char *x = uf_use(p, st, X), *first = uf_use(p, st, FIRST);
    char *y = uf_use(p, st, Y);
    float *aux = uf_use(p, st, AUX);
    size_t in = (size_t)s->in, o = (size_t)s->out, wide = (size_t)k->wx.wide, apart = s->rows ? 1 : s->w, size = p->kernels->size;
    if (first) p->kernels->widen_alone((size_t)rows * o, first + (size_t)from * o * size, l->h);
    else memset(l->h, 0, (size_t)rows * o * sizeof *l->h);
    /* Products take the state as it was stored, where that is of their type. Zeros are the same in both. */
    bool stored = k->wh.dtype == p->dtype;
    const void *state = stored && first ? first + (size_t)from * o * size : (const void *)l->h;
    size_t next_state = o;
    for (int i = 0; i < s->steps; i++) {
        size_t at = place(s, from, i);
        const void *v = x + at * in * size;
        size_t ldv = apart * in;
        if (k->wx.dtype != p->dtype) {
            for (size_t r = 0; r < (size_t)rows; r++) p->kernels->widen_alone(in, x + (at + r * apart) * in * size, l->x + r * in);
            v = l->x;
            ldv = in;
        }
        uf_packed_multiply(&k->wx, rows, v, ldv, l->gx);
        uf_packed_multiply(&k->wh, rows, state, next_state, l->gh);
        for (size_t r = 0; r < (size_t)rows; r++) {
            size_t here = at + r * apart;
            uf_gru_step(o, l->gx + r * wide, l->gh + r * wide, bx, bh, l->h + r * o, aux ? aux + here * 4 * o : NULL);
            p->kernels->narrow_alone(o, l->h + r * o, y + here * o * size);
        }
        if (!stored) continue;
        state = y + at * o * size;
        next_state = apart * o;
    }
}

static int run_forward(uf_plan *p, uf_step *st) {
    gru_keep *k = st->priv;
    sizes s = sizes_of(st->node);
    if (!k->constant || p->stale) {
        uf_packed_set(&k->wx, uf_use(p, st, WX));
        uf_packed_set(&k->wh, uf_use(p, st, WH));
    }
    float *scratch = uf_use(p, st, WORK);
    lane l = {0};
    size_t each = lane_carve(&s, k, NULL, &l);
    int across = s.rows ? (int)s.w : s.sequences; /* neighbours among which places are equally far apart */
    int share = (s.sequences + p->n_threads - 1) / p->n_threads, rows = share < ROWS ? share : ROWS, parts = (across + rows - 1) / rows;
#pragma omp parallel for
    for (int i = 0; i < s.sequences / across * parts; i++) {
        int from = i % parts * rows, n = across - from < rows ? across - from : rows;
        lane mine = l;
        lane_carve(&s, k, scratch + (size_t)omp_get_thread_num() * each, &mine);
        run_rows(p, st, &s, i / parts * across + from, n, &mine);
    }
    return UF_OK;
}

int uf_gru_forward(uf_plan *p, const uf_node *n) {
    sizes s = sizes_of(n);
    lane l;
    int use[N_USE];
    gru_keep *k = keep_open(p, n);
    if (!k) return UF_ENOMEM;
    use[X] = uf_value(p, n->in[0], UF_NATIVE);
    for (int i = WX; i <= BH; i++) use[i] = uf_value(p, n->in[i], UF_PLAIN);
    use[FIRST] = n->n_in > 5 ? uf_value(p, n->in[5], UF_NATIVE) : UF_NO_BUF;
    use[Y] = uf_value_new(p, n, UF_NATIVE);
    use[AUX] = p->options.loss ? uf_plan_buf(p, uf_count(n->shape) * 4 * sizeof(float)) : UF_NO_BUF;
    use[WORK] = uf_plan_buf(p, lane_carve(&s, k, NULL, &l) * (size_t)p->n_threads * sizeof(float));
    uf_tensor_of(p, n)->aux = use[AUX];
    uf_step *st = uf_plan_step(p, n, run_forward);
    if (!st) {
        keep_close(k);
        return UF_ENOMEM;
    }
    st->priv = k;
    st->close = keep_close;
    for (int i = 0; i <= WORK; i++) {
        if (use[i] < 0 && i != AUX && (i != FIRST || n->n_in > 5)) return use[i];
        uf_step_use(p, st, use[i]);
    }
    return UF_OK;
}

/* ---- gradients ---------------------------------------------------------------------------------------------------- */

static int backward_share(const sizes *s, const work *w, uf_plan *p, const uf_step *st, int from, int to) {
    const float *wh = uf_use(p, st, WH), *aux = uf_use(p, st, AUX);
    size_t o = (size_t)s->out;
    if (from == to) return UF_OK;
    float *carry = w->h, *dg = w->gh; /* a row a sequence, in order, for the product below */
    memset(carry + (size_t)from * o, 0, (size_t)(to - from) * o * sizeof(float));
    for (int i = s->steps - 1; i >= 0; i--) {
        for (int q = from; q < to; q++) {
            size_t at = place(s, q, i), k = (size_t)q;
            uf_gru_step_back(o, aux + at * 4 * o, w->before + at * o, w->dy + at * o, carry + k * o, w->gx + at * 3 * o, dg + k * 3 * o);
            memcpy(w->dgh + at * 3 * o, dg + k * 3 * o, 3 * o * sizeof(float));
        }
        UF_TRY(uf_sgemm_alone(false, false, to - from, s->out, 3 * s->out, 1.f, dg + (size_t)from * 3 * o, 3 * s->out, wh, s->out, 1.f,
                        carry + (size_t)from * o, s->out));
    }
    return UF_OK;
}

/* The state before each place; those before the first steps are in w->h. */
static void shift(const sizes *s, const work *w) {
    size_t o = (size_t)s->out;
#pragma omp parallel for
    for (int q = 0; q < s->sequences; q++)
        for (int i = 0; i < s->steps; i++) {
            float *to = w->before + place(s, q, i) * o;
            if (i) memcpy(to, w->y + place(s, q, i - 1) * o, o * sizeof *to);
            else memcpy(to, w->h + (size_t)q * o, o * sizeof *to);
        }
}

static void add_columns(int rows, int n, const float *x, float *sum) {
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < n; i++) sum[i] += x[(size_t)r * (size_t)n + (size_t)i];
}

static int run_backward(uf_plan *p, uf_step *st) {
    sizes s = sizes_of(st->node);
    work w;
    work_carve(&s, uf_use(p, st, WORK), &w);
    int o3 = 3 * s.out, err[SHARES];
    size_t n_x = (size_t)s.places * (size_t)s.in, n_y = (size_t)s.places * (size_t)s.out;
    p->kernels->widen(n_x, uf_use(p, st, X), w.x);
    p->kernels->widen(n_y, uf_use(p, st, Y), w.y);
    p->kernels->widen(n_y, uf_use(p, st, DY), w.dy);
    first_state(&s, p, st, w.h);
    shift(&s, &w);
#pragma omp parallel for
    for (int i = 0; i < SHARES; i++)
        err[i] = backward_share(&s, &w, p, st, s.sequences * i / SHARES, s.sequences * (i + 1) / SHARES);
    UF_TRY(err[0]);
    UF_TRY(err[1]);
    if (uf_use(p, st, DWX))
        UF_TRY(uf_sgemm(true, false, o3, s.in, s.places, 1.f, w.gx, o3, w.x, s.in, 1.f, uf_use(p, st, DWX), s.in));
    if (uf_use(p, st, DWH))
        UF_TRY(uf_sgemm(true, false, o3, s.out, s.places, 1.f, w.dgh, o3, w.before, s.out, 1.f, uf_use(p, st, DWH), s.out));
    if (uf_use(p, st, DFIRST)) p->kernels->narrow((size_t)s.sequences * (size_t)s.out, w.h, uf_use(p, st, DFIRST));
    if (uf_use(p, st, DBX)) add_columns(s.places, o3, w.gx, uf_use(p, st, DBX));
    if (uf_use(p, st, DBH)) add_columns(s.places, o3, w.dgh, uf_use(p, st, DBH));
    if (!uf_use(p, st, DX)) return UF_OK;
    UF_TRY(uf_sgemm(false, false, s.places, s.in, o3, 1.f, w.gx, o3, uf_use(p, st, WX), s.in, 0.f, w.x, s.in));
    p->kernels->narrow(n_x, w.x, uf_use(p, st, DX));
    return UF_OK;
}

int uf_gru_backward(uf_plan *p, const uf_node *n) {
    sizes s = sizes_of(n);
    work w;
    int use[N_USE];
    use[X] = uf_value(p, n->in[0], UF_NATIVE);
    for (int i = WX; i <= BH; i++) {
        use[i] = uf_value(p, n->in[i], UF_PLAIN);
        use[DWX + i - WX] = uf_wants_grad(p, n->in[i]) ? uf_plan_param(p, n->in[i]->param, true) : UF_NO_BUF;
    }
    use[Y] = uf_value(p, n, UF_NATIVE);
    use[AUX] = uf_tensor_of(p, n)->aux;
    use[WORK] = uf_plan_buf(p, work_carve(&s, NULL, &w) * sizeof(float));
    use[DY] = uf_grad(p, n, UF_NATIVE);
    use[DX] = uf_wants_grad(p, n->in[0]) ? uf_plan_buf(p, uf_bytes(p, n->in[0]->shape, UF_NATIVE)) : UF_NO_BUF;
    bool first = n->n_in > 5;
    use[FIRST] = first ? uf_value(p, n->in[5], UF_NATIVE) : UF_NO_BUF;
    use[DFIRST] = first && uf_wants_grad(p, n->in[5]) ? uf_plan_buf(p, uf_bytes(p, n->in[5]->shape, UF_NATIVE)) : UF_NO_BUF;
    uf_step *st = uf_plan_step(p, n, run_backward);
    if (!st) return UF_ENOMEM;
    for (int i = 0; i < N_USE; i++) uf_step_use(p, st, use[i]);
    if (use[DFIRST] >= 0) UF_TRY(uf_grad_add(p, n->in[5], use[DFIRST], UF_NATIVE));
    return use[DX] >= 0 ? uf_grad_add(p, n->in[0], use[DX], UF_NATIVE) : UF_OK;
}

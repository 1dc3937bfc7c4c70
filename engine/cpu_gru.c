/* Gated recurrent units on the cpu, step by step for a few sequences together, whose states stay in the nearest cache. Products are in the plan's type, as
 * convolutions are; the gates and the state that goes on are float32. */
#include "cpu_gru.h"
#include "products.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { X, WX, WH, BX, BH, FIRST, Y, AUX, WORK, N_USE };
enum { ROWS = UF_GRU_ROWS };

uf_gru_sizes uf_gru_sizes_of(const uf_node *n) {
    uf_shape s = n->shape;
    bool rows = n->attr.axis == 2;
    int sequences = s.n * (rows ? s.w : s.h);
    return (uf_gru_sizes){.sequences = sequences, .steps = rows ? s.h : s.w, .in = n->in[0]->shape.c, .out = s.c,
                          .across = rows ? s.w : sequences, .apart = rows ? 1 : (size_t)s.w, .rows = rows, .reverse = n->attr.reverse, .w = (size_t)s.w, .hw = (size_t)s.h * (size_t)s.w};
}

size_t uf_carve(float *from, int n, const size_t *count, float **const *to) {
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (from) *to[i] = from + at;
        at += (count[i] + 15) / 16 * 16;
    }
    return at;
}

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
    uf_gru_sizes s = uf_gru_sizes_of(n);
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

static size_t lane_carve(const uf_gru_sizes *s, const gru_keep *k, float *from, lane *l) {
    size_t wide = (size_t)k->wx.wide, count[] = {ROWS * wide, ROWS * wide, ROWS * (size_t)s->out, ROWS * (size_t)s->in};
    float **to[] = {&l->gx, &l->gh, &l->h, &l->x};
    return uf_carve(from, UF_LEN(count), count, to);
}

/* All steps of `rows` sequences that lie side by side, from `from` on. */
static void run_rows(uf_plan *p, uf_step *st, const uf_gru_sizes *s, int from, int rows, const lane *l) {
    const gru_keep *k = st->priv;
    const float *bx = uf_use(p, st, BX), *bh = uf_use(p, st, BH);
    const char *x = uf_use(p, st, X), *first = uf_use(p, st, FIRST);
    char *y = uf_use(p, st, Y);
    float *aux = uf_use(p, st, AUX);
    size_t in = (size_t)s->in, o = (size_t)s->out, wide = (size_t)k->wx.wide, apart = s->apart, size = p->kernels->size;
    if (first) p->kernels->widen_alone((size_t)rows * o, first + (size_t)from * o * size, l->h);
    else memset(l->h, 0, (size_t)rows * o * sizeof *l->h);
    /* Products take the state as it was stored, where that is of their type. Zeros are the same in both. */
    bool stored = k->wh.dtype == p->dtype;
    const void *state = stored && first ? first + (size_t)from * o * size : (const void *)l->h;
    size_t next_state = o;
    for (int i = 0; i < s->steps; i++) {
        size_t at = uf_gru_place(s, from, i);
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
    uf_gru_sizes s = uf_gru_sizes_of(st->node);
    if (!k->constant || p->stale) {
        uf_packed_set(&k->wx, uf_use(p, st, WX), false);
        uf_packed_set(&k->wh, uf_use(p, st, WH), false);
    }
    float *scratch = uf_use(p, st, WORK);
    lane l = {0};
    size_t each = lane_carve(&s, k, NULL, &l);
    int share = (s.sequences + p->n_threads - 1) / p->n_threads, rows = share < ROWS ? share : ROWS;
#pragma omp parallel for
    for (int i = 0; i < uf_gru_groups(&s, rows); i++) {
        int from, n = uf_gru_group(&s, rows, i, &from);
        lane mine = l;
        lane_carve(&s, k, scratch + (size_t)omp_get_thread_num() * each, &mine);
        run_rows(p, st, &s, from, n, &mine);
    }
    return UF_OK;
}

int uf_gru_forward(uf_plan *p, const uf_node *n) {
    uf_gru_sizes s = uf_gru_sizes_of(n);
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

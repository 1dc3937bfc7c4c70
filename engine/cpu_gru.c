/* Gated recurrent units on the cpu: what does not depend on the state is one matrix product over all places; the rest goes
 * step by step, for all sequences of a thread together. float32 inside whatever the plan's type. */
#include "onednn.h"
#include "plan.h"

#include <string.h>

enum { X, WX, WH, BX, BH, FIRST, Y, AUX, WORK, DY, DX, DWX, DWH, DBX, DBH, DFIRST, N_USE };
enum { SHARES = 2 }; /* the sequences are cut into so many parts whatever the thread count, so that the same input gives the same bits */

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
    float *x, *gx, *y, *h, *gh, *dy, *dgh, *before; /* the last three: backward */
} work;

static size_t work_carve(const sizes *s, bool back, float *from, work *w) {
    size_t p = (size_t)s->places, o = (size_t)s->out, q = (size_t)s->sequences, at = 0;
    size_t count[] = {p * (size_t)s->in, p * 3 * o, p * o, q * o, q * 3 * o, back ? p * o : 0, back ? p * 3 * o : 0, back ? p * o : 0};
    float **to[] = {&w->x, &w->gx, &w->y, &w->h, &w->gh, &w->dy, &w->dgh, &w->before};
    for (int i = 0; i < UF_LEN(count); i++) {
        if (from) *to[i] = from + at;
        at += (count[i] + 15) / 16 * 16;
    }
    return at;
}

static int forward_share(const sizes *s, const work *w, uf_plan *p, const uf_step *st, int from, int to) {
    const float *wh = uf_use(p, st, WH), *bx = uf_use(p, st, BX), *bh = uf_use(p, st, BH);
    float *aux = uf_use(p, st, AUX);
    size_t o = (size_t)s->out;
    if (from == to) return UF_OK;
    for (int i = 0; i < s->steps; i++) {
        UF_TRY(uf_sgemm_alone(false, true, to - from, 3 * s->out, s->out, 1.f, w->h + (size_t)from * o, s->out, wh, s->out, 0.f,
                        w->gh + (size_t)from * 3 * o, 3 * s->out));
        for (int q = from; q < to; q++) {
            size_t at = place(s, q, i), k = (size_t)q;
            uf_gru_step(o, w->gx + at * 3 * o, w->gh + k * 3 * o, bx, bh, w->h + k * o, aux ? aux + at * 4 * o : NULL);
            memcpy(w->y + at * o, w->h + k * o, o * sizeof(float));
        }
    }
    return UF_OK;
}

/* The states before the first step, a row a sequence: channels-last states lie as the sequences are counted. */
static void first_state(const sizes *s, uf_plan *p, uf_step *st, float *h) {
    size_t n = (size_t)s->sequences * (size_t)s->out;
    if (uf_use(p, st, FIRST)) p->kernels->widen(n, uf_use(p, st, FIRST), h);
    else memset(h, 0, n * sizeof *h);
}

static int run_forward(uf_plan *p, uf_step *st) {
    sizes s = sizes_of(st->node);
    work w;
    work_carve(&s, false, uf_use(p, st, WORK), &w);
    size_t n_x = (size_t)s.places * (size_t)s.in, n_y = (size_t)s.places * (size_t)s.out;
    first_state(&s, p, st, w.h);
    p->kernels->widen(n_x, uf_use(p, st, X), w.x);
    UF_TRY(uf_sgemm(false, true, s.places, 3 * s.out, s.in, 1.f, w.x, s.in, uf_use(p, st, WX), s.in, 0.f, w.gx, 3 * s.out));
    int err[SHARES];
#pragma omp parallel for
    for (int i = 0; i < SHARES; i++)
        err[i] = forward_share(&s, &w, p, st, s.sequences * i / SHARES, s.sequences * (i + 1) / SHARES);
    p->kernels->narrow(n_y, w.y, uf_use(p, st, Y));
    return err[0] < 0 ? err[0] : err[1];
}

int uf_gru_forward(uf_plan *p, const uf_node *n) {
    sizes s = sizes_of(n);
    work w;
    int use[N_USE];
    use[X] = uf_value(p, n->in[0], UF_NATIVE);
    for (int i = WX; i <= BH; i++) use[i] = uf_value(p, n->in[i], UF_PLAIN);
    use[FIRST] = n->n_in > 5 ? uf_value(p, n->in[5], UF_NATIVE) : UF_NO_BUF;
    use[Y] = uf_value_new(p, n, UF_NATIVE);
    use[AUX] = p->options.loss ? uf_plan_buf(p, uf_count(n->shape) * 4 * sizeof(float)) : UF_NO_BUF;
    use[WORK] = uf_plan_buf(p, work_carve(&s, false, NULL, &w) * sizeof(float));
    uf_tensor_of(p, n)->aux = use[AUX];
    uf_step *st = uf_plan_step(p, n, run_forward);
    if (!st) return UF_ENOMEM;
    for (int i = 0; i <= WORK; i++) {
        if (use[i] < 0 && i != AUX && (i != FIRST || n->n_in > 5)) return use[i];
        uf_step_use(p, st, use[i]);
    }
    return UF_OK;
}

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
    work_carve(&s, true, uf_use(p, st, WORK), &w);
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
    use[WORK] = uf_plan_buf(p, work_carve(&s, true, NULL, &w) * sizeof(float));
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

/* The cpu backend's table: which ops have kernels of their own and how they become steps. What is not here, or refuses
 * its shapes with UF_EUNSUPPORTED, is computed by the oracle. */
#include "plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct lowering {
    const char *op;
    int (*forward)(uf_plan *, const uf_node *);
    int (*backward)(uf_plan *, const uf_node *);
} lowering;

/* Appends a step over native values: all inputs of n, then its output. */
static uf_step *forward_step(uf_plan *p, const uf_node *n, int (*run)(uf_plan *, uf_step *)) {
    int in[UF_MAX_IN];
    for (int i = 0; i < n->n_in; i++)
        if ((in[i] = uf_value(p, n->in[i], UF_NATIVE)) < 0) return NULL;
    int y = uf_value_new(p, n, UF_NATIVE);
    uf_step *s = y < 0 ? NULL : uf_plan_step(p, n, run);
    if (!s) return NULL;
    for (int i = 0; i < n->n_in; i++) uf_step_use(p, s, in[i]);
    uf_step_use(p, s, y);
    return s;
}

/* Appends a step that computes one input's gradient: use = dy, dx, then `extra` (or UF_NO_BUF). */
static int backward_step(uf_plan *p, const uf_node *n, int i, int (*run)(uf_plan *, uf_step *), int extra, uf_step **out) {
    const uf_node *x = n->in[i];
    int dy = uf_grad(p, n, UF_NATIVE), dx = uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE));
    if (dy < 0 || dx < 0) return UF_ENOMEM;
    uf_step *s = uf_plan_step(p, n, run);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, dy);
    uf_step_use(p, s, dx);
    uf_step_use(p, s, extra);
    s->i[0] = i;
    if (out) *out = s;
    return uf_grad_add(p, x, dx, UF_NATIVE);
}

/* ---- elementwise --------------------------------------------------------------------------------------------- */

static int run_act(uf_plan *p, uf_step *s) {
    p->kernels->act(uf_count(s->shape), uf_use(p, s, 0), s->node->attr.slope, uf_use(p, s, 1));
    return UF_OK;
}

static int act_forward(uf_plan *p, const uf_node *n) { return forward_step(p, n, run_act) ? UF_OK : UF_ENOMEM; }

static int run_act_back(uf_plan *p, uf_step *s) {
    p->kernels->mask(uf_count(s->shape), uf_use(p, s, 0), uf_use(p, s, 2), s->node->attr.slope, uf_use(p, s, 1));
    return UF_OK;
}

static int act_backward(uf_plan *p, const uf_node *n) {
    int y = uf_value(p, n, UF_NATIVE); /* y > 0 exactly where x > 0, for slopes >= 0 */
    return y < 0 ? y : backward_step(p, n, 0, run_act_back, y, NULL);
}

static int leaky_forward(uf_plan *p, const uf_node *n) {
    return n->attr.slope < 0 ? UF_EUNSUPPORTED : act_forward(p, n);
}

static int run_scale(uf_plan *p, uf_step *s) {
    p->kernels->scale(uf_count(s->shape), uf_use(p, s, 0), s->node->attr.scale, s->node->attr.bias, uf_use(p, s, 1));
    return UF_OK;
}

static int scale_forward(uf_plan *p, const uf_node *n) { return forward_step(p, n, run_scale) ? UF_OK : UF_ENOMEM; }

static int run_scale_back(uf_plan *p, uf_step *s) {
    p->kernels->scale(uf_count(s->shape), uf_use(p, s, 0), s->node->attr.scale, 0.f, uf_use(p, s, 1));
    return UF_OK;
}

static int scale_backward(uf_plan *p, const uf_node *n) {
    return backward_step(p, n, 0, run_scale_back, UF_NO_BUF, NULL);
}

static int run_add(uf_plan *p, uf_step *s) {
    p->kernels->add(uf_count(s->shape), uf_use(p, s, 0), uf_use(p, s, 1), 1.f, s->f[0], uf_use(p, s, 2));
    return UF_OK;
}

static int add_forward(uf_plan *p, const uf_node *n) {
    if (!uf_same(n->in[0]->shape, n->in[1]->shape) || n->in[0]->param || n->in[1]->param) return UF_EUNSUPPORTED;
    uf_step *s = forward_step(p, n, run_add);
    if (s) s->f[0] = n->op->name[0] == 's' ? -1.f : 1.f;
    return s ? UF_OK : UF_ENOMEM;
}

static int run_negate(uf_plan *p, uf_step *s) {
    p->kernels->scale(uf_count(s->shape), uf_use(p, s, 0), -1.f, 0.f, uf_use(p, s, 1));
    return UF_OK;
}

static int add_backward(uf_plan *p, const uf_node *n) {
    int dy = uf_grad(p, n, UF_NATIVE);
    if (uf_wants_grad(p, n->in[0])) UF_TRY(uf_grad_add(p, n->in[0], dy, UF_NATIVE));
    if (!uf_wants_grad(p, n->in[1])) return UF_OK;
    if (n->op->name[0] == 's') return backward_step(p, n, 1, run_negate, UF_NO_BUF, NULL);
    return uf_grad_add(p, n->in[1], dy, UF_NATIVE);
}

/* x times a learnt scalar: the gate of self-attention. */
static int run_gate(uf_plan *p, uf_step *s) {
    const float *gate = uf_use(p, s, 1);
    p->kernels->scale(uf_count(s->shape), uf_use(p, s, 0), *gate, 0.f, uf_use(p, s, 2));
    return UF_OK;
}

static int gate_forward(uf_plan *p, const uf_node *n) {
    if (!n->in[1]->param || uf_count(n->in[1]->shape) != 1 || n->in[0]->param) return UF_EUNSUPPORTED;
    int x = uf_value(p, n->in[0], UF_NATIVE), gate = uf_value(p, n->in[1], UF_PLAIN);
    int y = uf_value_new(p, n, UF_NATIVE);
    uf_step *s = x < 0 || gate < 0 || y < 0 ? NULL : uf_plan_step(p, n, run_gate);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, x);
    uf_step_use(p, s, gate);
    uf_step_use(p, s, y);
    return UF_OK;
}

typedef struct gate_keep {
    float *partial, *zero;
    double *sums;
} gate_keep;

static void gate_close(void *priv) {
    gate_keep *k = priv;
    if (!k) return;
    free(k->partial);
    free(k->zero);
    free(k->sums);
    free(k);
}

static int run_gate_back(uf_plan *p, uf_step *s) {
    gate_keep *k = s->priv;
    int c = s->shape.c;
    const float *gate = uf_use(p, s, 2);
    float *dgate = uf_use(p, s, 4);
    if (dgate) {
        p->kernels->norm_sums(uf_count(s->shape) / (size_t)c, c, uf_use(p, s, 3), uf_use(p, s, 0), NULL, k->zero, NULL,
                              k->partial, k->sums);
        for (int i = 0; i < c; i++) *dgate += (float)k->sums[c + i];
    }
    void *dx = uf_use(p, s, 1);
    if (dx) p->kernels->scale(uf_count(s->shape), uf_use(p, s, 0), *gate, 0.f, dx);
    return UF_OK;
}

static int gate_backward(uf_plan *p, const uf_node *n) {
    const uf_node *x = n->in[0];
    size_t c = (size_t)n->shape.c;
    int dx = uf_wants_grad(p, x) ? uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE)) : UF_NO_BUF;
    int use[] = {uf_grad(p, n, UF_NATIVE), dx, uf_value(p, n->in[1], UF_PLAIN), uf_value(p, x, UF_NATIVE),
                 uf_wants_grad(p, n->in[1]) ? uf_plan_param(p, n->in[1]->param, true) : UF_NO_BUF};
    gate_keep *k = uf_alloc(p->ctx, 1, sizeof *k);
    uf_step *s = k ? uf_plan_step(p, n, run_gate_back) : NULL;
    if (!s) {
        free(k);
        return UF_ENOMEM;
    }
    s->priv = k;
    s->close = gate_close;
    k->partial = uf_alloc(p->ctx, UF_PIECES * 2 * c, sizeof(float));
    k->zero = uf_alloc(p->ctx, c, sizeof(float));
    k->sums = uf_alloc(p->ctx, 2 * c, sizeof(double));
    if (!k->partial || !k->zero || !k->sums) return UF_ENOMEM;
    for (int i = 0; i < UF_LEN(use); i++) uf_step_use(p, s, use[i]);
    return dx >= 0 ? uf_grad_add(p, x, dx, UF_NATIVE) : UF_OK;
}

/* ---- shape ---------------------------------------------------------------------------------------------------- */

static int run_shuffle(uf_plan *p, uf_step *s) {
    p->kernels->shuffle(s->shape, uf_use(p, s, 0), uf_use(p, s, 1), s->i[0], s->i[1], uf_use(p, s, 3), uf_use(p, s, 2));
    return UF_OK;
}

static size_t shuffle_scratch(const uf_plan *p, uf_shape s) {
    return (size_t)p->n_threads * (size_t)s.w * (size_t)s.c * sizeof(float); /* 2 rows, 2w wide, c/4 channels */
}

/* Pixel shuffle alone, or shuffle + blur + concat with the skip: one pass over the picture instead of three. */
static int shuffle_forward(uf_plan *p, const uf_node *n) {
    const uf_group *g = &uf_tensor_of(p, n)->group;
    const uf_node *shuffle = g->shuffle ? g->shuffle : n, *x = shuffle->in[0];
    if (shuffle->attr.r != 2) return UF_EUNSUPPORTED;
    int in = uf_value(p, x, UF_NATIVE), skip = g->skip ? uf_value(p, g->skip, UF_NATIVE) : UF_NO_BUF;
    int y = uf_value_new(p, n, UF_NATIVE), scratch = uf_plan_buf(p, shuffle_scratch(p, x->shape));
    uf_step *s = in < 0 || y < 0 || scratch < 0 ? NULL : uf_plan_step(p, n, run_shuffle);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, in);
    uf_step_use(p, s, skip);
    uf_step_use(p, s, y);
    uf_step_use(p, s, scratch);
    s->shape = x->shape;
    s->i[0] = n->shape.c;
    s->i[1] = g->blur != NULL;
    return UF_OK;
}

static int run_shuffle_back(uf_plan *p, uf_step *s) {
    p->kernels->unshuffle_grad(s->shape, uf_use(p, s, 0), s->i[0], s->i[1], uf_use(p, s, 2), uf_use(p, s, 1));
    return UF_OK;
}

/* Copies part of an axis: i = from_x, from_y, n, x's length, y's length, all in elements of a line. A line of channels is a pixel's; one
 * of columns a row; one of rows a picture. */
static int run_part(uf_plan *p, uf_step *s) {
    p->kernels->channels((size_t)s->i[5], s->i[3], s->i[0], s->i[4], s->i[1], s->i[2], uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

/* Elements of channels-last values that one place of an axis has. */
static int part_unit(uf_shape s, int axis) { return axis == 1 ? 1 : axis == 3 ? s.c : s.c * s.w; }

/* set.i counts places of the axis. */
static uf_step *part_step(uf_plan *p, const uf_node *n, int axis, int from, int to, uf_step set) {
    uf_step *s = from < 0 || to < 0 ? NULL : uf_plan_step(p, n, run_part);
    if (!s) return NULL;
    for (int i = 0; i < 5; i++) s->i[i] = set.i[i] * part_unit(n->shape, axis);
    s->i[5] = n->shape.n * (axis == 2 ? 1 : n->shape.h) * (axis == 1 ? n->shape.w : 1);
    uf_step_use(p, s, from);
    uf_step_use(p, s, to);
    return s;
}

static int length_of(const uf_node *n, int axis) { return axis == 1 ? n->shape.c : axis == 2 ? n->shape.h : n->shape.w; }

/* The gradient of n from place `at` of the axis on belongs to x. */
static int part_grad(uf_plan *p, const uf_node *n, const uf_node *x, int axis, int at) {
    if (!uf_wants_grad(p, x)) return UF_OK;
    int dx = uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE)), length = length_of(x, axis);
    uf_step set = {.i = {at, 0, length, length_of(n, axis), length}};
    if (!part_step(p, n, axis, uf_grad(p, n, UF_NATIVE), dx, set)) return UF_ENOMEM;
    return uf_grad_add(p, x, dx, UF_NATIVE);
}

static int shuffle_backward(uf_plan *p, const uf_node *n) {
    const uf_group *g = &uf_tensor_of(p, n)->group;
    const uf_node *shuffle = g->shuffle ? g->shuffle : n, *x = shuffle->in[0];
    if (g->skip) UF_TRY(part_grad(p, n, g->skip, 1, x->shape.c / 4));
    if (!uf_wants_grad(p, x)) return UF_OK;
    int dy = uf_grad(p, n, UF_NATIVE), dx = uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE));
    int scratch = uf_plan_buf(p, shuffle_scratch(p, x->shape));
    uf_step *s = dy < 0 || dx < 0 || scratch < 0 ? NULL : uf_plan_step(p, n, run_shuffle_back);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, dy);
    uf_step_use(p, s, dx);
    uf_step_use(p, s, scratch);
    s->shape = x->shape;
    s->i[0] = n->shape.c;
    s->i[1] = g->blur != NULL;
    return uf_grad_add(p, x, dx, UF_NATIVE);
}

static int run_unshuffle(uf_plan *p, uf_step *s) {
    p->kernels->unshuffle(s->node->in[0]->shape, s->node->attr.r, uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int unshuffle_forward(uf_plan *p, const uf_node *n) {
    return forward_step(p, n, run_unshuffle) ? UF_OK : UF_ENOMEM;
}

static int run_unshuffle_back(uf_plan *p, uf_step *s) {
    p->kernels->unshuffle_back(s->node->in[0]->shape, s->node->attr.r, uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int unshuffle_backward(uf_plan *p, const uf_node *n) {
    return backward_step(p, n, 0, run_unshuffle_back, UF_NO_BUF, NULL);
}

/* Folds: on channels-last values the bytes stay where they are. */
static int run_move(uf_plan *p, uf_step *s) {
    memcpy(uf_use(p, s, 1), uf_use(p, s, 0), uf_count(s->shape) * p->kernels->size);
    return UF_OK;
}

static int move_forward(uf_plan *p, const uf_node *n) { return forward_step(p, n, run_move) ? UF_OK : UF_ENOMEM; }

static int move_backward(uf_plan *p, const uf_node *n) { return backward_step(p, n, 0, run_move, UF_NO_BUF, NULL); }

static int concat_forward(uf_plan *p, const uf_node *n) {
    if (uf_tensor_of(p, n)->group.shuffle) return shuffle_forward(p, n);
    int y = UF_NO_BUF, in[UF_MAX_IN], axis = n->attr.axis;
    if (!axis || uf_count(n->shape) > INT_MAX) return UF_EUNSUPPORTED;
    for (int i = 0; i < n->n_in; i++)
        if ((in[i] = uf_value(p, n->in[i], UF_NATIVE)) < 0) return in[i];
    y = uf_value_new(p, n, UF_NATIVE);
    for (int i = 0, at = 0; i < n->n_in; at += length_of(n->in[i++], axis)) {
        int length = length_of(n->in[i], axis);
        uf_step set = {.i = {0, at, length, length, length_of(n, axis)}};
        if (!part_step(p, n, axis, in[i], y, set)) return UF_ENOMEM;
    }
    return UF_OK;
}

static int concat_backward(uf_plan *p, const uf_node *n) {
    if (uf_tensor_of(p, n)->group.shuffle) return shuffle_backward(p, n);
    int axis = n->attr.axis;
    for (int i = 0, at = 0; i < n->n_in; at += length_of(n->in[i++], axis)) UF_TRY(part_grad(p, n, n->in[i], axis, at));
    return UF_OK;
}

static int slice_forward(uf_plan *p, const uf_node *n) {
    const uf_node *x = n->in[0];
    int axis = n->attr.axis;
    if (!axis || uf_count(x->shape) > INT_MAX || uf_wants_grad(p, x)) return UF_EUNSUPPORTED; /* what lies outside has a gradient, too: zeros */
    int from = uf_value(p, x, UF_NATIVE), y = from < 0 ? from : uf_value_new(p, n, UF_NATIVE), length = length_of(n, axis);
    uf_step set = {.i = {n->attr.from, 0, length, length_of(x, axis), length}};
    return part_step(p, n, axis, from, y, set) ? UF_OK : UF_ENOMEM;
}

/* ---- pooling and losses -------------------------------------------------------------------------------------- */

static int run_pool(uf_plan *p, uf_step *s) {
    const uf_node *n = s->node;
    p->kernels->pool(n->in[0]->shape, n->shape, n->attr.kh, n->attr.stride, n->op->name[0] == 'm', uf_use(p, s, 0),
                     uf_use(p, s, 1));
    return UF_OK;
}

static int pool_forward(uf_plan *p, const uf_node *n) {
    if (n->attr.stride < n->attr.kh || n->attr.kh != n->attr.kw) return UF_EUNSUPPORTED;
    return forward_step(p, n, run_pool) ? UF_OK : UF_ENOMEM;
}

static int run_pool_back(uf_plan *p, uf_step *s) {
    const uf_node *n = s->node;
    p->kernels->pool_back(n->in[0]->shape, n->shape, n->attr.kh, n->attr.stride, n->op->name[0] == 'm',
                          uf_use(p, s, 2), uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int pool_backward(uf_plan *p, const uf_node *n) {
    int x = uf_value(p, n->in[0], UF_NATIVE);
    return x < 0 ? x : backward_step(p, n, 0, run_pool_back, x, NULL);
}

static int run_group(uf_plan *p, uf_step *s) {
    uf_shape x = s->node->shape;
    int members = s->node->attr.groups;
    p->kernels->group_mean((size_t)(x.n / members), members, uf_count(x) / (size_t)x.n, uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int group_forward(uf_plan *p, const uf_node *n) { return forward_step(p, n, run_group) ? UF_OK : UF_ENOMEM; }

static int group_backward(uf_plan *p, const uf_node *n) { return backward_step(p, n, 0, run_group, UF_NO_BUF, NULL); }

static int run_distance(uf_plan *p, uf_step *s) {
    double partial[UF_PIECES];
    size_t n = uf_count(s->node->in[0]->shape);
    double sum = p->kernels->distance(n, uf_use(p, s, 0), uf_use(p, s, 1), s->node->op->name[1] == '2', partial);
    *(float *)uf_use(p, s, 2) = (float)(sum / (double)n);
    return UF_OK;
}

static int distance_forward(uf_plan *p, const uf_node *n) {
    int a = uf_value(p, n->in[0], UF_NATIVE), b = uf_value(p, n->in[1], UF_NATIVE);
    int y = uf_value_new(p, n, UF_PLAIN);
    uf_step *s = a < 0 || b < 0 || y < 0 ? NULL : uf_plan_step(p, n, run_distance);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, a);
    uf_step_use(p, s, b);
    uf_step_use(p, s, y);
    return UF_OK;
}

static int run_distance_back(uf_plan *p, uf_step *s) {
    const uf_node *n = s->node;
    size_t count = uf_count(n->in[0]->shape);
    float factor = *(const float *)uf_use(p, s, 0) / (float)count;
    p->kernels->distance_grad(count, uf_use(p, s, 2), uf_use(p, s, 3), n->op->name[1] == '2', factor, uf_use(p, s, 1));
    return UF_OK;
}

static int distance_backward(uf_plan *p, const uf_node *n) {
    for (int i = 0; i < 2; i++) { /* d|a-b|/db = d|b-a|/db: the second input sees the roles exchanged */
        const uf_node *x = n->in[i];
        if (!uf_wants_grad(p, x)) continue;
        int dy = uf_grad(p, n, UF_PLAIN), dx = uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE));
        int a = uf_value(p, x, UF_NATIVE), b = uf_value(p, n->in[1 - i], UF_NATIVE);
        uf_step *s = dy < 0 || dx < 0 || a < 0 || b < 0 ? NULL : uf_plan_step(p, n, run_distance_back);
        if (!s) return UF_ENOMEM;
        int use[] = {dy, dx, a, b};
        for (int k = 0; k < UF_LEN(use); k++) uf_step_use(p, s, use[k]);
        UF_TRY(uf_grad_add(p, x, dx, UF_NATIVE));
    }
    return UF_OK;
}

static const lowering table[] = {
    {"conv2d", uf_conv_forward, uf_conv_backward},
    {"batch_norm", uf_norm_forward, uf_norm_backward},
    {"relu", act_forward, act_backward},
    {"leaky_relu", leaky_forward, act_backward},
    {"scale", scale_forward, scale_backward},
    {"add", add_forward, add_backward},
    {"sub", add_forward, add_backward},
    {"mul", gate_forward, gate_backward},
    {"pixel_shuffle", shuffle_forward, shuffle_backward},
    {"pixel_unshuffle", unshuffle_forward, unshuffle_backward},
    {"concat", concat_forward, concat_backward},
    {"slice", slice_forward, NULL},
    {"max_pool", pool_forward, pool_backward},
    {"avg_pool", pool_forward, pool_backward},
    {"group_mean", group_forward, group_backward},
    {"attention", uf_attention_forward, uf_attention_backward},
    {"gru", uf_gru_forward, uf_gru_backward},
    {"fold", move_forward, move_backward},
    {"unfold", move_forward, move_backward},
    {"l1", distance_forward, distance_backward},
    {"l2", distance_forward, distance_backward},
};

/* A group is lowered by its first member that has a lowering: the convolution, else the norm, else the op itself. */
static const lowering *find(const uf_plan *p, const uf_node *n) {
    const uf_group *g = &uf_tensor_of(p, n)->group;
    const uf_node *lead = g->conv ? g->conv : g->norm ? g->norm : n;
    for (int i = 0; i < UF_LEN(table); i++)
        if (!strcmp(table[i].op, lead->op->name)) return &table[i];
    return NULL;
}

static int forward(uf_plan *p, const uf_node *n) {
    const lowering *l = find(p, n);
    bool scalar = uf_count(n->shape) == 1; /* sums of losses: not worth a conversion */
    for (int i = 0; i < n->n_in; i++) scalar = scalar && uf_count(n->in[i]->shape) == 1;
    return l && !scalar ? l->forward(p, n) : UF_EUNSUPPORTED;
}

static int backward(uf_plan *p, const uf_node *n) { return find(p, n)->backward(p, n); }

static uf_dtype dtype(uf_dtype wanted) {
    if (wanted != UF_AUTO) return wanted;
    return uf_cpu_has_bf16() ? UF_BF16 : UF_F32;
}

const uf_backend uf_backend_cpu = {.name = "cpu", .dtype = dtype, .fuse = uf_cpu_fuse, .forward = forward, .backward = backward};

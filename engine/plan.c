/* Plans: which nodes live, what runs in which order, and where every buffer lies. */
#include "plan.h"

#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

uf_tensor *uf_tensor_of(const uf_plan *p, const uf_node *n) { return &p->tensor[n->index]; }

size_t uf_bytes(const uf_plan *p, uf_shape s, uf_layout layout) {
    return uf_count(s) * (layout == UF_NATIVE ? p->kernels->size : sizeof(float));
}

void *uf_ptr(const uf_plan *p, int b) {
    if (b < 0) return NULL;
    const uf_buf *buf = &p->buf[b];
    if (buf->param) return buf->gradient ? buf->param->grad : buf->param->value;
    return p->arena + buf->offset;
}

static int grow(uf_plan *p, void **at, int n, int *room, size_t size) {
    if (n < *room) return UF_OK;
    int more = *room ? 2 * *room : 64;
    void *bigger = realloc(*at, (size_t)more * size);
    if (!bigger) return uf_fail(p->ctx, UF_ENOMEM, "out of memory while compiling a graph; close other programs");
    *at = bigger;
    *room = more;
    return UF_OK;
}

int uf_plan_buf(uf_plan *p, size_t bytes) {
    UF_TRY(grow(p, (void **)&p->buf, p->n_bufs, &p->room_bufs, sizeof *p->buf));
    p->buf[p->n_bufs] = (uf_buf){.bytes = bytes ? bytes : 1, .first = -1, .last = -1};
    return p->n_bufs++;
}

int uf_plan_param(uf_plan *p, const uf_param *param, bool gradient) {
    int b = uf_plan_buf(p, 1);
    if (b < 0) return b;
    p->buf[b].param = param;
    p->buf[b].gradient = gradient;
    return b;
}

uf_step *uf_plan_step(uf_plan *p, const uf_node *node, int (*run)(uf_plan *, uf_step *)) {
    if (grow(p, (void **)&p->now->at, p->now->n, &p->now->room, sizeof *p->now->at) < 0) return NULL;
    uf_step *s = &p->now->at[p->now->n++];
    memset(s, 0, sizeof *s);
    s->run = run;
    s->node = node;
    s->shape = node ? node->shape : (uf_shape){0};
    p->clock++;
    return s;
}

void uf_step_use(uf_plan *p, uf_step *s, int b) {
    s->use[s->n_use++] = b;
    if (b < 0) return;
    if (p->buf[b].first < 0) p->buf[b].first = p->clock;
    p->buf[b].last = p->clock;
}

/* ---- layouts ------------------------------------------------------------------------------------------------- */

static int run_to_native(uf_plan *p, uf_step *s) {
    p->kernels->from_plain(s->shape, uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int run_to_plain(uf_plan *p, uf_step *s) {
    p->kernels->to_plain(s->shape, uf_use(p, s, 0), uf_use(p, s, 1));
    return UF_OK;
}

static int convert(uf_plan *p, const uf_node *n, int from, uf_layout to) {
    int b = uf_plan_buf(p, uf_bytes(p, n->shape, to));
    if (b < 0) return b;
    uf_step *s = uf_plan_step(p, n, to == UF_NATIVE ? run_to_native : run_to_plain);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, from);
    uf_step_use(p, s, b);
    return b;
}

int uf_value(uf_plan *p, const uf_node *n, uf_layout layout) {
    uf_tensor *t = uf_tensor_of(p, n);
    if (t->value[layout] < 0) {
        int b = convert(p, n, t->value[1 - layout], layout);
        if (b < 0) return b;
        t->value[layout] = b;
    }
    return t->value[layout];
}

int uf_value_new(uf_plan *p, const uf_node *n, uf_layout layout) {
    uf_tensor *t = uf_tensor_of(p, n);
    int b = uf_plan_buf(p, uf_bytes(p, n->shape, layout));
    if (b < 0) return b;
    t->value[layout] = b;
    p->buf[b].pinned = n->output || !p->backend->forward;
    return b;
}

bool uf_wants_grad(const uf_plan *p, const uf_node *n) {
    return p->options.loss && n->needs_grad && uf_tensor_of(p, n)->live;
}

int uf_grad(uf_plan *p, const uf_node *n, uf_layout layout) {
    uf_tensor *t = uf_tensor_of(p, n);
    if (t->grad < 0 || t->grad_layout == layout) return t->grad;
    int b = convert(p, n, t->grad, layout);
    if (b < 0) return b;
    t->grad = b;
    t->grad_layout = layout;
    return b;
}

static int run_sum_plain(uf_plan *p, uf_step *s) {
    const float *a = uf_use(p, s, 0), *b = uf_use(p, s, 1);
    float *y = uf_use(p, s, 2);
    size_t n = uf_count(s->shape);
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
    return UF_OK;
}

static int run_sum_native(uf_plan *p, uf_step *s) {
    p->kernels->add(uf_count(s->shape), uf_use(p, s, 0), uf_use(p, s, 1), 1.f, 1.f, uf_use(p, s, 2));
    return UF_OK;
}

/* Sums go into a new buffer: the first contribution may be shared with another node (both sides of an addition). */
int uf_grad_add(uf_plan *p, const uf_node *n, int b, uf_layout layout) {
    uf_tensor *t = uf_tensor_of(p, n);
    if (b < 0) return b;
    if (t->grad < 0) {
        t->grad = b;
        t->grad_layout = layout;
        return UF_OK;
    }
    int old = uf_grad(p, n, layout), sum = old < 0 ? old : uf_plan_buf(p, uf_bytes(p, n->shape, layout));
    if (sum < 0) return sum;
    uf_step *s = uf_plan_step(p, n, layout == UF_NATIVE ? run_sum_native : run_sum_plain);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, old);
    uf_step_use(p, s, b);
    uf_step_use(p, s, sum);
    t->grad = sum;
    return UF_OK;
}

/* ---- compiling ----------------------------------------------------------------------------------------------- */

static void mark(uf_plan *p, const uf_node *n) {
    if (uf_tensor_of(p, n)->live) return;
    uf_tensor_of(p, n)->live = true;
    for (int i = 0; i < n->n_in; i++) mark(p, n->in[i]);
}

static int analyse(uf_plan *p) {
    bool any = p->options.loss != NULL;
    for (int i = 0; i < p->n_nodes; i++) {
        uf_tensor *t = &p->tensor[i];
        t->value[UF_PLAIN] = t->value[UF_NATIVE] = t->grad = t->aux = UF_NO_BUF;
        if (uf_graph_at(p->graph, i)->output) any = true;
    }
    if (!any && p->n_nodes) uf_output(uf_graph_at(p->graph, p->n_nodes - 1));
    if (p->options.loss) {
        if (uf_count(p->options.loss->shape) != 1)
            return uf_fail(p->ctx, UF_EINVAL, "loss '%s' is not a scalar; reduce it first", p->options.loss->name);
        uf_output(p->options.loss);
        mark(p, p->options.loss);
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (n->output || p->options.mode == UF_EXACT) mark(p, n);
    }
    for (int i = 0; i < p->n_nodes; i++) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (!p->tensor[i].live) continue;
        for (int k = 0; k < n->n_in; k++) uf_tensor_of(p, n->in[k])->n_consumers++;
        if (n->output) p->tensor[i].last_use = INT_MAX;
    }
    return UF_OK;
}

/* The group that reads a node last: an absorbed consumer counts where its group is computed. */
static void find_last_uses(uf_plan *p) {
    int *where = calloc((size_t)p->n_nodes + 1, sizeof *where); /* only a hint: without it nothing is reused early */
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const uf_node *n = uf_graph_at(p->graph, i);
        const uf_tensor *t = &p->tensor[i];
        if (!t->live) continue;
        int at = i;
        if (!where) at = INT_MAX;
        else if (t->absorbed) at = where[i];
        else where[i] = i;
        for (int k = 0; k < n->n_in; k++) {
            uf_tensor *x = uf_tensor_of(p, n->in[k]);
            if (where && at > where[n->in[k]->index] && x->absorbed) where[n->in[k]->index] = at;
            if (at > x->last_use) x->last_use = at;
        }
    }
    free(where);
}

static int lower_leaf(uf_plan *p, const uf_node *n) {
    uf_tensor *t = uf_tensor_of(p, n);
    int b;
    if (n->param) {
        b = uf_plan_param(p, n->param, false);
        if (b >= 0) t->value[UF_PLAIN] = b;
    } else {
        b = uf_value_new(p, n, UF_PLAIN);
        if (b >= 0) p->buf[b].pinned = true;
    }
    return b < 0 ? b : UF_OK;
}

static int lower_forward(uf_plan *p) {
    p->now = &p->forward;
    for (int i = 0; i < p->n_nodes; i++) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (!p->tensor[i].live || p->tensor[i].absorbed) continue;
        if (n->n_in == 0) {
            UF_TRY(lower_leaf(p, n));
            continue;
        }
        int err = p->backend->forward ? p->backend->forward(p, n) : UF_EUNSUPPORTED;
        if (err == UF_EUNSUPPORTED) {
            p->tensor[i].oracle = true;
            err = uf_oracle_forward(p, n);
        }
        if (err < 0) return err;
    }
    for (int i = 0; i < p->n_nodes; i++) { /* what may be read after a run is kept in the oracle's layout too */
        const uf_node *n = uf_graph_at(p->graph, i);
        if (!n->output || n->n_in == 0 || !p->tensor[i].live) continue;
        int b = uf_value(p, n, UF_PLAIN);
        if (b < 0) return b;
        p->buf[b].pinned = true;
    }
    return UF_OK;
}

static int run_one(uf_plan *p, uf_step *s) {
    *(float *)uf_use(p, s, 0) = 1.f;
    return UF_OK;
}

static int param_grads(uf_plan *p) {
    for (int i = 0; i < p->n_nodes; i++) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (!n->param || !uf_wants_grad(p, n) || n->param->grad) continue;
        n->param->grad = uf_alloc(p->ctx, uf_count(n->shape), sizeof(float));
        if (!n->param->grad) return UF_ENOMEM;
    }
    return UF_OK;
}

static int lower_backward(uf_plan *p) {
    const uf_node *loss = p->options.loss;
    if (!loss || !loss->needs_grad) return UF_OK;
    UF_TRY(param_grads(p));
    p->now = &p->backward;
    int one = uf_plan_buf(p, sizeof(float));
    if (one < 0) return one;
    uf_step *s = uf_plan_step(p, loss, run_one);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, one);
    UF_TRY(uf_grad_add(p, loss, one, UF_PLAIN));
    for (int i = loss->index; i >= 0; i--) {
        const uf_node *n = uf_graph_at(p->graph, i);
        if (n->n_in == 0 || p->tensor[i].absorbed || !uf_wants_grad(p, n) || p->tensor[i].grad < 0) continue;
        UF_TRY(p->tensor[i].oracle ? uf_oracle_backward(p, n) : p->backend->backward(p, n));
    }
    for (int i = 0; i < p->n_nodes; i++) { /* inputs marked by hand */
        const uf_node *n = uf_graph_at(p->graph, i);
        if (n->n_in || n->param || !uf_wants_grad(p, n) || p->tensor[i].grad < 0) continue;
        int b = uf_grad(p, n, UF_PLAIN);
        if (b < 0) return b;
        p->buf[b].pinned = true;
    }
    return UF_OK;
}

/* ---- the arena ----------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b, void *arg) {
    const uf_plan *p = arg;
    const uf_buf *x = &p->buf[*(const int *)a], *y = &p->buf[*(const int *)b];
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return *(const int *)a - *(const int *)b;
}

static bool overlap(const uf_buf *a, const uf_buf *b) { return a->first <= b->last && b->first <= a->last; }

/* Largest first, each at the lowest offset free during its life (greedy by size; Pisarchyk & Lee, arXiv:2001.03288). */
static void place(uf_plan *p, const int *order, int n, int *near) {
    for (int i = 0; i < n; i++) {
        uf_buf *b = &p->buf[order[i]];
        size_t need = (b->bytes + 63) / 64 * 64, at = 0;
        int n_near = 0;
        for (int j = 0; j < i; j++) { /* neighbours in time, kept sorted by offset */
            const uf_buf *o = &p->buf[order[j]];
            if (!overlap(b, o)) continue;
            int k = n_near++;
            for (; k > 0 && p->buf[near[k - 1]].offset > o->offset; k--) near[k] = near[k - 1];
            near[k] = order[j];
        }
        for (int k = 0; k < n_near; k++) {
            const uf_buf *o = &p->buf[near[k]];
            if (o->offset >= at + need) break;
            size_t end = o->offset + (o->bytes + 63) / 64 * 64;
            if (end > at) at = end;
        }
        b->offset = at;
        if (at + need > p->n_arena) p->n_arena = at + need;
    }
}

static int allocate(uf_plan *p) {
    int n = 0, *order = uf_alloc(p->ctx, (size_t)p->n_bufs + 1, 2 * sizeof *order);
    if (!order) return UF_ENOMEM;
    for (int i = 0; i < p->n_bufs; i++) {
        uf_buf *b = &p->buf[i];
        if (b->param) continue;
        if (b->pinned) {
            b->first = 0;
            b->last = INT_MAX;
        }
        if (b->first >= 0) order[n++] = i;
    }
    qsort_r(order, (size_t)n, sizeof *order, by_size, p);
    place(p, order, n, order + p->n_bufs + 1);
    free(order);
    if (p->options.arena_max && p->n_arena > p->options.arena_max)
        return uf_fail(p->ctx, UF_ENOMEM, "the network needs %zu MB for this picture size, the limit is %zu MB; "
                       "choose a smaller size or allow more memory", p->n_arena >> 20, p->options.arena_max >> 20);
    p->arena = uf_alloc(p->ctx, p->n_arena + 64, 1);
    return p->arena ? UF_OK : UF_ENOMEM;
}

static int compile(uf_plan *p) {
    UF_TRY(uf_graph_status(p->graph));
    uf_graph_mark_grads(p->graph);
    UF_TRY(analyse(p));
    if (p->backend->fuse && !p->options.no_fuse) p->backend->fuse(p);
    find_last_uses(p);
    UF_TRY(lower_forward(p));
    UF_TRY(lower_backward(p));
    return allocate(p);
}

const uf_backend *const uf_backends[] = {&uf_backend_cpu, &uf_backend_ref, NULL};

static const uf_backend *find_backend(const uf_plan_options *o) {
    if (o->mode == UF_EXACT) return &uf_backend_ref;
    for (int i = 0; uf_backends[i]; i++)
        if (!o->backend || !strcmp(uf_backends[i]->name, o->backend)) return uf_backends[i];
    return NULL;
}

int uf_plan_open(uf_plan **out, uf_ctx *ctx, uf_graph *g, const uf_plan_options *o) {
    if (!g) return uf_fail(ctx, UF_EINVAL, "no graph to compile");
    const uf_backend *backend = find_backend(o);
    if (!backend) return uf_fail(ctx, UF_EINVAL, "there is no backend '%s'; use cpu or ref", o->backend);
    uf_plan *p = uf_alloc(ctx, 1, sizeof *p);
    if (!p) return UF_ENOMEM;
    p->ctx = ctx;
    p->graph = g;
    p->backend = backend;
    p->options = *o;
    p->dtype = p->backend->dtype(o->dtype);
    p->kernels = p->dtype == UF_BF16 ? &uf_kernels_bf16 : &uf_kernels_f32;
    p->n_threads = o->n_threads > 0 ? o->n_threads : uf_ctx_threads(ctx);
    p->n_nodes = uf_graph_n(g);
    p->stale = true;
    p->tensor = uf_alloc(ctx, (size_t)p->n_nodes + 1, sizeof *p->tensor);
    omp_set_num_threads(p->n_threads); /* primitives are made for the thread count they will run with */
    int err = p->tensor ? compile(p) : UF_ENOMEM;
    if (err < 0) {
        uf_plan_close(&p);
        return err;
    }
    *out = p;
    return UF_OK;
}

static void steps_close(uf_steps *s) {
    for (int i = 0; i < s->n; i++)
        if (s->at[i].close) s->at[i].close(s->at[i].priv);
    free(s->at);
}

void uf_plan_close(uf_plan **pp) {
    uf_plan *p = *pp;
    if (!p) return;
    steps_close(&p->backward);
    steps_close(&p->forward);
    free(p->tensor);
    free(p->buf);
    free(p->arena);
    free(p);
    *pp = NULL;
}

/* ---- running ------------------------------------------------------------------------------------------------- */

static int run(uf_plan *p, uf_steps *list) {
    omp_set_num_threads(p->n_threads);
    for (int i = 0; i < list->n; i++) UF_TRY(list->at[i].run(p, &list->at[i]));
    return UF_OK;
}

int uf_plan_run(uf_plan *p) {
    int err = run(p, &p->forward);
    if (err == UF_OK) p->stale = false;
    return err;
}

int uf_plan_time(uf_plan *p, const uf_node *node, double *seconds) {
    double start = uf_now();
    if (!node) {
        UF_TRY(uf_plan_run(p));
        *seconds = uf_now() - start;
        return UF_OK;
    }
    omp_set_num_threads(p->n_threads);
    for (int i = 0; i < p->forward.n; i++) {
        uf_step *s = &p->forward.at[i];
        if (s->node != node || s->run == run_to_native || s->run == run_to_plain) continue;
        UF_TRY(s->run(p, s));
        *seconds = uf_now() - start;
        return UF_OK;
    }
    return uf_fail(p->ctx, UF_EINVAL, "'%s' has no step of its own in this plan", node->name);
}

int uf_plan_backward(uf_plan *p) { return run(p, &p->backward); }

int uf_plan_set(uf_plan *p, const uf_node *n, const float *nchw) {
    if (!n || n->graph != p->graph || n->n_in || n->param)
        return uf_fail(p->ctx, UF_EINVAL, "'%s' is not an input of this graph", n ? n->name : "");
    int b = uf_tensor_of(p, n)->value[UF_PLAIN];
    if (b >= 0) memcpy(uf_ptr(p, b), nchw, uf_count(n->shape) * sizeof(float));
    return UF_OK; /* an input that nothing live reads needs no value */
}

int uf_plan_get(uf_plan *p, const uf_node *n, float *nchw) {
    int b = n && n->graph == p->graph ? uf_tensor_of(p, n)->value[UF_PLAIN] : UF_NO_BUF;
    if (b < 0 || !(p->buf[b].pinned || p->buf[b].param))
        return uf_fail(p->ctx, UF_EINVAL, "value of '%s' was not kept; mark it as an output, or compile EXACT",
                       n ? n->name : "");
    memcpy(nchw, uf_ptr(p, b), uf_count(n->shape) * sizeof(float));
    return UF_OK;
}

int uf_plan_get_grad(uf_plan *p, const uf_node *n, float *nchw) {
    int b = n && n->graph == p->graph ? uf_tensor_of(p, n)->grad : UF_NO_BUF;
    if (b < 0 || uf_tensor_of(p, n)->grad_layout != UF_PLAIN || !p->buf[b].pinned)
        return uf_fail(p->ctx, UF_EINVAL, "no gradient reaches '%s'; set needs_grad before compiling",
                       n ? n->name : "");
    memcpy(nchw, uf_ptr(p, b), uf_count(n->shape) * sizeof(float));
    return UF_OK;
}

void uf_plan_stale(uf_plan *p) { p->stale = true; }
void uf_plan_set_step(uf_plan *p, uint64_t step) { p->step = step; }
size_t uf_plan_arena(const uf_plan *p) { return p->n_arena; }
uf_dtype uf_plan_dtype(const uf_plan *p) { return p->dtype; }

static double macs_of(const uf_node *n) {
    double y = (double)uf_count(n->shape);
    if (!strcmp(n->op->name, "conv2d")) {
        uf_shape w = n->in[1]->shape;
        return y * w.c * w.h * w.w;
    }
    if (!strcmp(n->op->name, "conv_transpose2d")) {
        uf_shape w = n->in[1]->shape;
        return (double)uf_count(n->in[0]->shape) * w.c * w.h * w.w;
    }
    if (!strcmp(n->op->name, "gru")) return y * 3 * (n->in[0]->shape.c + n->shape.c);
    if (!strcmp(n->op->name, "matmul")) return y * n->in[0]->shape.w;
    if (!strcmp(n->op->name, "attention")) {
        uf_shape q = n->in[0]->shape, k = n->in[1]->shape;
        return (double)q.n * q.h * q.w * k.h * k.w * (q.c + n->shape.c);
    }
    return 0;
}

double uf_plan_macs(const uf_plan *p) {
    double sum = 0;
    for (int i = 0; i < p->n_nodes; i++)
        if (p->tensor[i].live) sum += macs_of(uf_graph_at(p->graph, i));
    return sum;
}

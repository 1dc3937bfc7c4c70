/* The graph: a tape of nodes in call order. */
#include "engine.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct uf_graph {
    uf_ctx *ctx;
    uf_params *params;
    uf_node **at;
    int n, room;
    int status;
    char scope[48];
    bool training;
    int group;
};

int uf_graph_open(uf_graph **out, uf_ctx *ctx, uf_params *params) {
    uf_graph *g = uf_alloc(ctx, 1, sizeof *g);
    if (!g) return UF_ENOMEM;
    g->ctx = ctx;
    g->params = params;
    g->training = true;
    *out = g;
    return UF_OK;
}

void uf_graph_close(uf_graph **g) {
    if (!g || !*g) return;
    for (int i = 0; i < (*g)->n; i++) free((*g)->at[i]);
    free((*g)->at);
    free(*g);
    *g = NULL;
}

void uf_graph_use(uf_graph *g, uf_params *params) { g->params = params; }

void uf_graph_scope(uf_graph *g, const char *fmt, ...) {
    g->scope[0] = 0;
    if (!fmt) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->scope, sizeof g->scope, fmt, ap);
    va_end(ap);
}

void uf_graph_training(uf_graph *g, bool training) { g->training = training; }
bool uf_graph_is_training(const uf_graph *g) { return g->training; }
void uf_graph_group(uf_graph *g, int group) { g->group = group; }
int uf_graph_n(const uf_graph *g) { return g->n; }
uf_node *uf_graph_at(const uf_graph *g, int i) { return g->at[i]; }
uf_ctx *uf_graph_ctx(const uf_graph *g) { return g->ctx; }
int uf_graph_status(const uf_graph *g) { return g->status; }

static uf_node *fail(uf_graph *g, int code) {
    if (g->status == UF_OK) g->status = code;
    return NULL;
}

int uf_graph_fail(uf_graph *g, int code, const char *fmt, ...) {
    if (g->status < 0) return g->status; /* the first failure is the one to report */
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return g->status = uf_fail(g->ctx, code, "%s", message);
}

static bool wants_grad(const uf_node *y) {
    if (y->param) return !y->param->frozen && !y->param->buffer;
    if (!y->op->bwd) return false;
    for (int i = 0; i < y->n_in; i++)
        if (y->in[i]->needs_grad && !y->op->no_grad[i]) return true;
    return false;
}

void uf_graph_mark_grads(uf_graph *g) {
    for (int i = 0; i < g->n; i++)
        if (g->at[i]->n_in > 0 || g->at[i]->param) g->at[i]->needs_grad = wants_grad(g->at[i]);
}

static int append(uf_graph *g, uf_node *y) {
    if (g->n == g->room) {
        int room = g->room ? 2 * g->room : 128;
        uf_node **at = realloc(g->at, (size_t)room * sizeof *at);
        if (!at) return uf_fail(g->ctx, UF_ENOMEM, "out of memory while building a graph; close other programs");
        g->at = at;
        g->room = room;
    }
    y->index = g->n;
    g->at[g->n++] = y;
    return UF_OK;
}

static int check(uf_graph *g, const uf_op *o, const char *op, const char *name, int n_in, uf_node *const *in,
                 const uf_param *param) {
    if (!name || !*name) name = op;
    if (!o) return uf_fail(g->ctx, UF_EINVAL, "there is no op '%s' ('%s%s')", op, g->scope, name);
    bool fits = o->n_in < 0 || (n_in <= o->n_in && n_in >= o->n_in - o->n_optional); /* -1 is infer's to check */
    if (n_in < 0 || n_in > UF_MAX_IN || !fits)
        return uf_fail(g->ctx, UF_EINVAL, "'%s%s': op '%s' takes %d inputs, not %d", g->scope, name, op,
                       o->n_in < 0 ? UF_MAX_IN : o->n_in, n_in);
    if (!strcmp(op, "param") != (param != NULL))
        return uf_fail(g->ctx, UF_EINVAL, "'%s%s': parameters are made by uf_parameter()", g->scope, name);
    for (int i = 0; i < n_in; i++) {
        if (!in[i]) return uf_fail(g->ctx, UF_EINVAL, "input %d of '%s%s' is missing", i, g->scope, name);
        if (in[i]->graph != g)
            return uf_fail(g->ctx, UF_EINVAL, "input %d of '%s%s' belongs to another graph", i, g->scope, name);
    }
    return UF_OK;
}

/* Shapes in, shape out; sizes that no memory holds are refused here, so that nobody else has to. */
static int infer(uf_graph *g, uf_node *y) {
    UF_TRY(y->op->infer(g->ctx, y));
    uf_shape s = y->shape;
    size_t count = 1;
    bool bad = s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1;
    if (!bad)
        bad = __builtin_mul_overflow((size_t)s.n * (size_t)s.c, (size_t)s.h, &count) ||
              __builtin_mul_overflow(count, (size_t)s.w, &count) || count > SIZE_MAX / 16;
    if (bad)
        return uf_fail(g->ctx, UF_EINVAL, "'%s' would be %dx%dx%dx%d; give it a larger or saner input", y->name, s.n,
                       s.c, s.h, s.w);
    return UF_OK;
}

static uf_node *add(uf_graph *g, const char *op, const char *name, int n_in, uf_node *const *in, uf_attr attr,
                    uf_param *param) {
    if (g->status < 0) return NULL;
    const uf_op *o = uf_op_find(op);
    int err = check(g, o, op, name, n_in, in, param);
    if (err < 0) return fail(g, err);
    uf_node *y = uf_alloc(g->ctx, 1, sizeof *y);
    if (!y) return fail(g, UF_ENOMEM);
    y->op = o;
    y->graph = g;
    if (name && *name) snprintf(y->name, sizeof y->name, "%s%s", g->scope, name);
    else snprintf(y->name, sizeof y->name, "%s%s_%d", g->scope, op, g->n); /* unnamed nodes stay distinguishable */
    y->n_in = n_in;
    for (int i = 0; i < n_in; i++) y->in[i] = in[i];
    y->attr = attr;
    y->param = param;
    err = infer(g, y);
    if (err == UF_OK) err = append(g, y);
    if (err < 0) {
        free(y);
        return fail(g, err);
    }
    y->needs_grad = wants_grad(y);
    return y;
}

uf_node *uf_graph_add(uf_graph *g, const char *op, const char *name, int n_in, uf_node *const *in, uf_attr attr) {
    return add(g, op, name, n_in, in, attr, NULL);
}

uf_node *uf_input(uf_graph *g, const char *name, uf_shape shape) {
    return add(g, "input", name, 0, NULL, (uf_attr){.shape = shape}, NULL);
}

static uf_node *parameter(uf_graph *g, const char *name, uf_shape shape, uf_init init, bool decay, bool buffer) {
    if (g->status < 0) return NULL;
    char full[128];
    if (snprintf(full, sizeof full, "%s%s", g->scope, name) >= (int)sizeof full)
        return fail(g, uf_fail(g->ctx, UF_EINVAL, "the name '%s%s' is too long; shorten it", g->scope, name));
    bool old = uf_params_find(g->params, full) != NULL;
    uf_param *p = uf_params_add(g->params, full, shape, init);
    if (!p) return fail(g, uf_ctx_error_code(g->ctx) < 0 ? uf_ctx_error_code(g->ctx) : UF_EINVAL);
    if (!old) {
        p->decay = decay;
        p->buffer = buffer;
        p->group = g->group;
    }
    return add(g, "param", name, 0, NULL, (uf_attr){.shape = shape}, p);
}

uf_node *uf_parameter(uf_graph *g, const char *name, uf_shape shape, uf_init init, bool decay) {
    return parameter(g, name, shape, init, decay, false);
}

uf_node *uf_buffer(uf_graph *g, const char *name, uf_shape shape, uf_init init) {
    return parameter(g, name, shape, init, false, true);
}

uf_node *uf_output(uf_node *x) {
    if (x) x->output = true;
    return x;
}

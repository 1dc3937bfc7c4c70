/* Steps that let the plain reference compute a node: all of them for the ref backend and EXACT, and on the cpu those
 * that have no kernel of their own. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

enum { OUT = UF_MAX_IN, AUX, DY }; /* places in use[] behind the inputs (backward: their gradients are in priv) */

typedef struct oracle {
    int dx[UF_MAX_IN];
} oracle;

static void call_init(uf_plan *p, uf_step *s, uf_call *c, const float **x) {
    memset(c, 0, sizeof *c);
    c->y = s->node;
    for (int i = 0; i < s->node->n_in; i++) x[i] = uf_use(p, s, i);
    c->x = x;
    c->out = uf_use(p, s, OUT);
    c->aux = uf_use(p, s, AUX);
    c->seed = p->options.seed ^ (p->step * 0x9e3779b97f4a7c15u);
    c->train = p->options.mode == UF_TRAIN || (p->options.mode == UF_EXACT && p->options.loss);
}

static int run_forward(uf_plan *p, uf_step *s) {
    uf_call c;
    const float *x[UF_MAX_IN];
    call_init(p, s, &c, x);
    s->node->op->fwd(&c);
    return UF_OK;
}

static int run_backward(uf_plan *p, uf_step *s) {
    uf_call c;
    const float *x[UF_MAX_IN];
    float *dx[UF_MAX_IN];
    const oracle *o = s->priv;
    call_init(p, s, &c, x);
    for (int i = 0; i < s->node->n_in; i++) {
        dx[i] = uf_ptr(p, o->dx[i]);
        if (dx[i] && !s->node->in[i]->param) memset(dx[i], 0, uf_count(s->node->in[i]->shape) * sizeof(float));
    }
    c.dx = dx;
    c.dy = uf_use(p, s, DY);
    s->node->op->bwd(&c);
    return UF_OK;
}

int uf_oracle_forward(uf_plan *p, const uf_node *n) {
    uf_tensor *t = uf_tensor_of(p, n);
    int in[UF_MAX_IN];
    for (int i = 0; i < n->n_in; i++)
        if ((in[i] = uf_value(p, n->in[i], UF_PLAIN)) < 0) return in[i];
    int out = uf_value_new(p, n, UF_PLAIN);
    if (out < 0) return out;
    size_t n_aux = n->op->n_aux ? n->op->n_aux(n) : 0;
    if (n_aux && (t->aux = uf_plan_buf(p, n_aux * sizeof(float))) < 0) return UF_ENOMEM;
    if (p->backend->forward && uf_count(n->shape) > 4096)
        uf_log(p->ctx, UF_LOG_DEBUG, "'%s' (%s) has no fast kernel here and runs by the plain reference", n->name,
               n->op->name);
    uf_step *s = uf_plan_step(p, n, run_forward);
    if (!s) return UF_ENOMEM;
    for (int i = 0; i < UF_MAX_IN; i++) uf_step_use(p, s, i < n->n_in ? in[i] : UF_NO_BUF);
    uf_step_use(p, s, out);
    uf_step_use(p, s, t->aux);
    return UF_OK;
}

int uf_oracle_backward(uf_plan *p, const uf_node *n) {
    if (!n->op->bwd) return uf_fail(p->ctx, UF_EUNSUPPORTED, "op '%s' of '%s' has no gradient", n->op->name, n->name);
    int in[UF_MAX_IN], dy = uf_grad(p, n, UF_PLAIN), out = uf_value(p, n, UF_PLAIN);
    if (dy < 0 || out < 0) return dy < 0 ? dy : out;
    oracle *o = uf_alloc(p->ctx, 1, sizeof *o);
    if (!o) return UF_ENOMEM;
    for (int i = 0; i < n->n_in; i++) {
        const uf_node *x = n->in[i];
        in[i] = uf_value(p, x, UF_PLAIN);
        o->dx[i] = !uf_wants_grad(p, x) || n->op->no_grad[i] ? UF_NO_BUF
                   : x->param ? uf_plan_param(p, x->param, true)
                              : uf_plan_buf(p, uf_bytes(p, x->shape, UF_PLAIN));
    }
    uf_step *s = uf_plan_step(p, n, run_backward);
    if (!s) {
        free(o);
        return UF_ENOMEM;
    }
    s->priv = o;
    s->close = free;
    for (int i = 0; i < UF_MAX_IN; i++) uf_step_use(p, s, i < n->n_in ? in[i] : UF_NO_BUF);
    uf_step_use(p, s, out);
    uf_step_use(p, s, uf_tensor_of(p, n)->aux);
    uf_step_use(p, s, dy);
    for (int i = 0; i < n->n_in; i++) {
        if (o->dx[i] < 0) continue;
        int b = o->dx[i]; /* s->use is full: lengthen the life by hand */
        if (p->buf[b].first < 0) p->buf[b].first = p->clock;
        p->buf[b].last = p->clock;
        if (!n->in[i]->param) UF_TRY(uf_grad_add(p, n->in[i], b, UF_PLAIN));
    }
    return UF_OK;
}

static uf_dtype float32(uf_dtype wanted) {
    (void)wanted;
    return UF_F32;
}

const uf_backend uf_backend_ref = {.name = "ref", .dtype = float32};

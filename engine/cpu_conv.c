/* Convolutions on the cpu: conv + folded norm + bias + residual + relu as one step, and its gradients. Each direction is
 * Winograd's where that fits, and oneDNN's otherwise. */
#include "onednn.h"
#include "plan.h"
#include "winograd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { X, Y, W, BIAS, SCRATCH, RESIDUAL, G };

typedef struct conv_keep {
    uf_dconv *conv;       /* NULL where the next two do all of it */
    uf_wino *fast, *fast_data;
    uf_wino_grad *fast_weights;
    bool constant;        /* weights change only when the caller says so (uf_plan_stale) */
    float *scale, *bias;  /* of a folded norm, (C) each; NULL without */
} conv_keep;

static void keep_close(void *priv) {
    conv_keep *k = priv;
    if (!k) return;
    uf_dconv_close(&k->conv);
    uf_wino_close(&k->fast);
    uf_wino_close(&k->fast_data);
    uf_wino_grad_close(&k->fast_weights);
    free(k->scale);
    free(k->bias);
    free(k);
}

static uf_group group_of(const uf_plan *p, const uf_node *n) {
    uf_group g = uf_tensor_of(p, n)->group;
    if (!g.conv) g.conv = n;
    return g;
}

/* y = gamma (conv + b - mean) / sqrt(var + eps) + beta */
static void fold(const uf_group *g, conv_keep *k) {
    const float *gamma = g->norm->in[1]->param->value, *beta = g->norm->in[2]->param->value;
    const float *mean = g->norm->in[3]->param->value, *var = g->norm->in[4]->param->value;
    const float *b = g->conv->n_in > 2 ? g->conv->in[2]->param->value : NULL;
    for (int c = 0; c < g->conv->shape.c; c++) {
        k->scale[c] = gamma[c] / sqrtf(var[c] + g->norm->attr.eps);
        k->bias[c] = beta[c] + ((b ? b[c] : 0.f) - mean[c]) * k->scale[c];
    }
}

static int pack(conv_keep *k, const float *w) {
    if (k->fast) uf_wino_pack(k->fast, w, k->scale);
    if (k->fast_data) uf_wino_pack(k->fast_data, w, k->scale);
    return k->conv ? uf_dconv_pack(k->conv, w, k->scale) : UF_OK;
}

static int run_forward(uf_plan *p, uf_step *s) {
    conv_keep *k = s->priv;
    if (!k->constant || p->stale) {
        uf_group g = group_of(p, s->node);
        if (k->scale) fold(&g, k);
        UF_TRY(pack(k, uf_use(p, s, W)));
    }
    void *y = uf_use(p, s, Y), *residual = uf_use(p, s, RESIDUAL);
    if (k->fast) {
        uf_wino_run(k->fast, uf_use(p, s, X), k->bias ? k->bias : uf_use(p, s, BIAS), residual,
                    uf_tensor_of(p, s->node)->group.act, y, uf_use(p, s, SCRATCH));
        return UF_OK;
    }
    if (residual && residual != y) memcpy(y, residual, uf_bytes(p, s->shape, UF_NATIVE));
    return uf_dconv_forward(k->conv, uf_use(p, s, X), k->bias ? k->bias : uf_use(p, s, BIAS), y, uf_use(p, s, SCRATCH));
}

static int open_fast(uf_plan *p, conv_keep *k, const uf_dconv_spec *d) {
    if (d->kh != 3 || d->kw != 3 || d->stride != 1 || d->dilation != 1 || d->groups != 1) return UF_OK;
    uf_wino_spec forward = {.x = d->x, .y = d->y, .top = d->top, .left = d->pad, .dtype = d->dtype,
                            .n_threads = p->n_threads};
    uf_wino_spec back = {.x = d->y, .y = d->x, .top = 2 - d->top, .left = 2 - d->pad, .dtype = d->dtype,
                         .n_threads = p->n_threads, .to_data = true};
    if (uf_wino_fits(&forward)) UF_TRY(uf_wino_open(&k->fast, p->ctx, &forward));
    if (d->backward_data && uf_wino_fits(&back)) UF_TRY(uf_wino_open(&k->fast_data, p->ctx, &back));
    if (d->backward_weights && !d->bias && uf_wino_grad_fits(&forward)) /* the bias's gradient is the library's */
        UF_TRY(uf_wino_grad_open(&k->fast_weights, p->ctx, &forward));
    return UF_OK;
}

static int open_directions(uf_plan *p, conv_keep *k, uf_dconv_spec d) {
    UF_TRY(open_fast(p, k, &d));
    d.forward = !k->fast;
    d.backward_data = d.backward_data && !k->fast_data;
    d.backward_weights = d.backward_weights && !k->fast_weights;
    if (!d.forward && !d.backward_data && !d.backward_weights) return UF_OK;
    return uf_dconv_open(&k->conv, p->ctx, &d);
}

static size_t scratch_of(const conv_keep *k) {
    size_t n[] = {k->conv ? uf_dconv_scratch(k->conv) : 0, k->fast ? uf_wino_scratch(k->fast) : 0,
                  k->fast_data ? uf_wino_scratch(k->fast_data) : 0,
                  k->fast_weights ? uf_wino_grad_scratch(k->fast_weights) : 0}, most = 0;
    for (int i = 0; i < UF_LEN(n); i++)
        if (n[i] > most) most = n[i];
    return most;
}

static uf_dconv_spec spec_of(const uf_plan *p, const uf_node *conv, const uf_group *g) {
    const uf_node *w = conv->in[1], *b = conv->n_in > 2 ? conv->in[2] : NULL;
    uf_attr a = conv->attr;
    return (uf_dconv_spec){.x = conv->in[0]->shape, .y = conv->shape, .kh = a.kh, .kw = a.kw, .stride = a.stride,
                           .top = a.top, .pad = a.pad, .dilation = a.dilation, .groups = a.groups, .dtype = p->dtype,
                           .bias = b || g->norm, .sum = g->add, .relu = g->act,
                           .backward_data = uf_wants_grad(p, conv->in[0]),
                           .backward_weights = uf_wants_grad(p, w) || (b && uf_wants_grad(p, b))};
}

bool uf_conv_fusible(const uf_plan *p, const uf_node *n) {
    uf_dconv_spec s = spec_of(p, n, &(uf_group){0});
    return uf_dconv_trusted(&s);
}

static int keep_open(uf_plan *p, const uf_node *n, const uf_group *g, conv_keep **out) {
    const uf_node *w = g->conv->in[1];
    conv_keep *k = uf_alloc(p->ctx, 1, sizeof *k);
    if (!k) return UF_ENOMEM;
    int err = UF_ENOMEM;
    k->constant = uf_is_constant(p, w);
    if (g->norm && !(k->scale = uf_alloc(p->ctx, (size_t)n->shape.c, sizeof(float)))) goto fail;
    if (g->norm && !(k->bias = uf_alloc(p->ctx, (size_t)n->shape.c, sizeof(float)))) goto fail;
    uf_dconv_spec spec = spec_of(p, g->conv, g);
    err = UF_EUNSUPPORTED;
    if (!uf_dconv_trusted(&spec)) goto fail; /* alone in its group: the oracle takes over */
    err = open_directions(p, k, spec);
    if (err == UF_EUNSUPPORTED && !g->norm && !g->add && !g->act) uf_ctx_clear(p->ctx); /* the oracle takes over */
    if (err < 0) goto fail;
    if (k->conv && strstr(uf_dconv_impl(k->conv), "ref"))
        uf_log(p->ctx, UF_LOG_DEBUG, "oneDNN computes '%s' by its slow reference", n->name);
    *out = k;
    return UF_OK;
fail:
    keep_close(k);
    return err;
}

/* The residual's own buffer takes the result when nobody reads it afterwards. */
static int destination(uf_plan *p, const uf_node *n, const uf_group *g, int residual) {
    uf_tensor *t = uf_tensor_of(p, n);
    if (residual >= 0 && p->options.mode == UF_INFER && !n->output && !p->buf[residual].pinned &&
        uf_tensor_of(p, g->residual)->last_use == n->index && g->residual != g->conv->in[0])
        return t->value[UF_NATIVE] = residual;
    return uf_value_new(p, n, UF_NATIVE);
}

int uf_conv_forward(uf_plan *p, const uf_node *n) {
    uf_group g = group_of(p, n);
    conv_keep *k = NULL;
    UF_TRY(keep_open(p, n, &g, &k));
    const uf_node *conv = g.conv;
    int x = uf_value(p, conv->in[0], UF_NATIVE), w = uf_value(p, conv->in[1], UF_PLAIN);
    int bias = conv->n_in > 2 ? uf_value(p, conv->in[2], UF_PLAIN) : UF_NO_BUF;
    int residual = g.residual ? uf_value(p, g.residual, UF_NATIVE) : UF_NO_BUF;
    size_t n_scratch = scratch_of(k);
    int scratch = n_scratch ? uf_plan_buf(p, n_scratch) : UF_NO_BUF;
    int y = destination(p, n, &g, residual);
    uf_step *s = y < 0 ? NULL : uf_plan_step(p, n, run_forward);
    if (!s) {
        keep_close(k);
        return UF_ENOMEM;
    }
    s->priv = k;
    s->close = keep_close;
    uf_tensor_of(p, n)->keep = k;
    int use[] = {x, y, w, bias, scratch, residual};
    for (int i = 0; i < UF_LEN(use); i++) uf_step_use(p, s, use[i]);
    return UF_OK;
}

/* ---- gradients ----------------------------------------------------------------------------------------------- */

static int run_mask(uf_plan *p, uf_step *s) {
    p->kernels->mask(uf_count(s->shape), uf_use(p, s, 0), uf_use(p, s, 1), 0.f, uf_use(p, s, 2));
    return UF_OK;
}

static int masked(uf_plan *p, const uf_node *n, int dy) {
    int y = uf_value(p, n, UF_NATIVE), g = uf_plan_buf(p, uf_bytes(p, n->shape, UF_NATIVE));
    if (y < 0 || g < 0) return UF_ENOMEM;
    uf_step *s = uf_plan_step(p, n, run_mask);
    if (!s) return UF_ENOMEM;
    uf_step_use(p, s, dy);
    uf_step_use(p, s, y);
    uf_step_use(p, s, g);
    return g;
}

static int run_data(uf_plan *p, uf_step *s) {
    conv_keep *k = s->priv;
    if (k->fast_data) {
        uf_wino_run(k->fast_data, uf_use(p, s, 0), NULL, NULL, false, uf_use(p, s, 1), uf_use(p, s, 2));
        return UF_OK;
    }
    return uf_dconv_backward_data(k->conv, uf_use(p, s, 0), uf_use(p, s, 1), uf_use(p, s, 2));
}

static int run_weights(uf_plan *p, uf_step *s) {
    conv_keep *k = s->priv;
    float *dw = uf_use(p, s, 2);
    if (s->i[0]) memset(dw, 0, (size_t)s->i[0] * sizeof *dw);
    if (k->fast_weights) {
        uf_wino_grad_run(k->fast_weights, uf_use(p, s, 0), uf_use(p, s, 1), dw, uf_use(p, s, 4));
        return UF_OK;
    }
    return uf_dconv_backward_weights(k->conv, uf_use(p, s, 0), uf_use(p, s, 1), dw, uf_use(p, s, 3), uf_use(p, s, 4));
}

/* dw goes straight into the parameter's gradient; into a buffer when the weight is computed (spectral norm). */
static int backward_weights(uf_plan *p, const uf_node *conv, conv_keep *k, int g, int scratch) {
    const uf_node *w = conv->in[1], *b = conv->n_in > 2 ? conv->in[2] : NULL;
    bool to_param = w->param && uf_wants_grad(p, w);
    int x = uf_value(p, conv->in[0], UF_NATIVE);
    int dw = to_param ? uf_plan_param(p, w->param, true) : uf_plan_buf(p, uf_bytes(p, w->shape, UF_PLAIN));
    int db = b && b->param && uf_wants_grad(p, b) ? uf_plan_param(p, b->param, true) : UF_NO_BUF;
    if (x < 0 || dw < 0) return UF_ENOMEM;
    uf_step *s = uf_plan_step(p, conv, run_weights);
    if (!s) return UF_ENOMEM;
    int use[] = {x, g, dw, db, scratch};
    for (int i = 0; i < UF_LEN(use); i++) uf_step_use(p, s, use[i]);
    s->priv = k;
    s->i[0] = to_param ? 0 : (int)uf_count(w->shape);
    return !w->param && uf_wants_grad(p, w) ? uf_grad_add(p, w, dw, UF_PLAIN) : UF_OK;
}

int uf_conv_backward(uf_plan *p, const uf_node *n) {
    uf_group g = group_of(p, n);
    conv_keep *k = uf_tensor_of(p, n)->keep;
    int dy = uf_grad(p, n, UF_NATIVE);
    if (dy >= 0 && g.act) dy = masked(p, n, dy);
    if (dy < 0) return dy;
    if (g.residual && uf_wants_grad(p, g.residual)) UF_TRY(uf_grad_add(p, g.residual, dy, UF_NATIVE));
    size_t n_scratch = scratch_of(k);
    int scratch = n_scratch ? uf_plan_buf(p, n_scratch) : UF_NO_BUF;
    const uf_node *conv = g.conv, *x = conv->in[0];
    if (uf_wants_grad(p, conv->in[1]) || (conv->n_in > 2 && uf_wants_grad(p, conv->in[2])))
        UF_TRY(backward_weights(p, conv, k, dy, scratch));
    if (!uf_wants_grad(p, x)) return UF_OK;
    int dx = uf_plan_buf(p, uf_bytes(p, x->shape, UF_NATIVE));
    uf_step *s = dx < 0 ? NULL : uf_plan_step(p, conv, run_data);
    if (!s) return UF_ENOMEM;
    s->priv = k;
    uf_step_use(p, s, dy);
    uf_step_use(p, s, dx);
    uf_step_use(p, s, scratch);
    return uf_grad_add(p, x, dx, UF_NATIVE);
}

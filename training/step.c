/* One step of learning: batches forward and back, then the optimizer. */
#include "step.h"

#include <math.h>
#include <string.h>

static int add_terms(const uf_learner *l, int64_t step, uf_stepped *t) {
    float v = 0;
    UF_TRY(uf_plan_get(l->network->plan, l->network->loss, &v));
    if (!isfinite(v))
        return uf_fail(l->ctx, UF_EDATA, "the loss is no longer a number at step %lld; lower the rate and go on from the "
                       "last checkpoint with --resume", (long long)step + 1);
    t->loss += (double)v / l->accumulate;
    for (int i = 0; i < UF_MAX_LOSSES; i++) {
        if (!l->network->term[i]) continue;
        UF_TRY(uf_plan_get(l->network->plan, l->network->term[i], &v));
        t->term[i] += (double)v / l->accumulate;
    }
    return UF_OK;
}

static void divide_gradients(uf_params *params, int by) {
    for (int i = 0; i < uf_params_n(params); i++) {
        uf_param *p = uf_params_at(params, i);
        if (!p->grad || p->frozen) continue;
        for (size_t k = 0; k < uf_count(p->shape); k++) p->grad[k] /= (float)by;
    }
}

/* Losses of all processes. */
static int share_terms(const uf_learner *l, uf_stepped *t) {
    double x[1 + UF_MAX_LOSSES];
    x[0] = t->loss;
    memcpy(x + 1, t->term, sizeof t->term);
    UF_TRY(uf_group_sum(&l->group, l->ctx, x, UF_LEN(x)));
    t->loss = x[0];
    memcpy(t->term, x + 1, sizeof t->term);
    return UF_OK;
}

int uf_learn(const uf_learner *l, int64_t step, uf_cycle cycle, uf_stepped *t) {
    const uf_recipe *r = l->r;
    uf_adam a = {.rate = cycle.rate, .beta1 = cycle.beta1, .beta2 = r->beta2, .eps = 1e-8f, .decay = r->decay,
                 .clip = r->clip, .average = r->average, .group_rate = r->group_rates,
                 .n_groups = (int)r->group_rates_count};
    double start = uf_now();
    float norm = 0;
    int share = l->accumulate / l->group.n;
    *t = (uf_stepped){.rate = (double)cycle.rate};
    uf_params_zero_grad(l->params);
    uf_group_begin(&l->group, l->params);
    for (int i = 0; i < share; i++) {
        const uf_batch *b;
        UF_TRY(uf_loader_next(l->loader, &b));
        uf_plan_set_step(l->network->plan, (uint64_t)(step * l->accumulate + l->group.rank * share + i));
        UF_TRY(uf_network_set(l->network, b));
        UF_TRY(uf_plan_run(l->network->plan));
        UF_TRY(add_terms(l, step, t));
        UF_TRY(uf_plan_backward(l->network->plan));
    }
    UF_TRY(uf_group_end(&l->group, l->ctx, l->params, share));
    UF_TRY(share_terms(l, t));
    if (l->accumulate > 1) divide_gradients(l->params, l->accumulate);
    UF_TRY(uf_adam_step(l->ctx, l->params, &a, step + 1, &norm));
    t->norm = (double)norm;
    t->samples_per_second = l->network->out->shape.n * l->accumulate / (uf_now() - start);
    return UF_OK;
}

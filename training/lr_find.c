/* The learning rate finder (Smith 2015, arXiv:1506.01186; as fast.ai made it a habit): the rate grows from step to step, and
 * the loss tells where learning begins and where it breaks. */
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A mean over the last steps, unbiased at the start. */
static double smooth(double *sum, double *weight, double loss) {
    *sum = .9 * *sum + loss;
    *weight = .9 * *weight + 1;
    return *sum / *weight;
}

/* Where the smoothed loss falls fastest on the logarithm of the rate; the first steps, which are noise, and the last, which
 * break, are left out. */
static int steepest(int n, const double *rate, const double *loss) {
    int best = n / 2;
    double most = 0;
    for (int i = n / 10 + 1; i + n / 10 + 1 < n; i++) {
        double slope = (loss[i + 1] - loss[i - 1]) / (log(rate[i + 1]) - log(rate[i - 1]));
        if (slope >= most) continue;
        most = slope;
        best = i;
    }
    return best;
}

/* The longest chain of losses each below the ones before it: the valley. Half of the way down its middle third is well inside it
 * ("valley" of ESRI, in fast.ai since 2021). */
static int valley(uf_ctx *ctx, int n, const double *loss, int *at) {
    int *length = uf_alloc(ctx, (size_t)n, sizeof *length), end = 0;
    if (!length) return UF_ENOMEM;
    for (int i = 0; i < n; i++) {
        length[i] = 1;
        for (int j = 0; j < i; j++)
            if (loss[i] < loss[j] && length[j] + 1 > length[i]) length[i] = length[j] + 1;
        if (length[i] > length[end]) end = i;
    }
    int start = end - length[end] + 1, third = (end - start) / 3;
    *at = start + third + third / 2;
    free(length);
    return UF_OK;
}

static int sweep(uf_run *u, const uf_lr_find_options *o, const uf_learner *l, uf_lr_found *f) {
    double sum = 0, weight = 0, best = INFINITY;
    for (int i = 0; i < o->steps; i++) {
        uf_stepped t;
        double rate = o->from * pow(o->to / o->from, i / (double)(o->steps - 1));
        int err = uf_learn(l, i, (uf_cycle){(float)rate, .9f}, &t);
        if (err == UF_EDATA && i > 10) { /* it broke, which is an answer */
            uf_ctx_clear(u->ctx);
            return UF_OK;
        }
        UF_TRY(err);
        f->rate[f->n] = rate;
        f->loss[f->n++] = smooth(&sum, &weight, t.loss);
        best = fmin(best, f->loss[i]);
        if (o->progress) {
            uf_train_progress p = {i + 1, o->steps, f->loss[i], rate, t.samples_per_second, uf_now() - u->started};
            o->progress(o->user, &p);
        }
        if (i > 10 && f->loss[i] > 4 * best) return UF_OK;
        if (uf_ctx_cancelled(u->ctx)) return uf_fail(u->ctx, UF_EINTR, "stopped; nothing was written");
    }
    return UF_OK;
}

static int find(uf_run *u, const uf_lr_find_options *o, uf_lr_found *f) {
    if (o->stage >= (int)u->r->stages_count)
        return uf_fail(u->ctx, UF_EINVAL, "the recipe has %u stages; choose one from 1 to that", u->r->stages_count);
    uf_stage s = u->r->stages[o->stage];
    uf_network n = {0};
    uf_learner l = {.ctx = u->ctx, .r = u->r, .params = u->params, .network = &n, .accumulate = s.accumulate,
                    .group = u->group};
    s.steps = o->steps;
    int err = uf_run_stage_open(u, &s, 0, 0, &n, &l.loader);
    if (err == UF_OK) err = sweep(u, o, &l, f);
    uf_loader_close(&l.loader);
    uf_network_close(&n);
    if (err < 0) return err;
    if (f->n < 20)
        return uf_fail(u->ctx, UF_EDATA, "the loss broke after %d steps, at rate %.1e: too early to tell; begin lower with --from",
                       f->n, f->n ? f->rate[f->n - 1] : o->from);
    int v;
    UF_TRY(valley(u->ctx, f->n, f->loss, &v));
    f->valley = f->rate[v];
    f->steepest = f->rate[steepest(f->n, f->rate, f->loss)];
    return UF_OK;
}

static int write_plot(uf_ctx *ctx, uf_whole *plot, const uf_lr_found *f) {
    FILE *to = uf_whole_file(plot);
    UF_TRY(to ? uf_rates_print(ctx, to, f) : UF_EIO);
    return uf_whole_commit(plot);
}

int uf_lr_find(uf_ctx *ctx, const char *recipe, const uf_lr_find_options *o, uf_lr_found *out) {
    uf_train_options none = {.out_dir = ".", .no_finish = true};
    uf_run u = {.ctx = ctx, .group = {0, 1}, .o = &none, .started = uf_now()};
    uf_lr_found f = {0};
    uf_whole *plot = NULL;
    if (o->plot) UF_TRY(uf_whole_open(&plot, ctx, o->plot, o->overwrite)); /* what cannot be written is told before the sweep */
    f.rate = uf_alloc(ctx, (size_t)o->steps, sizeof(double));
    f.loss = uf_alloc(ctx, (size_t)o->steps, sizeof(double));
    int err = f.rate && f.loss ? uf_run_open(&u, recipe) : UF_ENOMEM;
    if (err == UF_OK) err = find(&u, o, &f);
    if (err == UF_OK && plot) err = write_plot(ctx, plot, &f);
    uf_whole_close(&plot);
    uf_run_close(&u);
    if (err < 0) uf_lr_found_free(&f);
    else *out = f;
    return err;
}

void uf_lr_found_free(uf_lr_found *f) {
    free(f->rate);
    free(f->loss);
    memset(f, 0, sizeof *f);
}

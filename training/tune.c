/* Transfer learning on a person's own film: a few pictures in its true colours, minutes of learning, a small file.
 *
 * The decoder learns and, of the encoder, the norms alone: what the network sees stays, what it paints changes, and eight
 * pictures cannot undo the rest (discriminative rates and partial freezing: Howard & Ruder, arXiv:1801.06146). Every fourth
 * reference is held back: learning ends when those get no better, and the best step is what is written. */
#include "network.h"
#include "schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOLD_BACK = 4, BATCH = 8, SIZE = 192, CHECK_EVERY = 20, PATIENCE = 4, FEWEST = 4 };

typedef struct tune {
    uf_ctx *ctx;
    const uf_tune_options *o;
    uf_tuned *out;
    uf_recipe recipe;   /* what the network's builder reads of one */
    uf_params *params, *judge;
    char base[80];      /* sha256 of the weights that are tuned */
    uf_source *sources; /* n_references, twice: to learn from, to hold back */
    uf_data *learn, *held;
    float **best;       /* values of the parameters that learn, NULL for the others */
    double started;
} tune;

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static bool learns(const uf_param *p) {
    return !p->buffer && (strncmp(p->name, "enc.", 4) || ends_with(p->name, ".gamma") || ends_with(p->name, ".beta"));
}

/* ---- opening ------------------------------------------------------------------------------------------------------------- */

static int open_data(tune *t) {
    int n = t->o->n_references;
    if (!(t->sources = uf_alloc(t->ctx, 2 * (size_t)n + 1, sizeof *t->sources))) return UF_ENOMEM;
    for (int i = 0; i < 2 * n; i++) {
        uf_source *s = &t->sources[i];
        *s = (uf_source){.path = (char *)(uintptr_t)t->o->references[i % n]};
        if (!t->o->few) *(i < n ? &s->exclude_every : &s->only_every) = HOLD_BACK;
    }
    UF_TRY(uf_data_open(&t->learn, t->ctx, t->sources, n));
    if (t->o->few) return uf_data_open(&t->held, t->ctx, t->sources + n, n);
    if (uf_data_open(&t->held, t->ctx, t->sources + n, n) < 0 || uf_data_n(t->learn) + uf_data_n(t->held) < FEWEST) {
        uf_ctx_clear(t->ctx);
        return uf_fail(t->ctx, UF_EINVAL, "there are %lld pictures in '%s'; give a folder with %d or more, of which every %dth is "
                       "held back to measure by", (long long)uf_data_n(t->learn), t->o->references[0], FEWEST, HOLD_BACK);
    }
    return UF_OK;
}

static int open_params(tune *t) {
    uf_graph *g = NULL;
    uf_built b = {0};
    uf_weights *w = NULL;
    UF_TRY(uf_params_open(&t->params, t->ctx, 0));
    UF_TRY(uf_params_open(&t->judge, t->ctx, 0));
    uf_params_blank(t->params);
    uf_params_blank(t->judge);
    int err = uf_graph_open(&g, t->ctx, t->params);
    if (err == UF_OK) err = uf_model_color.build(g, uf_model_small(&uf_model_color), &b);
    if (err == UF_OK) uf_graph_use(g, t->judge);
    b = (uf_built){0};
    if (err == UF_OK) err = uf_model_features.build(g, uf_model_small(&uf_model_features), &b);
    uf_graph_close(&g);
    if (err == UF_OK) err = uf_model_load(t->ctx, &uf_model_color, t->params, t->o->weights);
    if (err == UF_OK) err = uf_model_load(t->ctx, &uf_model_features, t->judge, t->o->features);
    if (err == UF_OK) err = uf_weights_open(&w, t->ctx, t->o->weights);
    if (err == UF_OK) snprintf(t->base, sizeof t->base, "%s", uf_weights_meta(w, "sha256") ? uf_weights_meta(w, "sha256") : "");
    uf_weights_close(&w);
    t->best = err == UF_OK ? uf_alloc(t->ctx, (size_t)uf_params_n(t->params), sizeof *t->best) : NULL;
    if (err == UF_OK && !t->best) err = UF_ENOMEM;
    for (int i = 0; err == UF_OK && i < uf_params_n(t->params); i++) {
        uf_param *p = uf_params_at(t->params, i);
        p->frozen = !learns(p);
        if (!p->frozen && !(t->best[i] = uf_alloc(t->ctx, uf_count(p->shape), sizeof(float)))) err = UF_ENOMEM;
    }
    return err;
}

static void copy_values(const tune *t, bool keep) {
    for (int i = 0; i < uf_params_n(t->params); i++) {
        uf_param *p = uf_params_at(t->params, i);
        size_t bytes = uf_count(p->shape) * sizeof(float);
        if (t->best[i]) memcpy(keep ? t->best[i] : p->value, keep ? p->value : t->best[i], bytes);
    }
}

/* ---- learning ------------------------------------------------------------------------------------------------------------ */

static int measure(tune *t, uf_score *s, const char *sheet) {
    uf_evaluation e;
    UF_TRY(uf_evaluate_params(t->ctx, t->params, t->held, 0, 1, sheet, &e));
    *s = e.network;
    return UF_OK;
}

static int one_step(tune *t, uf_network *n, const uf_batch *b, int at, float *loss) {
    static const float group_rates[] = {.3f, .5f, 1.f};
    uf_cycle c = uf_one_cycle(at, t->o->steps, t->o->rate);
    uf_adam a = {.rate = c.rate, .beta1 = c.beta1, .beta2 = .99f, .eps = 1e-8f, .decay = .01f, .clip = 5,
                 .group_rate = group_rates, .n_groups = UF_LEN(group_rates)};
    UF_TRY(uf_network_set(n, b));
    UF_TRY(uf_plan_run(n->plan));
    UF_TRY(uf_plan_get(n->plan, n->loss, loss));
    uf_params_zero_grad(t->params);
    UF_TRY(uf_plan_backward(n->plan));
    return uf_adam_step(t->ctx, t->params, &a, at + 1, NULL);
}

static int check(tune *t, int step, int *since) {
    uf_score s;
    UF_TRY(measure(t, &s, NULL));
    bool better = s.ciede2000 < t->out->after.ciede2000;
    uf_log(t->ctx, UF_LOG_INFO, "step %d: CIEDE2000 %.2f on what is held back%s", step, s.ciede2000, better ? ", the best so far" : "");
    *since = better ? 0 : *since + 1;
    if (!better) return UF_OK;
    t->out->after = s;
    t->out->step = step;
    copy_values(t, true);
    return UF_OK;
}

static int learn(tune *t) {
    uf_network n;
    uf_loader *l = NULL;
    uf_network_options net = {.r = &t->recipe, .params = t->params, .judge = t->judge, .batch = BATCH, .size = SIZE,
                              .train = true, .fixed = true};
    uf_loader_options o = {.seed = 1, .size = SIZE, .batch = BATCH, .workers = 1, .n = t->o->steps, .noise = .04f,
                           .smallest = .2f};
    UF_TRY(uf_network_open(&n, t->ctx, &net));
    int err = uf_loader_open(&l, t->ctx, t->learn, &o), since = 0;
    for (int at = 0; err == UF_OK && at < t->o->steps && since < PATIENCE; at++) {
        const uf_batch *b = NULL;
        float loss = 0;
        double start = uf_now();
        if ((err = uf_loader_next(l, &b)) == UF_OK) err = one_step(t, &n, b, at, &loss);
        if (err < 0) break;
        double now = uf_now();
        uf_train_progress p = {at + 1, t->o->steps, (double)loss, 0, BATCH / (now - start), now - t->started};
        if (t->o->progress) t->o->progress(t->o->user, &p);
        if (!((at + 1) % CHECK_EVERY) || at + 1 == t->o->steps) err = check(t, at + 1, &since);
        if (t->o->max_seconds > 0 && now - t->started > (double)t->o->max_seconds) break;
        if (uf_ctx_cancelled(t->ctx)) err = uf_fail(t->ctx, UF_EINTR, "stopped; nothing was written");
    }
    uf_loader_close(&l);
    uf_network_close(&n);
    return err;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------- */

static int write_out(tune *t) {
    char before[32], after[32], step[32], date[32], count[32];
    time_t now = time(NULL);
    struct tm tm;
    uf_params *changed = NULL;
    snprintf(before, sizeof before, "%.3f", t->out->before.ciede2000);
    snprintf(after, sizeof after, "%.3f", t->out->after.ciede2000);
    snprintf(step, sizeof step, "%d", t->out->step);
    snprintf(count, sizeof count, "%d", t->out->n_learnt);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
    uf_meta meta[] = {{"format", "pt"}, {"model", "color"}, {"unfade", UF_VERSION}, {"tune_of", t->base}, {"date", date},
                      {"references", count}, {"step", step}, {"held_back_ciede2000_before", before},
                      {"held_back_ciede2000_after", after}};
    uf_weights_save save = {.meta = meta, .n_meta = UF_LEN(meta), .dtype = "F16", .overwrite = t->o->overwrite};
    int err = uf_params_open(&changed, t->ctx, 0);
    for (int i = 0; err == UF_OK && i < uf_params_n(t->params); i++) {
        const uf_param *p = uf_params_at(t->params, i);
        uf_param *q = t->best[i] ? uf_params_add(changed, p->name, p->shape, UF_INIT_ZERO) : NULL;
        if (t->best[i] && !q) err = UF_ENOMEM;
        if (q) memcpy(q->value, t->best[i], uf_count(p->shape) * sizeof(float));
    }
    if (err == UF_OK) err = uf_weights_write(t->ctx, t->o->out, changed, &save);
    uf_params_close(&changed);
    return err;
}

static int run(tune *t) {
    UF_TRY(uf_whole_check(t->ctx, t->o->out, t->o->overwrite));
    UF_TRY(open_data(t));
    UF_TRY(open_params(t));
    t->out->n_learnt = (int)uf_data_n(t->learn);
    t->out->n_held_back = (int)uf_data_n(t->held);
    UF_TRY(measure(t, &t->out->before, NULL));
    t->out->after = t->out->before;
    copy_values(t, true);
    uf_log(t->ctx, UF_LOG_INFO, "%d pictures to learn from, %d held back: CIEDE2000 %.2f before", t->out->n_learnt,
           t->out->n_held_back, t->out->before.ciede2000);
    UF_TRY(learn(t));
    if (t->out->step == 0)
        return uf_fail(t->ctx, UF_EDATA, "the held-back references got no nearer to their colours, so nothing was written; are the "
                       "references of one kind, and in colour?");
    copy_values(t, false);
    if (t->o->sheet) UF_TRY(measure(t, &t->out->after, t->o->sheet));
    return write_out(t);
}

int uf_tune(uf_ctx *ctx, const uf_tune_options *options, uf_tuned *out) {
    uf_tune_options o = *options;
    uf_tuned result = {0};
    if (o.steps <= 0) o.steps = 300;
    if (o.rate <= 0) o.rate = 1e-3f;
    tune t = {.ctx = ctx, .o = &o, .out = &result, .recipe = {.model = (char[]){"color"}, .seed = 1}, .started = uf_now()};
    t.recipe.losses[uf_loss_index("l1")] = 5;
    t.recipe.losses[uf_loss_index("l2")] = 20;
    t.recipe.losses[uf_loss_index("feature")] = .3f;
    int err = run(&t);
    if (err == UF_OK) *out = result;
    for (int i = 0; t.best && i < uf_params_n(t.params); i++) free(t.best[i]);
    free(t.best);
    free(t.sources);
    uf_data_close(&t.learn);
    uf_data_close(&t.held);
    uf_params_close(&t.params);
    uf_params_close(&t.judge);
    return err;
}

/* The short adversarial finish of colours and of speech ("NoGAN" of DeOldify, github.com/jantic/DeOldify; adversarial training: Goodfellow et al.,
 * arXiv:1406.2661; the patch critic: Isola et al., arXiv:1611.07004).
 *
 * Losses by pixel and feature leave colours shy, and voices dull: grey, and nothing, are the safe answers. A critic that has learnt, alone, to tell
 * results from photographs, or from recordings, then teaches the generator for a few hundred steps. Too long, and it paints faces orange: so the
 * held-out measures of probe.h are taken every few steps, the best step is kept, and the finish ends when they turn. The
 * generator's norms are fixed, so that what is measured is what will be shipped. */
#include "finish.h"
#include "probe.h"
#include "schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CRITIC_FACTOR = 5 }; /* the critic's rate over the generator's, when both learn */
static const float beta2 = .9f;

typedef struct check {
    int64_t step;
    uf_probe probe;
    double score;
} check;

/* An input of the critic: what is real and then what the generator made, n values each. */
typedef struct side {
    uf_node *in;
    float *both;
    size_t n;
} side;

typedef struct finish {
    uf_run *u;
    const uf_finish *f;
    const uf_prober *prober;
    int64_t base, joint, end; /* run steps: where the critic begins, where both, where it ends at the latest */
    uf_params *critic;
    uf_network net;           /* generator, frozen critic behind it */
    uf_graph *graph;          /* critic over [what is real; results] */
    uf_plan *plan;
    uf_node *real, *loss;
    side given, judged;       /* color: luma, which both have, and chroma; speech: nothing, and the voice */
    float *out;               /* of the generator, as judged.n */
    FILE *csv;
    check *checks;
    int n_checks, best;
    int64_t n_generator;      /* steps that the gate let through since the last check */
    double critic_loss;       /* smoothed */
} finish;

int64_t uf_finish_steps(const uf_finish *f) { return f ? f->critic_steps + f->steps : 0; }

/* ---- networks ---------------------------------------------------------------------------------------------------------- */

static int open_side(finish *s, side *to, uf_node *in) {
    *to = (side){.in = in, .n = in ? uf_count(in->shape) / 2 : 0};
    if (in) to->both = uf_alloc(s->u->ctx, 2 * to->n, sizeof *to->both);
    return !in || to->both ? UF_OK : UF_ENOMEM;
}

/* What both halves are, to the critic. */
static int set_side(finish *s, side *to, const float *real, const float *made) {
    memcpy(to->both, real, to->n * sizeof *real);
    memcpy(to->both + to->n, made, to->n * sizeof *made);
    return uf_plan_set(s->plan, to->in, to->both);
}

static int open_critic(finish *s) {
    int n = 2 * s->f->batch, size = s->f->size;
    uf_built b = {0};
    UF_TRY(uf_graph_open(&s->graph, s->u->ctx, s->critic));
    if (uf_recipe_sound(s->u->r)) UF_TRY(uf_model_critic_sound.build(s->graph, (uf_shape){n, 1, 1, size}, &b));
    else UF_TRY(uf_model_critic.build(s->graph, (uf_shape){n, 1, size, size}, &b));
    UF_TRY(open_side(s, &s->given, b.luma));
    UF_TRY(open_side(s, &s->judged, b.chroma ? b.chroma : b.sound));
    s->out = uf_alloc(s->u->ctx, s->judged.n, sizeof *s->out);
    if (!s->out) return UF_ENOMEM;
    s->real = uf_input(s->graph, "real", b.out->shape);
    s->loss = uf_output(s->f->hinge ? uf_hinge(b.out, s->real) : uf_bce(b.out, s->real));
    uf_params_freeze(s->critic, "", false); /* behind the generator it is; there the plan is made already */
    uf_graph_mark_grads(s->graph);
    uf_plan_options o = {.mode = UF_TRAIN, .loss = s->loss, .seed = s->u->r->seed + 1};
    UF_TRY(uf_plan_open(&s->plan, s->u->ctx, s->graph, &o));
    size_t half = uf_count(s->real->shape) / 2;
    float *truth = uf_alloc(s->u->ctx, 2 * half, sizeof *truth);
    for (size_t i = 0; truth && i < 2 * half; i++) truth[i] = i < half ? 1.f : s->f->hinge ? -1.f : 0.f;
    int err = truth ? uf_plan_set(s->plan, s->real, truth) : UF_ENOMEM;
    free(truth);
    return err;
}

static int open_networks(finish *s) {
    uf_run *u = s->u;
    uf_network_options o = {.r = u->r, .losses = s->f->losses, .params = u->params, .judge = u->judge, .critic = s->critic,
                            .adversarial = s->f->adversarial, .hinge = s->f->hinge, .batch = s->f->batch, .size = s->f->size, .train = true,
                            .fixed = true};
    uf_params_freeze(u->params, "", false); /* whatever the last stage froze */
    UF_TRY(uf_network_open(&s->net, u->ctx, &o));
    return open_critic(s);
}

/* ---- checkpoints: the generator's names the step, the other files carry it in their names ------------------------------- */

static char *numbered(const finish *s, const char *what, int64_t step) {
    return uf_format(s->u->ctx, "%s/%s-%lld.safetensors", s->u->dir, what, (long long)step);
}

static int write_params(const finish *s, const char *what, const uf_params *set, bool state) {
    char loss[32], steps[32];
    snprintf(loss, sizeof loss, "%.17g", s->critic_loss);
    snprintf(steps, sizeof steps, "%lld", (long long)s->n_generator);
    uf_meta meta[] = {{"format", "pt"}, {"model", what}, {"critic_loss", loss}, {"generator_steps", steps}};
    uf_weights_save o = {.meta = meta, .n_meta = UF_LEN(meta), .state = state, .overwrite = true};
    char *path = numbered(s, what, s->u->step);
    int err = path ? uf_weights_write(s->u->ctx, path, set, &o) : UF_ENOMEM;
    free(path);
    return err;
}

static int read_params(finish *s, const char *what, int64_t step, uf_params *set) {
    uf_weights *w = NULL;
    char *path = numbered(s, what, step);
    int err = path ? uf_weights_open(&w, s->u->ctx, path) : UF_ENOMEM;
    if (err == UF_OK) err = uf_weights_load(w, set, true, NULL);
    const char *loss = w ? uf_weights_meta(w, "critic_loss") : NULL, *steps = w ? uf_weights_meta(w, "generator_steps") : NULL;
    s->critic_loss = loss ? strtod(loss, NULL) : 0;
    s->n_generator = steps ? strtoll(steps, NULL, 10) : 0;
    uf_weights_close(&w);
    free(path);
    return err;
}

static void forget(const finish *s, const char *what, int64_t step) {
    char *path = numbered(s, what, step);
    if (path && step > 0) unlink(path);
    free(path);
}

/* In this order a kill at any point leaves a checkpoint whose companions are there. */
static int checkpoint(finish *s, int64_t before) {
    UF_TRY(write_params(s, "critic", s->critic, true));
    UF_TRY(uf_run_save(s->u, "checkpoint.safetensors", true));
    if (before != s->u->step) forget(s, "critic", before);
    return UF_OK;
}

/* ---- checks -------------------------------------------------------------------------------------------------------------- */

static int write_check(finish *s, const check *c) {
    fprintf(s->csv, "%lld,%lld,%.17g", (long long)c->step, (long long)s->n_generator, s->critic_loss);
    for (int i = 0; i < s->prober->n; i++) fprintf(s->csv, ",%.17g", c->probe.value[i]);
    fprintf(s->csv, ",%.17g\n", c->score);
    return fflush(s->csv) ? uf_fail(s->u->ctx, UF_EIO, "cannot write the log in '%s'; is the disk full?", s->u->dir) : UF_OK;
}

static void add_check(finish *s, check c) {
    s->checks[s->n_checks] = c;
    if (c.score < s->checks[s->best].score) s->best = s->n_checks;
    s->n_checks++;
}

static bool turned(const finish *s) { return s->n_checks && s->n_checks - 1 - s->best >= s->f->patience; }

static int take_check(finish *s, int64_t saved) {
    check c = {.step = s->u->step};
    int64_t best_before = s->n_checks ? s->checks[s->best].step : 0;
    char words[256];
    UF_TRY(s->prober->take(s->u, s->f->size, &c.probe));
    c.score = s->prober->score(&c.probe, s->n_checks ? &s->checks[0].probe : &c.probe);
    add_check(s, c);
    bool better = s->checks[s->best].step == c.step;
    s->prober->tell(&c.probe, words, sizeof words);
    uf_log(s->u->ctx, UF_LOG_INFO, "step %lld: %s: score %.3f%s", (long long)c.step, words, c.score, better ? ", the best so far" : "");
    if (better) UF_TRY(write_params(s, "best", s->u->params, false));
    UF_TRY(write_check(s, &c));
    s->n_generator = 0;
    UF_TRY(checkpoint(s, saved));
    if (better && best_before != c.step) forget(s, "best", best_before);
    return UF_OK;
}

/* The history that the stop looks at. */
static bool keep_check(void *user, const char *line) {
    finish *s = user;
    check c = {.step = strtoll(line, NULL, 10)};
    double *to[UF_PROBE_MOST + 1];
    int n = 0;
    for (; n < s->prober->n; n++) to[n] = &c.probe.value[n];
    to[n++] = &c.score;
    for (int skip = 3; skip && line; skip--) line = strchr(line, ',') ? strchr(line, ',') + 1 : NULL; /* step, generator_steps, critic_loss */
    for (int i = 0; i < n && line; i++) {
        char *end;
        *to[i] = strtod(line, &end);
        line = end == line || *end != (i + 1 < n ? ',' : '\n') ? NULL : end + 1;
    }
    if (!line || c.step > s->u->step || c.step < s->joint || s->n_checks > s->f->steps / s->f->check_every) return false;
    add_check(s, c);
    return true;
}

static int open_csv(finish *s) {
    char head[256];
    int at = snprintf(head, sizeof head, "step,generator_steps,critic_loss");
    for (int i = 0; i < s->prober->n; i++) at += snprintf(head + at, sizeof head - (size_t)at, ",%s", s->prober->column[i]);
    snprintf(head + at, sizeof head - (size_t)at, ",score\n");
    s->csv = uf_run_csv(s->u, "finish.csv", head, keep_check, s);
    return s->csv ? UF_OK : UF_EIO;
}

/* ---- steps --------------------------------------------------------------------------------------------------------------- */

/* One step of the critic on what is real and on what the generator made. */
static int critic_step(finish *s, const uf_batch *b, float rate, int64_t t) {
    uf_ctx *ctx = s->u->ctx;
    uf_adam a = {.rate = rate, .beta1 = 0, .beta2 = beta2, .eps = 1e-8f, .clip = s->u->r->clip};
    float loss = 0;
    if (s->given.in) UF_TRY(set_side(s, &s->given, b->clean, b->clean));
    UF_TRY(set_side(s, &s->judged, uf_recipe_sound(s->u->r) ? b->voice : b->chroma, s->out));
    uf_plan_set_step(s->plan, (uint64_t)s->u->step);
    UF_TRY(uf_plan_run(s->plan));
    UF_TRY(uf_plan_get(s->plan, s->loss, &loss));
    if (!isfinite(loss))
        return uf_fail(ctx, UF_EDATA, "the critic's loss is no longer a number at step %lld; lower critic_rate or rate of the "
                       "finish and start it again from the last checkpoint with --resume", (long long)s->u->step + 1);
    s->critic_loss = s->critic_loss > 0 ? .95 * s->critic_loss + .05 * (double)loss : (double)loss;
    uf_params_zero_grad(s->critic);
    UF_TRY(uf_plan_backward(s->plan));
    return uf_adam_step(ctx, s->critic, &a, t, NULL);
}

static int generator_step(finish *s, int64_t t) {
    const uf_recipe *r = s->u->r;
    uf_adam a = {.rate = s->f->rate, .beta1 = 0, .beta2 = beta2, .eps = 1e-8f, .clip = r->clip, .group_rate = r->group_rates,
                 .n_groups = (int)r->group_rates_count};
    uf_params_zero_grad(s->u->params);
    UF_TRY(uf_plan_backward(s->net.plan));
    s->n_generator++;
    return uf_adam_step(s->u->ctx, s->u->params, &a, t, NULL);
}

static int one_step(finish *s, const uf_batch *b, uf_stepped *t) {
    uf_run *u = s->u;
    bool joint = u->step >= s->joint;
    int64_t at = u->step - s->base;
    float rate = joint ? CRITIC_FACTOR * s->f->rate : uf_one_cycle(at, s->f->critic_steps, s->f->critic_rate).rate, loss = 0;
    UF_TRY(uf_network_set(&s->net, b));
    uf_plan_stale(s->net.plan); /* the critic behind the generator has learnt */
    UF_TRY(uf_plan_run(s->net.plan));
    UF_TRY(uf_plan_get(s->net.plan, s->net.out, s->out));
    UF_TRY(uf_plan_get(s->net.plan, s->net.loss, &loss));
    UF_TRY(critic_step(s, b, rate, at + 1));
    if (joint && s->critic_loss < (double)s->f->gate) UF_TRY(generator_step(s, u->step - s->joint + 1));
    t->loss = joint ? (double)loss : s->critic_loss;
    t->rate = (double)rate;
    return UF_OK;
}

static int tell(finish *s, const uf_stepped *t) {
    uf_run *u = s->u;
    double now = uf_now();
    if (u->o->progress) {
        uf_train_progress p = {u->step, u->n_steps, t->loss, t->rate, t->samples_per_second, now - u->started};
        u->o->progress(u->o->user, &p);
    }
    if (now - u->last_log < 10) return UF_OK;
    u->last_log = now;
    uf_log(u->ctx, UF_LOG_INFO, "step %lld of %lld, finish, %s, critic's loss %.3f, %.0f %s/s", (long long)u->step,
           (long long)u->n_steps, u->step > s->joint ? "both" : "critic alone", s->critic_loss, t->samples_per_second, uf_recipe_sound(s->u->r) ? "mixtures" : "pictures");
    return UF_OK;
}

static int after_step(finish *s, int64_t *saved) {
    uf_run *u = s->u;
    bool due = u->step >= s->joint ? !((u->step - s->joint) % s->f->check_every)
                                   : !((u->step - s->base) % u->r->checkpoint_every);
    if (u->step >= s->joint && due) {
        UF_TRY(take_check(s, *saved));
    } else if (due || uf_run_out_of_time(u)) {
        UF_TRY(checkpoint(s, *saved));
    }
    if (due || uf_run_out_of_time(u)) *saved = u->step;
    if (!uf_run_out_of_time(u)) return UF_OK;
    return uf_fail(u->ctx, UF_EINTR, "stopped at step %lld of %lld; go on with --resume", (long long)u->step,
                   (long long)u->n_steps);
}

static int steps(finish *s, int64_t first_sample) {
    uf_run *u = s->u;
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = s->f->size, .batch = s->f->batch, .workers = u->r->workers,
                           .first = u->step - s->base, .n = s->end - u->step, .first_sample = first_sample,
                           .noise = s->f->noise, .smallest = s->f->smallest, .pairs = uf_losses_pair(s->f->losses), .saturation_min = u->r->saturation_min,
                           .mixer = uf_recipe_sound(s->u->r) ? &u->train_mix : NULL};
    int64_t saved = u->step;
    int err = uf_loader_open(&l, u->ctx, u->train, &o);
    while (err == UF_OK && u->step < s->end && !turned(s)) {
        const uf_batch *b = NULL;
        uf_stepped t = {0};
        double start = uf_now();
        if ((err = uf_loader_next(l, &b)) == UF_OK) err = one_step(s, b, &t);
        if (err < 0) break;
        u->step++;
        t.samples_per_second = s->f->batch / (uf_now() - start);
        err = tell(s, &t);
        if (err == UF_OK) err = after_step(s, &saved);
    }
    uf_loader_close(&l);
    return err;
}

/* The curve that the stop was chosen by. */
static int draw(const finish *s) {
    double *x = uf_alloc(s->u->ctx, 2 * (size_t)s->n_checks + 1, sizeof *x), *y = x ? x + s->n_checks : NULL;
    char *path = uf_run_path(s->u, "finish.svg");
    for (int i = 0; x && i < s->n_checks; i++) {
        x[i] = (double)s->checks[i].step;
        y[i] = s->checks[i].score;
    }
    int err = x && path ? uf_curve_write(s->u->ctx, path, "finish: score of what is held out (red; blue: smoothed), smaller "
                                         "is better", s->n_checks, x, y, s->n_checks, x, y)
                        : UF_ENOMEM;
    free(path);
    free(x);
    return err;
}

static int conclude(finish *s) {
    if (!s->n_checks)
        return uf_fail(s->u->ctx, UF_EDATA, "'%s/finish.csv' is not of this run; start again with --overwrite", s->u->dir);
    const check *best = &s->checks[s->best];
    UF_TRY(read_params(s, "best", best->step, s->u->params));
    s->u->best_step = best->step;
    char before[256], now[256];
    s->prober->tell(&s->checks[0].probe, before, sizeof before);
    s->prober->tell(&best->probe, now, sizeof now);
    uf_log(s->u->ctx, UF_LOG_INFO, "%s; the best step is %lld: %s; before: %s", turned(s) ? "the measures have turned" : "the finish is over",
           (long long)best->step, now, before);
    return draw(s);
}

static void close_all(finish *s) {
    uf_network_close(&s->net);
    uf_plan_close(&s->plan);
    uf_graph_close(&s->graph);
    uf_params_close(&s->critic);
    if (s->csv) fclose(s->csv);
    free(s->checks);
    free(s->out);
    free(s->given.both);
    free(s->judged.both);
}

int uf_finish_run(uf_run *u, int64_t base, int64_t first_sample) {
    const uf_finish *f = u->finish;
    finish s = {.u = u, .f = f, .prober = uf_recipe_sound(u->r) ? &uf_probe_sound : &uf_probe_color, .base = base, .joint = base + f->critic_steps, .end = base + f->critic_steps + f->steps};
    s.checks = uf_alloc(u->ctx, (size_t)(f->steps / f->check_every) + 4, sizeof *s.checks);
    int err = s.checks ? uf_params_open(&s.critic, u->ctx, u->r->seed + 1) : UF_ENOMEM;
    if (err == UF_OK) err = open_networks(&s);
    if (err == UF_OK && u->step > base) err = read_params(&s, "critic", u->step, s.critic);
    if (err == UF_OK) err = open_csv(&s);
    if (err == UF_OK) err = steps(&s, first_sample);
    if (err == UF_OK) err = conclude(&s);
    close_all(&s);
    return err;
}

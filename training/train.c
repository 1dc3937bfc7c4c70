/* Training: stages of one-cycle steps, with a log, checkpoints, held-out losses and pictures. */
#include "finish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static bool due(int64_t step, int every) { return every > 0 && step % every == 0; }

int uf_run_size(const uf_run *u, bool last) {
    const uf_recipe *r = u->r;
    if (r->finish && (last || !r->stages_count)) return r->finish->size;
    return r->stages[last ? r->stages_count - 1 : 0].size;
}

bool uf_run_out_of_time(const uf_run *u) {
    return uf_ctx_cancelled(u->ctx) || (u->o->max_seconds > 0 && uf_now() - u->started > (double)u->o->max_seconds);
}

static int after_step(uf_run *u, const uf_stage *s, int64_t at) {
    bool last = at + 1 == s->steps, pictures = last || due(u->step, u->r->sample_every);
    bool first = u->group.rank == 0, save = last || u->stopping || due(u->step, u->r->checkpoint_every);
    if (first && (last || pictures || due(u->step, u->r->valid_every))) UF_TRY(uf_run_held_out(u, s, pictures));
    if (first && save) UF_TRY(uf_run_save(u, "checkpoint.safetensors", true));
    if (!u->stopping) return UF_OK;
    return uf_fail(u->ctx, UF_EINTR, "stopped at step %lld of %lld; go on with --resume", (long long)u->step,
                   (long long)u->n_steps);
}

static void freeze(uf_run *u, const uf_stage *s) {
    uf_params_freeze(u->params, "", false);
    char list[UF_FREEZE_MAX + 1] = "", *rest = NULL;
    if (s->freeze) snprintf(list, sizeof list, "%s", s->freeze);
    for (char *prefix = strtok_r(list, " ", &rest); prefix; prefix = strtok_r(NULL, " ", &rest)) uf_params_freeze(u->params, prefix, true);
}

int uf_run_stage_open(uf_run *u, const uf_stage *s, int64_t from, int64_t first_sample, uf_network *n, uf_loader **l) {
    bool color = !strcmp(u->r->model, "color");
    int share = s->accumulate / u->group.n;
    uf_loader_options o = {.seed = u->r->seed, .size = s->size, .batch = s->batch, .workers = u->r->workers,
                           .rank = u->group.rank, .ranks = u->group.n, .share = share, .first = from * share,
                           .n = (s->steps - from) * share, .first_sample = first_sample, .noise = s->noise, .smallest = s->smallest,
                           .mixer = uf_recipe_sound(u->r) ? &u->train_mix : NULL, .mics = u->r->mics,
                           .pairs = uf_losses_pair(u->r->losses), .grey = color ? 0.f : u->r->grey, .saturation_min = color ? u->r->saturation_min : 0.f};
    uf_network_options net = {.r = u->r, .params = u->params, .judge = u->judge, .batch = s->batch, .size = s->size,
                              .train = true};
    freeze(u, s);
    UF_TRY(uf_network_open(n, u->ctx, &net));
    freeze(u, s); /* parameters that the first build has just made */
    return uf_loader_open(l, u->ctx, u->train, &o);
}

/* All processes end at the same step. */
static int agree_to_stop(uf_run *u) {
    double stop = uf_run_out_of_time(u);
    UF_TRY(uf_group_sum(&u->group, u->ctx, &stop, 1));
    u->stopping = stop > 0;
    return UF_OK;
}

/* Steps [from, s->steps) of a stage. */
static int run_stage(uf_run *u, int index, int64_t from, int64_t first_sample) {
    const uf_stage *s = &u->r->stages[index];
    uf_network n = {0};
    uf_learner l = {.ctx = u->ctx, .r = u->r, .params = u->params, .network = &n, .accumulate = s->accumulate,
                    .group = u->group};
    int err = uf_run_stage_open(u, s, from, first_sample, &n, &l.loader);
    if (err == UF_OK)
        uf_log(u->ctx, UF_LOG_INFO, "stage %d: %d %s, batch %d, %.2f GMAC a batch forward, %zu MB", index, s->size, uf_run_unit(u), s->batch,
               uf_plan_macs(n.plan) / 1e9, uf_plan_arena(n.plan) >> 20);
    for (int64_t at = from; err == UF_OK && at < s->steps; at++) {
        uf_stepped t;
        uf_cycle cycle = s->constant ? (uf_cycle){s->rate, .9f} : uf_one_cycle(at, s->steps, s->rate);
        if ((err = uf_learn(&l, u->step, cycle, &t)) < 0) break;
        u->step++;
        if (u->group.rank == 0 && (err = uf_run_log(u, index, s, &t)) < 0) break;
        if ((err = agree_to_stop(u)) < 0) break;
        err = after_step(u, s, at);
    }
    uf_loader_close(&l.loader);
    uf_network_close(&n);
    return err;
}

/* What is shipped is the average: what comes after the stages goes on from it. */
static void settle(uf_params *set) {
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        if (p->average) memcpy(p->value, p->average, uf_count(p->shape) * sizeof *p->value);
        free(p->m);
        free(p->v);
        free(p->average);
        p->m = p->v = p->average = NULL;
    }
}

static int draw_curve(uf_run *u) {
    char *curve = uf_run_path(u, "curve.svg");
    int err = curve ? uf_curve_write(u->ctx, curve, "loss (blue: training, red: held out)", u->n_curve, u->curve_step,
                                     u->curve_loss, u->n_valid, u->valid_step, u->valid_loss)
                    : UF_ENOMEM;
    free(curve);
    return err;
}

static int run_stages(uf_run *u) {
    int64_t done = u->step, sample = 0, base = 0;
    for (unsigned i = 0; i < u->r->stages_count; i++) {
        int64_t steps = u->r->stages[i].steps, from = done < steps ? done : steps;
        if (from < steps) UF_TRY(run_stage(u, (int)i, from, sample));
        done -= from;
        sample += steps * u->r->stages[i].batch * u->r->stages[i].accumulate;
        base += steps;
    }
    if (u->group.rank) return UF_OK; /* the rest is the first process's */
    UF_TRY(draw_curve(u));
    if (u->step <= base) settle(u->params); /* after the stages' last checkpoint: a resumed run does it once too */
    if (u->finish) UF_TRY(uf_finish_run(u, base, sample));
    if (u->r->gain > 0 && !strcmp(u->r->model, "color")) uf_color_gain(u->params, u->r->gain); /* no checkpoint has it */
    return uf_run_save(u, u->r->out, false);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

static int read_text(uf_run *u, const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return uf_fail(u->ctx, UF_EINVAL, "cannot open recipe '%s': %s", path, strerror(errno));
    u->recipe_text = uf_alloc(u->ctx, 65536, 1);
    size_t n = u->recipe_text ? fread(u->recipe_text, 1, 65535, f) : 0;
    fclose(f);
    return n > 0 ? UF_OK : uf_fail(u->ctx, UF_EINVAL, "recipe '%s' is empty", path);
}

/* The frozen network's parameters must exist before its weights can be read into them, whoever looks through it later. */
static int load_judge(uf_run *u) {
    uf_graph *g = NULL;
    uf_built b = {0};
    uf_params_blank(u->judge);
    int err = uf_graph_open(&g, u->ctx, u->judge);
    const uf_model *judge = uf_recipe_judge(u->r);
    if (err == UF_OK) err = judge->build(g, uf_model_small(judge), &b);
    uf_graph_close(&g);
    return err < 0 ? err : uf_model_load(u->ctx, judge, u->judge, u->r->features);
}

/* The network built once, so that its parameters exist. */
static int make_params(uf_run *u) {
    uf_network n;
    UF_TRY(uf_network_open(&n, u->ctx, &(uf_network_options){.r = u->r, .params = u->params, .judge = u->judge, .batch = u->r->mics ? u->r->mics : 1,
                                                             .size = uf_run_size(u, false)}));
    uf_network_close(&n);
    return UF_OK;
}

/* Weights to begin with, where the recipe names some. */
static int load_init(uf_run *u) {
    uf_weights *w = NULL;
    int err = uf_weights_open(&w, u->ctx, u->r->init);
    const char *model = w ? uf_weights_meta(w, "model") : NULL;
    bool other = !strcmp(u->r->model, "color") && (!model || strcmp(model, "color"));
    if (err == UF_OK) err = make_params(u);
    if (err == UF_OK && other)
        err = uf_color_init(u->ctx, w, u->params);
    else if (err == UF_OK)
        err = uf_recipe_sound(u->r) ? uf_speech_init(u->ctx, w, u->params) : uf_weights_load(w, u->params, true, NULL);
    uf_weights_close(&w);
    settle(u->params); /* weights to start from, not a run to go on with */
    return err;
}

static int load_start(uf_run *u) {
    UF_TRY(u->r->init ? load_init(u) : make_params(u));
    return u->judge ? load_judge(u) : UF_OK;
}

/* Activations of a training step at this batch, in bytes. */
static int measure(uf_run *u, const uf_stage *s, int batch, size_t *bytes) {
    uf_network n;
    UF_TRY(uf_network_open(&n, u->ctx, &(uf_network_options){.r = u->r, .params = u->params, .judge = u->judge,
                                                             .batch = batch, .size = s->size, .train = true}));
    *bytes = uf_plan_arena(n.plan);
    uf_network_close(&n);
    return UF_OK;
}

/* Where a stage leaves its batch out: memory grows in proportion to it, so two small ones tell. The bound is the recipe's and
 * not this machine's, so that the same recipe gives the same run everywhere. */
static int choose_batch(uf_run *u, uf_stage *s) {
    size_t one, two, room = (size_t)u->r->memory << 20;
    if (s->batch > 0) return UF_OK;
    UF_TRY(measure(u, s, 1, &one));
    UF_TRY(measure(u, s, 2, &two));
    if (one > room)
        return uf_fail(u->ctx, UF_EINVAL, "one %s of %d %s needs %zu MB, memory allows %d; choose a smaller size or allow more",
                       uf_recipe_sound(u->r) ? "mixture" : "picture", s->size, uf_run_unit(u), one >> 20, u->r->memory);
    size_t more = two > one ? two - one : 1;
    for (s->batch = 1; s->batch < 256 && one + (size_t)(2 * s->batch - 1) * more <= room;) s->batch *= 2;
    uf_log(u->ctx, UF_LOG_INFO, "%d %s: batch %d, about %zu MB of %d", s->size, uf_run_unit(u), s->batch,
           (one + (size_t)(s->batch - 1) * more) >> 20, u->r->memory);
    return UF_OK;
}

static int open_data(uf_run *u) {
    const uf_recipe *r = u->r;
    if (uf_recipe_sound(r)) {
        UF_TRY(uf_mixer_open(&u->train_mix, u->ctx, r, true));
        return uf_mixer_open(&u->valid_mix, u->ctx, r, false);
    }
    UF_TRY(uf_data_open(&u->train, u->ctx, r->train, (int)r->train_count));
    UF_TRY(uf_data_open(&u->valid, u->ctx, r->valid, (int)r->valid_count));
    uf_log(u->ctx, UF_LOG_INFO, "%lld pictures to train on, %lld held out", (long long)uf_data_n(u->train), (long long)uf_data_n(u->valid));
    return UF_OK;
}

int uf_run_open(uf_run *u, const char *recipe) {
    UF_TRY(uf_recipe_open(&u->r, u->ctx, recipe));
    UF_TRY(read_text(u, recipe));
    if (!(u->dir = uf_strdup(u->ctx, u->o->out_dir && *u->o->out_dir ? u->o->out_dir : "."))) return UF_ENOMEM;
    UF_TRY(uf_make_folder(u->ctx, u->dir));
    for (unsigned i = 0; i < u->r->stages_count; i++) u->n_steps += u->r->stages[i].steps;
    u->finish = u->o->no_finish ? NULL : u->r->finish;
    u->n_steps += uf_finish_steps(u->finish);
    u->curve_step = uf_alloc(u->ctx, 4 * (size_t)u->n_steps + 64, sizeof(double));
    if (!u->curve_step) return UF_ENOMEM;
    u->curve_loss = u->curve_step + u->n_steps + 16;
    u->valid_step = u->curve_loss + u->n_steps + 16;
    u->valid_loss = u->valid_step + u->n_steps + 16;
    UF_TRY(open_data(u));
    UF_TRY(uf_params_open(&u->params, u->ctx, u->r->seed));
    if ((u->finish && (!uf_recipe_sound(u->r) || uf_losses_look(u->finish->losses))) || uf_losses_look(u->r->losses)) UF_TRY(uf_params_open(&u->judge, u->ctx, 0));
    UF_TRY(load_start(u));
    for (unsigned i = 0; i < u->r->stages_count; i++) {
        UF_TRY(choose_batch(u, &u->r->stages[i]));
        if (u->r->stages[i].accumulate % u->group.n)
            return uf_fail(u->ctx, UF_EINVAL, "%d processes share the batches of a step, and a stage has %d; let `accumulate` be a "
                           "multiple of the processes", u->group.n, u->r->stages[i].accumulate);
    }
    return UF_OK;
}

void uf_run_close(uf_run *u) {
    uf_data_close(&u->train);
    uf_data_close(&u->valid);
    uf_mixer_close(&u->train_mix);
    uf_mixer_close(&u->valid_mix);
    uf_params_close(&u->params);
    uf_params_close(&u->judge);
    uf_recipe_close(&u->r);
    free(u->curve_step);
    free(u->recipe_text);
    free(u->dir);
}

/* Where an earlier run stopped, when there is one, and the log. */
static int begin(uf_run *u) {
    char *old = uf_run_path(u, "checkpoint.safetensors");
    bool there = old && !access(old, F_OK);
    free(old);
    if (there && !u->o->resume && !u->o->overwrite)
        return uf_fail(u->ctx, UF_EEXIST, "a run is in '%s' already; pass --resume to go on with it, or --overwrite", u->dir);
    if (there && u->o->resume) UF_TRY(uf_run_resume(u));
    return u->group.rank ? UF_OK : uf_run_log_open(u);
}

int uf_train(uf_ctx *ctx, const char *recipe, const uf_train_options *o) {
    uf_run u = {.ctx = ctx, .o = o, .started = uf_now()};
    int err = uf_group_open(&u.group, ctx);
    if (err == UF_OK) err = uf_run_open(&u, recipe);
    if (err == UF_OK) err = begin(&u);
    if (err == UF_OK) err = run_stages(&u);
    FILE *logs[] = {u.csv, u.held_out_csv};
    for (int i = 0; i < UF_LEN(logs); i++)
        if (logs[i] && fclose(logs[i]) && err == UF_OK) err = uf_fail(ctx, UF_EIO, "cannot write the log in '%s'", u.dir);
    uf_group_close(&u.group, ctx, err);
    uf_run_close(&u);
    return err;
}

/* A run: stages of one-cycle steps, with a log, checkpoints, held-out losses and pictures. */
#include "network.h"
#include "schedule.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { VALID_BATCHES = 8, SAMPLES = 8 };

typedef struct run {
    uf_ctx *ctx;
    const uf_train_options *o;
    uf_recipe *r;
    char *dir, *recipe_text;
    uf_params *params, *judge;
    uf_data *train, *valid;
    FILE *csv;
    int64_t step, n_steps;    /* over all stages */
    double started, last_log;
    double *curve_step, *curve_loss, *valid_step, *valid_loss;
    int n_curve, n_valid;
    double smoothed, accuracy;
} run;

static char *inside(const run *u, const char *name) { return uf_format(u->ctx, "%s/%s", u->dir, name); }

/* ---- held-out ------------------------------------------------------------------------------------------------------- */

/* The averaged weights are what will be shipped: held-out losses and pictures are theirs. */
static void swap_average(uf_params *set) {
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        if (!p->average) continue;
        float *t = p->value;
        p->value = p->average;
        p->average = t;
    }
}

static int draw_samples(run *u, const uf_network *n, const uf_batch *b, int size, const float *out, const char *name) {
    uf_sheet *sheet = NULL;
    uf_decoder *d = NULL;
    size_t plane = (size_t)size * (size_t)size;
    int count = n->luma->shape.n < SAMPLES ? n->luma->shape.n : SAMPLES, cell = size < 128 ? 128 : size;
    float *zero = uf_alloc(u->ctx, plane / 2, sizeof *zero);
    uint8_t *rgb = uf_alloc(u->ctx, 3 * plane, 1);
    char *path = inside(u, name);
    int err = zero && rgb && path ? uf_decoder_open(&d, u->ctx) : UF_ENOMEM;
    if (err == UF_OK) err = uf_sheet_open(&sheet, u->ctx, count, 3, cell, cell);
    for (int i = 0; err == UF_OK && i < count; i++) {
        const float *chroma[3] = {zero, out + (size_t)i * plane / 2, b->chroma + (size_t)i * plane / 2};
        for (int row = 0; err == UF_OK && row < 3; row++) {
            err = uf_decoder_rgb(d, size, size, b->clean + (size_t)i * plane, chroma[row], rgb);
            if (err == UF_OK) uf_sheet_put(sheet, i, row, size, size, rgb);
        }
    }
    if (err == UF_OK) err = uf_sheet_write(sheet, path);
    uf_sheet_close(&sheet);
    uf_decoder_close(&d);
    free(zero);
    free(rgb);
    free(path);
    return err;
}

static int count_right(const uf_network *n, const uf_batch *b, const float *logits) {
    int right = 0, classes = n->out->shape.c;
    for (int i = 0; i < n->out->shape.n; i++) {
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (logits[i * classes + c] > logits[i * classes + best]) best = c;
        right += best == (int)b->label[i];
    }
    return right;
}

static int measure(run *u, uf_network *n, const uf_stage *s, bool pictures) {
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = s->size, .batch = n->luma->shape.n, .workers = 1,
                           .n = VALID_BATCHES, .plain = true, .smallest = 1.f};
    int64_t whole = uf_data_n(u->valid) / o.batch;
    if (whole < o.n) o.n = whole > 0 ? whole : 1;
    const uf_batch *b;
    double loss = 0, n_right = 0;
    float *out = uf_alloc(u->ctx, uf_count(n->out->shape), sizeof *out), v = 0;
    int err = out ? uf_loader_open(&l, u->ctx, u->valid, &o) : UF_ENOMEM;
    for (int64_t i = 0; err == UF_OK && i < o.n; i++) {
        if ((err = uf_loader_next(l, &b)) == UF_OK) err = uf_network_set(n, b);
        if (err == UF_OK) err = uf_plan_run(n->plan);
        if (err == UF_OK) err = uf_plan_get(n->plan, n->loss, &v);
        if (err == UF_OK) err = uf_plan_get(n->plan, n->out, out);
        loss += (double)v / (double)o.n;
        if (err == UF_OK && n->label) n_right += count_right(n, b, out);
        if (err == UF_OK && pictures && !n->label && i == 0) {
            char name[64];
            snprintf(name, sizeof name, "sample-%07lld.png", (long long)u->step);
            err = draw_samples(u, n, b, s->size, out, name);
        }
    }
    uf_loader_close(&l);
    free(out);
    if (err < 0) return err;
    u->valid_step[u->n_valid] = (double)u->step;
    u->valid_loss[u->n_valid++] = loss;
    u->accuracy = n->label ? n_right / (double)(o.n * o.batch) : 0;
    if (n->label) uf_log(u->ctx, UF_LOG_INFO, "step %lld held-out loss %.4f, right %.1f %%", (long long)u->step, loss, 100 * u->accuracy);
    else uf_log(u->ctx, UF_LOG_INFO, "step %lld held-out loss %.4f", (long long)u->step, loss);
    return UF_OK;
}

static int held_out(run *u, const uf_stage *s, bool pictures) {
    uf_network n;
    int batch = s->batch < 64 ? s->batch : 64;
    swap_average(u->params);
    int err = uf_network_open(&n, u->ctx, u->r, u->params, u->judge, batch, s->size, false);
    if (err == UF_OK) {
        err = measure(u, &n, s, pictures);
        uf_network_close(&n);
    }
    swap_average(u->params);
    return err;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------------ */

static int save(run *u, const char *name, bool state) {
    char step[32], date[32], loss[32], accuracy[32], size[32];
    time_t now = time(NULL);
    struct tm tm;
    snprintf(step, sizeof step, "%lld", (long long)u->step);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
    snprintf(loss, sizeof loss, "%.5f", u->n_valid ? u->valid_loss[u->n_valid - 1] : NAN);
    snprintf(accuracy, sizeof accuracy, "%.4f", u->accuracy);
    snprintf(size, sizeof size, "%d", u->r->stages[u->r->stages_count - 1].size);
    bool classes = !strcmp(u->r->model, "features");
    uf_meta meta[] = {{"format", "pt"}, {"model", u->r->model}, {"unfade", UF_VERSION}, {"step", step}, {"date", date},
                      {"held_out_loss", loss}, {"held_out_accuracy", classes ? accuracy : NULL}, {"trained_at", size},
                      {"licence", u->r->licence}, {"recipe", u->recipe_text}};
    uf_weights_save o = {.meta = meta, .n_meta = UF_LEN(meta), .dtype = state ? "F32" : "F16", .average = !state,
                         .state = state, .overwrite = true};
    char *path = inside(u, name);
    int err = path ? uf_weights_write(u->ctx, path, u->params, &o) : UF_ENOMEM;
    free(path);
    return err;
}

static int resume(run *u) {
    char *path = inside(u, "checkpoint.safetensors");
    uf_weights *w = NULL;
    int err = path ? uf_weights_open(&w, u->ctx, path) : UF_ENOMEM;
    const char *step = w ? uf_weights_meta(w, "step") : NULL, *recipe = w ? uf_weights_meta(w, "recipe") : NULL;
    if (err == UF_OK && (!step || !recipe || strcmp(recipe, u->recipe_text)))
        err = uf_fail(u->ctx, UF_EINVAL, "checkpoint '%s' was made by another recipe; use the old one, or --overwrite", path);
    if (err == UF_OK) err = uf_weights_load(w, u->params, true, NULL);
    if (err == UF_OK) u->step = strtoll(step, NULL, 10);
    uf_weights_close(&w);
    free(path);
    return err;
}

/* ---- the log ---------------------------------------------------------------------------------------------------------- */

/* Lines of steps that the checkpoint has not seen are dropped, and the curve so far is read back. */
static int csv_open(run *u) {
    char *path = inside(u, "log.csv"), *fresh = inside(u, "log.csv.new"), line[256];
    FILE *old = path ? fopen(path, "r") : NULL;
    u->csv = fresh ? fopen(fresh, "w") : NULL;
    if (u->csv) fprintf(u->csv, "step,stage,size,rate,loss,l1,l2,feature,cross_entropy,gradient,samples_per_second\n");
    while (u->csv && old && u->step > 0 && fgets(line, sizeof line, old)) {
        long long step;
        double loss;
        if (sscanf(line, "%lld,%*d,%*d,%*f,%lf", &step, &loss) != 2 || step > u->step) continue;
        fputs(line, u->csv);
        u->curve_step[u->n_curve] = (double)step;
        u->curve_loss[u->n_curve++] = loss;
    }
    if (old) fclose(old);
    int err = u->csv && !fflush(u->csv) && !rename(fresh, path)
                  ? UF_OK
                  : uf_fail(u->ctx, UF_EIO, "cannot write the log in '%s': %s", u->dir, strerror(errno));
    free(path);
    free(fresh);
    return err;
}

typedef struct stepped { /* what one step tells */
    double loss, term[4], rate, norm, samples_per_second;
} stepped;

static int record(run *u, int stage, const uf_stage *s, const stepped *t) {
    fprintf(u->csv, "%lld,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.5g,%.1f\n", (long long)u->step, stage, s->size, t->rate,
            t->loss, t->term[0], t->term[1], t->term[2], t->term[3], t->norm, t->samples_per_second);
    if (fflush(u->csv)) return uf_fail(u->ctx, UF_EIO, "cannot write the log in '%s': disk full?", u->dir);
    u->curve_step[u->n_curve] = (double)u->step;
    u->curve_loss[u->n_curve++] = t->loss;
    u->smoothed = u->n_curve == 1 ? t->loss : .98 * u->smoothed + .02 * t->loss;
    double now = uf_now();
    if (u->o->progress) {
        uf_train_progress p = {u->step, u->n_steps, u->smoothed, t->rate, t->samples_per_second, now - u->started};
        u->o->progress(u->o->user, &p);
    }
    if (now - u->last_log < 10) return UF_OK;
    u->last_log = now;
    uf_log(u->ctx, UF_LOG_INFO, "step %lld of %lld, %d px, loss %.4f, rate %.2e, gradient %.3g, %.0f pictures/s",
           (long long)u->step, (long long)u->n_steps, s->size, u->smoothed, t->rate, t->norm, t->samples_per_second);
    return UF_OK;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

static int one_step(run *u, uf_network *n, const uf_stage *s, int64_t at, const uf_batch *b, stepped *t) {
    uf_cycle c = uf_one_cycle(at, s->steps, s->rate);
    uf_adam a = {.rate = c.rate, .beta1 = c.beta1, .beta2 = u->r->beta2, .eps = 1e-8f, .decay = u->r->decay,
                 .clip = u->r->clip, .average = u->r->average, .group_rate = u->r->group_rates,
                 .n_groups = (int)u->r->group_rates_count};
    float loss = 0, norm = 0, term = 0;
    uf_plan_set_step(n->plan, (uint64_t)u->step);
    UF_TRY(uf_network_set(n, b));
    UF_TRY(uf_plan_run(n->plan));
    UF_TRY(uf_plan_get(n->plan, n->loss, &loss));
    if (!isfinite(loss))
        return uf_fail(u->ctx, UF_EDATA, "the loss is no longer a number at step %lld; lower the rate and go on from the "
                       "last checkpoint with --resume", (long long)u->step + 1);
    for (int i = 0; i < 4; i++) {
        t->term[i] = 0;
        if (!n->term[i]) continue;
        UF_TRY(uf_plan_get(n->plan, n->term[i], &term));
        t->term[i] = (double)term;
    }
    uf_params_zero_grad(u->params);
    UF_TRY(uf_plan_backward(n->plan));
    UF_TRY(uf_adam_step(u->ctx, u->params, &a, u->step + 1, &norm));
    t->loss = (double)loss;
    t->rate = (double)c.rate;
    t->norm = (double)norm;
    return UF_OK;
}

static bool due(int64_t step, int every) { return every > 0 && step % every == 0; }

static bool out_of_time(const run *u) {
    return uf_ctx_cancelled(u->ctx) || (u->o->max_seconds > 0 && uf_now() - u->started > (double)u->o->max_seconds);
}

static int after_step(run *u, const uf_stage *s, int64_t at) {
    bool last = at + 1 == s->steps, pictures = last || due(u->step, u->r->sample_every);
    if (last || pictures || due(u->step, u->r->valid_every)) UF_TRY(held_out(u, s, pictures));
    if (last || due(u->step, u->r->checkpoint_every)) UF_TRY(save(u, "checkpoint.safetensors", true));
    if (!out_of_time(u)) return UF_OK;
    UF_TRY(save(u, "checkpoint.safetensors", true));
    return uf_fail(u->ctx, UF_EINTR, "stopped at step %lld of %lld; go on with --resume", (long long)u->step,
                   (long long)u->n_steps);
}

static void freeze(run *u, const uf_stage *s) {
    uf_params_freeze(u->params, "", false);
    if (s->freeze && *s->freeze) uf_params_freeze(u->params, s->freeze, true);
}

/* Steps [from, s->steps) of a stage; first_sample counts the samples of the stages before. */
static int run_stage(run *u, int index, int64_t from, int64_t first_sample) {
    const uf_stage *s = &u->r->stages[index];
    bool color = !strcmp(u->r->model, "color");
    uf_network n;
    uf_loader *l = NULL;
    uf_loader_options o = {.seed = u->r->seed, .size = s->size, .batch = s->batch, .workers = u->r->workers, .first = from,
                           .n = s->steps - from, .first_sample = first_sample, .noise = s->noise,
                           .smallest = s->smallest, .grey = color ? 0.f : u->r->grey,
                           .saturation_min = color ? u->r->saturation_min : 0.f};
    freeze(u, s);
    UF_TRY(uf_network_open(&n, u->ctx, u->r, u->params, u->judge, s->batch, s->size, true));
    freeze(u, s); /* parameters that the first build has just made */
    int err = uf_loader_open(&l, u->ctx, u->train, &o);
    uf_log(u->ctx, UF_LOG_INFO, "stage %d: %d px, batch %d, %.2f GMAC a batch forward, %zu MB", index, s->size, s->batch,
           uf_plan_macs(n.plan) / 1e9, uf_plan_arena(n.plan) >> 20);
    for (int64_t at = from; err == UF_OK && at < s->steps; at++) {
        const uf_batch *b;
        stepped t = {0};
        double start = uf_now();
        if ((err = uf_loader_next(l, &b)) < 0) break;
        if ((err = one_step(u, &n, s, at, b, &t)) < 0) break;
        u->step++;
        t.samples_per_second = s->batch / (uf_now() - start);
        if ((err = record(u, index, s, &t)) < 0) break;
        err = after_step(u, s, at);
    }
    uf_loader_close(&l);
    uf_network_close(&n);
    return err;
}

/* The head is linear, so a factor on it is a factor on the chroma. */
static void apply_gain(run *u) {
    static const char *const head[] = {"head.w", "head.b"};
    for (int i = 0; u->r->gain > 0 && !strcmp(u->r->model, "color") && i < UF_LEN(head); i++) {
        uf_param *p = uf_params_find(u->params, head[i]);
        for (size_t k = 0; p && k < uf_count(p->shape); k++) {
            p->value[k] *= u->r->gain;
            if (p->average) p->average[k] *= u->r->gain;
        }
    }
}

static int run_stages(run *u) {
    int64_t done = u->step, sample = 0;
    for (unsigned i = 0; i < u->r->stages_count; i++) {
        int64_t steps = u->r->stages[i].steps, from = done < steps ? done : steps;
        if (from < steps) UF_TRY(run_stage(u, (int)i, from, sample));
        done -= from;
        sample += steps * u->r->stages[i].batch;
    }
    char *curve = inside(u, "curve.svg");
    int err = curve ? uf_curve_write(u->ctx, curve, "loss (blue: training, red: held out)", u->n_curve, u->curve_step,
                                     u->curve_loss, u->n_valid, u->valid_step, u->valid_loss)
                    : UF_ENOMEM;
    free(curve);
    apply_gain(u); /* after the last checkpoint: a resumed run applies it once too */
    return err < 0 ? err : save(u, u->r->out, false);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

static int read_text(run *u, const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return uf_fail(u->ctx, UF_EINVAL, "cannot open recipe '%s': %s", path, strerror(errno));
    u->recipe_text = uf_alloc(u->ctx, 65536, 1);
    size_t n = u->recipe_text ? fread(u->recipe_text, 1, 65535, f) : 0;
    fclose(f);
    return n > 0 ? UF_OK : uf_fail(u->ctx, UF_EINVAL, "recipe '%s' is empty", path);
}

static int load_start(run *u) {
    uf_network n; /* built once, so that all parameters exist */
    UF_TRY(uf_network_open(&n, u->ctx, u->r, u->params, u->judge, 1, u->r->stages[0].size, false));
    uf_network_close(&n);
    uf_weights *w = NULL;
    int err = UF_OK;
    if (u->judge) err = uf_model_load(u->ctx, &uf_model_features, u->judge, u->r->features);
    if (err < 0 || !u->r->init) return err;
    err = uf_weights_open(&w, u->ctx, u->r->init);
    const char *model = w ? uf_weights_meta(w, "model") : NULL;
    bool other = !strcmp(u->r->model, "color") && (!model || strcmp(model, "color"));
    if (err == UF_OK) err = other ? uf_color_init(u->ctx, w, u->params) : uf_weights_load(w, u->params, true, NULL);
    uf_weights_close(&w);
    return err;
}

static int open_run(run *u, const char *recipe) {
    UF_TRY(uf_recipe_open(&u->r, u->ctx, recipe));
    UF_TRY(read_text(u, recipe));
    if (!(u->dir = uf_strdup(u->ctx, u->o->out_dir && *u->o->out_dir ? u->o->out_dir : "."))) return UF_ENOMEM;
    if (mkdir(u->dir, 0777) && errno != EEXIST)
        return uf_fail(u->ctx, UF_EIO, "cannot make folder '%s': %s", u->dir, strerror(errno));
    for (unsigned i = 0; i < u->r->stages_count; i++) u->n_steps += u->r->stages[i].steps;
    u->curve_step = uf_alloc(u->ctx, 4 * (size_t)u->n_steps + 64, sizeof(double));
    if (!u->curve_step) return UF_ENOMEM;
    u->curve_loss = u->curve_step + u->n_steps + 16;
    u->valid_step = u->curve_loss + u->n_steps + 16;
    u->valid_loss = u->valid_step + u->n_steps + 16;
    UF_TRY(uf_data_open(&u->train, u->ctx, u->r->train, (int)u->r->train_count));
    UF_TRY(uf_data_open(&u->valid, u->ctx, u->r->valid, (int)u->r->valid_count));
    uf_log(u->ctx, UF_LOG_INFO, "%lld pictures to train on, %lld held out", (long long)uf_data_n(u->train),
           (long long)uf_data_n(u->valid));
    UF_TRY(uf_params_open(&u->params, u->ctx, u->r->seed));
    if (u->r->losses.feature > 0) UF_TRY(uf_params_open(&u->judge, u->ctx, 0));
    UF_TRY(load_start(u));
    char *old = inside(u, "checkpoint.safetensors");
    bool there = old && !access(old, F_OK);
    free(old);
    if (there && !u->o->resume && !u->o->overwrite)
        return uf_fail(u->ctx, UF_EEXIST, "a run is in '%s' already; pass --resume to go on with it, or --overwrite", u->dir);
    if (there && u->o->resume) UF_TRY(resume(u));
    return csv_open(u);
}

int uf_train(uf_ctx *ctx, const char *recipe, const uf_train_options *o) {
    run u = {.ctx = ctx, .o = o, .started = uf_now()};
    int err = open_run(&u, recipe);
    if (err == UF_OK) err = run_stages(&u);
    if (u.csv && fclose(u.csv) && err == UF_OK) err = uf_fail(ctx, UF_EIO, "cannot write the log in '%s'", u.dir);
    uf_data_close(&u.train);
    uf_data_close(&u.valid);
    uf_params_close(&u.params);
    uf_params_close(&u.judge);
    uf_recipe_close(&u.r);
    free(u.curve_step);
    free(u.recipe_text);
    free(u.dir);
    return err;
}

/* log.csv and held_out.csv of a run. */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

FILE *uf_run_csv(uf_run *u, const char *name, const char *head, bool (*keep)(void *user, const char *line), void *user) {
    char *path = uf_run_path(u, name), *fresh = path ? uf_format(u->ctx, "%s.new", path) : NULL, line[512];
    FILE *old = path ? fopen(path, "r") : NULL, *to = fresh ? fopen(fresh, "w") : NULL;
    if (to) fputs(head, to);
    while (to && old && u->step > 0 && fgets(line, sizeof line, old))
        if (keep(user, line)) fputs(line, to);
    if (old) fclose(old);
    if (!to || fflush(to) || rename(fresh, path)) {
        uf_fail(u->ctx, UF_EIO, "cannot write the log '%s/%s': %s; choose another folder, or make room", u->dir, name,
                strerror(errno));
        if (to) fclose(to);
        to = NULL;
    }
    free(path);
    free(fresh);
    return to;
}

static bool keep_step(void *user, const char *line) {
    uf_run *u = user;
    long long step;
    double loss;
    if (sscanf(line, "%lld,%*d,%*d,%*f,%lf", &step, &loss) != 2 || step > u->step) return false;
    u->curve_step[u->n_curve] = (double)step;
    u->curve_loss[u->n_curve++] = loss;
    return true;
}

static bool keep_look(void *user, const char *line) {
    uf_run *u = user;
    long long step;
    double loss;
    if (sscanf(line, "%lld,%lf", &step, &loss) != 2 || step > u->step) return false;
    u->valid_step[u->n_valid] = (double)step;
    u->valid_loss[u->n_valid++] = loss;
    return true;
}

/* What a look at the held-out samples tells beside the loss; NULL: nothing. */
static const char *extra_of(const uf_run *u) {
    if (!strcmp(u->r->model, "features")) return "right";
    return uf_recipe_sound(u->r) ? "si_sdr_gain" : NULL;
}

/* The losses that the recipe weighs have a column each, unweighted. */
int uf_run_log_open(uf_run *u) {
    char head[1024] = "step,stage,size,rate,loss,gradient,samples_per_second";
    for (int i = 0; uf_losses[i]; i++)
        if (u->r->losses[i] > 0) snprintf(head + strlen(head), sizeof head - strlen(head), ",%s", uf_losses[i]->name);
    snprintf(head + strlen(head), sizeof head - strlen(head), "\n");
    if (!(u->csv = uf_run_csv(u, "log.csv", head, keep_step, u))) return UF_EIO;
    snprintf(head, sizeof head, "step,loss%s%s\n", extra_of(u) ? "," : "", extra_of(u) ? extra_of(u) : "");
    u->held_out_csv = uf_run_csv(u, "held_out.csv", head, keep_look, u);
    return u->held_out_csv ? UF_OK : UF_EIO;
}

int uf_run_log_held_out(uf_run *u, double loss, double extra) {
    if (!u->held_out_csv) return UF_OK;
    fprintf(u->held_out_csv, "%lld,%.6g", (long long)u->step, loss);
    if (extra_of(u)) fprintf(u->held_out_csv, ",%.4g", extra);
    fputc('\n', u->held_out_csv);
    return fflush(u->held_out_csv) ? uf_fail(u->ctx, UF_EIO, "cannot write the log in '%s': disk full?", u->dir) : UF_OK;
}

const char *uf_run_unit(const uf_run *u) { return uf_recipe_sound(u->r) ? "samples" : "px"; }

int uf_run_log(uf_run *u, int stage, const uf_stage *s, const uf_stepped *t) {
    fprintf(u->csv, "%lld,%d,%d,%.6g,%.6g,%.5g,%.1f", (long long)u->step, stage, s->size, t->rate, t->loss, t->norm,
            t->samples_per_second);
    for (int i = 0; uf_losses[i]; i++)
        if (u->r->losses[i] > 0) fprintf(u->csv, ",%.6g", t->term[i]);
    fputc('\n', u->csv);
    if (fflush(u->csv)) return uf_fail(u->ctx, UF_EIO, "cannot write the log in '%s': disk full?", u->dir);
    u->curve_step[u->n_curve] = (double)u->step;
    u->curve_loss[u->n_curve++] = t->loss;
    u->smoothed = u->smoothing ? .98 * u->smoothed + .02 * t->loss : t->loss;
    u->smoothing = true;
    double now = uf_now();
    if (u->o->progress) {
        uf_train_progress p = {u->step, u->n_steps, u->smoothed, t->rate, t->samples_per_second, now - u->started};
        u->o->progress(u->o->user, &p);
    }
    if (now - u->last_log < 10) return UF_OK;
    u->last_log = now;
    uf_log(u->ctx, UF_LOG_INFO, "step %lld of %lld, %d %s, loss %.4f, rate %.2e, gradient %.3g, %.0f %s/s", (long long)u->step,
           (long long)u->n_steps, s->size, uf_run_unit(u), u->smoothed, t->rate, t->norm, t->samples_per_second, uf_recipe_sound(u->r) ? "mixtures" : "pictures");
    return UF_OK;
}

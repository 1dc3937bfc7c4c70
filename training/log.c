/* log.csv of a run. */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The losses that the recipe weighs have a column each, unweighted. */
static void header(const uf_run *u) {
    fprintf(u->csv, "step,stage,size,rate,loss,gradient,samples_per_second");
    for (int i = 0; uf_losses[i]; i++)
        if (u->r->losses[i] > 0) fprintf(u->csv, ",%s", uf_losses[i]->name);
    fputc('\n', u->csv);
}

/* Lines of steps that the checkpoint has not seen are dropped, and the curve so far is read back. */
int uf_run_log_open(uf_run *u) {
    char *path = uf_run_path(u, "log.csv"), *fresh = uf_run_path(u, "log.csv.new"), line[256];
    FILE *old = path ? fopen(path, "r") : NULL;
    u->csv = fresh ? fopen(fresh, "w") : NULL;
    if (u->csv) header(u);
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

int uf_run_log(uf_run *u, int stage, const uf_stage *s, const uf_stepped *t) {
    fprintf(u->csv, "%lld,%d,%d,%.6g,%.6g,%.5g,%.1f", (long long)u->step, stage, s->size, t->rate, t->loss, t->norm,
            t->samples_per_second);
    for (int i = 0; uf_losses[i]; i++)
        if (u->r->losses[i] > 0) fprintf(u->csv, ",%.6g", t->term[i]);
    fputc('\n', u->csv);
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

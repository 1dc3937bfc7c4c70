/* Checkpoints of a run, and the weights that it ends with. */
#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

char *uf_run_path(const uf_run *u, const char *name) { return uf_format(u->ctx, "%s/%s", u->dir, name); }

int uf_run_save(uf_run *u, const char *name, bool state) {
    char step[32], date[32], loss[32], accuracy[32], size[32];
    time_t now = time(NULL);
    struct tm tm;
    snprintf(step, sizeof step, "%lld", (long long)(u->best_step ? u->best_step : u->step));
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &tm));
    snprintf(loss, sizeof loss, "%.5f", u->n_valid ? u->valid_loss[u->n_valid - 1] : 0);
    snprintf(accuracy, sizeof accuracy, "%.4f", u->accuracy);
    snprintf(size, sizeof size, "%d", uf_run_size(u, true));
    bool classes = !strcmp(u->r->model, "features");
    uf_meta meta[] = {{"format", "pt"}, {"model", u->r->model}, {"unfade", UF_VERSION}, {"step", step}, {"date", date},
                      {"held_out_loss", u->n_valid ? loss : NULL}, {"held_out_accuracy", classes ? accuracy : NULL}, {"trained_at", size},
                      {"licence", u->r->licence}, {"recipe", u->recipe_text}};
    uf_weights_save o = {.meta = meta, .n_meta = UF_LEN(meta), .dtype = state ? "F32" : "F16", .average = !state,
                         .state = state, .overwrite = true};
    char *path = uf_run_path(u, name);
    int err = path ? uf_weights_write(u->ctx, path, u->params, &o) : UF_ENOMEM;
    free(path);
    return err;
}

int uf_run_resume(uf_run *u) {
    char *path = uf_run_path(u, "checkpoint.safetensors");
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

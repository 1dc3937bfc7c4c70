/* The mean of several weights of one model. See models.h. */
#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct average {
    uf_ctx *ctx;
    const uf_average_options *o;
    const uf_model *model;
    uf_params *sum;
    bool keep_room; /* the first file has a second mask: so must the others */
    char *licence, *recipe;
} average;

static int open_set(const average *a, uf_params **set) {
    uf_graph *g = NULL;
    uf_built b = {.keep_room = a->keep_room};
    UF_TRY(uf_params_open(set, a->ctx, 0));
    uf_params_blank(*set);
    int err = uf_graph_open(&g, a->ctx, *set);
    if (err == UF_OK) err = a->model->build(g, uf_model_small(a->model), &b);
    uf_graph_close(&g); /* the parameters stay */
    return err;
}

/* text and, after a separator, more; takes text. */
static char *join(uf_ctx *ctx, char *text, const char *between, const char *more) {
    char *both = text ? uf_format(ctx, "%s%s%s", text, between, more) : uf_format(ctx, "%s", more);
    free(text);
    return both;
}

static int describe(average *a, const uf_weights *w, int i, double share) {
    const char *licence = uf_weights_meta(w, "licence"), *recipe = uf_weights_meta(w, "recipe");
    char head[600];
    if (licence && !(a->licence && strstr(a->licence, licence)) && !(a->licence = join(a->ctx, a->licence, "; ", licence))) return UF_ENOMEM;
    snprintf(head, sizeof head, "\n# %.3f of %.500s, which was made by:\n", share, a->o->files[i]);
    if (!(a->recipe = join(a->ctx, a->recipe, "", head))) return UF_ENOMEM;
    return (a->recipe = join(a->ctx, a->recipe, "", recipe ? recipe : "# unknown\n")) ? UF_OK : UF_ENOMEM;
}

static int add(average *a, int i, double share) {
    uf_weights *w = NULL;
    uf_params *set = NULL;
    UF_TRY(uf_weights_open(&w, a->ctx, a->o->files[i]));
    const char *name = uf_weights_meta(w, "model");
    int err = UF_OK;
    if (!a->model && !(a->model = name ? uf_model_find(name) : NULL))
        err = uf_fail(a->ctx, UF_EDATA, "'%s' does not say which network it is of; give weights that unfade has trained", a->o->files[i]);
    if (!a->sum) a->keep_room = uf_speech_has_room(w);
    if (err == UF_OK && !a->sum) err = open_set(a, &a->sum);
    if (err == UF_OK) err = describe(a, w, i, share);
    uf_weights_close(&w);
    if (err == UF_OK) err = open_set(a, &set);
    if (err == UF_OK) err = uf_model_load(a->ctx, a->model, set, a->o->files[i]);
    for (int k = 0; err == UF_OK && k < uf_params_n(set); k++) {
        const uf_param *from = uf_params_at(set, k);
        uf_param *to = uf_params_at(a->sum, k);
        for (size_t j = 0; j < uf_count(to->shape); j++) to->value[j] += (float)share * from->value[j];
    }
    uf_params_close(&set);
    return err;
}

static int save(average *a, const char *out) {
    char date[32];
    time_t now = time(NULL);
    struct tm day;
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &day));
    const uf_meta meta[] = {{"model", a->model->name}, {"unfade", UF_VERSION}, {"date", date}, {"licence", a->licence ? a->licence : "unknown"},
                            {"recipe", a->recipe}};
    return uf_weights_write(a->ctx, out, a->sum, &(uf_weights_save){.meta = meta, .n_meta = UF_LEN(meta), .dtype = "F16", .overwrite = a->o->overwrite});
}

int uf_model_average(uf_ctx *ctx, const char *out, const uf_average_options *o) {
    average a = {.ctx = ctx, .o = o};
    double all = 0;
    int err = UF_OK;
    for (int i = 0; i < o->n; i++) all += o->shares ? o->shares[i] : 1;
    if (o->n < 1 || !(all > 0)) return uf_fail(ctx, UF_EINVAL, "the shares of an average must be above 0");
    if (o->note) a.recipe = uf_format(ctx, "# %s\n", o->note);
    for (int i = 0; i < o->n && err == UF_OK; i++) err = add(&a, i, (o->shares ? o->shares[i] : 1) / all);
    if (err == UF_OK && o->gain > 0 && a.model != &uf_model_color)
        err = uf_fail(ctx, UF_EINVAL, "a gain is of colours, and '%s' makes none; leave it out", a.model->name);
    if (err == UF_OK && o->gain > 0) uf_color_gain(a.sum, (float)o->gain);
    if (err == UF_OK) err = save(&a, out);
    uf_params_close(&a.sum);
    free(a.licence);
    free(a.recipe);
    return err;
}

#include "colorizer.h"

#include "models.h"
#include "pipeline.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct uf_colorizer {
    uf_ctx *ctx;
    uf_params *params;
    uf_graph *graph;
    uf_plan *plan;
    uf_built net;
    char *weights, *tune; /* tune: of the opening, or NULL */
    int w, h;
};

void uf_colorizer_fit(int w, int h, int size, int multiple, int *net_w, int *net_h) {
    double scale = (double)(size ? size : UF_COLOR_SIZE) / (w < h ? w : h);
    int x = (int)lround(w * scale / multiple) * multiple, y = (int)lround(h * scale / multiple) * multiple;
    *net_w = x < multiple ? multiple : x;
    *net_h = y < multiple ? multiple : y;
}

static char *beside_program(uf_ctx *ctx) {
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;
    if (n <= 0) return NULL;
    exe[n] = 0;
    slash = strrchr(exe, '/');
    if (!slash) return NULL;
    *slash = 0;
    return uf_format(ctx, "%s/../share/unfade", exe);
}

char *uf_weights_find(uf_ctx *ctx, const char *name, const char *weights_dir) {
    char *beside = beside_program(ctx), *path = NULL;
    const char *wish = getenv("UNFADE_WEIGHTS"), *places[] = { wish, beside, weights_dir, "models/weights" };
    int n = wish && *wish ? 1 : UF_LEN(places); /* a folder that was named is not passed over in silence */
    struct stat st;
    for (int i = 0; i < n && !path; i++) {
        if (!places[i] || !places[i][0]) continue;
        path = uf_format(ctx, "%s/%s", places[i], name);
        if (!path) break;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) break;
        free(path);
        path = NULL;
    }
    if (!path && n == 1)
        uf_fail(ctx, UF_EIO, "cannot find the weights '%s' in '%s', the folder that UNFADE_WEIGHTS names; correct or unset it",
                name, wish);
    else if (!path)
        uf_fail(ctx, UF_EIO, "cannot find the weights '%s'; name a file with --weights, or their folder in UNFADE_WEIGHTS",
                name);
    free(beside);
    return path;
}

int uf_weights_choose(uf_ctx *ctx, const char *wish, const char *name, const char *weights_dir, char **path) {
    *path = wish ? uf_strdup(ctx, wish) : uf_weights_find(ctx, name, weights_dir);
    if (*path) return UF_OK;
    return uf_ctx_error_code(ctx) < 0 ? uf_ctx_error_code(ctx) : UF_EIO;
}

static int load(uf_colorizer *c, const uf_model *model, const uf_colorizer_options *o) {
    UF_TRY(uf_weights_choose(c->ctx, o->weights, model->file, o->weights_dir, &c->weights));
    if (o->tune && !(c->tune = uf_strdup(c->ctx, o->tune))) return UF_ENOMEM;
    return uf_model_load_tuned(c->ctx, model, c->params, c->weights, c->tune);
}

int uf_colorizer_retune(uf_colorizer *c, const char *tune) {
    UF_TRY(uf_model_load_tuned(c->ctx, uf_model_find("color"), c->params, c->weights, tune ? tune : c->tune));
    uf_plan_stale(c->plan);
    return UF_OK;
}

int uf_colorizer_open(uf_colorizer **out, uf_ctx *ctx, const uf_colorizer_options *o) {
    const uf_model *model = uf_model_find("color");
    uf_plan_options plan = { .mode = UF_INFER, .dtype = o->float32 ? UF_F32 : UF_AUTO,
                             .arena_max = o->memory > 0 ? (size_t)o->memory : 0, .n_threads = o->n_threads };
    uf_colorizer *c;
    int err;
    if (o->device && strcmp(o->device, "auto") != 0 && strcmp(o->device, "cpu") != 0)
        return uf_fail(ctx, UF_EINVAL, "there is no device '%s'; use cpu", o->device);
    if (!model) return uf_fail(ctx, UF_EUNSUPPORTED, "this build has no model 'color'; build it again");
    c = uf_alloc(ctx, 1, sizeof(*c));
    if (!c) return UF_ENOMEM;
    c->ctx = ctx;
    uf_colorizer_fit(o->w, o->h, o->size, model->multiple, &c->w, &c->h);
    if ((err = uf_params_open(&c->params, ctx, 0)) < 0) goto fail;
    uf_params_blank(c->params);
    if ((err = uf_graph_open(&c->graph, ctx, c->params)) < 0) goto fail;
    uf_graph_training(c->graph, false);
    if ((err = model->build(c->graph, (uf_shape){ 1, 1, c->h, c->w }, &c->net)) < 0) goto fail;
    uf_output(c->net.out);
    if ((err = load(c, model, o)) < 0) goto fail;
    if ((err = uf_plan_open(&c->plan, ctx, c->graph, &plan)) < 0) goto fail;
    uf_log(ctx, UF_LOG_DEBUG, "network at %dx%d, %.1f GMAC, %.0f MB", c->w, c->h, uf_plan_macs(c->plan) / 1e9,
           (double)uf_plan_arena(c->plan) / 1e6);
    *out = c;
    return UF_OK;
fail:
    uf_colorizer_close(&c);
    return err;
}

void uf_colorizer_close(uf_colorizer **c) {
    if (!c || !*c) return;
    uf_plan_close(&(*c)->plan);
    uf_graph_close(&(*c)->graph);
    uf_params_close(&(*c)->params);
    free((*c)->weights);
    free((*c)->tune);
    free(*c);
    *c = NULL;
}

void uf_colorizer_size(const uf_colorizer *c, int *net_w, int *net_h) {
    *net_w = c->w;
    *net_h = c->h;
}

int uf_colorizer_run(uf_colorizer *c, const float *luma, float *chroma) {
    UF_TRY(uf_plan_set(c->plan, c->net.luma, luma));
    UF_TRY(uf_plan_run(c->plan));
    return uf_plan_get(c->plan, c->net.out, chroma);
}

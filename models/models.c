/* The index of all networks. */
#include "models.h"

#include <string.h>

#define MODELS(X) X(color) X(features) X(critic) X(critic_sound) X(speech) X(speech_wide) X(speech_live) X(speech_array)

#define DECLARE(name) extern const uf_model uf_model_##name;
MODELS(DECLARE)
#define ADDRESS(name) &uf_model_##name,
const uf_model *const uf_models[] = {MODELS(ADDRESS) NULL};

const uf_model *uf_model_find(const char *name) {
    for (int i = 0; uf_models[i]; i++)
        if (!strcmp(uf_models[i]->name, name)) return uf_models[i];
    return NULL;
}

uf_shape uf_model_small(const uf_model *model) {
    return model->rate ? (uf_shape){1, 1, 1, 16 * model->multiple} : (uf_shape){1, 1, 64, 64};
}

int uf_model_load(uf_ctx *ctx, const uf_model *model, uf_params *params, const char *path) {
    uf_weights *w = NULL;
    if (!uf_params_n(params)) /* it would read nothing, and say that all is well */
        return uf_fail(ctx, UF_EINVAL, "model '%s' must be built before weights can be read into it", model->name);
    UF_TRY(uf_weights_open(&w, ctx, path));
    const char *kind = uf_weights_meta(w, "model");
    int err = kind && strcmp(kind, model->name)
                  ? uf_fail(ctx, UF_EDATA, "'%s' holds weights for model '%s', not '%s'; give another file", path, kind, model->name)
                  : uf_weights_load(w, params, true, NULL);
    uf_weights_close(&w);
    return err;
}

static int load_tune(uf_ctx *ctx, const uf_weights *base, const char *path, uf_params *params, const char *tune) {
    uf_weights *w = NULL;
    int n = 0, err = uf_weights_open(&w, ctx, tune);
    const char *made_for = w ? uf_weights_meta(w, "tune_of") : NULL, *sum = uf_weights_meta(base, "sha256");
    if (err == UF_OK && !made_for) err = uf_fail(ctx, UF_EDATA, "'%s' is no file of 'unfade tune'; give one that is", tune);
    if (err == UF_OK && (!sum || strcmp(sum, made_for)))
        err = uf_fail(ctx, UF_EDATA, "'%s' was tuned from other weights than '%s'; tune again, or pass those with --weights", tune,
                      path);
    if (err == UF_OK) err = uf_weights_load(w, params, false, &n);
    if (err == UF_OK && n != uf_weights_n(w))
        err = uf_fail(ctx, UF_EDATA, "'%s' does not fit '%s'; tune again", tune, path);
    uf_weights_close(&w);
    return err;
}

int uf_model_load_tuned(uf_ctx *ctx, const uf_model *model, uf_params *params, const char *path, const char *tune) {
    uf_weights *w = NULL;
    UF_TRY(uf_model_load(ctx, model, params, path));
    if (!tune) return UF_OK;
    UF_TRY(uf_weights_open(&w, ctx, path));
    int err = load_tune(ctx, w, path, params, tune);
    uf_weights_close(&w);
    return err;
}

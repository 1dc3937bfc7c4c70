/* The index of all networks. */
#include "models.h"

#include <string.h>

#define MODELS(X) X(color) X(features) X(critic)

#define DECLARE(name) extern const uf_model uf_model_##name;
MODELS(DECLARE)
#define ADDRESS(name) &uf_model_##name,
const uf_model *const uf_models[] = {MODELS(ADDRESS) NULL};

const uf_model *uf_model_find(const char *name) {
    for (int i = 0; uf_models[i]; i++)
        if (!strcmp(uf_models[i]->name, name)) return uf_models[i];
    return NULL;
}

int uf_model_load(uf_ctx *ctx, const uf_model *model, uf_params *params, const char *path) {
    uf_weights *w = NULL;
    UF_TRY(uf_weights_open(&w, ctx, path));
    const char *kind = uf_weights_meta(w, "model");
    int err = kind && strcmp(kind, model->name)
                  ? uf_fail(ctx, UF_EDATA, "'%s' holds weights for model '%s', not '%s'; give another file", path, kind, model->name)
                  : uf_weights_load(w, params, true, NULL);
    uf_weights_close(&w);
    return err;
}

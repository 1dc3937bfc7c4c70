/* The index of all networks. */
#include "models.h"

#include <string.h>

#define MODELS(X) X(color) X(features)

#define DECLARE(name) extern const uf_model uf_model_##name;
MODELS(DECLARE)
#define ADDRESS(name) &uf_model_##name,
const uf_model *const uf_models[] = {MODELS(ADDRESS) NULL};

const uf_model *uf_model_find(const char *name) {
    for (int i = 0; uf_models[i]; i++)
        if (!strcmp(uf_models[i]->name, name)) return uf_models[i];
    return NULL;
}

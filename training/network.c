#include "network.h"

#include <string.h>

/* Activations of the frozen network on the prediction and on the truth; both looks share the clean luma. */
typedef struct looks {
    uf_built seen, truth;
    float weight[UF_N_STAGES];
} looks;

static int look(uf_network *n, const uf_recipe *r, uf_params *judge, looks *l, uf_loss_in *in) {
    static const float usual[UF_N_STAGES] = {0, 1, 1, 1, 0};
    n->clean = uf_input(n->graph, "clean", n->luma->shape);
    l->seen = (uf_built){.luma = n->clean, .chroma = n->out};
    l->truth = (uf_built){.luma = n->clean, .chroma = n->chroma};
    for (unsigned i = 0; i < UF_N_STAGES; i++)
        l->weight[i] = !r->feature_layers_count ? usual[i] : i < r->feature_layers_count ? r->feature_layers[i] : 0.f;
    uf_graph_use(n->graph, judge);
    uf_graph_training(n->graph, false);
    UF_TRY(uf_model_features.build(n->graph, n->luma->shape, &l->seen));
    UF_TRY(uf_model_features.build(n->graph, n->luma->shape, &l->truth));
    uf_graph_training(n->graph, true);
    in->predicted_features = l->seen.stage;
    in->target_features = l->truth.stage;
    in->n_features = UF_N_STAGES;
    in->feature_weight = l->weight;
    return UF_OK;
}

/* The weighted sum of the recipe's losses. */
static int add_losses(uf_network *n, const uf_recipe *r, const uf_loss_in *in) {
    for (int i = 0; uf_losses[i]; i++) {
        if (r->losses[i] <= 0) continue;
        uf_node *term = n->term[i] = uf_output(uf_losses[i]->build(in));
        term = uf_scale(term, r->losses[i], 0.f);
        n->loss = n->loss ? uf_binary(n->loss, "add", term) : term;
    }
    return uf_graph_status(n->graph);
}

static int build(uf_network *n, uf_ctx *ctx, const uf_recipe *r, uf_params *judge, int batch, int size) {
    uf_shape luma = {batch, 1, size, size}, half = {batch, 2, size / 2, size / 2};
    bool color = !strcmp(r->model, "color");
    uf_built b = {0};
    looks l;
    n->chroma = uf_input(n->graph, "chroma", half);
    if (!color) b.chroma = n->chroma;
    UF_TRY(uf_model_find(r->model)->build(n->graph, luma, &b));
    n->luma = b.luma;
    n->out = uf_output(b.out);
    if (!color) n->label = uf_input(n->graph, "label", (uf_shape){batch, 1, 1, 1});
    uf_loss_in in = {.predicted = n->out, .target = color ? n->chroma : n->label, .smoothing = r->smoothing};
    if (judge) UF_TRY(look(n, r, judge, &l, &in));
    UF_TRY(add_losses(n, r, &in));
    if (!n->loss) return uf_fail(ctx, UF_EINVAL, "the recipe gives no loss that model '%s' can use", r->model);
    return UF_OK;
}

int uf_network_open(uf_network *n, uf_ctx *ctx, const uf_recipe *r, uf_params *params, uf_params *judge, int batch,
                    int size, bool train) {
    memset(n, 0, sizeof *n);
    int err = uf_graph_open(&n->graph, ctx, params);
    if (err == UF_OK) err = build(n, ctx, r, judge, batch, size);
    if (err == UF_OK && judge) uf_params_freeze(judge, "", true);
    if (err == UF_OK) uf_output(n->loss);
    uf_plan_options o = {.mode = train ? UF_TRAIN : UF_INFER, .loss = train ? n->loss : NULL, .seed = r->seed};
    if (err == UF_OK) err = uf_plan_open(&n->plan, ctx, n->graph, &o);
    if (err < 0) uf_network_close(n);
    return err;
}

void uf_network_close(uf_network *n) {
    uf_plan_close(&n->plan);
    uf_graph_close(&n->graph);
}

int uf_network_set(uf_network *n, const uf_batch *b) {
    UF_TRY(uf_plan_set(n->plan, n->luma, b->luma));
    UF_TRY(uf_plan_set(n->plan, n->chroma, b->chroma));
    if (n->clean) UF_TRY(uf_plan_set(n->plan, n->clean, b->clean));
    return n->label ? uf_plan_set(n->plan, n->label, b->label) : UF_OK;
}

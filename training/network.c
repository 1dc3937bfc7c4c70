#include "network.h"
#include "losses.h"

#include <string.h>

/* Activations of the frozen network on the prediction and on the truth; both looks share the clean luma. */
static uf_node *feature_loss(uf_network *n, const uf_recipe *r, uf_params *judge) {
    static const float usual[UF_N_STAGES] = {0, 1, 1, 1, 0};
    float weight[UF_N_STAGES] = {0};
    uf_built seen = {.luma = n->clean, .chroma = n->out}, truth = {.luma = n->clean, .chroma = n->chroma};
    for (unsigned i = 0; i < UF_N_STAGES; i++)
        weight[i] = !r->feature_layers_count ? usual[i] : i < r->feature_layers_count ? r->feature_layers[i] : 0.f;
    uf_graph_use(n->graph, judge);
    uf_graph_training(n->graph, false);
    uf_shape s = n->clean->shape;
    if (uf_model_features.build(n->graph, s, &seen) < 0 || uf_model_features.build(n->graph, s, &truth) < 0) return NULL;
    uf_graph_training(n->graph, true);
    uf_loss_in in = {.predicted_features = seen.stage, .target_features = truth.stage, .n_features = UF_N_STAGES,
                     .feature_weight = weight};
    return uf_loss_find("feature")->build(&in);
}

static void add_term(uf_network *n, int i, float weight, uf_node *term) {
    n->term[i] = uf_output(term);
    term = uf_scale(term, weight, 0.f);
    n->loss = n->loss ? uf_binary(n->loss, "add", term) : term;
}

static int build(uf_network *n, uf_ctx *ctx, const uf_recipe *r, uf_params *judge, int batch, int size) {
    const uf_loss_weights *w = &r->losses;
    uf_shape luma = {batch, 1, size, size}, half = {batch, 2, size / 2, size / 2};
    bool color = !strcmp(r->model, "color");
    uf_built b = {0};
    n->chroma = uf_input(n->graph, "chroma", half);
    if (!color) b.chroma = n->chroma;
    UF_TRY(uf_model_find(r->model)->build(n->graph, luma, &b));
    n->luma = b.luma;
    n->out = uf_output(b.out);
    if (color) {
        uf_loss_in in = {.predicted = n->out, .target = n->chroma};
        if (w->l1 > 0) add_term(n, 0, w->l1, uf_loss_find("l1")->build(&in));
        if (w->l2 > 0) add_term(n, 1, w->l2, uf_loss_find("l2")->build(&in));
        if (w->feature > 0) {
            n->clean = uf_input(n->graph, "clean", luma);
            add_term(n, 2, w->feature, feature_loss(n, r, judge));
        }
    } else {
        n->label = uf_input(n->graph, "label", (uf_shape){batch, 1, 1, 1});
        uf_loss_in in = {.predicted = n->out, .target = n->label, .smoothing = r->smoothing};
        add_term(n, 3, w->cross_entropy > 0 ? w->cross_entropy : 1.f, uf_loss_find("cross_entropy")->build(&in));
    }
    if (!n->loss) return uf_fail(ctx, UF_EINVAL, "the recipe gives no loss that model '%s' can use", r->model);
    return uf_graph_status(n->graph);
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

#include "network.h"

#include <string.h>

/* Activations of the frozen network on the prediction and on the truth; of pictures both looks share the clean luma. */
typedef struct looks {
    uf_built seen, truth;
    float weight[UF_N_STAGES];
} looks;

/* l->seen and l->truth hold what is looked at, of this shape. */
static int look(uf_network *n, const uf_network_options *o, uf_shape shape, looks *l, uf_loss_in *in) {
    static const float usual[UF_N_STAGES] = {0, 1, 1, 1, 0};
    const uf_model *judge = uf_recipe_judge(o->r);
    for (unsigned i = 0; i < UF_N_STAGES; i++)
        l->weight[i] = !o->r->feature_layers_count ? usual[i] : i < o->r->feature_layers_count ? o->r->feature_layers[i] : 0.f;
    uf_graph_use(n->graph, o->judge);
    UF_TRY(judge->build(n->graph, shape, &l->seen));
    UF_TRY(judge->build(n->graph, shape, &l->truth));
    in->predicted_features = l->seen.stage;
    in->target_features = l->truth.stage;
    in->n_features = UF_N_STAGES;
    in->feature_weight = l->weight;
    return UF_OK;
}

static void add_term(uf_network *n, uf_node *term, float weight) {
    term = uf_scale(term, weight, 0.f);
    n->loss = n->loss ? uf_binary(n->loss, "add", term) : term;
}

/* The weighted sum of the losses; of a second output too, `share` as strong, where there is one. */
static int add_losses(uf_network *n, const float *weight, const uf_loss_in *in, const uf_loss_in *second, float share) {
    for (int i = 0; uf_losses[i]; i++) {
        if (weight[i] <= 0) continue;
        uf_node *term = uf_losses[i]->build(in);
        if (second) term = uf_binary(term, "add", uf_scale(uf_losses[i]->build(second), share, 0.f));
        n->term[i] = uf_output(term);
        add_term(n, n->term[i], weight[i]);
    }
    return uf_graph_status(n->graph);
}

/* The critic looks at the result, a picture's beside the clean luma; it is fooled when it says "real" everywhere. */
static int ask_critic(uf_network *n, const uf_network_options *o) {
    bool sound = uf_recipe_sound(o->r);
    uf_built b = {0};
    uf_graph_use(n->graph, o->critic);
    if (sound) b.sound = n->out;
    else b.luma = n->clean, b.chroma = n->out;
    UF_TRY(sound ? uf_model_critic_sound.build(n->graph, n->out->shape, &b) : uf_model_critic.build(n->graph, n->luma->shape, &b));
    n->fooled = uf_output(o->hinge ? uf_scale(uf_reduce(b.out, "mean", 15), -1.f, 0.f)
                                   : uf_bce(b.out, uf_scale(b.out, 0.f, 1.f))); /* a target of ones */
    add_term(n, n->fooled, o->adversarial);
    return uf_graph_status(n->graph);
}

static int build_sound(uf_network *n, uf_ctx *ctx, const uf_network_options *o) {
    uf_shape wave = {o->batch, 1, 1, o->size};
    float share = uf_recipe_room(o->r);
    uf_built b = {.keep_room = share > 0, .mics = o->r->mics};
    uf_graph_training(n->graph, !o->fixed);
    const uf_model *m = uf_model_find(o->r->model);
    UF_TRY(m->build(n->graph, wave, &b));
    uf_graph_training(n->graph, false);
    n->noisy = b.sound;
    n->voice = uf_input(n->graph, "voice", wave);
    n->out = uf_output(b.out);
    if (b.room) n->room = uf_input(n->graph, "room", wave);
    uf_loss_in voice = {.predicted = n->out, .target = n->voice, .rate = m->rate}, room = {.predicted = b.room, .target = n->room, .rate = m->rate};
    const float *weight = o->losses ? o->losses : o->r->losses;
    looks of_voice = {.seen = {.sound = n->out}, .truth = {.sound = n->voice}}, of_room = {.seen = {.sound = b.room}, .truth = {.sound = n->room}};
    if (o->judge && uf_losses_look(weight)) {
        UF_TRY(look(n, o, wave, &of_voice, &voice));
        if (b.room) UF_TRY(look(n, o, wave, &of_room, &room));
    }
    UF_TRY(add_losses(n, weight, &voice, b.room ? &room : NULL, share));
    if (o->critic) UF_TRY(ask_critic(n, o));
    return n->loss ? UF_OK : uf_fail(ctx, UF_EINVAL, "the recipe gives no loss that model '%s' can use", o->r->model);
}

static int build(uf_network *n, uf_ctx *ctx, const uf_network_options *o) {
    if (uf_recipe_sound(o->r)) return build_sound(n, ctx, o);
    uf_shape luma = {o->batch, 1, o->size, o->size}, half = {o->batch, 2, o->size / 2, o->size / 2};
    bool color = !strcmp(o->r->model, "color");
    uf_built b = {0};
    n->chroma = uf_input(n->graph, "chroma", half);
    if (!color) b.chroma = n->chroma;
    uf_graph_training(n->graph, !o->fixed);
    UF_TRY(uf_model_find(o->r->model)->build(n->graph, luma, &b));
    uf_graph_training(n->graph, false);
    n->luma = b.luma;
    n->out = uf_output(b.out);
    if (!color) n->label = uf_input(n->graph, "label", (uf_shape){o->batch, 1, 1, 1});
    uf_loss_in in = {.predicted = n->out, .target = color ? n->chroma : n->label, .smoothing = o->r->smoothing};
    const float *weight = o->losses ? o->losses : o->r->losses;
    bool looks_on = o->judge && uf_losses_look(weight);
    if (looks_on || o->critic) n->clean = uf_input(n->graph, "clean", luma);
    looks l = {.seen = {.luma = n->clean, .chroma = n->out}, .truth = {.luma = n->clean, .chroma = n->chroma}};
    if (looks_on) UF_TRY(look(n, o, luma, &l, &in));
    UF_TRY(add_losses(n, weight, &in, NULL, 0.f));
    if (o->critic) UF_TRY(ask_critic(n, o));
    if (!n->loss) return uf_fail(ctx, UF_EINVAL, "the recipe gives no loss that model '%s' can use", o->r->model);
    return UF_OK;
}

int uf_network_open(uf_network *n, uf_ctx *ctx, const uf_network_options *o) {
    memset(n, 0, sizeof *n);
    int err = uf_graph_open(&n->graph, ctx, o->params);
    if (err == UF_OK) err = build(n, ctx, o);
    if (err == UF_OK && o->judge) uf_params_freeze(o->judge, "", true);
    if (err == UF_OK && o->critic) uf_params_freeze(o->critic, "", true);
    if (err == UF_OK) uf_output(n->loss);
    uf_plan_options p = {.mode = o->train ? UF_TRAIN : UF_INFER, .loss = o->train ? n->loss : NULL, .seed = o->r->seed};
    if (err == UF_OK) err = uf_plan_open(&n->plan, ctx, n->graph, &p);
    if (err < 0) uf_network_close(n);
    return err;
}

void uf_network_close(uf_network *n) {
    uf_plan_close(&n->plan);
    uf_graph_close(&n->graph);
}

int uf_network_set(uf_network *n, const uf_batch *b) {
    if (n->noisy) {
        UF_TRY(uf_plan_set(n->plan, n->noisy, b->noisy));
        if (n->room) UF_TRY(uf_plan_set(n->plan, n->room, b->room));
        return uf_plan_set(n->plan, n->voice, b->voice);
    }
    UF_TRY(uf_plan_set(n->plan, n->luma, b->luma));
    UF_TRY(uf_plan_set(n->plan, n->chroma, b->chroma));
    if (n->clean) UF_TRY(uf_plan_set(n->plan, n->clean, b->clean));
    return n->label ? uf_plan_set(n->plan, n->label, b->label) : UF_OK;
}

/* The index of all losses. Each is built out of ops, so that its gradient comes for free. */
#include "losses.h"

#include <string.h>

static uf_node *l1(const uf_loss_in *in) { return uf_l1(in->predicted, in->target); }
static uf_node *l2(const uf_loss_in *in) { return uf_l2(in->predicted, in->target); }

static uf_node *cross_entropy(const uf_loss_in *in) {
    return uf_cross_entropy(in->predicted, in->target, in->smoothing);
}

/* Where a frozen network's activations differ, the picture means something else (Johnson et al., arXiv:1603.08155). */
static uf_node *feature(const uf_loss_in *in) {
    uf_node *sum = NULL, *seen = NULL;
    for (int i = 0; i < in->n_features; i++) {
        if (in->predicted_features[i]) seen = in->predicted_features[i];
        float w = in->feature_weight ? in->feature_weight[i] : 1.f;
        if (w <= 0 || !in->predicted_features[i]) continue;
        uf_node *term = uf_scale(uf_l1(in->predicted_features[i], in->target_features[i]), w, 0.f);
        sum = sum ? uf_binary(sum, "add", term) : term;
    }
    if (!sum && seen)
        uf_graph_fail(seen->graph, UF_EINVAL,
                      "loss 'feature' has no layer with a weight above 0; give one, or leave it out");
    return sum;
}

static const uf_loss loss_l1 = {.name = "l1", .summary = "mean absolute difference", .build = l1};
static const uf_loss loss_l2 = {.name = "l2", .summary = "mean squared difference", .build = l2};
static const uf_loss loss_feature = {
    .name = "feature", .summary = "L1 between activations of a frozen network", .build = feature, .looks = true};
static const uf_loss loss_cross_entropy = {.name = "cross_entropy", .summary = "of the class, with label smoothing", .build = cross_entropy};

const uf_loss *const uf_losses[] = {&loss_l1, &loss_l2, &loss_feature, &loss_cross_entropy, NULL};

_Static_assert(UF_LEN(uf_losses) - 1 <= UF_MAX_LOSSES, "a weight for each loss");

int uf_loss_index(const char *name) {
    for (int i = 0; uf_losses[i]; i++)
        if (!strcmp(uf_losses[i]->name, name)) return i;
    return -1;
}

bool uf_losses_look(const float *weight) {
    for (int i = 0; uf_losses[i]; i++)
        if (uf_losses[i]->looks && weight[i] > 0) return true;
    return false;
}

const uf_loss *uf_loss_find(const char *name) {
    int i = uf_loss_index(name);
    return i < 0 ? NULL : uf_losses[i];
}

/* The index of all losses. Each is built out of ops, so that its gradient comes for free. */
#include "losses.h"

#include <string.h>

static uf_node *l1(const uf_loss_in *in) { return uf_l1(in->predicted, in->target); }
static uf_node *l2(const uf_loss_in *in) { return uf_l2(in->predicted, in->target); }

static uf_node *cross_entropy(const uf_loss_in *in) {
    return uf_cross_entropy(in->predicted, in->target, in->smoothing);
}

static uf_node *plus(uf_node *sum, uf_node *term) { return sum ? uf_binary(sum, "add", term) : term; }

/* The weighted sum over the frozen network's layers of how far prediction and truth are apart there. */
static uf_node *over_layers(const uf_loss_in *in, const char *name, uf_node *(*distance)(uf_node *, uf_node *)) {
    uf_node *sum = NULL, *seen = NULL;
    for (int i = 0; i < in->n_features; i++) {
        if (in->predicted_features[i]) seen = in->predicted_features[i];
        float w = in->feature_weight ? in->feature_weight[i] : 1.f;
        if (w <= 0 || !in->predicted_features[i]) continue;
        sum = plus(sum, uf_scale(distance(in->predicted_features[i], in->target_features[i]), w, 0.f));
    }
    if (!sum && seen)
        uf_graph_fail(seen->graph, UF_EINVAL,
                      "loss '%s' has no layer with a weight above 0; give one, or leave it out", name);
    return sum;
}

/* Where a frozen network's activations differ, the picture means something else (Johnson et al., arXiv:1603.08155). */
static uf_node *feature(const uf_loss_in *in) { return over_layers(in, "feature", uf_l1); }

/* sqrt(d^2 + e^2) - e: L1 with a round foot, so that small differences do not all pull alike (Charbonnier et al., ICIP
 * 1994). e: .001, a quarter of an 8-bit step. */
static uf_node *charbonnier(const uf_loss_in *in) {
    const float e = 1e-3f;
    uf_node *d = uf_unary(uf_binary(in->predicted, "sub", in->target), "square");
    return uf_scale(uf_reduce(uf_unary(uf_scale(d, 1.f, e * e), "sqrt"), "mean", 15), 1.f, -e);
}

/* Differences of neighbours, along one axis. */
static uf_node *slope(uf_node *x, int axis) {
    int n = !x ? 0 : axis == 2 ? x->shape.h : x->shape.w;
    return n > 1 ? uf_binary(uf_slice(x, axis, 1, n), "sub", uf_slice(x, axis, 0, n - 1)) : NULL;
}

/* L1 between the differences of neighbouring places: where colours change, and not which they are. */
static uf_node *edge(const uf_loss_in *in) {
    uf_node *sum = NULL;
    for (int axis = 2; axis < 4; axis++) {
        uf_node *a = slope(in->predicted, axis), *b = slope(in->target, axis);
        if (a && b) sum = plus(sum, uf_l1(a, b));
    }
    return sum;
}

/* Mean length of the chroma over each picture. */
static uf_node *saturation(uf_node *x) {
    uf_node *squares = uf_reduce(uf_unary(x, "square"), "sum", 1u << 1);
    return uf_reduce(uf_unary(uf_scale(squares, 1.f, 1e-6f), "sqrt"), "mean", 1u << 2 | 1u << 3);
}

static uf_node *colorfulness(const uf_loss_in *in) { return uf_l1(saturation(in->predicted), saturation(in->target)); }

/* Which channels are active together, wherever it be: (N,1,C,C), by places and channels. */
static uf_node *gram_of(uf_node *x) {
    if (!x) return NULL;
    uf_shape s = x->shape;
    uf_node *rows = uf_reshape(x, (uf_shape){s.n, 1, s.c, s.h * s.w});
    return uf_scale(uf_matmul(rows, uf_transpose(rows, 0, 1, 3, 2)), 1.f / ((float)s.c * (float)s.h * (float)s.w), 0.f);
}

static uf_node *gram_distance(uf_node *a, uf_node *b) { return uf_l1(gram_of(a), gram_of(b)); }

/* Textures that a frozen network sees (Gatys et al., arXiv:1508.06576; as a training loss, Johnson et al.). */
static uf_node *gram(const uf_loss_in *in) { return over_layers(in, "gram", gram_distance); }

/* Squared differences, each place weighted by the chroma of the truth: photographs are mostly nearly grey, so that the plain mean
 * of the likely colours is too (class rebalancing of Zhang et al., arXiv:1603.08511, for regression). With unit: 0.15, the mean
 * chroma of colourful photographs, the weights' mean is near 1 and a grey place weighs a fifth. */
static uf_node *rebalanced(const uf_loss_in *in) {
    const float unit = .15f;
    uf_node *miss = uf_reduce(uf_unary(uf_binary(in->predicted, "sub", in->target), "square"), "mean", 1u << 1);
    uf_node *squares = uf_reduce(uf_unary(in->target, "square"), "sum", 1u << 1);
    uf_node *weight = uf_scale(uf_unary(uf_scale(squares, 1.f, 1e-6f), "sqrt"), 1.f / unit, .2f);
    return uf_reduce(uf_binary(miss, "mul", weight), "mean", 15);
}

/* A still camera's grain changes from frame to frame and a moving one's window too: what is painted must do neither. In a batch
 * of pairs the motion is known exactly (Eilertsen et al., arXiv:1902.10424, train single-frame networks for films so). */
static uf_node *temporal(const uf_loss_in *in) {
    uf_shape s = in->predicted->shape;
    if (s.n % 2 || s.w <= UF_MOTION_X || s.h <= UF_MOTION_Y) {
        uf_graph_fail(in->predicted->graph, UF_EINVAL, "loss 'temporal' compares pairs; give an even batch");
        return NULL;
    }
    uf_node *a = uf_slice(in->predicted, 0, 0, s.n / 2), *b = uf_slice(in->predicted, 0, s.n / 2, s.n);
    a = uf_slice(uf_slice(a, 3, UF_MOTION_X, s.w), 2, UF_MOTION_Y, s.h);
    b = uf_slice(uf_slice(b, 3, 0, s.w - UF_MOTION_X), 2, 0, s.h - UF_MOTION_Y);
    return uf_l1(a, b);
}

static const uf_loss loss_l1 = {.name = "l1", .summary = "mean absolute difference", .build = l1};
static const uf_loss loss_l2 = {.name = "l2", .summary = "mean squared difference", .build = l2};
static const uf_loss loss_feature = {
    .name = "feature", .summary = "L1 between activations of a frozen network", .build = feature, .looks = true};
static const uf_loss loss_charbonnier = {.name = "charbonnier", .summary = "L1 with a round foot", .build = charbonnier};
static const uf_loss loss_edge = {.name = "edge", .summary = "L1 between differences of neighbouring places", .build = edge};
static const uf_loss loss_colorfulness = {
    .name = "colorfulness", .summary = "L1 between the pictures' mean lengths of chroma", .build = colorfulness};
static const uf_loss loss_gram = {
    .name = "gram", .summary = "L1 between Gram matrices of a frozen network's activations", .build = gram, .looks = true};
static const uf_loss loss_rebalanced = {
    .name = "rebalanced", .summary = "l2, where the true colour is vivid above all", .build = rebalanced};
static const uf_loss loss_temporal = {
    .name = "temporal", .summary = "L1 between a picture and the same one moved, with other grain", .build = temporal, .pairs = true};
static const uf_loss loss_cross_entropy = {.name = "cross_entropy", .summary = "of the class, with label smoothing", .build = cross_entropy};

const uf_loss *const uf_losses[] = {&loss_l1, &loss_l2, &loss_charbonnier, &loss_edge, &loss_colorfulness,
                                   &loss_rebalanced, &loss_temporal, &loss_feature, &loss_gram, &loss_cross_entropy,
                                   &uf_loss_snr, &uf_loss_spectrum, &uf_loss_resolutions, NULL};

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

bool uf_losses_pair(const float *weight) {
    for (int i = 0; uf_losses[i]; i++)
        if (uf_losses[i]->pairs && weight[i] > 0) return true;
    return false;
}

const uf_loss *uf_loss_find(const char *name) {
    int i = uf_loss_index(name);
    return i < 0 ? NULL : uf_losses[i];
}

/* Builders: each turns its arguments into attributes and parameters, and ends in uf_graph_add(). */
#include "engine.h"

#include <string.h>

static uf_node *op1(const char *op, const char *name, uf_node *x, uf_attr a) {
    return x ? uf_graph_add(x->graph, op, name, 1, &x, a) : NULL;
}

/* The conv weight with its parameters' names: NAME.w, or NAME.w and NAME.u when normalised. */
static uf_node *weight(uf_graph *g, const char *name, uf_shape s, uf_init init, bool spectral) {
    char n[160];
    snprintf(n, sizeof n, "%s.w", name);
    uf_node *w = uf_parameter(g, n, s, init == UF_INIT_ZERO ? UF_INIT_HE : init, true);
    return spectral ? uf_spectral_norm(w, name) : w;
}

static uf_node *bias(uf_graph *g, const char *name, int c) {
    char n[160];
    snprintf(n, sizeof n, "%s.b", name);
    return uf_parameter(g, n, (uf_shape){1, c, 1, 1}, UF_INIT_ZERO, false);
}

/* What must hold before the weight's shape can be worked out; the op checks the rest. */
static int check_conv(const uf_node *x, const char *name, uf_conv o) {
    bool sane = o.out > 0 && o.k > 0 && o.stride > 0 && o.dilation > 0 && o.groups > 0;
    if (sane && x->shape.c % o.groups == 0 && o.out % o.groups == 0) return UF_OK;
    return uf_graph_fail(x->graph, UF_EINVAL,
                         "layer '%s': %d -> %d channels, kernel %d, stride %d, dilation %d and %d groups do not fit "
                         "together; channels must be multiples of groups", name, x->shape.c, o.out, o.k, o.stride,
                         o.dilation, o.groups);
}

static uf_node *conv(uf_node *x, const char *op, const char *name, uf_conv o) {
    if (!x) return NULL;
    if (!o.k) o.k = 3;
    if (!o.stride) o.stride = 1;
    if (!o.dilation) o.dilation = 1;
    if (!o.groups) o.groups = 1;
    o.pad = o.pad < 0 ? 0 : o.pad ? o.pad : o.dilation * (o.k - 1) / 2;
    uf_attr a = {.kh = o.k, .kw = o.k, .stride = o.stride, .pad = o.pad, .dilation = o.dilation, .groups = o.groups,
                 .out = o.out};
    a.top = o.rows == UF_ROWS_PAST ? 2 * o.pad : o.rows == UF_ROWS_NONE ? 0 : o.pad;
    a.bottom = o.rows == UF_ROWS_AROUND ? o.pad : 0;
    bool transposed = !strcmp(op, "conv_transpose2d");
    if (check_conv(x, name, o) < 0) return NULL;
    uf_shape s = transposed ? (uf_shape){x->shape.c, o.out / o.groups, o.k, o.k}
                            : (uf_shape){o.out, x->shape.c / o.groups, o.k, o.k};
    uf_node *in[3] = {x, weight(x->graph, name, s, o.init, o.spectral), NULL};
    if (!o.no_bias) in[2] = bias(x->graph, name, o.out);
    return uf_graph_add(x->graph, op, name, o.no_bias ? 2 : 3, in, a);
}

uf_node *uf_conv2d(uf_node *x, const char *name, uf_conv o) { return conv(x, "conv2d", name, o); }
uf_node *uf_conv_transpose2d(uf_node *x, const char *name, uf_conv o) { return conv(x, "conv_transpose2d", name, o); }

static uf_node *norm(uf_node *x, const char *op, const char *name, uf_attr a, bool running) {
    if (!x) return NULL;
    char n[160];
    uf_shape s = {1, x->shape.c, 1, 1};
    uf_node *in[5] = {x};
    snprintf(n, sizeof n, "%s.gamma", name);
    in[1] = uf_parameter(x->graph, n, s, UF_INIT_ONE, false);
    snprintf(n, sizeof n, "%s.beta", name);
    in[2] = uf_parameter(x->graph, n, s, UF_INIT_ZERO, false);
    if (running) {
        snprintf(n, sizeof n, "%s.mean", name);
        in[3] = uf_buffer(x->graph, n, s, UF_INIT_ZERO);
        snprintf(n, sizeof n, "%s.var", name);
        in[4] = uf_buffer(x->graph, n, s, UF_INIT_ONE);
    }
    a.eps = 1e-5f;
    return uf_graph_add(x->graph, op, name, running ? 5 : 3, in, a);
}

uf_node *uf_batch_norm(uf_node *x, const char *name) {
    if (!x) return NULL;
    return norm(x, "batch_norm", name, (uf_attr){.momentum = UF_BATCH_NORM_MOMENTUM, .mode = uf_graph_is_training(x->graph)}, true);
}

uf_node *uf_instance_norm(uf_node *x, const char *name) { return norm(x, "instance_norm", name, (uf_attr){0}, false); }

uf_node *uf_group_norm(uf_node *x, const char *name, int groups) {
    return norm(x, "group_norm", name, (uf_attr){.groups = groups}, false);
}

uf_node *uf_unary(uf_node *x, const char *op) { return op1(op, "", x, (uf_attr){0}); }
uf_node *uf_leaky_relu(uf_node *x, float slope) { return op1("leaky_relu", "", x, (uf_attr){.slope = slope}); }

uf_node *uf_binary(uf_node *a, const char *op, uf_node *b) {
    uf_node *in[2] = {a, b};
    return a && b ? uf_graph_add(a->graph, op, "", 2, in, (uf_attr){0}) : NULL;
}

uf_node *uf_scale(uf_node *x, float scale, float offset) {
    return op1("scale", "", x, (uf_attr){.scale = scale, .bias = offset});
}

uf_node *uf_reduce(uf_node *x, const char *op, unsigned axes) { return op1(op, "", x, (uf_attr){.axes = axes}); }

static uf_node *pool(uf_node *x, const char *op, int k, int stride) {
    return op1(op, "", x, (uf_attr){.kh = k, .kw = k, .stride = stride ? stride : k});
}

uf_node *uf_max_pool(uf_node *x, int k, int stride) { return pool(x, "max_pool", k, stride); }
uf_node *uf_avg_pool(uf_node *x, int k, int stride) { return pool(x, "avg_pool", k, stride); }
uf_node *uf_group_mean(uf_node *x, int members) { return op1("group_mean", "", x, (uf_attr){.groups = members}); }
uf_node *uf_blur(uf_node *x) { return op1("blur", "", x, (uf_attr){0}); }

uf_node *uf_resize(uf_node *x, int h, int w, int bilinear) {
    if (!x) return NULL;
    return op1("resize", "", x, (uf_attr){.shape = {x->shape.n, x->shape.c, h, w}, .mode = bilinear});
}

uf_node *uf_pixel_shuffle(uf_node *x, int r) { return op1("pixel_shuffle", "", x, (uf_attr){.r = r}); }
uf_node *uf_pixel_unshuffle(uf_node *x, int r) { return op1("pixel_unshuffle", "", x, (uf_attr){.r = r}); }

uf_node *uf_concat(int n, uf_node *const *x, int axis) {
    for (int i = 0; i < n; i++)
        if (!x[i]) return NULL;
    return n > 0 ? uf_graph_add(x[0]->graph, "concat", "", n, x, (uf_attr){.axis = axis}) : NULL;
}

uf_node *uf_slice(uf_node *x, int axis, int from, int to) {
    return op1("slice", "", x, (uf_attr){.axis = axis, .from = from, .to = to});
}

uf_node *uf_reshape(uf_node *x, uf_shape shape) { return op1("reshape", "", x, (uf_attr){.shape = shape}); }

uf_node *uf_transpose(uf_node *x, int a, int b, int c, int d) {
    return op1("transpose", "", x, (uf_attr){.perm = {a, b, c, d}});
}

uf_node *uf_matmul(uf_node *a, uf_node *b) { return uf_binary(a, "matmul", b); }
uf_node *uf_softmax(uf_node *x, int axis) { return op1("softmax", "", x, (uf_attr){.axis = axis}); }

uf_node *uf_attention(uf_node *q, uf_node *k, uf_node *v, float scale) {
    uf_node *in[3] = {q, k, v};
    return q && k && v ? uf_graph_add(q->graph, "attention", "", 3, in, (uf_attr){.scale = scale}) : NULL;
}

uf_node *uf_fold(uf_node *x, int r) { return op1("fold", "", x, (uf_attr){.r = r}); }
uf_node *uf_unfold(uf_node *x, int r) { return op1("unfold", "", x, (uf_attr){.r = r}); }

uf_node *uf_gru_from(uf_node *x, uf_node *before, const char *name, int out, int axis, bool reverse) {
    if (!x) return NULL;
    char n[160];
    static const char *const part[] = {"wx", "wh", "bx", "bh"};
    uf_shape s[] = {{1, 1, 3 * out, x->shape.c}, {1, 1, 3 * out, out}, {1, 1, 1, 3 * out}, {1, 1, 1, 3 * out}};
    uf_node *in[6] = {x, NULL, NULL, NULL, NULL, before};
    for (int i = 0; i < 4; i++) {
        snprintf(n, sizeof n, "%s.%s", name, part[i]);
        in[1 + i] = uf_parameter(x->graph, n, s[i], i < 2 ? UF_INIT_XAVIER : UF_INIT_ZERO, i < 2);
    }
    return uf_graph_add(x->graph, "gru", name, before ? 6 : 5, in, (uf_attr){.out = out, .axis = axis, .reverse = reverse});
}

uf_node *uf_gru(uf_node *x, const char *name, int out, int axis, bool reverse) { return uf_gru_from(x, NULL, name, out, axis, reverse); }

uf_node *uf_stft(uf_node *x, int fft, int hop) { return op1("stft", "", x, (uf_attr){.fft = fft, .hop = hop}); }

uf_node *uf_istft(uf_node *x, int fft, int hop, int length) {
    return op1("istft", "", x, (uf_attr){.fft = fft, .hop = hop, .to = length});
}

uf_node *uf_compress(uf_node *x, float p) { return op1("compress", "", x, (uf_attr){.p = p, .eps = 1e-6f}); }
uf_node *uf_magnitude(uf_node *x, float p) { return op1("magnitude", "", x, (uf_attr){.p = p, .eps = 1e-6f}); }
uf_node *uf_rotate(uf_node *x, uf_node *mask) { return uf_binary(x, "rotate", mask); }

uf_node *uf_spectral_norm(uf_node *w, const char *name) {
    if (!w) return NULL;
    char n[160];
    snprintf(n, sizeof n, "%s.u", name);
    uf_node *in[2] = {w, uf_buffer(w->graph, n, (uf_shape){1, 1, 1, w->shape.n}, UF_INIT_UNIT)};
    uf_attr a = {.eps = 1e-12f, .mode = uf_graph_is_training(w->graph)};
    return uf_graph_add(w->graph, "spectral_norm", name, 2, in, a);
}

uf_node *uf_dropout(uf_node *x, float p) {
    return x ? op1("dropout", "", x, (uf_attr){.p = p, .mode = uf_graph_is_training(x->graph)}) : NULL;
}

uf_node *uf_l1(uf_node *a, uf_node *b) { return uf_binary(a, "l1", b); }
uf_node *uf_l2(uf_node *a, uf_node *b) { return uf_binary(a, "l2", b); }
uf_node *uf_bce(uf_node *logits, uf_node *target) { return uf_binary(logits, "bce", target); }
uf_node *uf_hinge(uf_node *scores, uf_node *sign) { return uf_binary(scores, "hinge", sign); }

uf_node *uf_cross_entropy(uf_node *logits, uf_node *labels, float smoothing) {
    uf_node *in[2] = {logits, labels};
    return logits && labels ? uf_graph_add(logits->graph, "cross_entropy", "", 2, in, (uf_attr){.p = smoothing}) : NULL;
}

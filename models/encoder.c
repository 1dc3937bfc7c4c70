/* The residual encoder (He et al., arXiv:1512.03385) that `features` and `color` share. */
#include "models.h"

static const int width[UF_N_STAGES] = {32, 64, 128, 256, 384};
static const int blocks[UF_N_STAGES] = {0, 1, 2, 2, 1};

static uf_node *conv_norm(uf_node *x, const char *name, uf_conv o) {
    char full[48];
    o.no_bias = true; /* the norm behind it has one */
    snprintf(full, sizeof full, "%s.conv", name);
    x = uf_conv2d(x, full, o);
    snprintf(full, sizeof full, "%s.bn", name);
    return uf_batch_norm(x, full);
}

static uf_node *block(uf_node *x, int stage, int i) {
    char name[32];
    snprintf(name, sizeof name, "enc.%d.%d.a", stage, i);
    uf_node *y = uf_unary(conv_norm(x, name, (uf_conv){.out = width[stage]}), "relu");
    snprintf(name, sizeof name, "enc.%d.%d.b", stage, i);
    y = conv_norm(y, name, (uf_conv){.out = width[stage]});
    return uf_unary(uf_binary(x, "add", y), "relu");
}

uf_node *uf_encoder_input(uf_node *luma, uf_node *chroma) {
    uf_node *y = uf_pixel_unshuffle(uf_scale(luma, 4.f, -1.8f), 2); /* (luma - .45) * 4: about unit variance */
    uf_node *both[2] = {y, chroma ? uf_scale(chroma, 4.f, 0.f) : NULL};
    return chroma ? uf_concat(2, both, 1) : y;
}

int uf_encoder_build(uf_graph *g, uf_node *x, uf_node *stage[UF_N_STAGES]) {
    uf_graph_group(g, 0);
    x = uf_unary(conv_norm(x, "enc.stem", (uf_conv){.out = width[0]}), "relu");
    stage[0] = x;
    for (int s = 1; s < UF_N_STAGES; s++) {
        char name[32];
        uf_graph_group(g, s >= 3);
        snprintf(name, sizeof name, "enc.%d.down", s);
        x = uf_unary(conv_norm(x, name, (uf_conv){.out = width[s], .stride = 2}), "relu");
        for (int i = 0; i < blocks[s]; i++) x = block(x, s, i);
        stage[s] = x;
    }
    uf_graph_group(g, 2);
    return uf_graph_status(g);
}

/* `features`: a residual classifier over luma and chroma. Its encoder starts `color`, and, frozen, it is the eye that
 * judges colours while `color` learns (perceptual loss, Johnson et al., arXiv:1603.08155). */
#include "models.h"

enum { CLASSES = 200 };

static int build(uf_graph *g, uf_shape luma, uf_built *b) {
    if (!b->luma) b->luma = uf_input(g, "luma", luma);
    if (!b->chroma) b->chroma = uf_input(g, "chroma", (uf_shape){luma.n, 2, luma.h / 2, luma.w / 2});
    UF_TRY(uf_encoder_build(g, uf_encoder_input(b->luma, b->chroma), b->stage));
    uf_node *x = uf_reduce(b->stage[UF_N_STAGES - 1], "mean", 1u << 2 | 1u << 3);
    b->out = uf_conv2d(uf_dropout(x, .1f), "head", (uf_conv){.out = CLASSES, .k = 1, .init = UF_INIT_XAVIER});
    return uf_graph_status(g);
}

const uf_model uf_model_features = {
    .name = "features",
    .summary = "residual classifier: the perceptual network and the encoder's beginning",
    .file = "features.safetensors",
    .multiple = 32,
    .build = build,
};

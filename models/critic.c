/* `critic`: luma and chroma in, one opinion a patch out: photograph or painted by a network. The patch critic of Isola et
 * al. (arXiv:1611.07004) with spectral norms (Miyato et al., arXiv:1802.05957), self-attention once (Zhang et al.,
 * arXiv:1805.08318) and dropout, as in DeOldify; a quarter of the generator's work, since it judges chroma, which is
 * coarse. It learns beside a generator and is of no use afterwards. */
#include "models.h"

#include <math.h>
#include <stdio.h>

enum { N_LEVELS = 3, D = 16 };
static const int width[N_LEVELS] = {64, 128, 256};

static uf_node *conv(uf_node *x, const char *name, uf_conv o) {
    o.spectral = true;
    return uf_leaky_relu(uf_conv2d(x, name, o), .2f);
}

/* x + gamma * attention, as in the generator, with spectral norms. */
static uf_node *attend(uf_graph *g, uf_node *x) {
    int c = x ? x->shape.c : 1;
    uf_node *q = uf_conv2d(x, "att.q", (uf_conv){.out = D, .k = 1, .init = UF_INIT_XAVIER, .spectral = true});
    uf_node *k = uf_conv2d(x, "att.k", (uf_conv){.out = D, .k = 1, .init = UF_INIT_XAVIER, .spectral = true});
    uf_node *v = uf_conv2d(x, "att.v", (uf_conv){.out = c, .k = 1, .init = UF_INIT_XAVIER, .spectral = true});
    uf_node *gamma = uf_parameter(g, "att.gamma", (uf_shape){1, 1, 1, 1}, UF_INIT_ZERO, false);
    return uf_binary(x, "add", uf_binary(uf_attention(q, k, v, 1.f / sqrtf((float)D)), "mul", gamma));
}

static int build(uf_graph *g, uf_shape luma, uf_built *b) {
    char name[32];
    if (!b->luma) b->luma = uf_input(g, "luma", luma);
    if (!b->chroma) b->chroma = uf_input(g, "chroma", (uf_shape){luma.n, 2, luma.h / 2, luma.w / 2});
    uf_node *x = uf_encoder_input(b->luma, b->chroma);
    for (int i = 0; i < N_LEVELS; i++) {
        snprintf(name, sizeof name, "critic.%d.down", i);
        x = conv(x, name, (uf_conv){.out = width[i], .k = 4, .stride = 2, .pad = 1});
        snprintf(name, sizeof name, "critic.%d.conv", i);
        if (i < N_LEVELS - 1) x = conv(x, name, (uf_conv){.out = width[i]});
        if (i == 1) x = attend(g, x);
    }
    x = uf_dropout(x, .15f);
    b->out = uf_conv2d(x, "head", (uf_conv){.out = 1, .init = UF_INIT_XAVIER, .spectral = true});
    return uf_graph_status(g);
}

const uf_model uf_model_critic = {
    .name = "critic",
    .summary = "tells photographs from painted ones while `color` is finished; not shipped",
    .multiple = 32,
    .build = build,
};

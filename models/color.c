/* `color`: luma in, chroma at half size out. A U-Net (Ronneberger et al., arXiv:1505.04597) on a residual encoder, with
 * sub-pixel decoder blocks (ICNR start and blur: Aitken et al., arXiv:1707.02937; Sugawara et al. 2018), and
 * self-attention once at 1/8 (Zhang et al., arXiv:1805.08318). There is no full-resolution tail: eyes see chroma
 * coarsely, and a luma-guided filter carries it to full size. */
#include "models.h"

#include <math.h>
#include <string.h>

typedef struct up { /* a decoder block: 1x1 to 4*shuffled, shuffle, blur, concat with the skip, 3x3 to width */
    int shuffled, width;
} up;

static const up ups[] = {{128, 192}, {96, 128}, {64, 64}, {32, 32}};

static uf_node *up_block(uf_node *x, uf_node *skip, int i) {
    char name[32];
    snprintf(name, sizeof name, "dec.%d.up", i);
    uf_node *t = uf_conv2d(x, name, (uf_conv){.out = 4 * ups[i].shuffled, .k = 1, .init = UF_INIT_ICNR2});
    uf_node *both[2] = {uf_blur(uf_pixel_shuffle(uf_unary(t, "relu"), 2)), skip};
    snprintf(name, sizeof name, "dec.%d.conv", i);
    x = uf_conv2d(uf_concat(2, both, 1), name, (uf_conv){.out = ups[i].width, .no_bias = true});
    snprintf(name, sizeof name, "dec.%d.bn", i);
    return uf_unary(uf_batch_norm(x, name), "relu");
}

/* y = x + gamma * mix(attention): gamma starts at zero, so that the network learns locally first. Keys and values are
 * pooled: a quarter of the places describes the picture as well. */
static uf_node *attend(uf_graph *g, uf_node *x) {
    enum { D = 32, E = 128 };
    uf_node *q = uf_conv2d(x, "att.q", (uf_conv){.out = D, .k = 1, .init = UF_INIT_XAVIER});
    uf_node *k = uf_conv2d(x, "att.k", (uf_conv){.out = D, .k = 1, .init = UF_INIT_XAVIER});
    uf_node *v = uf_conv2d(x, "att.v", (uf_conv){.out = E, .k = 1, .init = UF_INIT_XAVIER});
    if (x && x->shape.h > 1 && x->shape.w > 1) {
        k = uf_max_pool(k, 2, 2);
        v = uf_max_pool(v, 2, 2);
    }
    uf_node *a = uf_attention(q, k, v, 1.f / sqrtf((float)D));
    a = uf_conv2d(a, "att.mix", (uf_conv){.out = x ? x->shape.c : 1, .k = 1, .init = UF_INIT_XAVIER});
    uf_node *gamma = uf_parameter(g, "att.gamma", (uf_shape){1, 1, 1, 1}, UF_INIT_ZERO, false);
    return uf_binary(x, "add", uf_binary(a, "mul", gamma));
}

static int build(uf_graph *g, uf_shape luma, uf_built *b) {
    if (!b->luma) b->luma = uf_input(g, "luma", luma);
    UF_TRY(uf_encoder_build(g, uf_encoder_input(b->luma, NULL), b->stage));
    uf_graph_group(g, 2);
    uf_node *x = b->stage[UF_N_STAGES - 1];
    for (int i = 0; i < UF_LEN(ups); i++) {
        x = up_block(x, b->stage[UF_N_STAGES - 2 - i], i);
        if (i == 1) x = attend(g, x);
    }
    x = uf_conv2d(x, "head", (uf_conv){.out = 2, .init = UF_INIT_XAVIER});
    b->out = uf_scale(x, .25f, 0.f);
    return uf_graph_status(g);
}

const uf_model uf_model_color = {
    .name = "color",
    .summary = "colours black-and-white pictures: luma in, chroma out",
    .file = "color.safetensors",
    .multiple = 32,
    .build = build,
};

static bool has(const uf_weights *w, const uf_param *p) {
    uf_shape s, want = p->shape;
    for (int i = 0; i < uf_weights_n(w); i++) {
        if (strcmp(uf_weights_tensor(w, i, &s, NULL), p->name)) continue;
        bool vector = s.w > 1 && (size_t)s.w == uf_count(s) && uf_count(s) == uf_count(want); /* on whichever axis */
        return vector || uf_same(s, want);
    }
    return false;
}

int uf_color_init(uf_ctx *ctx, const uf_weights *features, uf_params *color) {
    uf_param *stem = uf_params_find(color, "enc.stem.conv.w");
    if (!stem) return uf_fail(ctx, UF_EINVAL, "these parameters have no encoder");
    for (int i = 0; i < uf_params_n(color); i++) { /* a half-filled encoder would train, and badly */
        const uf_param *p = uf_params_at(color, i);
        if (p != stem && !strncmp(p->name, "enc.", 4) && !has(features, p))
            return uf_fail(ctx, UF_EDATA, "the starting weights have no tensor '%s' that fits; give weights of `features`",
                           p->name);
    }
    UF_TRY(uf_weights_load_cut(features, stem));
    return uf_weights_load(features, color, false, NULL);
}

void uf_color_gain(uf_params *color, float gain) {
    static const char *const head[] = {"head.w", "head.b"};
    for (int i = 0; i < UF_LEN(head); i++) {
        uf_param *p = uf_params_find(color, head[i]);
        for (size_t k = 0; p && k < uf_count(p->shape); k++) p->value[k] *= gain;
    }
}

/* `critic-sound`: a recording in, one opinion a patch of its spectra out: a voice as it was recorded, or one that a network has made. Three
 * resolutions, as in UnivNet (Jang et al., arXiv:2106.07889), of the compressed complex spectrum, as in EnCodec (Défossez et al.,
 * arXiv:2210.13438), with spectral norms (Miyato et al., arXiv:1802.05957). It learns beside a generator and is of no use afterwards. */
#include "models.h"

#include <stdio.h>

enum { N_LEVELS = 3, N_SPECTRA = 3 };
static const int width[N_LEVELS] = {16, 32, 32}, fft[N_SPECTRA] = {512, 1024, 2048};
static const float power = .3f;

/* (N,1,1,T) -> (N,1,1,patches). */
static uf_node *look(uf_node *sound, int size) {
    char name[48];
    uf_node *x = uf_compress(uf_stft(sound, size, size / 4), power);
    for (int i = 0; i < N_LEVELS; i++) {
        snprintf(name, sizeof name, "critic.%d.%d", size, i);
        x = uf_leaky_relu(uf_conv2d(x, name, (uf_conv){.out = width[i], .k = 4, .stride = 2, .pad = 1, .spectral = true}), .2f);
    }
    snprintf(name, sizeof name, "critic.%d.head", size);
    x = uf_conv2d(x, name, (uf_conv){.out = 1, .init = UF_INIT_XAVIER, .spectral = true});
    return x ? uf_reshape(x, (uf_shape){x->shape.n, 1, 1, x->shape.h * x->shape.w}) : NULL;
}

static int build(uf_graph *g, uf_shape sound, uf_built *b) {
    uf_node *all[N_SPECTRA];
    if (!b->sound) b->sound = uf_input(g, "sound", sound);
    for (int i = 0; i < N_SPECTRA; i++) all[i] = look(b->sound, fft[i]);
    b->out = uf_concat(N_SPECTRA, all, 3);
    return uf_graph_status(g);
}

const uf_model uf_model_critic_sound = {
    .name = "critic-sound",
    .summary = "tells voices from cleaned ones while a speech network is finished; not shipped",
    .multiple = 4096,
    .rate = 16000,
    .build = build,
};

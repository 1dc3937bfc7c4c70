/* `speech`: a noisy recording in, the voice alone out, at 16 kHz. A complex mask on the compressed spectrum, 512/256 (the shape of
 * FastEnhancer: dense convolutions that fold frequency by four, recurrent blocks over 16 bands); the blocks are dual-path,
 * recurrent in time and then across the bands (Le et al., DPCRN, arXiv:2107.05429), both ways: this is the offline network. */
#include "models.h"

enum { FFT = 512, WIDE = 48, DEEP = 64, BLOCKS = 3 };
static const float power = .3f; /* loudness more than energy: quiet and loud parts weigh alike */

static uf_node *conv(uf_node *x, const char *name, int out, int k, bool active) {
    char norm[80];
    snprintf(norm, sizeof norm, "%s.bn", name);
    x = uf_batch_norm(uf_conv2d(x, name, (uf_conv){.out = out, .k = k, .no_bias = true}), norm);
    return active ? uf_unary(x, "relu") : x;
}

static uf_node *residual(uf_node *x, const char *name) {
    char a[48], b[48];
    snprintf(a, sizeof a, "%s.0", name);
    snprintf(b, sizeof b, "%s.1", name);
    uf_node *y = conv(conv(x, a, WIDE, 3, true), b, WIDE, 3, false);
    return uf_unary(uf_binary(y, "add", x), "relu");
}

/* x + norm(mix([forward, backward])), along axis 2 (time) or 3 (bands). */
static uf_node *path(uf_node *x, const char *name, int axis) {
    char there[48], back[48], mix[48];
    snprintf(there, sizeof there, "%s.forward", name);
    snprintf(back, sizeof back, "%s.backward", name);
    snprintf(mix, sizeof mix, "%s.mix", name);
    uf_node *both[2] = {uf_gru(x, there, DEEP / 2, axis, false), uf_gru(x, back, DEEP / 2, axis, true)};
    return uf_binary(conv(uf_concat(2, both, 1), mix, DEEP, 1, false), "add", x);
}

static int build(uf_graph *g, uf_shape sound, uf_built *b) {
    if (!b->sound) b->sound = uf_input(g, "sound", sound);
    uf_node *spectrum = uf_transpose(uf_compress(uf_stft(b->sound, FFT, FFT / 2), power), 0, 1, 3, 2); /* (N,2,frames,257) */
    uf_node *x = uf_fold(uf_slice(spectrum, 3, 0, FFT / 2), 4);
    x = residual(conv(x, "enc.in", WIDE, 3, true), "enc.res");
    uf_node *skip = x;
    x = conv(uf_fold(x, 4), "enc.down", DEEP, 1, true);
    for (int i = 0; i < BLOCKS; i++) {
        char time[32], bands[32];
        snprintf(time, sizeof time, "block.%d.time", i);
        snprintf(bands, sizeof bands, "block.%d.bands", i);
        x = path(path(x, time, 2), bands, 3);
    }
    uf_node *both[2] = {uf_unfold(conv(x, "dec.up", 4 * WIDE, 1, true), 4), skip};
    x = residual(conv(uf_concat(2, both, 1), "dec.in", WIDE, 3, true), "dec.res");
    uf_node *mask = uf_unfold(uf_conv2d(x, "head", (uf_conv){.out = 8, .init = UF_INIT_XAVIER}), 4);
    uf_node *whole[2] = {mask, mask ? uf_slice(mask, 3, FFT / 2 - 1, FFT / 2) : NULL}; /* the last bin has its neighbour's */
    uf_node *voice = uf_compress(uf_rotate(spectrum, uf_concat(2, whole, 3)), 1.f / power);
    b->out = uf_istft(uf_transpose(voice, 0, 1, 3, 2), FFT, FFT / 2, sound.w);
    return uf_graph_status(g);
}

const uf_model uf_model_speech = {
    .name = "speech",
    .summary = "takes noise and room out of speech: 16 kHz sound in, the voice out",
    .file = "speech.safetensors",
    .multiple = FFT / 2,
    .rate = 16000,
    .build = build,
};

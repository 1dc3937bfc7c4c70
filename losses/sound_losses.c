/* Losses on sound: predicted and target are waves (N,1,1,T). They are built out of ops, so that gradients come for free. */
#include "losses.h"

#include <math.h>

enum { OVER_TIME = 1u << 3, OVER_ALL = 15 };

enum { RATE = 16000 }; /* sizes of windows are for this one */

/* Where the windows of this size do not fit, another loss must do. */
static uf_node *spectrum_of(const uf_loss_in *in, uf_node *x, int fft) {
    if (in->rate) fft = fft * in->rate / RATE / 2 * 2;
    return x ? uf_stft(x, fft, fft / 2) : NULL;
}

/* Minus the signal-to-noise ratio in dB, of each wave and then their mean. The scale-invariant ratio would not do: a voice upside down is
 * as good to it, and to every magnitude, and a network that begins so stays so. Silence counts as noise of -60 dB. */
static uf_node *snr(const uf_loss_in *in) {
    const float floor = 1e-6f;
    uf_node *good = uf_reduce(uf_unary(in->target, "square"), "mean", OVER_TIME);
    uf_node *bad = uf_reduce(uf_unary(uf_binary(in->predicted, "sub", in->target), "square"), "mean", OVER_TIME);
    uf_node *ratio = uf_binary(uf_unary(uf_scale(bad, 1.f, floor), "log"), "sub", uf_unary(uf_scale(good, 1.f, floor), "log"));
    return uf_scale(uf_reduce(ratio, "mean", OVER_ALL), 10.f / (float)M_LN10, 0.f);
}

/* L1 between compressed magnitudes and, half as strong, between compressed complex values, where phase counts (Ephrat et al.,
 * arXiv:1804.03619; Braun & Tashev, arXiv:2009.12286). */
static uf_node *spectrum(const uf_loss_in *in) {
    uf_node *a = spectrum_of(in, in->predicted, 512), *b = spectrum_of(in, in->target, 512);
    uf_node *size = uf_l1(uf_magnitude(a, .3f), uf_magnitude(b, .3f)), *phase = uf_l1(uf_compress(a, .3f), uf_compress(b, .3f));
    return uf_binary(size, "add", uf_scale(phase, .5f, 0.f));
}

/* Mean L1 between compressed magnitudes through windows of several lengths (Yamamoto et al., arXiv:1910.11480). */
static uf_node *resolutions(const uf_loss_in *in) {
    static const int window[] = {256, 1024, 2048};
    uf_node *sum = NULL;
    for (int i = 0; i < UF_LEN(window); i++) {
        uf_node *a = uf_magnitude(spectrum_of(in, in->predicted, window[i]), .3f), *b = uf_magnitude(spectrum_of(in, in->target, window[i]), .3f);
        uf_node *term = uf_scale(uf_l1(a, b), 1.f / UF_LEN(window), 0.f);
        sum = sum ? uf_binary(sum, "add", term) : term;
    }
    return sum;
}

const uf_loss uf_loss_snr = {.name = "snr", .summary = "minus the signal-to-noise ratio, dB", .build = snr, .sound = true};
const uf_loss uf_loss_spectrum = {
    .name = "spectrum", .summary = "L1 between compressed spectra, with and without phase", .build = spectrum, .sound = true};
const uf_loss uf_loss_resolutions = {
    .name = "resolutions", .summary = "L1 between compressed magnitudes through several windows", .build = resolutions, .sound = true};

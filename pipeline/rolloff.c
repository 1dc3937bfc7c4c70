#include "highs.h"

#include "fft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct uf_rolloff {
    uf_ctx *ctx;
    int rate, channels, n, fill; /* n: samples of a frame */
    uf_fft fft;
    float *frame, *window;
    double *power;               /* of all frames, n/2+1 bins */
};

int uf_rolloff_open(uf_rolloff **out, uf_ctx *ctx, int rate, int channels) {
    uf_rolloff *r = uf_alloc(ctx, 1, sizeof(*r));
    if (!r) return UF_ENOMEM;
    *r = (uf_rolloff){ .ctx = ctx, .rate = rate, .channels = channels, .n = 512 };
    while (r->n < rate / 50) r->n *= 2;
    r->frame = uf_alloc(ctx, (size_t)r->n, sizeof(float));
    r->window = uf_alloc(ctx, (size_t)r->n, sizeof(float));
    r->power = uf_alloc(ctx, (size_t)r->n / 2 + 1, sizeof(double));
    bool fft = uf_fft_open(&r->fft, r->n);
    if (!r->frame || !r->window || !r->power || !fft) {
        uf_rolloff_close(&r);
        return uf_fail(ctx, UF_ENOMEM, "out of memory for sound; close other programs");
    }
    uf_fft_window(r->n, r->window);
    *out = r;
    return UF_OK;
}

void uf_rolloff_close(uf_rolloff **pr) {
    uf_rolloff *r = *pr;
    if (!r) return;
    uf_fft_close(&r->fft);
    free(r->frame);
    free(r->window);
    free(r->power);
    free(r);
    *pr = NULL;
}

int uf_rolloff_push(uf_rolloff *r, const float *const *x, int n) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int c = 0; c < r->channels; c++) sum += isfinite(x[c][i]) ? x[c][i] : 0.f;
        r->frame[r->fill++] = sum / (float)r->channels;
        if (r->fill < r->n) continue;
        for (int k = 0; k < r->n; k++) r->fft.time[k] = r->window[k] * r->frame[k];
        uf_fft_forward(&r->fft);
        for (int b = 0; b <= r->n / 2; b++)
            r->power[b] += (double)r->fft.bins[b][0] * (double)r->fft.bins[b][0] + (double)r->fft.bins[b][1] * (double)r->fft.bins[b][1];
        memmove(r->frame, r->frame + r->n / 2, (size_t)(r->n / 2) * sizeof(float));
        r->fill = r->n / 2;
    }
    return UF_OK;
}

/* Mean power of the bins [a, b) in dB, as far as there are such. */
static double level(const uf_rolloff *r, int a, int b) {
    double sum = 1e-15;
    int from = a < 0 ? 0 : a, to = b > r->n / 2 + 1 ? r->n / 2 + 1 : b;
    for (int i = from; i < to; i++) sum += r->power[i] / (to - from);
    return 10 * log10(sum);
}

/* The cliff is where what is 100 to 500 Hz below is most above the loudest stretch of what is 250 Hz above and higher; the end of the band,
 * where the sound is 10 dB down. */
double uf_rolloff_hertz(const uf_rolloff *r) {
    enum { LOWEST = 2000, CLIFF = 15, DOWN = 10 };
    double bin = (double)r->rate / r->n, most = CLIFF, above = -1e9, edge = .5 * r->rate;
    int wide = 1 + (int)(100 / bin), best = -1;
    for (int b = r->n / 2 - (int)(250 / bin) - wide; b * bin >= LOWEST; b--) {
        int next = b + (int)(250 / bin);
        above = fmax(above, level(r, next, next + wide));
        double drop = level(r, b - (int)(500 / bin), b - (int)(100 / bin)) - above;
        if (drop > most) most = drop, best = b;
    }
    if (best < 0) return edge;
    double below = level(r, best - (int)(500 / bin), best - (int)(100 / bin));
    for (int b = best + (int)(250 / bin); b > best - (int)(500 / bin); b--)
        if (level(r, b - 1, b + 2) > below - DOWN) return fmin((b + 1) * bin, edge);
    return edge;
}

double uf_rolloff_below(const uf_rolloff *r, double share) {
    double all = 0, below = 0;
    int k = 0;
    for (int i = 1; i <= r->n / 2; i++) all += r->power[i];
    while (k < r->n / 2 && below < share * all) below += r->power[++k];
    return (double)k * r->rate / r->n;
}

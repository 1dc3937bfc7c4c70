#include "spectra.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int before(const uf_spectra *s) { return (s->fft.n - s->hop) / 2; }

bool uf_spectra_open(uf_spectra *s, int fft) {
    *s = (uf_spectra){.hop = fft / 4, .bins = fft / 2 + 1, .window = malloc((size_t)fft * sizeof *s->window)};
    if (!uf_fft_open(&s->fft, fft) || !s->window) return false;
    uf_fft_window(fft, s->window);
    for (int i = 0; i < fft; i++) s->window[i] = sqrtf(s->window[i]);
    return true;
}

void uf_spectra_close(uf_spectra *s) {
    uf_fft_close(&s->fft);
    free(s->window);
    s->window = NULL;
}

void uf_spectra_analyse(uf_spectra *s, const float *x, int n, int frames, float *to, size_t step) {
    for (int t = 0; t < frames; t++) {
        for (int i = 0; i < s->fft.n; i++) {
            int at = t * s->hop - before(s) + i;
            s->fft.time[i] = at >= 0 && at < n ? x[at] * s->window[i] : 0.f;
        }
        uf_fft_forward(&s->fft);
        for (int b = 0; b < s->bins; b++) {
            to[(size_t)b * step + (size_t)t] = s->fft.bins[b][0];
            to[(size_t)b * step + (size_t)(frames + t)] = s->fft.bins[b][1];
        }
    }
}

void uf_spectra_synthesise(uf_spectra *s, const float *from, int frames, float *y, int n) {
    memset(y, 0, (size_t)n * sizeof(*y));
    for (int t = 0; t < frames; t++) {
        for (int b = 0; b < s->bins; b++) {
            s->fft.bins[b][0] = from[(size_t)(2 * b) * (size_t)frames + (size_t)t];
            s->fft.bins[b][1] = b && b < s->bins - 1 ? from[(size_t)(2 * b + 1) * (size_t)frames + (size_t)t] : 0.f;
        }
        uf_fft_inverse(&s->fft);
        for (int i = 0; i < s->fft.n; i++) {
            int at = t * s->hop - before(s) + i;
            if (at >= 0 && at < n) y[at] += s->fft.time[i] * s->window[i] / (float)(2 * s->fft.n); /* four windows' squares add to 2 */
        }
    }
}

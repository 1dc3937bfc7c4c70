#include "spectra.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 16 }; /* frames, a cache line of each row: columns one by one would fetch every line for each of them */

static int before(const uf_spectra *s) { return (s->fft.n - s->hop) / 2; }

bool uf_spectra_open(uf_spectra *s, int fft) {
    *s = (uf_spectra){.hop = fft / 4, .bins = fft / 2 + 1, .window = malloc((size_t)fft * sizeof *s->window)};
    s->some = malloc(2 * AT_ONCE * (size_t)s->bins * sizeof *s->some);
    if (!uf_fft_open(&s->fft, fft) || !s->window || !s->some) return false;
    uf_fft_window(fft, s->window);
    for (int i = 0; i < fft; i++) s->window[i] = sqrtf(s->window[i]);
    return true;
}

void uf_spectra_close(uf_spectra *s) {
    uf_fft_close(&s->fft);
    free(s->window);
    free(s->some);
    s->window = s->some = NULL;
}

void uf_spectra_analyse_some(uf_spectra *s, const float *x, int n, int frames, int from, int to, float *y, size_t step) {
    size_t bins = (size_t)s->bins, most = AT_ONCE;
    for (int first = from; first < to; first += AT_ONCE) {
        size_t some = to - first < AT_ONCE ? (size_t)(to - first) : most;
        for (size_t k = 0; k < some; k++) {
            int start = (first + (int)k) * s->hop - before(s);
            for (int i = 0; i < s->fft.n; i++) s->fft.time[i] = start + i >= 0 && start + i < n ? x[start + i] * s->window[i] : 0.f;
            uf_fft_forward(&s->fft);
            for (size_t b = 0; b < bins; b++)
                for (size_t part = 0; part < 2; part++) s->some[(2 * b + part) * most + k] = s->fft.bins[b][part];
        }
        for (size_t b = 0; b < bins; b++)
            for (size_t part = 0; part < 2; part++)
                memcpy(y + b * step + part * (size_t)frames + (size_t)first, s->some + (2 * b + part) * most, some * sizeof *y);
    }
}

void uf_spectra_analyse(uf_spectra *s, const float *x, int n, int frames, float *to, size_t step) { uf_spectra_analyse_some(s, x, n, frames, 0, frames, to, step); }

void uf_spectra_synthesise(uf_spectra *s, const float *from, int frames, float *y, int n) {
    size_t bins = (size_t)s->bins, most = AT_ONCE;
    memset(y, 0, (size_t)n * sizeof(*y));
    for (int first = 0; first < frames; first += AT_ONCE) {
        size_t some = frames - first < AT_ONCE ? (size_t)(frames - first) : most;
        for (size_t row = 0; row < 2 * bins; row++) memcpy(s->some + row * most, from + row * (size_t)frames + (size_t)first, some * sizeof *from);
        for (size_t k = 0; k < some; k++) {
            int start = (first + (int)k) * s->hop - before(s);
            for (size_t b = 0; b < bins; b++) {
                s->fft.bins[b][0] = s->some[2 * b * most + k];
                s->fft.bins[b][1] = b && b < bins - 1 ? s->some[(2 * b + 1) * most + k] : 0.f;
            }
            uf_fft_inverse(&s->fft);
            for (int i = 0; i < s->fft.n; i++)
                if (start + i >= 0 && start + i < n) y[start + i] += s->fft.time[i] * s->window[i] / (float)(2 * s->fft.n); /* four windows' squares add to 2 */
        }
    }
}

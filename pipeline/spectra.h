/* Stretches of sound as spectra to be changed and made sound again: windows of the root of Hann's, four over each sample. Rows of re, then of im, of
 * `frames` each, bin after bin. Internal to the pipeline room. */
#ifndef UF_SPECTRA_H
#define UF_SPECTRA_H

#include "fft.h"

#include <stddef.h>

typedef struct uf_spectra { /* one a thread */
    uf_fft fft;
    float *window;       /* fft.n */
    float *some;         /* scratch */
    int hop, bins;       /* fft.n / 4; fft.n / 2 + 1 */
} uf_spectra;
bool uf_spectra_open(uf_spectra *s, int fft); /* fft: samples of a frame, a multiple of 8. false: out of memory; close it in any case */
void uf_spectra_close(uf_spectra *s);
/* x: n samples, frames*hop at most; silence follows. Frame t is around the samples [t*hop, (t+1)*hop); its row re of bin b at to + b*step, im `frames`
 * further on. */
void uf_spectra_analyse(uf_spectra *s, const float *x, int n, int frames, float *to, size_t step);
void uf_spectra_analyse_some(uf_spectra *s, const float *x, int n, int frames, int from, int to, float *y, size_t step); /* frames [from, to) of the same */
void uf_spectra_synthesise(uf_spectra *s, const float *from, int frames, float *y, int n); /* from: (bins, 2, frames). The first and last frames' outer samples are too quiet */

#endif

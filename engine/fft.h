/* Real Fourier transforms by FFTW, whose planner is the one part that is not thread-safe: plans are made here and nowhere else.
 * Internal API. */
#ifndef UF_FFT_H
#define UF_FFT_H

#include <stdbool.h>

typedef struct uf_fft { /* one a thread */
    int n;              /* samples, even */
    float *time;        /* n */
    float (*bins)[2];   /* n/2+1: real, imaginary */
    void *plan[2];
} uf_fft;
bool uf_fft_open(uf_fft *f, int n); /* false: out of memory; close it in any case */
void uf_fft_close(uf_fft *f);
void uf_fft_window(int n, float *w); /* Hann's, periodic: as of uf_stft */
void uf_fft_forward(uf_fft *f); /* time to bins; destroys neither */
void uf_fft_inverse(uf_fft *f); /* bins to n times the samples; the bins are lost */

#endif

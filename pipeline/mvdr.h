/* Beamforming on one frequency: small complex matrices, row-major, (n,n). Internal to the pipeline room. */
#ifndef UF_MVDR_H
#define UF_MVDR_H

#include <complex.h>
#include <stdbool.h>
#include <stddef.h>

typedef double complex uf_complex;

/* Cholesky: a, Hermitian, becomes L of L L^H in its lower half. false: it is not positive definite. */
bool uf_cholesky(int n, uf_complex *a);
void uf_cholesky_solve(int n, const uf_complex *l, uf_complex *b); /* b (n) becomes the solution of L L^H x = b */

/* Scratch of one thread for n microphones. */
enum { UF_MVDR_SCRATCH = 2 }; /* times n*n, and 2*n more */
/* The minimum variance distortionless response in Souden's form, w = (Pn^-1 Ps / tr(Pn^-1 Ps)) u (Souden, Benesty, Affes 2010,
 * doi:10.1109/TASL.2009.2025790), which needs no steering vector: the voice comes out as it is at microphone `reference`, the rest as quiet as
 * it can be. speech, noise: covariances (n,n). there: the k microphones to be used, increasing; the reference need not be among them,
 * if the voice was once heard there together with others. loading: of the diagonal, share of the mean, after every microphone has been
 * brought to one level. w (n) for y = sum conj(w[m]) x[m], 0 for those that are not there. Returns the predicted SNR of the result
 * (power); 0: no voice, and w is the reference alone. */
double uf_mvdr(int n, const uf_complex *speech, const uf_complex *noise, int k, const int *there, int reference, double loading, uf_complex *scratch,
               uf_complex *w);

/* Weighted prediction error: takes away what can be predicted from what was heard `delay` to `delay + taps - 1` frames before, the late part
 * of a room (Nakatani et al. 2010, doi:10.1109/TASL.2010.2052251), for all microphones together. re, im: rows of `frames`, in place. weight
 * (frames): 1 / the power of the voice, from the network (Kinoshita et al. 2017, doi:10.21437/Interspeech.2017-733); NULL: from what is left
 * after each of `rounds`. ridge: of the diagonal, share of the mean. wpe.c */
typedef struct uf_wpe_options {
    int mics, frames, taps, delay, rounds;
    double ridge;
} uf_wpe_options;
size_t uf_wpe_scratch(const uf_wpe_options *o); /* bytes */
void uf_wpe(const uf_wpe_options *o, const float *weight, float *const *re, float *const *im, void *scratch);
/* How much of what was taken away is to stay away, 0 to 1: as much as brings x nearest to what a network takes for the voice in it. A held vowel can be
 * predicted as well as a room; in a dry one the prediction would eat it. x, left, voice: of one bin, 2*frames; left: without what was predicted. wpe.c */
float uf_wpe_share(const float *x, const float *left, const float *voice, int frames);
/* sum a conj(b) over n complex numbers: re and im of it to out. */
void uf_correlate(const float *ar, const float *ai, const float *br, const float *bi, int n, float *out);

#endif

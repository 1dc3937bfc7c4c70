/* Quality measures on sound: mono float, n samples, reference and test aligned to the sample. Internal API. */
#ifndef UF_SOUND_MEASURE_H
#define UF_SOUND_MEASURE_H

#include "base.h"

/* Scale-invariant signal-to-distortion ratio in dB, means taken out (Le Roux et al., arXiv:1811.02508). */
double uf_si_sdr(const float *ref, const float *test, size_t n);
/* Mean over frames of 32 ms with voice of the SNR in dB, each clipped to [-10, 35]. */
double uf_segmental_snr(const float *ref, const float *test, size_t n, int rate);
/* Log-spectral distance in dB, after the test's energy below 4 kHz is made the reference's; 0: equal spectra. */
int uf_lsd(uf_ctx *ctx, const float *ref, const float *test, size_t n, int rate, double *lsd);
/* By how many samples the test comes late (below 0: early), `most` at most, looked for in the middle 2^18; 0 also where it is not the same
 * sound. UF_ENOMEM. */
int uf_sound_lag(uf_ctx *ctx, const float *ref, const float *test, size_t n, int most, int *lag);
/* Short-time objective intelligibility, 0 to 1, and its extended variant; sound at 10 kHz, at least 0.4 s of voice (UF_EDATA: less). */
enum { UF_STOI_RATE = 10000 };
int uf_stoi(uf_ctx *ctx, const float *ref, const float *test, size_t n, double *stoi, double *estoi);

#endif

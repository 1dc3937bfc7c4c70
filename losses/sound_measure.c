/* How close a recording is to the voice that it should hold. */
#include "sound_measure.h"

#include "fft.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double mean(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return n ? sum / (double)n : 0;
}

double uf_si_sdr(const float *ref, const float *test, size_t n) {
    double mr = mean(ref, n), mt = mean(test, n), dot = 0, energy = 0, good = 0, bad = 0;
    for (size_t i = 0; i < n; i++) {
        dot += ((double)ref[i] - mr) * ((double)test[i] - mt);
        energy += ((double)ref[i] - mr) * ((double)ref[i] - mr);
    }
    double a = energy > 0 ? dot / energy : 0;
    for (size_t i = 0; i < n; i++) {
        double part = a * ((double)ref[i] - mr), rest = (double)test[i] - mt - part;
        good += part * part;
        bad += rest * rest;
    }
    return 10 * log10((good + DBL_MIN) / (bad + DBL_MIN));
}

double uf_segmental_snr(const float *ref, const float *test, size_t n, int rate) {
    size_t size = (size_t)rate * 32 / 1000, frames = 0;
    double sum = 0, total = 0;
    for (size_t i = 0; i < n; i++) total += (double)ref[i] * (double)ref[i];
    double quiet = n ? 1e-4 * total / (double)n * (double)size : 0; /* 40 dB below the mean: no voice in it */
    for (size_t at = 0; size && at + size <= n; at += size) {
        double good = 0, bad = 0;
        for (size_t i = at; i < at + size; i++) {
            double d = (double)test[i] - (double)ref[i];
            good += (double)ref[i] * (double)ref[i];
            bad += d * d;
        }
        if (good <= quiet) continue;
        sum += fmin(fmax(10 * log10(good / (bad + DBL_MIN)), -10), 35);
        frames++;
    }
    return frames ? sum / (double)frames : 0;
}

/* ---- log-spectral distance --------------------------------------------------------------------------------------------- */

enum { LOW_BAND = 4000 }; /* Hz: all recordings of voices have it */

/* Power spectra of frames of 2048 samples at 48 kHz or what lasts as long, three quarters overlapping. */
static size_t power_frames(size_t n, int fft) { return n < (size_t)fft ? 0 : 1 + (n - (size_t)fft) / (size_t)(fft / 4); }

static void power_frame(uf_fft *f, const float *x, double *power) {
    for (int i = 0; i < f->n; i++) f->time[i] = x[i] * (float)(.5 - .5 * cos(2 * M_PI * i / f->n));
    uf_fft_forward(f);
    for (int b = 0; b <= f->n / 2; b++)
        power[b] = (double)f->bins[b][0] * (double)f->bins[b][0] + (double)f->bins[b][1] * (double)f->bins[b][1];
}

/* Energies of reference and test in the low band, over all frames: loudness is not what is asked, nor is it to depend on what a test lacks above. */
static void low_energy(uf_fft *f, const float *const x[2], size_t frames, int rate, double *scratch, double *energy) {
    int low = LOW_BAND * f->n / rate;
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < frames; k++) {
            power_frame(f, x[i] + k * (size_t)(f->n / 4), scratch);
            for (int b = 0; b < low && b <= f->n / 2; b++) energy[i] += scratch[b];
        }
}

int uf_lsd(uf_ctx *ctx, const float *ref, const float *test, size_t n, int rate, double *lsd) {
    uf_fft f = {0};
    int fft = (rate * 2048 / 48000 + 1) / 2 * 2, bins = fft / 2 + 1;
    size_t frames = power_frames(n, fft);
    double *a = uf_alloc(ctx, 2 * (size_t)bins, sizeof *a), *b = a ? a + bins : NULL, sum = 0, all = 0;
    double energy[2] = {0, 0};
    int err = a && fft >= 8 && uf_fft_open(&f, fft) ? UF_OK : UF_ENOMEM;
    if (err == UF_OK) low_energy(&f, (const float *const[2]){ref, test}, frames, rate, a, energy);
    for (size_t i = 0; i < n; i++) all += (double)ref[i] * (double)ref[i];
    double match = energy[1] > 0 ? energy[0] / energy[1] : 1, floor = n ? 1e-8 * all / (double)n * fft : 0;
    for (size_t k = 0; err == UF_OK && k < frames; k++) {
        power_frame(&f, ref + k * (size_t)(fft / 4), a);
        power_frame(&f, test + k * (size_t)(fft / 4), b);
        double square = 0;
        for (int i = 0; i < bins; i++) {
            double d = 10 * log10((a[i] + floor + DBL_MIN) / (b[i] * match + floor + DBL_MIN));
            square += d * d;
        }
        sum += sqrt(square / bins);
    }
    *lsd = frames ? sum / (double)frames : 0;
    uf_fft_close(&f);
    free(a);
    return err;
}

/* ---- in step? ---------------------------------------------------------------------------------------------------------- */

int uf_sound_lag(uf_ctx *ctx, const float *ref, const float *test, size_t n, int most, int *lag) {
    enum { LONGEST = 1 << 18 };
    static const float same = .3f, better = 1.05f; /* correlations: of what is the same sound; against that of no lag */
    uf_fft f = {0};
    size_t length = n < LONGEST ? n : LONGEST, from = (n - length) / 2, size = 1024;
    while (size < length + (size_t)most) size *= 2;
    float(*spectrum)[2] = uf_alloc(ctx, size / 2 + 1, sizeof *spectrum);
    int err = spectrum && uf_fft_open(&f, (int)size) ? UF_OK : UF_ENOMEM, best = 0;
    double energy[2] = {0, 0};
    for (int k = 0; err == UF_OK && k < 2; k++) {
        const float *x = (k ? test : ref) + from;
        for (size_t i = 0; i < length; i++) energy[k] += (double)x[i] * (double)x[i];
        memset(f.time, 0, size * sizeof(float));
        memcpy(f.time, x, length * sizeof(float));
        uf_fft_forward(&f);
        if (!k) memcpy(spectrum, f.bins, (size / 2 + 1) * sizeof *spectrum);
    }
    for (size_t b = 0; err == UF_OK && b <= size / 2; b++) {
        float re = spectrum[b][0], im = spectrum[b][1], p = f.bins[b][0], q = f.bins[b][1];
        f.bins[b][0] = re * p + im * q;
        f.bins[b][1] = re * q - im * p;
    }
    if (err == UF_OK) {
        uf_fft_inverse(&f);
        for (int l = -most; l <= most; l++)
            if (f.time[(size_t)(l + (int)size) % size] > f.time[(size_t)(best + (int)size) % size]) best = l;
        float at = f.time[(size_t)(best + (int)size) % size], none = (float)(sqrt(energy[0] * energy[1]) * (double)size);
        *lag = at > same * none && at > better * f.time[0] ? best : 0;
    }
    uf_fft_close(&f);
    free(spectrum);
    return err;
}

/* ---- STOI --------------------------------------------------------------------------------------------------------------
 * Taal et al. 2011 (STOI), Jensen & Taal 2016 (ESTOI), as their reference implementation does it: frames of 256 at 10 kHz, half
 * overlapping; those 40 dB below the loudest are left out of both; 15 third-octave bands from 150 Hz; segments of 30 frames. */

enum { FRAME = 256, HOP = 128, FFT = 512, BANDS = 15, SEGMENT = 30 };

static double window(int i) { return .5 - .5 * cos(2 * M_PI * (i + 1) / (FRAME + 1)); } /* Hann without its zeros */

/* Overlap-adds the frames of x whose place in `kept` says so, one after the other. */
static size_t gather(const float *x, const size_t *kept, size_t n_kept, float *y) {
    if (!n_kept) return 0;
    size_t n = (n_kept - 1) * HOP + FRAME;
    memset(y, 0, n * sizeof *y);
    for (size_t k = 0; k < n_kept; k++)
        for (int i = 0; i < FRAME; i++) y[k * HOP + (size_t)i] += (float)(window(i) * (double)x[kept[k] * HOP + (size_t)i]);
    return n;
}

static size_t find_voice(const float *ref, size_t n, size_t *kept) {
    size_t n_kept = 0;
    double loudest = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t k = 0; k * HOP + FRAME < n; k++) {
            double e = 0;
            for (int i = 0; i < FRAME; i++) {
                double v = window(i) * (double)ref[k * HOP + (size_t)i];
                e += v * v;
            }
            if (!pass) loudest = fmax(loudest, e);
            else if (10 * log10((e + DBL_MIN) / (loudest + DBL_MIN)) > -40) kept[n_kept++] = k;
        }
    return n_kept;
}

typedef struct bands {
    int from[BANDS], to[BANDS];
} bands;

/* Bins nearest to the edges 2^(-1/6) and 2^(1/6) of the centre. */
static bands third_octaves(void) {
    bands b;
    for (int i = 0; i < BANDS; i++) {
        double centre = 150 * pow(2, i / 3.), step = 10000. / FFT;
        b.from[i] = (int)floor(centre * pow(2, -1 / 6.) / step + .5);
        b.to[i] = (int)floor(centre * pow(2, 1 / 6.) / step + .5);
    }
    return b;
}

static size_t octave_frames(uf_fft *f, const bands *b, const float *x, size_t n, double *to) {
    size_t frames = 0;
    for (size_t at = 0; at + FRAME < n; at += HOP, frames++) {
        memset(f->time, 0, FFT * sizeof(float));
        for (int i = 0; i < FRAME; i++) f->time[i] = (float)(window(i) * (double)x[at + (size_t)i]);
        uf_fft_forward(f);
        for (int k = 0; k < BANDS; k++) {
            double e = 0;
            for (int i = b->from[k]; i < b->to[k]; i++)
                e += (double)f->bins[i][0] * (double)f->bins[i][0] + (double)f->bins[i][1] * (double)f->bins[i][1];
            to[frames * BANDS + (size_t)k] = sqrt(e);
        }
    }
    return frames;
}

/* Takes the mean out of n values and brings them to length 1. */
static void standard(double *x, int n, int stride) {
    double m = 0, length = 0;
    for (int i = 0; i < n; i++) m += x[i * stride] / n;
    for (int i = 0; i < n; i++) {
        x[i * stride] -= m;
        length += x[i * stride] * x[i * stride];
    }
    for (int i = 0; i < n; i++) x[i * stride] /= sqrt(length) + DBL_EPSILON;
}

/* Correlation of each band over the segment, the test clipped at -15 dB of distortion. */
static double segment_stoi(const double *x, const double *y) {
    double sum = 0, clip = 1 + pow(10, 15 / 20.);
    for (int k = 0; k < BANDS; k++) {
        double a[SEGMENT], c[SEGMENT], ex = 0, ey = 0;
        for (int t = 0; t < SEGMENT; t++) {
            ex += x[t * BANDS + k] * x[t * BANDS + k];
            ey += y[t * BANDS + k] * y[t * BANDS + k];
        }
        double match = sqrt(ex) / (sqrt(ey) + DBL_EPSILON);
        for (int t = 0; t < SEGMENT; t++) {
            a[t] = x[t * BANDS + k];
            c[t] = fmin(y[t * BANDS + k] * match, a[t] * clip);
        }
        standard(a, SEGMENT, 1);
        standard(c, SEGMENT, 1);
        for (int t = 0; t < SEGMENT; t++) sum += a[t] * c[t];
    }
    return sum / BANDS;
}

/* Correlation of whole spectra, each band and then each frame brought to mean 0 and length 1. */
static double segment_estoi(const double *x, const double *y) {
    double v[2][SEGMENT * BANDS], sum = 0;
    memcpy(v[0], x, sizeof v[0]);
    memcpy(v[1], y, sizeof v[1]);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < BANDS; k++) standard(v[i] + k, SEGMENT, BANDS);
        for (int t = 0; t < SEGMENT; t++) standard(v[i] + t * BANDS, BANDS, 1);
    }
    for (int i = 0; i < SEGMENT * BANDS; i++) sum += v[0][i] * v[1][i];
    return sum / SEGMENT;
}

int uf_stoi(uf_ctx *ctx, const float *ref, const float *test, size_t n, double *stoi, double *estoi) {
    uf_fft f = {0};
    bands b = third_octaves();
    size_t room = n / HOP + 2;
    size_t *kept = uf_alloc(ctx, room, sizeof *kept);
    float *voice[2] = {uf_alloc(ctx, n + 2 * FRAME, sizeof(float)), uf_alloc(ctx, n + 2 * FRAME, sizeof(float))};
    double *octave[2] = {uf_alloc(ctx, room * BANDS, sizeof(double)), uf_alloc(ctx, room * BANDS, sizeof(double))};
    int err = kept && voice[0] && voice[1] && octave[0] && octave[1] && uf_fft_open(&f, FFT) ? UF_OK : UF_ENOMEM;
    *stoi = *estoi = 0;
    if (err == UF_OK) {
        size_t n_kept = find_voice(ref, n, kept), frames = 0;
        for (int i = 0; i < 2; i++) frames = octave_frames(&f, &b, voice[i], gather(i ? test : ref, kept, n_kept, voice[i]), octave[i]);
        size_t segments = frames < SEGMENT ? 0 : frames - SEGMENT + 1;
        for (size_t s = 0; s < segments; s++) {
            *stoi += segment_stoi(octave[0] + s * BANDS, octave[1] + s * BANDS) / (double)segments;
            *estoi += segment_estoi(octave[0] + s * BANDS, octave[1] + s * BANDS) / (double)segments;
        }
        if (!segments)
            err = uf_fail(ctx, UF_EDATA, "there is less than 0.4 s of voice: too little to tell how well it is understood");
    }
    uf_fft_close(&f);
    free(kept);
    for (int i = 0; i < 2; i++) {
        free(voice[i]);
        free(octave[i]);
    }
    return err;
}

#include "beam_mix.h"

#include "fft.h"
#include "sound_fifo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Stretches of FRAMES frames: what they have in common is measured over each, and applied while the next is on its way. */
enum { MOST = 32, FRAMES = 256, BANDS = 40 };

struct uf_beam_mix {
    uf_ctx *ctx;
    int n_mics, rate, reference, size, hop; /* samples of a frame, and from one to the next: 64 and 16 ms */
    uf_beam_share *share;                   /* borrowed */
    bool fixed;                             /* somebody chose the reference */
    uf_fft fft;
    float *window, *spectrum;               /* (mics, FRAMES, bins, 2) */
    uf_fifo in[MOST], there[MOST], result;  /* there: a sample each, 0 or 1 */
    int band_of[16384];
    double own[MOST][BANDS], cross[MOST][BANDS][2], shared[MOST][BANDS]; /* energies, and with the reference; the reference's energy meanwhile */
    float gain[2][MOST][BANDS];             /* at the beginning and the end of a stretch */
    float *presence;                        /* (mics, FRAMES) */
    float *over;                            /* size: what is still added to */
    int64_t n_in, n_out, n_frames;
    bool narrow[MOST];                      /* its band ends far below that of another */
    bool ended, begun;
};

int uf_beam_mix_reference(const uf_beam_mix *x) { return x->reference; }

static int bins(const uf_beam_mix *x) { return x->size / 2 + 1; }
static float *frame_of(const uf_beam_mix *x, int m, int t) { return x->spectrum + ((size_t)m * FRAMES + (size_t)t) * (size_t)(2 * bins(x)); }

/* A third of an octave each, from 60 Hz. */
static void lay_bands(uf_beam_mix *x) {
    for (int b = 0; b < bins(x) && b < UF_LEN(x->band_of); b++) {
        double hertz = (double)b * x->rate / x->size, at = hertz < 60 ? 0 : 1 + floor(3 * log2(hertz / 60));
        x->band_of[b] = at < BANDS ? (int)at : BANDS - 1;
    }
}

/* ---- what they have in common -------------------------------------------------------------------------------------------------------- */

static void analyse(uf_beam_mix *x, int m, int t) {
    const float *from = x->in[m].at + (size_t)t * (size_t)x->hop;
    for (int i = 0; i < x->size; i++) x->fft.time[i] = from[i] * x->window[i];
    uf_fft_forward(&x->fft);
    memcpy(frame_of(x, m, t), x->fft.bins, (size_t)bins(x) * sizeof *x->fft.bins);
    float least = 1;
    for (int i = 0; i < x->size; i++) least = fminf(least, x->there[m].at[(size_t)t * (size_t)x->hop + (size_t)i]);
    x->presence[m * FRAMES + t] = least;
}

/* The loudest that is there all the time: the nearest, as far as anybody can tell. What a telephone has heard would cut off what the others have above
 * its band. */
static void choose(uf_beam_mix *x, int frames) {
    double most = -1;
    for (int m = 0; m < x->n_mics; m++) {
        double sum = 0;
        for (int t = 0; t < frames; t++)
            for (int b = 0; b < 2 * bins(x); b++) sum += (double)x->presence[m * FRAMES + t] * (double)frame_of(x, m, t)[b] * (double)frame_of(x, m, t)[b];
        if (x->narrow[m]) sum *= 1e-3;
        if (sum > most) most = sum, x->reference = m;
    }
}

static void measure(uf_beam_mix *x, int frames) {
    for (int m = 0; m < x->n_mics; m++) {
        for (int k = 0; k < BANDS; k++) x->own[m][k] *= .7, x->cross[m][k][0] *= .7, x->cross[m][k][1] *= .7, x->shared[m][k] *= .7;
        for (int t = 0; t < frames; t++) {
            if (x->presence[m * FRAMES + t] <= 0 || x->presence[x->reference * FRAMES + t] <= 0) continue;
            const float *a = frame_of(x, m, t), *r = frame_of(x, x->reference, t);
            for (int b = 0; b < bins(x); b++) {
                int k = x->band_of[b];
                double ar = (double)a[2 * b], ai = (double)a[2 * b + 1], rr = (double)r[2 * b], ri = (double)r[2 * b + 1];
                x->own[m][k] += ar * ar + ai * ai;
                x->shared[m][k] += rr * rr + ri * ri;
                x->cross[m][k][0] += ar * rr + ai * ri;
                x->cross[m][k][1] += ai * rr - ar * ri;
            }
        }
    }
}

/* Level and colour as the reference's, within 12 dB; and a share that falls with what is not common to both: where two microphones do not
 * agree, adding them would only comb. */
static void set_gains(uf_beam_mix *x) {
    memcpy(x->gain[0], x->gain[1], sizeof x->gain[0]);
    for (int m = 0; m < x->n_mics; m++)
        for (int k = 0; k < BANDS; k++) {
            double own = x->own[m][k] + 1e-12, shared = x->shared[m][k] + 1e-12, common = x->cross[m][k][0] / sqrt(own * shared);
            double level = fmin(fmax(sqrt(shared / own), .25), 4), share = m == x->reference ? 1 : common > 0 ? common * common : 0;
            x->gain[1][m][k] = (float)(share * share * level);
        }
    if (!x->begun) memcpy(x->gain[0], x->gain[1], sizeof x->gain[0]);
    x->begun = true;
}

/* ---- the mixture ----------------------------------------------------------------------------------------------------------------------- */

/* How much of frame t's bin in band k is microphone m: gain; and its share in the sum. */
static void weights(const uf_beam_mix *x, int t, int k, float *w) {
    float at = ((float)t + .5f) / FRAMES, sum = 0, own;
    for (int m = 0; m < x->n_mics; m++) {
        double s = x->shared[m][k] + 1e-12, o = x->own[m][k] + 1e-12, level = fmin(fmax(sqrt(s / o), .25), 4);
        w[m] = x->presence[m * FRAMES + t] * ((1 - at) * x->gain[0][m][k] + at * x->gain[1][m][k]);
        own = w[m] / (float)level;
        sum += own;
    }
    if (sum < 1e-3f) { /* nobody who has anything in common with the reference: those that are there, alike */
        for (int m = 0; m < x->n_mics; m++) sum += w[m] = x->presence[m * FRAMES + t];
    }
    for (int m = 0; m < x->n_mics; m++) w[m] = sum > 0 ? w[m] / sum : 0;
}

/* What each microphone brings into frame t, whose own time is the hop in its middle. */
static int tell_shares(const uf_beam_mix *x, int t, float w[BANDS][MOST]) {
    double energy[MOST][BANDS] = {{0}}, wide[BANDS] = {0};
    float share[MOST] = {0};
    for (int b = (UF_SHARE_FROM * x->size + x->rate - 1) / x->rate; b <= UF_SHARE_TO * x->size / x->rate && b < bins(x); b++) {
        int k = x->band_of[b];
        wide[k]++;
        for (int m = 0; m < x->n_mics; m++) {
            double re = (double)frame_of(x, m, t)[2 * b], im = (double)frame_of(x, m, t)[2 * b + 1];
            energy[m][k] += (double)(w[k][m] * w[k][m]) * (re * re + im * im);
        }
    }
    for (int k = 0; k < BANDS; k++) {
        double sum = 0;
        for (int m = 0; m < x->n_mics; m++) sum += energy[m][k];
        for (int m = 0; sum > 0 && m < x->n_mics; m++) share[m] += (float)(wide[k] * energy[m][k] / sum);
    }
    float all = 0;
    for (int m = 0; m < x->n_mics; m++) all += share[m];
    for (int m = 0; all > 0 && m < x->n_mics; m++) share[m] /= all;
    int64_t from = x->in[0].start + (int64_t)t * x->hop - (x->size - x->hop) / 2, to = from + x->hop; /* half of the padding before the first sample */
    if (to > x->n_in) to = x->n_in;
    return from >= 0 && to > from ? uf_beam_share_add(x->share, x->ctx, x->n_mics, (double)from / x->rate, (double)to / x->rate, share, x->reference) : UF_OK;
}

static int mix(uf_beam_mix *x, int t) {
    float w[BANDS][MOST];
    for (int k = 0; k < BANDS; k++) weights(x, t, k, w[k]);
    UF_TRY(tell_shares(x, t, w));
    memset(x->fft.bins, 0, (size_t)bins(x) * sizeof *x->fft.bins);
    for (int m = 0; m < x->n_mics; m++) {
        const float *a = frame_of(x, m, t);
        for (int b = 0; b < bins(x); b++) {
            x->fft.bins[b][0] += w[x->band_of[b]][m] * a[2 * b];
            x->fft.bins[b][1] += w[x->band_of[b]][m] * a[2 * b + 1];
        }
    }
    uf_fft_inverse(&x->fft);
    for (int i = 0; i < x->size; i++) x->over[i] += x->fft.time[i] * x->window[i] / (float)(2 * x->size);
    UF_TRY(uf_fifo_add(x->ctx, &x->result, x->over, (size_t)x->hop));
    memmove(x->over, x->over + x->hop, (size_t)(x->size - x->hop) * sizeof *x->over);
    memset(x->over + x->size - x->hop, 0, (size_t)x->hop * sizeof *x->over);
    return UF_OK;
}

static int run(uf_beam_mix *x) {
    for (;;) {
        int64_t have = (int64_t)x->in[0].n;
        int frames = have < x->size ? 0 : (int)((have - x->size) / x->hop + 1);
        if (frames > FRAMES) frames = FRAMES;
        if (!frames || (frames < FRAMES && !x->ended)) return UF_OK;
        for (int m = 0; m < x->n_mics; m++)
            for (int t = 0; t < frames; t++) analyse(x, m, t);
        if (!x->fixed && !x->begun) choose(x, frames);
        measure(x, frames);
        set_gains(x);
        for (int t = 0; t < frames; t++) UF_TRY(mix(x, t));
        for (int m = 0; m < x->n_mics; m++) {
            uf_fifo_drop(&x->in[m], (size_t)(frames * x->hop));
            uf_fifo_drop(&x->there[m], (size_t)(frames * x->hop));
        }
    }
}

/* n samples of silence to every microphone: a frame's beginning lies before the first sample, and its end after the last. */
static int pad(uf_beam_mix *x, int n) {
    static const float silence[256], one[256] = {[0] = 1};
    for (int m = 0; m < x->n_mics; m++)
        for (int at = 0; at < n; at++) {
            UF_TRY(uf_fifo_add(x->ctx, &x->in[m], silence, 1));
            UF_TRY(uf_fifo_add(x->ctx, &x->there[m], one, 1));
        }
    return UF_OK;
}

int uf_beam_mix_push(uf_beam_mix *x, const float *const *in, const float *weight, int n) {
    if (x->ended) return UF_OK;
    if (!x->n_in && !x->n_frames++) UF_TRY(pad(x, x->size - x->hop));
    for (int m = 0; m < x->n_mics; m++)
        for (int i = 0; i < n; i++) {
            float there = weight[m] > 0, v = there > 0 && isfinite(in[m][i]) ? in[m][i] : 0.f;
            UF_TRY(uf_fifo_add(x->ctx, &x->in[m], &v, 1));
            UF_TRY(uf_fifo_add(x->ctx, &x->there[m], &there, 1));
        }
    x->n_in += n;
    if (!n) {
        x->ended = true;
        UF_TRY(pad(x, x->size));
    }
    return run(x);
}

int uf_beam_mix_pull(uf_beam_mix *x, float *y, int most) {
    int skip = x->size - x->hop, n = most;
    if (!x->n_out && (int)x->result.n < skip) return 0;
    if (!x->n_out && x->result.start == 0) uf_fifo_drop(&x->result, (size_t)skip);
    if ((int64_t)x->result.n < n) n = (int)x->result.n;
    if (x->n_in - x->n_out < n) n = (int)(x->n_in - x->n_out);
    memcpy(y, x->result.at, (size_t)n * sizeof *y);
    uf_fifo_drop(&x->result, (size_t)n);
    x->n_out += n;
    return n;
}

int uf_beam_mix_open(uf_beam_mix **out, uf_ctx *ctx, int n_mics, int rate, int reference, const double *band, uf_beam_share *share) {
    uf_beam_mix *x = uf_alloc(ctx, 1, sizeof *x);
    if (!x) return UF_ENOMEM;
    x->ctx = ctx;
    x->n_mics = n_mics;
    x->rate = rate;
    x->share = share;
    x->fixed = reference >= 0;
    double widest = 0;
    for (int m = 0; band && m < n_mics; m++) widest = fmin(fmax(widest, band[m]), rate / 2.);
    for (int m = 0; band && m < n_mics; m++) x->narrow[m] = band[m] < .75 * widest;
    x->reference = reference >= 0 ? reference : 0;
    x->hop = 16 * rate / 1000 / 2 * 2;
    if (x->hop < 16) x->hop = 16;
    if (x->hop > 4096) x->hop = 4096;
    x->size = 4 * x->hop;
    bool fft = uf_fft_open(&x->fft, x->size);
    x->window = uf_alloc(ctx, (size_t)x->size, sizeof(float));
    x->over = uf_alloc(ctx, (size_t)x->size, sizeof(float));
    x->presence = uf_alloc(ctx, (size_t)n_mics * FRAMES, sizeof(float));
    x->spectrum = uf_alloc(ctx, (size_t)n_mics * FRAMES * (size_t)(2 * bins(x)), sizeof(float));
    if (!fft || !x->window || !x->over || !x->presence || !x->spectrum) {
        uf_beam_mix_close(&x);
        return uf_fail(ctx, UF_ENOMEM, "out of memory for %d microphones; merge fewer", n_mics);
    }
    uf_fft_window(x->size, x->window);
    for (int i = 0; i < x->size; i++) x->window[i] = sqrtf(x->window[i]);
    lay_bands(x);
    *out = x;
    return UF_OK;
}

void uf_beam_mix_close(uf_beam_mix **px) {
    uf_beam_mix *x = *px;
    if (!x) return;
    uf_fft_close(&x->fft);
    for (int m = 0; m < x->n_mics; m++) {
        free(x->in[m].at);
        free(x->there[m].at);
    }
    free(x->result.at);
    free(x->window);
    free(x->over);
    free(x->presence);
    free(x->spectrum);
    free(x);
    *px = NULL;
}

#include "voice_dry.h"

#include "mvdr.h"
#include "spectra.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* At 16 kHz frames of 64 ms, from 48 ms before on to 0.22 s: what is nearer is the voice's own. Found on voices and noises that are held out
 * (docs/speech.md); shorter and longer frames, longer pasts and other weights change little. */
enum { FRAME = 1024, DELAY = 3, TAPS = 12, TAPS_ABOVE = 6 }; /* ABOVE: 8 kHz, where rooms echo less long */

typedef struct scratch { /* of one thread */
    float *weight, *left; /* frames; (2, frames) */
    void *wpe;
} scratch;

struct uf_voice_dry {
    uf_spectra spectra;
    uf_wpe_options o;
    float *heard, *voice; /* (bins, 2, frames) */
    scratch *scratch;
    int size, n_threads;
};

/* What is quiet in the voice is noise and room, and decides; but below the mean of the voice's power all frames count alike (beam_filter.c). */
static void weigh(const float *voice, int frames, float *weight) {
    double mean = 1e-12;
    for (int t = 0; t < frames; t++) {
        weight[t] = voice[t] * voice[t] + voice[frames + t] * voice[frames + t];
        mean += (double)weight[t] / frames;
    }
    for (int t = 0; t < frames; t++) weight[t] = 1.f / (weight[t] + (float)mean);
}

static void run_bin(const uf_voice_dry *d, const scratch *s, int b) {
    int frames = d->o.frames;
    float *heard = d->heard + (size_t)(2 * b) * (size_t)frames, *re = s->left, *im = s->left + frames;
    const float *voice = d->voice + (size_t)(2 * b) * (size_t)frames;
    weigh(voice, frames, s->weight);
    memcpy(s->left, heard, (size_t)(2 * frames) * sizeof *heard);
    uf_wpe_options o = d->o;
    if (b > FRAME / 2) o.taps = TAPS_ABOVE;
    uf_wpe(&o, s->weight, &re, &im, s->wpe);
    float share = uf_wpe_share(heard, s->left, voice, frames);
    for (int i = 0; i < 2 * frames; i++) heard[i] += share * (s->left[i] - heard[i]);
}

void uf_voice_dry_run(uf_voice_dry *d, const float *x, const float *voice, float *y) {
    int frames = d->o.frames;
    size_t row = 2 * (size_t)frames;
    uf_spectra_analyse(&d->spectra, x, d->size, frames, d->heard, row);
    uf_spectra_analyse(&d->spectra, voice, d->size, frames, d->voice, row);
#pragma omp parallel for schedule(static) num_threads(d->n_threads)
    for (int b = 0; b < d->spectra.bins; b++) run_bin(d, &d->scratch[omp_get_thread_num()], b);
    uf_spectra_synthesise(&d->spectra, d->heard, frames, y, d->size);
}

int uf_voice_dry_open(uf_voice_dry **out, uf_ctx *ctx, int size, int wider, int n_threads) {
    uf_voice_dry *d = uf_alloc(ctx, 1, sizeof *d);
    if (!d) return UF_ENOMEM;
    d->size = size;
    d->n_threads = n_threads ? n_threads : uf_ctx_threads(ctx);
    bool ok = uf_spectra_open(&d->spectra, FRAME * wider);
    d->o = (uf_wpe_options){.mics = 1, .frames = (size + d->spectra.hop - 1) / d->spectra.hop, .taps = TAPS, .delay = DELAY, .rounds = 1, .ridge = .03};
    size_t frames = (size_t)d->o.frames;
    d->heard = uf_alloc(ctx, (size_t)d->spectra.bins * 2 * frames, sizeof(float));
    d->voice = uf_alloc(ctx, (size_t)d->spectra.bins * 2 * frames, sizeof(float));
    d->scratch = uf_alloc(ctx, (size_t)d->n_threads, sizeof *d->scratch);
    ok = ok && d->heard && d->voice && d->scratch;
    for (int i = 0; ok && i < d->n_threads; i++) {
        scratch *s = &d->scratch[i];
        s->weight = uf_alloc(ctx, frames, sizeof(float));
        s->left = uf_alloc(ctx, 2 * frames, sizeof(float));
        s->wpe = uf_alloc(ctx, uf_wpe_scratch(&d->o), 1);
        ok = s->weight && s->left && s->wpe;
    }
    if (!ok) {
        uf_voice_dry_close(&d);
        return UF_ENOMEM;
    }
    *out = d;
    return UF_OK;
}

void uf_voice_dry_close(uf_voice_dry **pd) {
    uf_voice_dry *d = *pd;
    if (!d) return;
    uf_spectra_close(&d->spectra);
    for (int i = 0; d->scratch && i < d->n_threads; i++) {
        free(d->scratch[i].weight);
        free(d->scratch[i].left);
        free(d->scratch[i].wpe);
    }
    free(d->scratch);
    free(d->heard);
    free(d->voice);
    free(d);
    *pd = NULL;
}

/* The filters of a beam: where in the spectra of several microphones the voice is, and what lets it through alone. Internal to the pipeline
 * room. Spectra are rows of re, then of im, of `frames` each, bin after bin. */
#ifndef UF_BEAM_FILTER_H
#define UF_BEAM_FILTER_H

#include "base.h"

int uf_beam_band(double hertz); /* bins in which a microphone that has sound up to there is used */
/* power, mask (BINS, frames) += share of the bin (BINS) times the power of the voice (times `level`), and times its part of what is heard. heard: rows
 * `step` apart from bin to bin; voice: what the network makes of it, 2*frames apart. */
void uf_beam_look(const float *heard, size_t step, const float *voice, int frames, const float *share, float level, float *power, float *mask);

typedef struct uf_beam_filter_options {
    int n_mics, frames; /* frames: at most */
    bool keep_room;
} uf_beam_filter_options;
typedef struct uf_beam_filter uf_beam_filter;
int uf_beam_filter_open(uf_beam_filter **out, uf_ctx *ctx, const uf_beam_filter_options *o);
void uf_beam_filter_close(uf_beam_filter **f);
typedef struct uf_beam_filter_job {
    const float *spectrum;     /* (BINS, mics, 2, frames) */
    const float *power, *mask; /* (BINS, frames) */
    const float *voice;        /* (BINS, 2, frames): what the network takes for the voice at the reference */
    const bool *present;       /* (mics, frames) */
    const int *band;           /* (mics): bins in which each has sound, of uf_beam_band() */
    const double *quality;     /* (mics): how well each hears the voice, power */
    const double *both;        /* (mics, mics): power of the voice at the first while the second was there too; 0: never yet */
    int frames, reference;     /* frames: a multiple of UF_BEAM_BLOCK. Where the reference is away, or its band has ended, the best of
                                  those that are there stands in, as loud as it */
    int from, to;              /* blocks of this stretch alone: earlier ones have been learnt from before, later ones will be */
    bool learn;                /* from them, for the stretches that follow */
    float *share;              /* (frames, mics): how much of the result each brings, as beam_share.h says; NULL: nobody asks */
} uf_beam_filter_job;
void uf_beam_filter_run(uf_beam_filter *f, const uf_beam_filter_job *j, float *y); /* y: (BINS, 2, frames) */

#endif

/* One stretch of several aligned microphones at 16 kHz -> the voice. Internal to the pipeline room. */
#ifndef UF_BEAM_CHUNK_H
#define UF_BEAM_CHUNK_H

#include "voice_ears.h"

/* BLOCK: frames that share a filter. FEW: up to so many microphones gain by other weights than more do, and by a third round where each
 * was heard for itself. */
enum { UF_BEAM_FFT = 1024, UF_BEAM_HOP = 256, UF_BEAM_BINS = UF_BEAM_FFT / 2 + 1, UF_BEAM_BLOCK = 32, UF_BEAM_FEW = 4 };

typedef struct uf_beam_chunk_options {
    int n_mics, reference, home; /* as in uf_beam_options */
    const double *band;          /* as there; needed until it is open */
    bool keep_room;
    uf_voice_ears *together; /* of all microphones of a stretch; borrowed; NULL: each is heard for itself */
    uf_voice_ears *room;   /* keep_room: what takes noise alone; borrowed; NULL: noise that the filter leaves stays */
    double least;          /* amplitude that noise keeps */
    int most;              /* samples of the longest stretch, a multiple of HOP * BLOCK */
} uf_beam_chunk_options;
typedef struct uf_beam_chunk uf_beam_chunk;
int uf_beam_chunk_open(uf_beam_chunk **out, uf_ctx *ctx, uf_voice_ears *ears, const uf_beam_chunk_options *o); /* ears: borrowed */
void uf_beam_chunk_close(uf_beam_chunk **c);
/* x[m]: n samples, a multiple of HOP * BLOCK; there[m]: for each HOP of them, was the microphone there? Stretches overlap: what is learnt from
 * the blocks [from, to) counts for the stretches that follow. y, n samples: the result; it has the reference's level. */
int uf_beam_chunk_run(uf_beam_chunk *c, float *const *x, const bool *const *there, int n, int from, int to, float *y);
int uf_beam_chunk_reference(const uf_beam_chunk *c);
const float *uf_beam_chunk_share(const uf_beam_chunk *c); /* (frames, mics): how much of the last stretch each has brought, as beam_share.h says */
double uf_beam_chunk_quality(const uf_beam_chunk *c, int mic); /* voice over the rest in the last stretch, power, as the network hears it; 0: not there */

#endif

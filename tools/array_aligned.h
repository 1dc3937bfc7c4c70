/* Scenes of several microphones as a perfect alignment would give them, and what the merge's beam makes of them. */
#ifndef UF_ARRAY_ALIGNED_H
#define UF_ARRAY_ALIGNED_H

#include "array.h"

enum { UF_ALIGNED_RATE = 16000 };

typedef struct uf_aligned {
    uf_ctx *ctx;
    int n, n_mics;
    float *x[UF_MOST_MICS], *early[UF_MOST_MICS]; /* n samples each: the recordings; the voice in them with the first 50 ms of its room */
    float *memory;
} uf_aligned;
int uf_aligned_open(uf_aligned *a, uf_ctx *ctx, int n_mics, int n);
void uf_aligned_close(uf_aligned *a);
/* Every microphone hears the talker at the time at which the nearest does, and none upside down. */
int uf_aligned_hear(uf_aligned *a, uf_array *scene);
/* All of it through the beam, with the reference chosen as the first pass of a merge does, but from all stretches. y: n samples; *reference: whose
 * they are. */
int uf_aligned_merge(const uf_aligned *a, float *y, int *reference);

#endif

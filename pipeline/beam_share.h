/* How much of the result each microphone has brought, second by second. Internal to the pipeline room.
 *
 * The share of a microphone: the energy of what it brings into the sum, |w|^2 times its power, over that of all of them, bin by bin; the mean over
 * the bins of the voice, 200 to 4000 Hz. Shares are 0 to 1 and add to 1. They tell where the sound came from before waves that meet
 * in the sum strengthen or cancel each other: a microphone that is there to take a noise away has a share as well. */
#ifndef UF_BEAM_SHARE_H
#define UF_BEAM_SHARE_H

#include "sound_fifo.h"

enum { UF_SHARE_FROM = 200, UF_SHARE_TO = 4000, UF_SHARE_MOST = 32 }; /* Hz; microphones */

typedef struct uf_beam_share {
    uf_fifo mic[UF_SHARE_MOST];  /* a second each: shares times seconds */
    uf_fifo told;                /* a second each: s of it in which anybody had a share */
    double led[UF_SHARE_MOST];   /* s in which a microphone was the reference */
} uf_beam_share;
void uf_beam_share_close(uf_beam_share *s);
/* share (n_mics): from one time to another, s from the beginning of the result; all 0: nobody is there, or nothing sounds. */
int uf_beam_share_add(uf_beam_share *s, uf_ctx *ctx, int n_mics, double from, double to, const float *share, int reference);
float uf_beam_share_of(const uf_beam_share *s, int mic, int64_t second); /* mean over the second; 0 where nothing was told */

#endif

/* One recording, once the network has heard it, without what its own past tells: the late part of the room, hum and other noise that goes on. The network
 * hears more of the voice in what is left. Internal to the pipeline room. */
#ifndef UF_VOICE_DRY_H
#define UF_VOICE_DRY_H

#include "base.h"

typedef struct uf_voice_dry uf_voice_dry;
/* size: samples of a stretch, at `wider` times 16 kHz. n_threads: 0: the context's. */
int uf_voice_dry_open(uf_voice_dry **d, uf_ctx *ctx, int size, int wider, int n_threads);
void uf_voice_dry_close(uf_voice_dry **d);
/* x: `size` samples of the recording; voice: what the network takes for the voice in it; y: the result. */
void uf_voice_dry_run(uf_voice_dry *d, const float *x, const float *voice, float *y);

#endif

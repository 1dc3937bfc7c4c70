/* Several aligned recordings of anything, brought to one level and colour and added: for music. Internal to the pipeline room. */
#ifndef UF_BEAM_MIX_H
#define UF_BEAM_MIX_H

#include "beam_share.h"

typedef struct uf_beam_mix uf_beam_mix; /* as uf_beam, beam.h */
/* band: as in uf_beam_options; share: borrowed */
int uf_beam_mix_open(uf_beam_mix **out, uf_ctx *ctx, int n_mics, int rate, int reference, const double *band, uf_beam_share *share);
void uf_beam_mix_close(uf_beam_mix **x);
int uf_beam_mix_push(uf_beam_mix *x, const float *const *in, const float *weight, int n);
int uf_beam_mix_pull(uf_beam_mix *x, float *y, int most);
int uf_beam_mix_reference(const uf_beam_mix *x);

#endif

/* Vertical scratches, for the stage `scratch`. Internal to it. */
#ifndef UF_SCRATCH_LINES_H
#define UF_SCRATCH_LINES_H

#include "stages.h"

/* beside: two frames of the same scene next to this one. Lines of this frame are bridged in k->out and marked in k->mask; their number is added to *n_lines. UF_ENOMEM. */
int uf_scratch_lines(uf_ctx *ctx, uf_stage_work *k, const float *const beside[2], int *n_lines);

#endif

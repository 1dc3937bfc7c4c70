/* Where a whole picture stands against another, and putting it elsewhere: for the stages `steady` and `splice`. Internal to the pipeline room. */
#ifndef UF_GATE_H
#define UF_GATE_H

#include "stages.h"

/* How far `now` has moved from where `past` was, in pixels: the median of what blocks say, so that a moving actor is outvoted; whole steps by
 * search, the rest by least squares on gradients (Lucas & Kanade, IJCAI 1981). *told: false where there is too little structure, or the
 * picture is too small, to tell. UF_ENOMEM. */
int uf_gate_motion(uf_ctx *ctx, const uf_stage_size *size, const float *now, const float *past, float *dx, float *dy, bool *told);
/* Moves luma, in place, by so many pixels right and down; what comes in from beyond the edges repeats them. UF_ENOMEM. */
int uf_gate_shift(uf_ctx *ctx, const uf_stage_size *size, float *luma, float dx, float dy);

#endif

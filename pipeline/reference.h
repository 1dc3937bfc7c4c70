/* Which of several aligned recordings is to decide timbre and level of what becomes of them: the one that hears the voice best over all, so that the
 * result does not change its sound on the way. Internal to the pipeline room. */
#ifndef UF_REFERENCE_H
#define UF_REFERENCE_H

#include "pipeline.h"

enum { UF_REFERENCE_RATE = 16000, UF_REFERENCE_STRETCH = 8 * UF_REFERENCE_RATE };

typedef struct uf_reference uf_reference;
/* Weights as in uf_beam_options. band: Hz, up to where each has sound (n_mics; NULL: all alike): what another has above it is
 * missing, and counts as noise does: much under little noise, little under much. */
int uf_reference_open(uf_reference **out, uf_ctx *ctx, int n_mics, const char *weights, const char *weights_dir, bool float32, const double *band);
void uf_reference_close(uf_reference **r);
/* A stretch of UF_REFERENCE_STRETCH samples, of the same time, of each microphone; NULL: it is not there. there: how much of it is, 0 to 1, and the rest
 * silent (n_mics; NULL: all of all). Stretches in which nobody hears a voice do not count. */
int uf_reference_hear(uf_reference *r, const float *const *x, const double *there);
int uf_reference_best(const uf_reference *r); /* -1: no voice was heard */

#endif

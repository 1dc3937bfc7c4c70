/* Peaks that a recorder has cut off, made anew. Internal to the pipeline room. */
#ifndef UF_DECLIP_H
#define UF_DECLIP_H

#include "pipeline.h"

/* libavfilter's adeclip (an autoregressive model of what is around: Janssen et al. 1986, doi:10.1109/TASSP.1986.1164824), held to what is known:
 * what was cut off lies farther out than where it was cut, and all else is as it is. Results may go beyond [-1,1]. */
typedef struct uf_declip uf_declip;
int uf_declip_open(uf_declip **out, uf_ctx *ctx, int rate, int channels, const double *top); /* top: where each channel was cut off, >0; full scale is 1 */
void uf_declip_close(uf_declip **d);
/* n more samples of each channel; n 0: the sound has ended. */
int uf_declip_push(uf_declip *d, const float *const *x, int n);
/* What is ready: *n samples of each channel (0: nothing), borrowed until the next call. In all as many as were pushed, at their places. */
int uf_declip_pull(uf_declip *d, const float *const **x, int *n);

#endif

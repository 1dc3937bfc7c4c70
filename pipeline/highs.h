/* Sound above where a telephone, a codec or a low rate has cut it off: where that is, and something like what was there. Internal to the
 * pipeline room. */
#ifndef UF_HIGHS_H
#define UF_HIGHS_H

#include "pipeline.h"

/* Recordings below UF_HIGHS_LEAST samples a second have no room for highs: they are brought to UF_HIGHS_RATE. */
enum { UF_HIGHS_LEAST = 32000, UF_HIGHS_RATE = 48000 };
int uf_highs_rate(int rate); /* of the result */

/* Where the spectrum of all that is pushed ends, by its cliff: speech fades out over octaves, filters do not. */
typedef struct uf_rolloff uf_rolloff;
int uf_rolloff_open(uf_rolloff **out, uf_ctx *ctx, int rate, int channels);
void uf_rolloff_close(uf_rolloff **r);
int uf_rolloff_push(uf_rolloff *r, const float *const *x, int n); /* n samples of each channel */
double uf_rolloff_hertz(const uf_rolloff *r); /* half the rate: there is no cliff below it */
double uf_rolloff_below(const uf_rolloff *r, double share); /* Hz, below which this share of the energy lies; 0: silence */

typedef struct uf_highs uf_highs;
typedef struct uf_highs_options {
    int rate, rate_out, channels;
    double rolloff; /* Hz; nothing is added below it. From 90 % of half the rate_out on, nothing is added at all */
} uf_highs_options;
int uf_highs_open(uf_highs **out, uf_ctx *ctx, const uf_highs_options *o);
void uf_highs_close(uf_highs **h);
int uf_highs_push(uf_highs *h, const float *const *x, int n); /* n more samples of each channel; n 0: the end */
/* What is ready: *n samples of each channel (0: nothing), borrowed until the next push. At their places, and in all as many as the time that
 * was pushed has at rate_out. */
int uf_highs_pull(uf_highs *h, float *const **x, int *n);
bool uf_highs_adds(const uf_highs_options *o); /* is there anything to do? */

#endif

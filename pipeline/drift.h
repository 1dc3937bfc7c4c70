/* A recording on somebody else's clock: where its samples lie, and the samples there. Internal to the pipeline room. */
#ifndef UF_DRIFT_H
#define UF_DRIFT_H

#include "pipeline.h"

/* A recorder's time as a function of the common one: lines between knots. Where a knot opens a stretch, the recorder has lost something
 * (its clock stands while the common one goes on) or got something twice; between the end of a stretch and the next one's beginning it has no sound. */
typedef struct uf_knot {
    double at, is; /* s, common and its own; `at` grows, and `is` within a stretch */
    bool opens;
} uf_knot;
typedef struct uf_clock {
    uf_knot *knot; /* 2 or more */
    int n;
} uf_clock;
/* Its own time at `at`; before the first and behind the last knot the lines go on. *there: false between stretches (may be NULL). */
double uf_clock_read(const uf_clock *c, double at, bool *there);
double uf_clock_inverse(const uf_clock *c, double is); /* the common time of its own; the earlier one, where there are two */
double uf_clock_ppm(const uf_clock *c); /* by which it is too fast: mean over its stretches, steps apart */
int uf_clock_copy(uf_ctx *ctx, uf_clock *to, const uf_clock *from); /* free(to->knot) */

/* Interpolation by windowed sinc (Kaiser), PHASES places between two samples and lines between those. */
typedef struct uf_sinc {
    int taps;
    float *table;
} uf_sinc;
/* half: samples of the lower rate to either side; scale: the result's rate over the recording's, 1 where that is higher. */
int uf_sinc_open(uf_sinc *s, uf_ctx *ctx, int half, double scale);
void uf_sinc_close(uf_sinc *s);
/* y[i]: x, n_x samples and silence around them, at place from + i * step. */
void uf_sinc_line(const uf_sinc *s, const float *x, int n_x, double from, double step, float *y, int n);

/* Sample n of the result lies at common time from + n / to_rate; nothing is delayed. Positions in double precision, on a ratio that changes
 * on the way: what no library of the house does. Memory does not grow with the length. */
typedef struct uf_drift uf_drift;
typedef struct uf_drift_options {
    int channels, from_rate, to_rate;
    const uf_clock *clock; /* borrowed */
    double from;           /* s, common */
    int half;              /* samples of the lower rate to either side that the filter sees, 8 to 32; 0: 32 */
} uf_drift_options;
int uf_drift_open(uf_drift **out, uf_ctx *ctx, const uf_drift_options *o);
void uf_drift_close(uf_drift **d);
/* n more samples of each channel as they were recorded; n 0: there are no more, and what follows is silence. */
int uf_drift_push(uf_drift *d, const float *const *x, int n);
/* Up to `most` samples of each channel, as far as what was pushed reaches; after the end as many as are asked for. there[i]: 0 where the
 * recorder has no sound (outside of its recording, between stretches). Returns how many; 0: push more. */
int uf_drift_pull(uf_drift *d, float *const *y, uint8_t *there, int most);

#endif

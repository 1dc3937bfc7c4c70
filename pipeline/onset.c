/* How far onsets of sound lie from where a clock puts them: sound is heard directly before it is heard from the walls. */
#include "merge.h"

#include <math.h>

/* Clocks out of levels are off by some 20 ms, and by the half of a step now and then. NEAR: where onsets are looked for; SIDE: and where they must be twice as much alike,
 * as in noise some lag always is. */
enum { NEAR = UF_MERGE_FLUX / 20, SIDE = UF_MERGE_FLUX / 10, AT_ONCE = UF_MERGE_FLUX / 10 };
static const double clear = 2;

/* One tenth of a second from frame i of the parent on, at lags around the child's frame i + moved. */
static void add(const uf_take *parent, const uf_take *take, int64_t i, int64_t moved, double *sum) {
    for (int64_t k = i; k < i + AT_ONCE && k < parent->n_flux; k++)
        for (int l = -SIDE; l <= SIDE; l++) {
            int64_t other = k + moved + l;
            if (other >= 0 && other < take->n_flux) sum[l + SIDE] += (double)parent->flux[k] * (double)take->flux[other];
        }
}

static int highest(const double *x, int from, int to) {
    int best = from;
    for (int i = from; i < to; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

double uf_onset_late(const uf_take *parent, const uf_take *take, const uf_fit *f) {
    double sum[2 * SIDE + 1] = { 0 };
    for (int64_t i = 0; i < parent->n_flux; i += AT_ONCE) {
        double own = (double)(i + AT_ONCE / 2) / UF_MERGE_FLUX, at = uf_clock_inverse(&parent->clock, own);
        add(parent, take, i, llround((at + uf_fit_lag(f, at, true) - own) * UF_MERGE_FLUX), sum);
    }
    int best = highest(sum, SIDE - NEAR + 1, SIDE + NEAR), far = highest(sum, 1, 2 * SIDE);
    if (sum[far] > clear * sum[best]) best = far;
    double bend = sum[best - 1] - 2 * sum[best] + sum[best + 1], part = bend < 0 ? .5 * (sum[best - 1] - sum[best + 1]) / bend : 0;
    return sum[best] > 0 ? (best - SIDE + (fabs(part) < 1 ? part : 0)) / UF_MERGE_FLUX : 0;
}

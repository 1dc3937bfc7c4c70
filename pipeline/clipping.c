#include "clipping.h"

#include <math.h>

/* Three samples or more at full scale, or at whatever is farthest out in this recording: it was made quieter after it was cut off. A slow wave
 * is flat up there as well, but does not get there in a leap. */
void uf_clipping_look(uf_clipping *c, const float *x, int n) {
    for (int i = 0; i < n; i++) {
        float v = isfinite(x[i]) ? x[i] : 0, size = fabsf(v);
        int side = v < 0;
        bool farther = size > 1.0001f * c->top[side];
        if (farther) {
            c->top[side] = size;
            c->n_flat[side] = 0;
        }
        if (!(size >= .999f || (size > 0 && size >= .9999f * c->top[side]))) c->n_run = 0;
        else if ((farther && size < .999f) || !c->n_run || c->before * v < 0) {
            c->n_run = 1;
            c->leapt = fabsf(v - c->before) > .01f * size + 2.5f / 32768; /* more than steps of 16 bit make */
        } else if (++c->n_run == 3) {
            c->n_full += size >= .999f;
            c->n_flat[side] += c->leapt;
        }
        c->before = v;
    }
}

int uf_clipping_found(const uf_clipping *c, double *at) {
    int n_flat = c->n_flat[0] + c->n_flat[1];
    double low = fmin((double)c->top[0], (double)c->top[1]), high = fmax((double)c->top[0], (double)c->top[1]);
    *at = n_flat <= c->n_full || high >= .999 ? 1 : low > .5 * high ? low : high;
    return n_flat > c->n_full ? n_flat : c->n_full;
}

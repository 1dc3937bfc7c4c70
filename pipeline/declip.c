#include "declip.h"

#include "sound_fifo.h"
#include "sound_filter.h"

#include <math.h>
#include <stdlib.h>

struct uf_declip {
    uf_ctx *ctx;
    uf_sound_filter *filter;
    int channels, room;
    uf_fifo *was; /* a channel: what was pushed and not yet pulled */
    float **y;    /* a channel, `room` samples */
    float *top;   /* a channel */
};

int uf_declip_open(uf_declip **out, uf_ctx *ctx, int rate, int channels, const double *top) {
    /* The lowest sample of 16 bit lies a step farther out than the highest, and the filter then sees no pile of equal peaks. It counts in
     * thousandths of full scale. */
    static const char filters[] = "asoftclip=type=hard:threshold=0.99996,adeclip=m=s";
    uf_declip *d = uf_alloc(ctx, 1, sizeof *d);
    if (!d) return UF_ENOMEM;
    *d = (uf_declip){.ctx = ctx, .channels = channels};
    d->was = uf_alloc(ctx, (size_t)channels, sizeof *d->was);
    d->y = uf_alloc(ctx, (size_t)channels, sizeof *d->y);
    d->top = uf_alloc(ctx, (size_t)channels, sizeof *d->top);
    for (int c = 0; d->top && c < channels; c++) d->top[c] = (float)top[c];
    int err = d->was && d->y && d->top ? uf_sound_filter_open(&d->filter, ctx, filters, rate, channels) : UF_ENOMEM;
    if (err < 0) uf_declip_close(&d);
    else *out = d;
    return err;
}

void uf_declip_close(uf_declip **pd) {
    uf_declip *d = *pd;
    if (!d) return;
    uf_sound_filter_close(&d->filter);
    for (int c = 0; c < d->channels; c++) {
        if (d->was) free(d->was[c].at);
        if (d->y) free(d->y[c]);
    }
    free(d->was);
    free(d->y);
    free(d->top);
    free(d);
    *pd = NULL;
}

static int make_room(uf_declip *d, int n) {
    if (n <= d->room) return UF_OK;
    for (int c = 0; c < d->channels; c++) {
        free(d->y[c]);
        if (!(d->y[c] = uf_alloc(d->ctx, (size_t)n, sizeof **d->y))) return UF_ENOMEM;
    }
    d->room = n;
    return UF_OK;
}

/* The filter knows of full scale alone: that is where each channel is brought for it. */
int uf_declip_push(uf_declip *d, const float *const *x, int n) {
    UF_TRY(make_room(d, n));
    for (int c = 0; c < d->channels && n; c++) {
        UF_TRY(uf_fifo_add(d->ctx, &d->was[c], x[c], (size_t)n));
        for (int i = 0; i < n; i++) d->y[c][i] = x[c][i] / d->top[c];
    }
    return uf_sound_filter_push(d->filter, n ? (const float *const *)d->y : NULL, n);
}

int uf_declip_pull(uf_declip *d, const float *const **x, int *n) {
    const float *const *made;
    UF_TRY(uf_sound_filter_pull(d->filter, &made, n));
    UF_TRY(make_room(d, *n));
    for (int c = 0; c < d->channels; c++) {
        for (int i = 0; i < *n; i++) {
            float was = d->was[c].at[i], is = made[c][i] * d->top[c];
            d->y[c][i] = copysignf(fmaxf(fabsf(was), was < 0 ? -is : is), was); /* fmaxf: of a number and none, the number */
        }
        uf_fifo_drop(&d->was[c], (size_t)*n);
    }
    *x = (const float *const *)d->y;
    return UF_OK;
}

#include "beam_share.h"

#include <math.h>
#include <stdlib.h>

static int reach(uf_ctx *ctx, uf_fifo *f, int64_t second) {
    static const float none = 0;
    while ((int64_t)f->n <= second) UF_TRY(uf_fifo_add(ctx, f, &none, 1));
    return UF_OK;
}

int uf_beam_share_add(uf_beam_share *s, uf_ctx *ctx, int n_mics, double from, double to, const float *share, int reference) {
    double sum = 0;
    for (int m = 0; m < n_mics; m++) sum += (double)share[m];
    if (!(sum > 0) || from < 0) return UF_OK;
    for (int64_t second = (int64_t)from; (double)second < to; second++) {
        float part = (float)(fmin(to, (double)second + 1) - fmax(from, (double)second));
        UF_TRY(reach(ctx, &s->told, second));
        s->told.at[second] += part;
        for (int m = 0; m < n_mics; m++) {
            UF_TRY(reach(ctx, &s->mic[m], second));
            s->mic[m].at[second] += part * share[m];
        }
    }
    s->led[reference] += to - from;
    return UF_OK;
}

float uf_beam_share_of(const uf_beam_share *s, int mic, int64_t second) {
    return second < (int64_t)s->mic[mic].n && s->told.at[second] > 0 ? s->mic[mic].at[second] / s->told.at[second] : 0.f;
}

void uf_beam_share_close(uf_beam_share *s) {
    for (int m = 0; m < UF_SHARE_MOST; m++) free(s->mic[m].at);
    free(s->told.at);
}

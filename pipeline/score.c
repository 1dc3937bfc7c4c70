/* How close recordings are to the voice that they should hold. */
#include "sound_measure.h"
#include "sound_reader.h"

#include <stdlib.h>

int uf_score_open(uf_score_reference **out, uf_ctx *ctx, const char *path)
{
    uf_score_reference *r = uf_alloc(ctx, 1, sizeof(*r));
    int own;
    if (!r) return UF_ENOMEM;
    r->ctx = ctx;
    int err = uf_sound_read_all(ctx, path, 0, &r->x, &r->n, &r->rate);
    if (err == UF_OK) err = uf_sound_read_all(ctx, path, UF_STOI_RATE, &r->narrow, &r->n_narrow, &own);
    if (err == UF_OK && !r->n) err = uf_fail(ctx, UF_EDATA, "'%s' holds no samples; give a recording", path);
    if (err < 0) uf_score_close(&r);
    else *out = r;
    return err;
}

void uf_score_close(uf_score_reference **pr)
{
    uf_score_reference *r = *pr;
    if (!r) return;
    free(r->x);
    free(r->narrow);
    free(r);
    *pr = NULL;
}

int uf_score_sound(const uf_score_reference *r, const char *path, uf_sound_score *s)
{
    float *x = NULL, *narrow = NULL;
    size_t n = 0, n_narrow = 0;
    int rate, err = uf_sound_read_all(r->ctx, path, r->rate, &x, &n, &rate);
    if (err == UF_OK) err = uf_sound_read_all(r->ctx, path, UF_STOI_RATE, &narrow, &n_narrow, &rate);
    if (err == UF_OK) {
        size_t both = n < r->n ? n : r->n, both_narrow = n_narrow < r->n_narrow ? n_narrow : r->n_narrow;
        *s = (uf_sound_score){ .rate = r->rate, .own_rate = rate, .seconds = (double)both / r->rate,
                               .longer = ((double)n - (double)r->n) / r->rate };
        s->si_sdr = uf_si_sdr(r->x, x, both);
        s->segmental_snr = uf_segmental_snr(r->x, x, both, r->rate);
        err = uf_lsd(r->ctx, r->x, x, both, r->rate, &s->lsd);
        if (err == UF_OK) err = uf_stoi(r->ctx, r->narrow, narrow, both_narrow, &s->stoi, &s->estoi);
    }
    free(x);
    free(narrow);
    return err;
}

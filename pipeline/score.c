/* How close recordings are to the voice that they should hold. */
#include "sound_measure.h"
#include "sound_reader.h"

#include <stdlib.h>

struct uf_score_reference {
    uf_ctx *ctx;
    uf_sound own, narrow; /* at its own rate, and at that of STOI */
};

int uf_score_open(uf_score_reference **out, uf_ctx *ctx, const char *path) {
    uf_score_reference *r = uf_alloc(ctx, 1, sizeof(*r));
    if (!r) return UF_ENOMEM;
    r->ctx = ctx;
    int err = uf_sound_read_all(ctx, path, &r->own);
    if (err == UF_OK) err = uf_sound_at_rate(ctx, &r->own, UF_STOI_RATE, &r->narrow);
    if (err == UF_OK && !r->own.n) err = uf_fail(ctx, UF_EDATA, "'%s' holds no samples; give a recording", path);
    if (err < 0) uf_score_close(&r);
    else *out = r;
    return err;
}

void uf_score_close(uf_score_reference **pr) {
    uf_score_reference *r = *pr;
    if (!r) return;
    free(r->own.x);
    free(r->narrow.x);
    free(r);
    *pr = NULL;
}

int uf_score_sound(const uf_score_reference *r, const char *path, uf_sound_score *s) {
    uf_sound test, own = { 0 }, narrow = { 0 };
    int err = uf_sound_read_all(r->ctx, path, &test), rate = r->own.rate;
    if (err == UF_OK) err = uf_sound_at_rate(r->ctx, &test, rate, &own);
    if (err == UF_OK) err = uf_sound_at_rate(r->ctx, &test, UF_STOI_RATE, &narrow);
    if (err == UF_OK) {
        size_t both = own.n < r->own.n ? own.n : r->own.n, both_narrow = narrow.n < r->narrow.n ? narrow.n : r->narrow.n;
        *s = (uf_sound_score){ .seconds = (double)both / rate, .longer = ((double)own.n - (double)r->own.n) / rate };
        int lag = 0;
        err = uf_sound_lag(r->ctx, r->own.x, own.x, both, rate / 2, &lag);
        s->late = (double)lag / rate;
        s->si_sdr = uf_si_sdr(r->own.x, own.x, both);
        s->segmental_snr = uf_segmental_snr(r->own.x, own.x, both, rate);
        if (err == UF_OK) err = uf_lsd(r->ctx, r->own.x, own.x, both, rate, &s->lsd);
        if (err == UF_OK) err = uf_stoi(r->ctx, r->narrow.x, narrow.x, both_narrow, &s->stoi, &s->estoi);
    }
    free(test.x);
    free(own.x);
    free(narrow.x);
    return err;
}

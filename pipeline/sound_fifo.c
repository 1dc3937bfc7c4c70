#include "sound_fifo.h"

#include <stdlib.h>
#include <string.h>

int uf_fifo_add(uf_ctx *ctx, uf_fifo *f, const float *x, size_t n) {
    if (!n) return UF_OK;
    if (f->n + n > f->room) {
        size_t room = 2 * (f->n + n);
        float *at = realloc(f->at, room * sizeof(*at));
        if (!at) return uf_fail(ctx, UF_ENOMEM, "out of memory for sound; close other programs");
        f->at = at;
        f->room = room;
    }
    memcpy(f->at + f->n, x, n * sizeof(*x));
    f->n += n;
    return UF_OK;
}

void uf_fifo_drop(uf_fifo *f, size_t n) {
    if (n > f->n) n = f->n;
    if (!n) return;
    memmove(f->at, f->at + n, (f->n - n) * sizeof(*f->at));
    f->n -= n;
    f->start += (int64_t)n;
}

int uf_fifo_resample(uf_ctx *ctx, SwrContext *s, float *const *planes, int n, int n_planes, uf_fifo *const *to) {
    for (;;) {
        int most = swr_get_out_samples(s, n), got;
        uint8_t *out[128];
        float *room = most > 0 ? uf_alloc(ctx, (size_t)most * (size_t)n_planes, sizeof(*room)) : NULL;
        if (most <= 0) return UF_OK;
        if (!room) return UF_ENOMEM;
        for (int i = 0; i < n_planes; i++) out[i] = (uint8_t *)(room + (size_t)i * (size_t)most);
        got = swr_convert(s, out, most, n ? (const uint8_t **)(uintptr_t)planes : NULL, n);
        int err = got < 0 ? uf_fail(ctx, UF_ENOMEM, "out of memory for sound; close other programs") : UF_OK;
        for (int i = 0; err == UF_OK && i < n_planes; i++) err = uf_fifo_add(ctx, to[i], (float *)(uintptr_t)out[i], (size_t)got);
        free(room);
        if (err < 0 || n || !got) return err;
    }
}

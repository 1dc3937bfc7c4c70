/* What looks at films without writing any. */
#include "media.h"

int uf_walk(uf_ctx *ctx, uf_reader *r, const uf_walk_options *o) {
    int64_t number = 0, total = uf_reader_n_frames(r);
    double began = uf_now();
    int err = UF_OK;
    while (err == UF_OK) {
        uf_item item = { 0 };
        if ((err = uf_reader_next(r, &item)) < 0) break;
        if (item.frame && number % o->every == 0) err = o->on(o->user, item.frame, number);
        number += item.frame != NULL;
        uf_item_clear(&item);
        if (err == UF_OK && uf_ctx_cancelled(ctx)) err = uf_fail(ctx, UF_EINTR, "stopped");
        double seconds = uf_now() - began;
        uf_progress p = { .n_done = number, .n_total = total, .seconds = seconds, .fps = (double)number / (seconds + 1e-9) };
        if (o->progress && number % o->every == 0) o->progress(o->progress_user, &p);
    }
    return err == UF_EOF ? UF_OK : err;
}

/* Where a film cuts, as the filter that keeps colours steady sees it: what is told here is what colouring goes by. */
#include "colorizer.h"
#include "media.h"

#include <stdlib.h>

typedef struct scenes {
    uf_ctx *ctx;
    const uf_scenes_options *o;
    uf_reader *reader;
    uf_canvas *canvas;
    uf_steady *steady;
    int w, h;            /* of the network's luma */
    float *luma, *small, *chroma;
    uf_scene scene;      /* the one that runs */
    double end;          /* of the last frame */
} scenes;

static int open_all(scenes *s, const char *film)
{
    const AVCodec *png = avcodec_find_encoder(AV_CODEC_ID_PNG);
    uf_target target;
    UF_TRY(uf_reader_open(&s->reader, s->ctx, film));
    const AVFrame *first = uf_reader_first(s->reader);
    uf_colorizer_fit(first->width, first->height, s->o->size, 32, &s->w, &s->h);
    size_t n = (size_t)s->w * (size_t)s->h;
    s->luma = uf_alloc(s->ctx, n + 64, sizeof(float));
    s->small = uf_alloc(s->ctx, n / 4, sizeof(float));
    s->chroma = uf_alloc(s->ctx, n / 2, sizeof(float));
    if (!s->luma || !s->small || !s->chroma) return UF_ENOMEM;
    if (!png) return uf_fail(s->ctx, UF_EUNSUPPORTED, "this FFmpeg writes no PNG; install a full one");
    UF_TRY(uf_target_pick(&target, s->ctx, first, png, UF_SINK_PICTURE, true));
    UF_TRY(uf_canvas_open(&s->canvas, s->ctx, first, &target, s->w, s->h));
    return uf_steady_open(&s->steady, s->ctx, s->w / 2, s->h / 2);
}

static void tell(scenes *s, int64_t n_frames)
{
    s->scene.n_frames = n_frames - s->scene.frame;
    s->scene.length = s->end - s->scene.seconds;
    if (s->scene.n_frames > 0) s->o->scene(s->o->user, &s->scene);
    s->scene.number++;
}

static int look(scenes *s, const AVFrame *f, int64_t number)
{
    AVRational base = uf_reader_format(s->reader)->streams[uf_reader_video(s->reader)]->time_base;
    UF_TRY(uf_canvas_luma(s->canvas, f, s->luma));
    uf_halve(s->luma, s->small, s->w, s->h);
    bool cut = uf_steady_push(s->steady, s->small, s->chroma);
    double at = (double)f->pts * av_q2d(base);
    if (cut && number > 0) {
        s->end = at;
        tell(s, number);
    }
    if (cut) {
        s->scene.frame = number;
        s->scene.seconds = at;
    }
    s->end = at + (double)f->pkt_duration * av_q2d(base);
    return UF_OK;
}

int uf_scenes(uf_ctx *ctx, const char *film, const uf_scenes_options *o)
{
    scenes s = { .ctx = ctx, .o = o };
    int64_t n = 0, total;
    double began = uf_now();
    int err = open_all(&s, film);
    total = err == UF_OK ? uf_reader_n_frames(s.reader) : 0;
    while (err == UF_OK) {
        uf_item item = { 0 };
        if ((err = uf_reader_next(s.reader, &item)) < 0) break;
        if (item.frame) err = look(&s, item.frame, n++);
        uf_item_clear(&item);
        if (err == UF_OK && uf_ctx_cancelled(ctx)) err = uf_fail(ctx, UF_EINTR, "stopped");
        double seconds = uf_now() - began;
        uf_progress p = { .n_done = n, .n_total = total, .seconds = seconds, .fps = (double)n / (seconds + 1e-9) };
        if (o->progress) o->progress(o->user, &p);
    }
    if (err == UF_EOF) {
        tell(&s, n);
        err = UF_OK;
    }
    uf_steady_close(&s.steady);
    uf_canvas_close(&s.canvas);
    uf_reader_close(&s.reader);
    free(s.luma);
    free(s.small);
    free(s.chroma);
    return err;
}

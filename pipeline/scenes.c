/* Where a film cuts, as the filter that keeps colours steady sees it: what is told here is what colouring goes by. */
#include "colorizer.h"
#include "media.h"
#include "motion.h"

#include <stdlib.h>

typedef struct scenes {
    uf_ctx *ctx;
    const uf_scenes_options *o;
    uf_reader *reader;
    uf_canvas *canvas;
    uf_cuts cuts;
    int w, h;            /* of the network's luma */
    float *luma, *small;
    uf_scene scene;      /* the one that runs */
    int64_t n_frames;    /* so far */
    double end;          /* of the last frame */
} scenes;

static int open_all(scenes *s, const char *film) {
    UF_TRY(uf_reader_open(&s->reader, s->ctx, film));
    const AVFrame *first = uf_reader_first(s->reader);
    uf_colorizer_fit(first->width, first->height, s->o->size, 32, &s->w, &s->h);
    size_t n = (size_t)s->w * (size_t)s->h;
    s->luma = uf_alloc(s->ctx, n + 64, sizeof(float));
    s->small = uf_alloc(s->ctx, n / 4, sizeof(float));
    if (!s->luma || !s->small) return UF_ENOMEM;
    return uf_canvas_open_png(&s->canvas, s->ctx, first, s->w, s->h);
}

static void tell(scenes *s) {
    s->scene.n_frames = s->n_frames - s->scene.frame;
    s->scene.length = s->end - s->scene.seconds;
    if (s->scene.n_frames > 0) s->o->scene(s->o->user, &s->scene);
    s->scene.number++;
}

static int look(void *user, const AVFrame *f, int64_t number) {
    scenes *s = user;
    AVRational base = uf_reader_format(s->reader)->streams[uf_reader_video(s->reader)]->time_base;
    UF_TRY(uf_canvas_luma(s->canvas, f, s->luma));
    uf_halve(s->luma, s->w, s->small, s->w, s->h);
    bool cut = uf_cuts_push(&s->cuts, s->small, s->w / 2, s->h / 2, s->w / 2);
    double at = (double)f->pts * av_q2d(base);
    if (cut && number > 0) {
        s->end = at;
        tell(s);
    }
    if (cut) {
        s->scene.frame = number;
        s->scene.seconds = at;
    }
    s->end = at + (double)f->pkt_duration * av_q2d(base);
    s->n_frames = number + 1;
    return UF_OK;
}

int uf_scenes(uf_ctx *ctx, const char *film, const uf_scenes_options *o) {
    scenes s = { .ctx = ctx, .o = o };
    int err = open_all(&s, film);
    if (err == UF_OK)
        err = uf_walk(ctx, s.reader, &(uf_walk_options){ .every = 1, .on = look, .user = &s, .progress = o->progress, .progress_user = o->user });
    if (err == UF_OK) tell(&s);
    uf_canvas_close(&s.canvas);
    uf_reader_close(&s.reader);
    free(s.luma);
    free(s.small);
    return err;
}

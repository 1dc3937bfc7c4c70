/* Some frames of a film under several settings, for a contact sheet. */
#include "colorizer.h"
#include "media.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_SIZES = 8, BLIND_STRIDE = 25 }; /* between frames of a film that does not say how many it has */

typedef struct look { /* all settings of one size share a network */
    int size, w, h;
    uf_colorizer *colorizer;
    uf_canvas *canvas;
    float *luma, *small, *chroma, *shown;
} look;

typedef struct preview {
    uf_ctx *ctx;
    const uf_preview_options *o;
    uf_reader *reader;
    look looks[MOST_SIZES];
    int n_looks, n_rows;
    int64_t every;
} preview;

static look *look_of(preview *p, int size) {
    for (int i = 0; i < p->n_looks; i++)
        if (p->looks[i].size == size) return &p->looks[i];
    return NULL;
}

static int open_look(preview *p, int size) {
    const AVFrame *first = uf_reader_first(p->reader);
    const uf_target rgb = { AV_PIX_FMT_RGB24, AVCOL_RANGE_JPEG, AVCOL_SPC_RGB, AVCHROMA_LOC_CENTER };
    uf_colorizer_options c = { .weights = p->o->weights, .tune = p->o->tune, .weights_dir = p->o->weights_dir, .w = first->width,
                               .h = first->height, .size = size };
    if (p->n_looks == MOST_SIZES) return uf_fail(p->ctx, UF_EINVAL, "at most %d sizes are shown at once", MOST_SIZES);
    look *l = &p->looks[p->n_looks++];
    l->size = size;
    UF_TRY(uf_colorizer_open(&l->colorizer, p->ctx, &c));
    uf_colorizer_size(l->colorizer, &l->w, &l->h);
    size_t n = (size_t)l->w * (size_t)l->h;
    l->luma = uf_alloc(p->ctx, n + 64, sizeof(float));
    l->small = uf_alloc(p->ctx, n / 4, sizeof(float));
    l->chroma = uf_alloc(p->ctx, n / 2, sizeof(float));
    l->shown = uf_alloc(p->ctx, n / 2, sizeof(float));
    if (!l->luma || !l->small || !l->chroma || !l->shown) return UF_ENOMEM;
    return uf_canvas_open(&l->canvas, p->ctx, first, &rgb, l->w, l->h);
}

static void close_look(look *l) {
    uf_canvas_close(&l->canvas);
    uf_colorizer_close(&l->colorizer);
    free(l->luma);
    free(l->small);
    free(l->chroma);
    free(l->shown);
}

static int show(preview *p, const look *l, const AVFrame *f, int column, double strength, double seconds) {
    AVFrame *rgb = NULL;
    size_t n = (size_t)l->w * (size_t)l->h / 2;
    for (size_t i = 0; i < n; i++) l->shown[i] = (float)strength * l->chroma[i];
    UF_TRY(uf_canvas_paint(l->canvas, f, l->small, l->shown, &rgb));
    size_t row = 3 * (size_t)rgb->width;
    uint8_t *packed = uf_alloc(p->ctx, row, (size_t)rgb->height);
    for (int y = 0; packed && y < rgb->height; y++) memcpy(packed + (size_t)y * row, rgb->data[0] + (ptrdiff_t)y * rgb->linesize[0], row);
    int err = packed ? p->o->cell(p->o->user, column, p->n_rows, seconds, rgb->width, rgb->height, packed) : UF_ENOMEM;
    free(packed);
    av_frame_free(&rgb);
    return err;
}

static int on_frame(void *user, const AVFrame *f, int64_t number) {
    preview *p = user;
    AVRational base = uf_reader_format(p->reader)->streams[uf_reader_video(p->reader)]->time_base;
    double seconds = f->pts == AV_NOPTS_VALUE ? 0 : (double)f->pts * av_q2d(base);
    if (p->n_rows >= p->o->n || (p->every > 1 && number / p->every % 2 == 0)) return UF_OK; /* the middles of n equal parts */
    for (int i = 0; i < p->n_looks; i++) {
        look *l = &p->looks[i];
        UF_TRY(uf_canvas_luma(l->canvas, f, l->luma));
        UF_TRY(uf_colorizer_run(l->colorizer, l->luma, l->chroma));
        uf_halve(l->luma, l->w, l->small, l->w, l->h);
    }
    for (int i = 0; i < p->o->n_settings; i++)
        UF_TRY(show(p, look_of(p, p->o->settings[i].size), f, i, p->o->settings[i].strength, seconds));
    p->n_rows++;
    return UF_OK;
}

static int run(preview *p, const char *film) {
    UF_TRY(uf_reader_open(&p->reader, p->ctx, film));
    for (int i = 0; i < p->o->n_settings; i++)
        if (!look_of(p, p->o->settings[i].size)) UF_TRY(open_look(p, p->o->settings[i].size));
    int64_t total = uf_reader_n_frames(p->reader);
    p->every = total <= 0 ? BLIND_STRIDE : total < 2 * p->o->n ? 1 : total / (2 * p->o->n);
    return uf_walk(p->ctx, p->reader, &(uf_walk_options){ .every = p->every, .on = on_frame, .user = p, .progress = p->o->progress,
                                                          .progress_user = p->o->user });
}

int uf_preview(uf_ctx *ctx, const char *film, const uf_preview_options *o, int *n_rows) {
    preview p = { .ctx = ctx, .o = o };
    int err = run(&p, film);
    for (int i = 0; i < p.n_looks; i++) close_look(&p.looks[i]);
    uf_reader_close(&p.reader);
    if (err == UF_OK && p.n_rows == 0) err = uf_fail(ctx, UF_EDATA, "'%s' is too short to be shown; colour it as it is", film);
    if (err == UF_OK) *n_rows = p.n_rows;
    return err;
}

/* Two versions of a film, frame by frame, for a report. */
#include "media.h"
#include "motion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640 };

typedef struct side {
    const char *path;
    uf_reader *reader;
    AVFrame *frame; /* full range YCbCr 4:2:0, BT.601, as JPEG has it */
    int64_t n;
} side;

typedef struct compare {
    uf_ctx *ctx;
    const uf_compare_options *o;
    side side[2];     /* before, after */
    AVCodecContext *jpeg;
    AVPacket *packet;
    uf_cuts cuts;
    float *luma;
    uint8_t *last;    /* chroma of the frame before, of the version after */
    int64_t total;
    uf_comparison *out;
} compare;

static int open_side(compare *c, side *s) {
    char filters[128];
    snprintf(filters, sizeof(filters), "scale=%d:-2:out_color_matrix=bt601:out_range=full,format=yuvj420p", WIDTH);
    return uf_reader_open_with(&s->reader, c->ctx, s->path, &(uf_reader_options){ .filters = filters });
}

/* The next frame, or NULL at the end. */
static int step(side *s) {
    int err = UF_OK;
    av_frame_free(&s->frame);
    while (err == UF_OK && !s->frame) {
        uf_item item = { 0 };
        if ((err = uf_reader_next(s->reader, &item)) < 0) break;
        s->frame = item.frame;
        item.frame = NULL;
        uf_item_clear(&item);
    }
    s->n += s->frame != NULL;
    return err == UF_EOF ? UF_OK : err;
}

static int open_jpeg(compare *c, const AVFrame *f) {
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
    c->jpeg = codec ? avcodec_alloc_context3(codec) : NULL;
    c->packet = av_packet_alloc();
    if (!c->jpeg || !c->packet) return uf_fail(c->ctx, UF_EUNSUPPORTED, "this FFmpeg writes no JPEG; install a full one");
    c->jpeg->width = f->width;
    c->jpeg->height = f->height;
    c->jpeg->pix_fmt = AV_PIX_FMT_YUVJ420P;
    c->jpeg->time_base = (AVRational){ 1, 25 };
    c->jpeg->flags |= AV_CODEC_FLAG_QSCALE;
    c->jpeg->global_quality = 3 * FF_QP2LAMBDA;
    int av = avcodec_open2(c->jpeg, codec, NULL);
    return av < 0 ? uf_fail(c->ctx, uf_av_code(av), "cannot make JPEG pictures of %dx%d", f->width, f->height) : UF_OK;
}

static int give(compare *c, AVFrame *f, uf_compare_kind kind, int64_t number, double seconds) {
    if (f->width != c->jpeg->width || f->height != c->jpeg->height)
        return uf_fail(c->ctx, UF_EINVAL, "'%s' and '%s' have not the same shape; give a film and what was made of it", c->side[0].path, c->side[1].path);
    f->pts = AV_NOPTS_VALUE;
    f->pict_type = AV_PICTURE_TYPE_NONE;
    f->quality = c->jpeg->global_quality;
    int av = avcodec_send_frame(c->jpeg, f);
    if (av >= 0) av = avcodec_receive_packet(c->jpeg, c->packet);
    if (av < 0) return uf_fail(c->ctx, uf_av_code(av), "cannot make a JPEG picture of frame %lld", (long long)number);
    int err = c->o->picture(c->o->user, kind, number, seconds, f->width, f->height, c->packet->data, (size_t)c->packet->size);
    av_packet_unref(c->packet);
    return err;
}

static double difference(const AVFrame *a, const AVFrame *b) {
    int64_t sum = 0;
    for (int y = 0; y < a->height; y++) {
        const uint8_t *p = a->data[0] + (ptrdiff_t)y * a->linesize[0], *q = b->data[0] + (ptrdiff_t)y * b->linesize[0];
        int line = 0;
        for (int x = 0; x < a->width; x++) line += abs(p[x] - q[x]);
        sum += line;
    }
    return (double)sum / ((double)a->width * a->height);
}

/* How far from grey, and how far from the frame before. */
static void chroma(compare *c, const AVFrame *f, double *strength, double *change) {
    int w = f->width / 2, h = f->height / 2;
    int64_t sum = 0, moved = 0;
    uint8_t *last = c->last;
    for (int p = 1; p < 3; p++)
        for (int y = 0; y < h; y++, last += w) {
            const uint8_t *row = f->data[p] + (ptrdiff_t)y * f->linesize[p];
            for (int x = 0; x < w; x++) {
                sum += abs(row[x] - 128);
                moved += abs(row[x] - last[x]);
            }
            memcpy(last, row, (size_t)w);
        }
    *strength = (double)sum / (2. * w * h);
    *change = (double)moved / (2. * w * h);
}

static bool begins(compare *c, const AVFrame *f) {
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) c->luma[(ptrdiff_t)y * f->width + x] = (float)f->data[0][(ptrdiff_t)y * f->linesize[0] + x] / 255;
    return uf_cuts_push(&c->cuts, c->luma, f->width, f->height, f->width);
}

static int on_pair(compare *c, int64_t number) {
    AVFrame *a = c->side[0].frame, *b = c->side[1].frame;
    AVRational base = uf_reader_format(c->side[0].reader)->streams[uf_reader_video(c->side[0].reader)]->time_base;
    double seconds = a->pts == AV_NOPTS_VALUE ? 0 : (double)a->pts * av_q2d(base), strength, change;
    if (a->width != b->width || a->height != b->height)
        return uf_fail(c->ctx, UF_EINVAL, "'%s' and '%s' have not the same shape; give a film and what was made of it", c->side[0].path, c->side[1].path);
    if (!c->jpeg) {
        UF_TRY(open_jpeg(c, a));
        c->luma = uf_alloc(c->ctx, (size_t)a->width * (size_t)a->height, sizeof(float));
        c->last = uf_alloc(c->ctx, (size_t)a->width * (size_t)a->height, 1);
        if (!c->luma || !c->last) return UF_ENOMEM;
    }
    uf_comparison *r = c->out;
    double d = difference(a, b);
    bool cut = begins(c, a);
    chroma(c, b, &strength, &change);
    r->n_pairs++;
    r->luma_difference += d;
    r->luma_worst = fmax(r->luma_worst, d);
    r->chroma += strength;
    r->n_steady += !cut;
    r->chroma_change += cut ? 0 : change;
    r->n_scenes += cut;
    if (cut && r->n_scenes <= c->o->most_scenes) UF_TRY(give(c, b, UF_COMPARE_SCENE, number, seconds));
    int64_t every = c->total > 2 * c->o->n_pairs ? c->total / (2 * c->o->n_pairs) : 1;
    bool middle = every == 1 || (number % every == 0 && number / every % 2 == 1); /* the middles of equal parts */
    if (!middle || r->n_shown >= c->o->n_pairs) return UF_OK;
    r->n_shown++;
    UF_TRY(give(c, a, UF_COMPARE_BEFORE, number, seconds));
    return give(c, b, UF_COMPARE_AFTER, number, seconds);
}

static int run(compare *c) {
    double began = uf_now();
    for (int i = 0; i < 2; i++) UF_TRY(open_side(c, &c->side[i]));
    c->total = uf_reader_n_frames(c->side[0].reader);
    for (int64_t number = 0;; number++) {
        for (int i = 0; i < 2; i++) UF_TRY(step(&c->side[i]));
        if (!c->side[0].frame && !c->side[1].frame) break;
        if (c->side[0].frame && c->side[1].frame) UF_TRY(on_pair(c, number));
        if (uf_ctx_cancelled(c->ctx)) return uf_fail(c->ctx, UF_EINTR, "stopped; no report was written");
        double seconds = uf_now() - began;
        uf_progress p = { .n_done = number + 1, .n_total = c->total, .seconds = seconds, .fps = (double)(number + 1) / (seconds + 1e-9) };
        if (c->o->progress) c->o->progress(c->o->user, &p);
    }
    return UF_OK;
}

int uf_compare(uf_ctx *ctx, const char *before, const char *after, const uf_compare_options *o, uf_comparison *out) {
    uf_comparison result = { 0 };
    compare c = { .ctx = ctx, .o = o, .side = { { .path = before }, { .path = after } }, .out = &result };
    int err = run(&c);
    if (err == UF_OK && result.n_pairs == 0) err = uf_fail(ctx, UF_EDATA, "'%s' and '%s' have no frames to compare", before, after);
    if (err == UF_OK) {
        result.n_before = c.side[0].n;
        result.n_after = c.side[1].n;
        result.luma_difference /= (double)result.n_pairs;
        result.chroma /= (double)result.n_pairs;
        result.chroma_change /= (double)(result.n_steady ? result.n_steady : 1);
        *out = result;
    }
    for (int i = 0; i < 2; i++) {
        av_frame_free(&c.side[i].frame);
        uf_reader_close(&c.side[i].reader);
    }
    avcodec_free_context(&c.jpeg);
    av_packet_free(&c.packet);
    free(c.luma);
    free(c.last);
    return err;
}

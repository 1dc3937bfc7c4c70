/* Between a film's frames and the network's planes. The source's luma samples are copied; only chroma is made. */
#include "media.h"
#include "zscale.h"

#include <stdlib.h>
#include <string.h>

typedef struct buffer { /* one plane of 8- or 16-bit samples, or floats */
    uint8_t *data;
    size_t stride; /* bytes, multiple of 64 */
} buffer;

struct uf_canvas {
    uf_ctx *ctx;
    uf_target target;
    const AVPixFmtDescriptor *from, *to;
    int format, w, h, net_w, net_h;
    int cw, ch;            /* chroma planes of the target */
    bool rgb_in, rgb_out;
    int in_depth;          /* of rgb planes or of luma as read, 8..16 */
    int luma_depth;        /* of `luma` */
    bool luma_full;
    buffer rgb[3], luma, deep, guide, cb, cr, out[3];
    uint16_t *line;
    uf_zscale *to_grey, *to_net, *to_guide, *to_out, *to_luma;
    uf_guided *guided;
};

static int buffer_open(uf_ctx *ctx, buffer *b, int w, int h, int bytes) {
    b->stride = ((size_t)w * (size_t)bytes + 63) / 64 * 64;
    b->data = uf_alloc(ctx, (size_t)h + 1, b->stride); /* one row to spare: zimg reads whole vectors */
    return b->data ? UF_OK : UF_ENOMEM;
}

static uf_plane plane(const buffer *b) {
    return (uf_plane){ b->data, (ptrdiff_t)b->stride };
}

static int check_format(uf_ctx *ctx, const AVPixFmtDescriptor *d) {
    uint64_t odd = AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER | AV_PIX_FMT_FLAG_HWACCEL;
    if ((d->flags & odd) || d->comp[0].depth > 16)
        return uf_fail(ctx, UF_EUNSUPPORTED, "cannot colour pixel format '%s'; convert the input to 8 to 16 bit integers first",
                       d->name);
    return UF_OK;
}

static int open_buffers(uf_canvas *c) {
    int in = c->in_depth > 8 ? 2 : 1, luma = c->luma_depth > 8 ? 2 : 1, out = c->to->comp[0].depth > 8 ? 2 : 1;
    for (int i = 0; i < 3; i++) {
        if (c->rgb_in) UF_TRY(buffer_open(c->ctx, &c->rgb[i], c->w, c->h, in));
        UF_TRY(buffer_open(c->ctx, &c->out[i], c->cw, c->ch, out));
    }
    UF_TRY(buffer_open(c->ctx, &c->luma, c->w, c->h, luma));
    UF_TRY(buffer_open(c->ctx, &c->deep, c->w, c->h, 2));
    UF_TRY(buffer_open(c->ctx, &c->guide, c->cw, c->ch, 4));
    UF_TRY(buffer_open(c->ctx, &c->cb, c->cw, c->ch, 4));
    UF_TRY(buffer_open(c->ctx, &c->cr, c->cw, c->ch, 4));
    c->line = uf_alloc(c->ctx, (size_t)c->w, sizeof(*c->line));
    return c->line ? UF_OK : UF_ENOMEM;
}

/* Distance of the target's chroma samples from the centres of their blocks of luma, in chroma samples. */
static void find_shift(const uf_canvas *c, double *x, double *y) {
    int left = 128, top = 128;
    if (avcodec_enum_to_chroma_pos(&left, &top, c->target.location) < 0) left = 0, top = 128;
    *x = c->to->log2_chroma_w && !c->rgb_out ? (left - 128) / 512.0 : 0;
    *y = c->to->log2_chroma_h && !c->rgb_out ? (top - 128) / 512.0 : 0;
}

static int open_graphs(uf_canvas *c) {
    double sx, sy;
    int out_depth = c->to->comp[0].depth;
    bool out_full = c->target.range == AVCOL_RANGE_JPEG;
    uf_image luma = { c->w, c->h, UF_GREY, c->luma_depth, c->luma_full, 2, 0, 0 };
    uf_image rgb = { c->w, c->h, UF_RGB_PLANAR, c->in_depth, true, 0, 0, 0 };
    uf_image net = { c->net_w, c->net_h, UF_GREY, 0, true, 2, 0, 0 };
    uf_image guide = { c->cw, c->ch, UF_GREY, 0, true, 2, 0, 0 };
    uf_image chroma = { c->cw, c->ch, UF_YUV444, 0, true, AVCOL_SPC_SMPTE170M, 0, 0 };
    uf_image out = { c->cw, c->ch, c->rgb_out ? UF_RGB_PLANAR : UF_YUV444, out_depth, out_full, c->target.matrix, 0, 0 };
    uf_image flat = { c->w, c->h, UF_GREY, out_depth, out_full, 2, 0, 0 };
    if (c->rgb_in) {
        uf_image grey = luma;
        grey.matrix = c->rgb_out ? AVCOL_SPC_SMPTE170M : c->target.matrix;
        UF_TRY(uf_zscale_open(&c->to_grey, c->ctx, &rgb, &grey, false));
    } else if (!c->rgb_out && (c->luma_depth != out_depth || c->luma_full != out_full)) {
        UF_TRY(uf_zscale_open(&c->to_luma, c->ctx, &luma, &flat, out_depth < c->luma_depth));
    }
    UF_TRY(uf_zscale_open(&c->to_net, c->ctx, &luma, &net, false));
    find_shift(c, &sx, &sy);
    luma.left = sx * c->w / c->cw;
    luma.top = sy * c->h / c->ch;
    UF_TRY(uf_zscale_open(&c->to_guide, c->ctx, &luma, &guide, false));
    UF_TRY(uf_zscale_open(&c->to_out, c->ctx, &chroma, &out, false));
    return uf_guided_open(&c->guided, c->ctx, c->net_w / 2, c->net_h / 2, c->cw, c->ch, (float)sx, (float)sy);
}

int uf_canvas_open(uf_canvas **out, uf_ctx *ctx, const AVFrame *source, const uf_target *target, int net_w, int net_h) {
    int err;
    uf_canvas *c = uf_alloc(ctx, 1, sizeof(*c));
    if (!c) return UF_ENOMEM;
    c->ctx = ctx;
    c->target = *target;
    c->format = source->format;
    c->from = av_pix_fmt_desc_get(source->format);
    c->to = av_pix_fmt_desc_get(target->format);
    c->w = source->width;
    c->h = source->height;
    c->net_w = net_w;
    c->net_h = net_h;
    c->rgb_in = uf_format_is_rgb(source->format);
    c->rgb_out = uf_format_is_rgb(target->format);
    c->cw = c->rgb_out ? c->w : AV_CEIL_RSHIFT(c->w, c->to->log2_chroma_w);
    c->ch = c->rgb_out ? c->h : AV_CEIL_RSHIFT(c->h, c->to->log2_chroma_h);
    c->in_depth = c->from->flags & AV_PIX_FMT_FLAG_PAL || c->from->comp[0].depth < 8 ? 8 : c->from->comp[0].depth;
    c->luma_depth = !c->rgb_in ? c->in_depth : c->rgb_out ? 16 : c->to->comp[0].depth;
    c->luma_full = c->rgb_in ? target->range == AVCOL_RANGE_JPEG : uf_frame_range(source) == AVCOL_RANGE_JPEG;
    if ((err = check_format(ctx, c->from)) == UF_OK && (err = open_buffers(c)) == UF_OK) err = open_graphs(c);
    if (err < 0) uf_canvas_close(&c);
    else *out = c;
    return err;
}

void uf_canvas_close(uf_canvas **canvas) {
    uf_canvas *c = canvas ? *canvas : NULL;
    buffer *buffers[] = { c ? &c->luma : NULL, c ? &c->deep : NULL, c ? &c->guide : NULL, c ? &c->cb : NULL, c ? &c->cr : NULL };
    if (!c) return;
    for (int i = 0; i < UF_LEN(buffers); i++) free(buffers[i]->data);
    for (int i = 0; i < 3; i++) {
        free(c->rgb[i].data);
        free(c->out[i].data);
    }
    free(c->line);
    uf_zscale_close(&c->to_grey);
    uf_zscale_close(&c->to_net);
    uf_zscale_close(&c->to_guide);
    uf_zscale_close(&c->to_out);
    uf_zscale_close(&c->to_luma);
    uf_guided_close(&c->guided);
    free(c);
    *canvas = NULL;
}

/* A plane whose rows can be copied as they are. */
static bool plain(const AVPixFmtDescriptor *d, int comp) {
    const AVComponentDescriptor *k = &d->comp[comp];
    uint64_t odd = AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_PAL;
    bool foreign = k->depth > 8 && !(d->flags & AV_PIX_FMT_FLAG_BE) != !AV_HAVE_BIGENDIAN;
    return !(d->flags & odd) && !foreign && k->depth >= 8 && k->shift == 0 && k->offset == 0 && k->step == (k->depth > 8 ? 2 : 1);
}

/* Entry of a palette: a native-endian ARGB word; comp counts R, G, B, A. */
static uint8_t look_up(const AVFrame *f, int index, int comp) {
    static const int shift[] = { 16, 8, 0, 24 };
    return (uint8_t)(((const uint32_t *)(const void *)f->data[1])[index] >> shift[comp]);
}

/* One component of any integer format into b: bytes when its depth is 8 or less, else 16-bit words. */
static void read_component(const uf_canvas *c, const AVFrame *f, int comp, buffer *b) {
    const AVPixFmtDescriptor *d = c->from;
    bool pal = (d->flags & AV_PIX_FMT_FLAG_PAL) != 0;
    int from = pal ? 0 : comp, depth = d->comp[from].depth, index = d->comp[from].plane;
    for (int y = 0; y < c->h; y++) {
        uint8_t *row = b->data + (size_t)y * b->stride;
        if (plain(d, from)) {
            memcpy(row, f->data[index] + (ptrdiff_t)y * f->linesize[index], (size_t)c->w * (depth > 8 ? 2 : 1));
            continue;
        }
        av_read_image_line2(c->line, (const uint8_t **)f->data, f->linesize, d, 0, y, from, c->w, 0, 2);
        if (depth > 8) {
            memcpy(row, c->line, (size_t)c->w * 2);
            continue;
        }
        for (int x = 0; x < c->w; x++) {
            int v = depth < 8 ? c->line[x] * 255 / ((1 << depth) - 1) : c->line[x];
            row[x] = pal ? look_up(f, c->line[x], comp) : (uint8_t)(c->format == AV_PIX_FMT_MONOWHITE ? 255 - v : v);
        }
    }
}

static void write_component(const uf_canvas *c, AVFrame *f, int comp, const buffer *b, int w, int h, int depth) {
    int plane_index = c->to->comp[comp].plane, to_depth = c->to->comp[comp].depth;
    for (int y = 0; y < h; y++) {
        const uint8_t *row = b->data + (size_t)y * b->stride;
        if (plain(c->to, comp) && depth == to_depth) {
            memcpy(f->data[plane_index] + (ptrdiff_t)y * f->linesize[plane_index], row, (size_t)w * (depth > 8 ? 2 : 1));
            continue;
        }
        for (int x = 0; x < w; x++) {
            int v = depth > 8 ? ((const uint16_t *)(const void *)row)[x] : row[x];
            c->line[x] = (uint16_t)((int64_t)v * ((1 << to_depth) - 1) / ((1 << depth) - 1));
        }
        av_write_image_line2(c->line, f->data, f->linesize, c->to, 0, y, comp, w, 2);
    }
}

/* The source's brightness, into c->luma. */
static int read_luma(uf_canvas *c, const AVFrame *source) {
    uf_plane luma = plane(&c->luma), rgb[3];
    if (!c->rgb_in) {
        read_component(c, source, 0, &c->luma);
        return UF_OK;
    }
    for (int i = 0; i < 3; i++) {
        read_component(c, source, i, &c->rgb[i]);
        rgb[i] = plane(&c->rgb[i]);
    }
    return uf_zscale_run(c->to_grey, rgb, &luma);
}

int uf_canvas_luma(uf_canvas *c, const AVFrame *source, float *net_luma) {
    uf_plane luma = plane(&c->luma), net = { net_luma, (ptrdiff_t)c->net_w * 4 };
    UF_TRY(read_luma(c, source));
    UF_TRY(uf_zscale_run(c->to_net, &luma, &net));
    for (int i = 0; i < c->net_w * c->net_h; i++) /* bicubic rings; the network has seen [0,1] only */
        net_luma[i] = net_luma[i] < 0 ? 0 : net_luma[i] > 1 ? 1 : net_luma[i];
    return UF_OK;
}

/* FFmpeg's writer of packed samples sets bits and clears none, and memory comes back as it was left. */
static void clear(const uf_canvas *c, AVFrame *f) {
    bool all = true;
    for (int i = 0; i < c->to->nb_components; i++) all &= plain(c->to, i);
    for (int i = 0; i < UF_LEN(f->buf) && !all; i++)
        if (f->buf[i]) memset(f->buf[i]->data, 0, f->buf[i]->size);
}

static int new_frame(uf_canvas *c, const AVFrame *source, AVFrame **out) {
    AVFrame *f = av_frame_alloc();
    if (!f || av_frame_copy_props(f, source) < 0) goto fail;
    f->format = c->target.format;
    f->width = c->w;
    f->height = c->h;
    f->color_range = c->target.range;
    f->colorspace = c->target.matrix;
    f->pict_type = AV_PICTURE_TYPE_NONE;
    f->quality = 0;
    if (av_frame_get_buffer(f, 0) < 0) goto fail;
    clear(c, f);
    *out = f;
    return UF_OK;
fail:
    av_frame_free(&f);
    return uf_fail(c->ctx, UF_ENOMEM, "cannot make a frame of %dx%d: out of memory", c->w, c->h);
}

/* Luma into an YCbCr frame: the source's samples, unless the encoder asked for another depth or range. */
static int put_luma(uf_canvas *c, AVFrame *f) {
    uf_plane from = plane(&c->luma), to = plane(&c->deep);
    if (c->to_luma) UF_TRY(uf_zscale_run(c->to_luma, &from, &to));
    write_component(c, f, 0, c->to_luma ? &c->deep : &c->luma, c->w, c->h, c->to_luma ? c->to->comp[0].depth : c->luma_depth);
    return UF_OK;
}

static void put_alpha(uf_canvas *c, const AVFrame *source, AVFrame *f) {
    int from = c->from->flags & AV_PIX_FMT_FLAG_PAL ? 3 : c->from->nb_components - 1, to = c->to->nb_components - 1;
    if (!(c->to->flags & AV_PIX_FMT_FLAG_ALPHA)) return;
    read_component(c, source, from, &c->deep);
    write_component(c, f, to, &c->deep, c->w, c->h, c->in_depth);
}

int uf_canvas_paint(uf_canvas *c, const AVFrame *source, const float *small, const float *chroma, AVFrame **out) {
    uf_plane luma = plane(&c->luma), in[3] = { plane(&c->guide), plane(&c->cb), plane(&c->cr) };
    uf_plane to[3] = { plane(&c->out[0]), plane(&c->out[1]), plane(&c->out[2]) };
    int depth = c->to->comp[0].depth, err;
    AVFrame *f = NULL;
    UF_TRY(read_luma(c, source));
    UF_TRY(uf_zscale_run(c->to_guide, &luma, in));
    uf_guided_run(c->guided, small, chroma, in[0].data, c->guide.stride / sizeof(float), in[1].data, in[2].data);
    UF_TRY(uf_zscale_run(c->to_out, in, to));
    UF_TRY(new_frame(c, source, &f));
    err = c->rgb_out ? UF_OK : put_luma(c, f);
    for (int i = c->rgb_out ? 0 : 1; i < 3; i++) write_component(c, f, i, &c->out[i], c->cw, c->ch, depth);
    put_alpha(c, source, f);
    if (err < 0) av_frame_free(&f);
    else *out = f;
    return err;
}

int uf_canvas_open_png(uf_canvas **out, uf_ctx *ctx, const AVFrame *source, int net_w, int net_h) {
    const AVCodec *png = avcodec_find_encoder(AV_CODEC_ID_PNG);
    uf_target target;
    if (!png) return uf_fail(ctx, UF_EUNSUPPORTED, "this FFmpeg writes no PNG; install a full one");
    UF_TRY(uf_target_pick(&target, ctx, source, png, UF_SINK_PICTURE, true));
    return uf_canvas_open(out, ctx, source, &target, net_w, net_h);
}

/* Pictures from bytes: FFmpeg decodes, zimg crops, resizes and converts. */
#include "training.h"

#include <libavcodec/avcodec.h>
#include <libavutil/pixdesc.h>
#include <stdlib.h>
#include <string.h>
#include <zimg.h>

struct uf_decoder {
    uf_ctx *ctx;
    AVCodecContext *codec[4]; /* opened when first met */
    AVPacket *packet;
    AVFrame *frame;
    uint8_t *planar;          /* unpacked RGB */
    size_t n_planar;
    void *work;               /* zimg's */
    size_t n_work;
    float *out;               /* aligned planes for zimg */
    size_t n_out;
};

typedef struct kind {
    enum AVCodecID id;
    const char *magic;
    int n, at;
} kind;
static const kind kinds[4] = {
    {AV_CODEC_ID_MJPEG, "\xff\xd8\xff", 3, 0},
    {AV_CODEC_ID_PNG, "\x89PNG", 4, 0},
    {AV_CODEC_ID_WEBP, "WEBP", 4, 8},
    {AV_CODEC_ID_TIFF, "", 0, 0}, /* II*. or MM.*, see kind_of */
};

static int kind_of(const uint8_t *d, size_t n) {
    if (n < 16) return -1;
    for (int i = 0; i < 3; i++)
        if (!memcmp(d + kinds[i].at, kinds[i].magic, (size_t)kinds[i].n)) return i;
    return !memcmp(d, "II*\0", 4) || !memcmp(d, "MM\0*", 4) ? 3 : -1;
}

int uf_decoder_open(uf_decoder **out, uf_ctx *ctx) {
    uf_decoder *d = uf_alloc(ctx, 1, sizeof *d);
    if (!d) return UF_ENOMEM;
    d->ctx = ctx;
    d->packet = av_packet_alloc();
    d->frame = av_frame_alloc();
    if (!d->packet || !d->frame) {
        uf_decoder_close(&d);
        return uf_fail(ctx, UF_ENOMEM, "out of memory for a picture decoder");
    }
    *out = d;
    return UF_OK;
}

void uf_decoder_close(uf_decoder **pd) {
    uf_decoder *d = *pd;
    if (!d) return;
    for (int i = 0; i < 4; i++) avcodec_free_context(&d->codec[i]);
    av_packet_free(&d->packet);
    av_frame_free(&d->frame);
    free(d->planar);
    free(d->work);
    free(d->out);
    free(d);
    *pd = NULL;
}

static int codec_open(uf_decoder *d, int k) {
    if (d->codec[k]) return UF_OK;
    const AVCodec *c = avcodec_find_decoder(kinds[k].id);
    if (!c) return uf_fail(d->ctx, UF_EUNSUPPORTED, "this FFmpeg has no decoder for %s", avcodec_get_name(kinds[k].id));
    AVCodecContext *a = avcodec_alloc_context3(c);
    if (!a) return uf_fail(d->ctx, UF_ENOMEM, "out of memory for a picture decoder");
    a->thread_count = 1;
    a->err_recognition = AV_EF_EXPLODE;
    if (avcodec_open2(a, c, NULL) < 0) {
        avcodec_free_context(&a);
        return uf_fail(d->ctx, UF_EUNSUPPORTED, "FFmpeg cannot open its %s decoder", c->name);
    }
    d->codec[k] = a;
    return UF_OK;
}

int uf_decoder_decode(uf_decoder *d, const void *data, size_t n, int *w, int *h) {
    int k = kind_of(data, n);
    if (k < 0 || n > INT32_MAX / 2) return UF_EDATA;
    UF_TRY(codec_open(d, k));
    if (av_new_packet(d->packet, (int)n) < 0) return uf_fail(d->ctx, UF_ENOMEM, "out of memory for a picture");
    memcpy(d->packet->data, data, n);
    d->packet->flags |= AV_PKT_FLAG_KEY; /* or FFmpeg adds a PNG to the one before when they are of one size */
    av_frame_unref(d->frame);
    int err = avcodec_send_packet(d->codec[k], d->packet);
    av_packet_unref(d->packet);
    if (err >= 0) {
        err = avcodec_receive_frame(d->codec[k], d->frame);
        if (err == AVERROR(EAGAIN)) { /* a decoder with delay gives its picture when drained */
            avcodec_send_packet(d->codec[k], NULL);
            err = avcodec_receive_frame(d->codec[k], d->frame);
            avcodec_flush_buffers(d->codec[k]);
        }
    }
    if (err < 0) {
        avcodec_flush_buffers(d->codec[k]);
        return UF_EDATA;
    }
    /* zimg wants whole chroma samples: an odd last column or row is left out */
    const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(d->frame->format);
    if (desc) {
        d->frame->width &= ~((1 << desc->log2_chroma_w) - 1);
        d->frame->height &= ~((1 << desc->log2_chroma_h) - 1);
    }
    *w = d->frame->width;
    *h = d->frame->height;
    return *w >= 8 && *h >= 8 ? UF_OK : UF_EDATA;
}

/* Grows a buffer whose old content is not needed. */
static int room(uf_ctx *ctx, void **at, size_t *have, size_t want) {
    if (*have >= want) return UF_OK;
    free(*at);
    *have = 0;
    *at = uf_alloc(ctx, want, 1);
    if (!*at) return UF_ENOMEM;
    *have = want;
    return UF_OK;
}

/* The frame as zimg wants it: planar. Packed RGB is taken apart; everything else is planar already. */
typedef struct planes {
    const uint8_t *data[3];
    ptrdiff_t stride[3];
    bool grey, rgb;
    int depth, sub_w, sub_h;
    bool full;
} planes;

static int unpack(uf_decoder *d, const AVPixFmtDescriptor *desc, planes *p) {
    const AVFrame *f = d->frame;
    int bytes = desc->comp[0].depth > 8 ? 2 : 1;
    size_t stride = ((size_t)f->width * (size_t)bytes + 63) / 64 * 64;
    UF_TRY(room(d->ctx, (void **)&d->planar, &d->n_planar, 3 * stride * (size_t)f->height));
    for (int c = 0; c < 3; c++) {
        AVComponentDescriptor comp = desc->comp[desc->nb_components < 3 ? 0 : c];
        uint8_t *to = d->planar + (size_t)c * stride * (size_t)f->height;
        for (int y = 0; y < f->height; y++, to += stride) {
            const uint8_t *from = f->data[comp.plane] + (ptrdiff_t)y * f->linesize[comp.plane] + comp.offset;
            bool swap = bytes == 2 && (desc->flags & AV_PIX_FMT_FLAG_BE);
            for (int x = 0; x < f->width; x++)
                for (int b = 0; b < bytes; b++) to[x * bytes + b] = from[x * comp.step + (swap ? 1 - b : b)];
        }
        p->data[c] = d->planar + (size_t)c * stride * (size_t)f->height;
        p->stride[c] = (ptrdiff_t)stride;
    }
    return UF_OK;
}

static int planes_of(uf_decoder *d, planes *p) {
    const AVFrame *f = d->frame;
    const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(f->format);
    if (!desc || desc->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_FLOAT)) return UF_EDATA;
    p->depth = desc->comp[0].depth;
    p->sub_w = desc->log2_chroma_w;
    p->sub_h = desc->log2_chroma_h;
    p->rgb = desc->flags & AV_PIX_FMT_FLAG_RGB;
    p->grey = desc->nb_components < 3;
    bool be = p->depth > 8 && desc->flags & AV_PIX_FMT_FLAG_BE;
    p->full = p->rgb || f->color_range == AVCOL_RANGE_JPEG || strncmp(desc->name, "yuvj", 4) == 0 || p->grey;
    if ((!p->rgb && !p->grey && !be) || (desc->flags & AV_PIX_FMT_FLAG_PLANAR && !be && !p->grey)) {
        for (int c = 0; c < 3; c++) {
            p->data[c] = f->data[desc->comp[c].plane];
            p->stride[c] = f->linesize[desc->comp[c].plane];
        }
        return UF_OK;
    }
    return unpack(d, desc, p);
}

static int graph_run(uf_decoder *d, const zimg_image_format *from, const zimg_image_format *to,
                     const zimg_image_buffer_const *in, const zimg_image_buffer *out) {
    zimg_graph_builder_params params;
    zimg_graph_builder_params_default(&params, ZIMG_API_VERSION);
    params.resample_filter = params.resample_filter_uv = ZIMG_RESIZE_BICUBIC;
    params.cpu_type = ZIMG_CPU_AUTO_64B;
    zimg_filter_graph *g = zimg_filter_graph_build(from, to, &params);
    size_t n = 0;
    char why[256] = "";
    int err = UF_OK;
    if (!g || zimg_filter_graph_get_tmp_size(g, &n)) {
        zimg_get_last_error(why, sizeof why);
        err = uf_fail(d->ctx, UF_EUNSUPPORTED, "cannot convert a %ux%u picture: %s", from->width, from->height, why);
    }
    if (err == UF_OK) err = room(d->ctx, &d->work, &d->n_work, n + 64);
    if (err == UF_OK && zimg_filter_graph_process(g, in, out, d->work, NULL, NULL, NULL, NULL))
        err = uf_fail(d->ctx, UF_EUNSUPPORTED, "cannot convert a %ux%u picture", from->width, from->height);
    zimg_filter_graph_free(g);
    return err;
}

/* Full-range BT.601 4:2:0 in float: what the networks speak. */
static zimg_image_format planes_format(int w, int h, bool grey) {
    zimg_image_format f;
    zimg_image_format_default(&f, ZIMG_API_VERSION);
    f.width = (unsigned)w;
    f.height = (unsigned)h;
    f.pixel_type = ZIMG_PIXEL_FLOAT;
    f.subsample_w = f.subsample_h = grey ? 0 : 1;
    f.color_family = grey ? ZIMG_COLOR_GREY : ZIMG_COLOR_YUV;
    f.matrix_coefficients = ZIMG_MATRIX_BT470_BG;
    f.pixel_range = ZIMG_RANGE_FULL;
    f.chroma_location = ZIMG_CHROMA_CENTER;
    return f;
}

/* zimg wants aligned planes: strides of whole 64 bytes, in d->out. */
static int aligned(uf_decoder *d, int w, int h, bool grey, zimg_image_buffer *b) {
    size_t sy = ((size_t)w * 4 + 63) / 64 * 64, sc = ((size_t)w / 2 * 4 + 63) / 64 * 64;
    UF_TRY(room(d->ctx, (void **)&d->out, &d->n_out, sy * (size_t)h + 2 * sc * (size_t)(h / 2)));
    uint8_t *p = (uint8_t *)d->out;
    *b = (zimg_image_buffer){.version = ZIMG_API_VERSION};
    for (int c = 0; c < (grey ? 1 : 3); c++) {
        b->plane[c].data = p;
        b->plane[c].stride = (ptrdiff_t)(c ? sc : sy);
        b->plane[c].mask = ZIMG_BUFFER_MAX;
        p += c ? sc * (size_t)(h / 2) : sy * (size_t)h;
    }
    return UF_OK;
}

static void copy_plane(const zimg_image_buffer *b, int c, int w, int h, float *dense, bool in) {
    for (int y = 0; y < h; y++) {
        uint8_t *row = (uint8_t *)b->plane[c].data + (ptrdiff_t)y * b->plane[c].stride;
        if (in) memcpy(row, dense + (size_t)y * (size_t)w, (size_t)w * sizeof *dense);
        else memcpy(dense + (size_t)y * (size_t)w, row, (size_t)w * sizeof *dense);
    }
}

int uf_decoder_planes(uf_decoder *d, double x, double y, double rw, double rh, int w, int h, float *luma,
                      float *chroma) {
    planes p = {0};
    UF_TRY(planes_of(d, &p));
    zimg_image_format from, to = planes_format(w, h, p.grey);
    zimg_image_format_default(&from, ZIMG_API_VERSION);
    from.width = (unsigned)d->frame->width;
    from.height = (unsigned)d->frame->height;
    from.pixel_type = p.depth > 8 ? ZIMG_PIXEL_WORD : ZIMG_PIXEL_BYTE;
    from.depth = (unsigned)p.depth;
    from.subsample_w = p.grey || p.rgb ? 0 : (unsigned)p.sub_w;
    from.subsample_h = p.grey || p.rgb ? 0 : (unsigned)p.sub_h;
    from.color_family = p.grey ? ZIMG_COLOR_GREY : p.rgb ? ZIMG_COLOR_RGB : ZIMG_COLOR_YUV;
    from.matrix_coefficients = p.rgb ? ZIMG_MATRIX_RGB : ZIMG_MATRIX_BT470_BG;
    from.pixel_range = p.full ? ZIMG_RANGE_FULL : ZIMG_RANGE_LIMITED;
    from.chroma_location = ZIMG_CHROMA_CENTER;
    from.active_region.left = x;
    from.active_region.top = y;
    from.active_region.width = rw;
    from.active_region.height = rh;
    zimg_image_buffer out;
    UF_TRY(aligned(d, w, h, p.grey, &out));
    zimg_image_buffer_const in = {.version = ZIMG_API_VERSION};
    for (int c = 0; c < (p.grey ? 1 : 3); c++) {
        in.plane[c].data = p.data[c];
        in.plane[c].stride = p.stride[c];
        in.plane[c].mask = ZIMG_BUFFER_MAX;
    }
    UF_TRY(graph_run(d, &from, &to, &in, &out));
    copy_plane(&out, 0, w, h, luma, false);
    size_t n = (size_t)(w / 2) * (size_t)(h / 2);
    for (int c = 1; c < 3; c++) {
        float *to_c = chroma + (size_t)(c - 1) * n;
        if (p.grey) memset(to_c, 0, n * sizeof *to_c);
        else copy_plane(&out, c, w / 2, h / 2, to_c, false);
    }
    return UF_OK;
}

int uf_decoder_rgb(uf_decoder *d, int w, int h, const float *luma, const float *chroma, uint8_t *rgb) {
    zimg_image_format from = planes_format(w, h, false), to;
    zimg_image_format_default(&to, ZIMG_API_VERSION);
    to.width = (unsigned)w;
    to.height = (unsigned)h;
    to.pixel_type = ZIMG_PIXEL_BYTE;
    to.color_family = ZIMG_COLOR_RGB;
    to.matrix_coefficients = ZIMG_MATRIX_RGB;
    to.pixel_range = ZIMG_RANGE_FULL;
    zimg_image_buffer in_b, out = {.version = ZIMG_API_VERSION};
    UF_TRY(aligned(d, w, h, false, &in_b));
    size_t n = (size_t)(w / 2) * (size_t)(h / 2), stride = ((size_t)w + 63) / 64 * 64;
    copy_plane(&in_b, 0, w, h, (float *)(uintptr_t)luma, true);
    for (int c = 1; c < 3; c++) copy_plane(&in_b, c, w / 2, h / 2, (float *)(uintptr_t)chroma + (size_t)(c - 1) * n, true);
    UF_TRY(room(d->ctx, (void **)&d->planar, &d->n_planar, 3 * stride * (size_t)h));
    zimg_image_buffer_const in = {.version = ZIMG_API_VERSION};
    for (int c = 0; c < 3; c++) {
        in.plane[c].data = in_b.plane[c].data;
        in.plane[c].stride = in_b.plane[c].stride;
        in.plane[c].mask = ZIMG_BUFFER_MAX;
        out.plane[c].data = d->planar + (size_t)c * stride * (size_t)h;
        out.plane[c].stride = (ptrdiff_t)stride;
        out.plane[c].mask = ZIMG_BUFFER_MAX;
    }
    UF_TRY(graph_run(d, &from, &to, &in, &out));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                rgb[3 * ((size_t)y * (size_t)w + (size_t)x) + (size_t)c] =
                    d->planar[((size_t)c * (size_t)h + (size_t)y) * stride + (size_t)x];
    return UF_OK;
}

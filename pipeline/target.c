/* Which pixel format, range and matrix the encoder is handed. */
#include "media.h"

#include <libavutil/avstring.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool uf_format_is_rgb(enum AVPixelFormat format) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    return d && (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL));
}

static bool is_grey(const AVPixFmtDescriptor *d) {
    return !(d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) && d->nb_components <= 2;
}

/* FFmpeg's conventions: yuvj and untagged grey are full range, other untagged YCbCr is limited. */
enum AVColorRange uf_frame_range(const AVFrame *f) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    if (uf_format_is_rgb(f->format) || av_strstart(d->name, "yuvj", NULL)) return AVCOL_RANGE_JPEG;
    if (f->color_range != AVCOL_RANGE_UNSPECIFIED) return f->color_range;
    return is_grey(d) ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
}

enum AVColorSpace uf_frame_matrix(const AVFrame *f) {
    switch (f->colorspace) {
    case AVCOL_SPC_BT709:
    case AVCOL_SPC_FCC:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_SMPTE240M:
    case AVCOL_SPC_YCGCO:
    case AVCOL_SPC_BT2020_NCL: return f->colorspace;
    case AVCOL_SPC_BT2020_CL:
    case AVCOL_SPC_ICTCP: return AVCOL_SPC_BT2020_NCL;
    default: break;
    }
    if (f->height >= 720 || f->width >= 1280) return AVCOL_SPC_BT709;
    return f->height == 576 || f->height == 288 ? AVCOL_SPC_BT470BG : AVCOL_SPC_SMPTE170M;
}

/* Looks at every eighth row for chroma away from its middle, or for red unlike green and blue. */
bool uf_frame_has_colour(const AVFrame *f) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    bool rgb = (d->flags & AV_PIX_FMT_FLAG_RGB) != 0;
    int w = rgb ? f->width : AV_CEIL_RSHIFT(f->width, d->log2_chroma_w);
    int h = rgb ? f->height : AV_CEIL_RSHIFT(f->height, d->log2_chroma_h);
    uint16_t a[256], b[256];
    double sum = 0, n = 0;
    if (is_grey(d) || (d->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_FLOAT))) return false;
    w = w > UF_LEN(a) ? UF_LEN(a) : w;
    for (int y = 0; y < h; y += 8) {
        av_read_image_line2(a, (const uint8_t **)f->data, f->linesize, d, 0, y, rgb ? 0 : 1, w, 0, 2);
        av_read_image_line2(b, (const uint8_t **)f->data, f->linesize, d, 0, y, rgb ? 1 : 2, w, 0, 2);
        for (int x = 0; x < w; x++) {
            double middle = 1 << (d->comp[1].depth - 1);
            sum += rgb ? abs(a[x] - b[x]) / middle : (fabs(a[x] - middle) + fabs(b[x] - middle)) / middle;
        }
        n += w;
    }
    return n > 0 && sum / n > 0.02;
}

static bool takes(const AVCodec *codec, enum AVPixelFormat format) {
    if (format == AV_PIX_FMT_NONE) return false;
    if (!codec->pix_fmts) return true;
    for (const enum AVPixelFormat *p = codec->pix_fmts; *p != AV_PIX_FMT_NONE; p++)
        if (*p == format) return true;
    return false;
}

static enum AVPixelFormat yuv_format(const AVCodec *codec, int sub, int depth, bool alpha) {
    char name[32];
    if (alpha) {
        snprintf(name, sizeof(name), depth > 8 ? "yuva%dp%d%s" : "yuva%dp", sub, depth, AV_HAVE_BIGENDIAN ? "be" : "le");
        return takes(codec, av_get_pix_fmt(name)) ? av_get_pix_fmt(name) : AV_PIX_FMT_NONE;
    }
    snprintf(name, sizeof(name), "yuvj%dp", sub); /* JPEG is full range: its encoder takes no other */
    if (codec->id == AV_CODEC_ID_MJPEG && depth == 8 && takes(codec, av_get_pix_fmt(name))) return av_get_pix_fmt(name);
    snprintf(name, sizeof(name), depth > 8 ? "yuv%dp%d%s" : "yuv%dp", sub, depth, AV_HAVE_BIGENDIAN ? "be" : "le");
    return takes(codec, av_get_pix_fmt(name)) ? av_get_pix_fmt(name) : AV_PIX_FMT_NONE;
}

/* The source's depth, else the next deeper (exact), else the next shallower; its subsampling, else 4:2:0, else finer. */
static enum AVPixelFormat pick_yuv(const AVCodec *codec, int sub, int depth, bool alpha) {
    static const int depths[] = { 8, 9, 10, 12, 14, 16 };
    const int subs[] = { sub, 420, 422, 444 };
    enum AVPixelFormat f;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < UF_LEN(depths); i++) {
            int d = depths[pass ? UF_LEN(depths) - 1 - i : i];
            if ((d >= depth) == (pass == 1)) continue;
            for (int s = 0; s < UF_LEN(subs); s++)
                if ((f = yuv_format(codec, subs[s], d, alpha)) != AV_PIX_FMT_NONE) return f;
        }
    return AV_PIX_FMT_NONE;
}

static enum AVPixelFormat pick_rgb(const AVCodec *codec, int depth, bool alpha) {
    static const enum AVPixelFormat list[][2] = {
        { AV_PIX_FMT_RGB24, AV_PIX_FMT_RGBA }, { AV_PIX_FMT_RGB48BE, AV_PIX_FMT_RGBA64BE },
        { AV_PIX_FMT_RGB48LE, AV_PIX_FMT_RGBA64LE } };
    for (int i = depth > 8 ? 1 : 0; i < UF_LEN(list); i++)
        if (takes(codec, list[i][alpha])) return list[i][alpha];
    return takes(codec, list[0][alpha]) ? list[0][alpha] : takes(codec, AV_PIX_FMT_RGB24) ? AV_PIX_FMT_RGB24 : AV_PIX_FMT_NONE;
}

/* VP8 and VP9 put transparency into a second film beside the first, which few players and not FFmpeg's own decoders read. */
static bool keeps_alpha(const AVCodec *codec) {
    return codec->id != AV_CODEC_ID_VP8 && codec->id != AV_CODEC_ID_VP9;
}

/* What an input leaves open is settled by rule, and said: most complaints about wrong colours begin here. */
static void tell_settled(uf_ctx *ctx, const AVFrame *source, const uf_target *t) {
    bool matrix = source->colorspace == AVCOL_SPC_UNSPECIFIED && !uf_format_is_rgb(source->format);
    bool range = source->color_range == AVCOL_RANGE_UNSPECIFIED && !uf_format_is_rgb(source->format) &&
        !av_strstart(av_pix_fmt_desc_get(source->format)->name, "yuvj", NULL);
    if (matrix)
        uf_log(ctx, UF_LOG_INFO, "the film does not say which matrix its colours are in: %s is taken, the rule for %dx%d", av_color_space_name(t->matrix),
               source->width, source->height);
    if (range)
        uf_log(ctx, UF_LOG_INFO, "the film does not say whether its brightness has full or limited range: %s is taken, the rule for %s",
               uf_frame_range(source) == AVCOL_RANGE_JPEG ? "full" : "limited", av_get_pix_fmt_name(source->format));
}

static int subsampling(const AVPixFmtDescriptor *d) {
    if (is_grey(d) || (d->log2_chroma_w == 1 && d->log2_chroma_h == 1)) return 420;
    if (d->log2_chroma_w == 1 && d->log2_chroma_h == 0) return 422;
    return d->log2_chroma_w == 0 && d->log2_chroma_h == 0 ? 444 : 420;
}

int uf_target_pick(uf_target *out, uf_ctx *ctx, const AVFrame *source, const AVCodec *codec, uf_sink sink,
                   bool takes_full) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(source->format);
    bool picture = sink == UF_SINK_PICTURE || sink == UF_SINK_SEQUENCE, rgb = uf_format_is_rgb(source->format);
    bool alpha = (d->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
    int depth = d->comp[0].depth < 8 ? 8 : d->comp[0].depth;
    int sub = rgb ? (picture ? 444 : 420) : subsampling(d);
    bool needs_even = codec->id == AV_CODEC_ID_H264 || codec->id == AV_CODEC_ID_HEVC;
    uf_target t = { AV_PIX_FMT_NONE, uf_frame_range(source), uf_frame_matrix(source), source->chroma_location };
    if (needs_even && sub != 444 && (source->width % 2 || source->height % 2)) {
        uf_log(ctx, UF_LOG_WARN, "encoder '%s' takes odd sizes in 4:4:4 only, which not every player shows: %dx%d is kept so",
               codec->name, source->width, source->height);
        sub = 444;
    }
    if (picture && takes(codec, AV_PIX_FMT_RGB24)) t.format = pick_rgb(codec, depth, alpha);
    else if (codec->id == AV_CODEC_ID_WEBP && alpha) t.format = AV_PIX_FMT_YUVA420P;
    else if (alpha && keeps_alpha(codec)) t.format = pick_yuv(codec, sub, depth, true);
    if (t.format == AV_PIX_FMT_NONE) t.format = pick_yuv(codec, sub, depth, false);
    if (t.format == AV_PIX_FMT_NONE)
        return uf_fail(ctx, UF_EUNSUPPORTED, "encoder '%s' takes no YCbCr picture; use --codec libx264", codec->name);
    d = av_pix_fmt_desc_get(t.format);
    if (d->comp[0].depth < depth)
        uf_log(ctx, UF_LOG_WARN, "encoder '%s' takes %d bits, not %d: luma is dithered", codec->name, d->comp[0].depth, depth);
    if (alpha && !(d->flags & AV_PIX_FMT_FLAG_ALPHA))
        uf_log(ctx, UF_LOG_WARN, "encoder '%s' takes no transparency: it is left out", codec->name);
    if (t.location == AVCHROMA_LOC_UNSPECIFIED) t.location = picture ? AVCHROMA_LOC_CENTER : AVCHROMA_LOC_LEFT;
    if (uf_format_is_rgb(t.format)) {
        t.range = AVCOL_RANGE_JPEG;
        t.matrix = AVCOL_SPC_RGB;
    } else if (codec->id == AV_CODEC_ID_WEBP) {
        t.range = AVCOL_RANGE_MPEG;
        t.matrix = AVCOL_SPC_BT470BG;
    } else if (rgb) {
        t.range = AVCOL_RANGE_MPEG;
    } else if (!takes_full && t.range == AVCOL_RANGE_JPEG) {
        uf_log(ctx, UF_LOG_WARN, "encoder '%s' cannot say in this file that luma has full range: it is converted to limited; "
               "an .mkv file keeps it as it is", codec->name);
        t.range = AVCOL_RANGE_MPEG;
    } else if (av_strstart(d->name, "yuvj", NULL)) {
        t.matrix = picture ? AVCOL_SPC_BT470BG : t.matrix; /* JFIF */
    }
    if (sink == UF_SINK_FILM) tell_settled(ctx, source, &t);
    *out = t;
    return UF_OK;
}

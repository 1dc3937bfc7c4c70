#include "media.h"

#include <stdlib.h>

static void copy(char *to, size_t n, const char *from) {
    snprintf(to, n, "%s", from ? from : "unknown");
}

static const char *tag(const AVDictionary *d, const char *key) {
    const AVDictionaryEntry *e = av_dict_get(d, key, NULL, 0);
    return e ? e->value : "";
}

static const char *field_order(enum AVFieldOrder order) {
    static const char *const names[] = { "unknown", "progressive", "tt", "bb", "tb", "bt" };
    return (unsigned)order < UF_LEN(names) ? names[order] : "unknown";
}

static void fill_video(uf_stream_info *s, const AVStream *st) {
    const AVCodecParameters *p = st->codecpar;
    AVRational rate = st->avg_frame_rate.num ? st->avg_frame_rate : st->r_frame_rate;
    s->w = p->width;
    s->h = p->height;
    s->fps = rate.num && rate.den ? av_q2d(rate) : 0;
    s->n_frames = st->nb_frames;
    /* the container's word goes before the codec's; Matroska has no other */
    AVRational sar = st->sample_aspect_ratio.num ? st->sample_aspect_ratio : p->sample_aspect_ratio;
    s->sar_num = sar.num;
    s->sar_den = sar.num ? sar.den : 1;
    copy(s->format, sizeof(s->format), av_get_pix_fmt_name(p->format));
    copy(s->range, sizeof(s->range), av_color_range_name(p->color_range));
    copy(s->matrix, sizeof(s->matrix), av_color_space_name(p->color_space));
    copy(s->primaries, sizeof(s->primaries), av_color_primaries_name(p->color_primaries));
    copy(s->transfer, sizeof(s->transfer), av_color_transfer_name(p->color_trc));
    copy(s->field_order, sizeof(s->field_order), field_order(p->field_order));
    s->cover = (st->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
}

static void fill_stream(uf_stream_info *s, const AVStream *st) {
    const AVCodecParameters *p = st->codecpar;
    s->index = st->index;
    copy(s->kind, sizeof(s->kind), av_get_media_type_string(p->codec_type));
    copy(s->codec, sizeof(s->codec), avcodec_get_name(p->codec_id));
    copy(s->language, sizeof(s->language), tag(st->metadata, "language"));
    copy(s->title, sizeof(s->title), tag(st->metadata, "title"));
    if (st->duration != AV_NOPTS_VALUE) s->seconds = (double)st->duration * av_q2d(st->time_base);
    if (p->codec_type == AVMEDIA_TYPE_VIDEO) fill_video(s, st);
    if (p->codec_type == AVMEDIA_TYPE_AUDIO) {
        s->rate = p->sample_rate;
        s->channels = p->ch_layout.nb_channels;
        copy(s->format, sizeof(s->format), av_get_sample_fmt_name(p->format));
    }
}

int uf_media_info_open(uf_media_info **out, uf_ctx *ctx, const char *path) {
    AVFormatContext *fmt = NULL;
    uf_media_info *info = uf_alloc(ctx, 1, sizeof(*info));
    int err = info ? uf_av_open(&fmt, ctx, path) : UF_ENOMEM;
    if (err < 0) goto end;
    copy(info->container, sizeof(info->container), fmt->iformat->name);
    info->seconds = fmt->duration != AV_NOPTS_VALUE ? (double)fmt->duration / AV_TIME_BASE : 0;
    info->bytes = fmt->pb && avio_size(fmt->pb) > 0 ? avio_size(fmt->pb) : 0;
    info->bit_rate = (double)fmt->bit_rate;
    info->n_chapters = (int)fmt->nb_chapters;
    info->streams = uf_alloc(ctx, fmt->nb_streams + 1, sizeof(*info->streams));
    if (!info->streams) {
        err = UF_ENOMEM;
        goto end;
    }
    info->n_streams = (int)fmt->nb_streams;
    for (int i = 0; i < info->n_streams; i++) fill_stream(&info->streams[i], fmt->streams[i]);
    *out = info;
    info = NULL;
    err = UF_OK;
end:
    avformat_close_input(&fmt);
    uf_media_info_close(&info);
    return err;
}

void uf_media_info_close(uf_media_info **info) {
    if (!info || !*info) return;
    free((*info)->streams);
    free(*info);
    *info = NULL;
}

/* Encoding and muxing: films and pipes through libavformat; pictures and sequences in writer_picture.c. */
#include "tags.h"
#include "writer.h"

#include <libavutil/avstring.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


typedef struct picture_kind {
    const char *extension, *codec;
} picture_kind;
static const picture_kind picture_kinds[] = { { "png", "png" }, { "jpg", "mjpeg" }, { "jpeg", "mjpeg" }, { "tif", "tiff" },
                                              { "tiff", "tiff" }, { "webp", "libwebp" } };
static const picture_kind film_kinds[] = { { "mp4", "libx264" }, { "m4v", "libx264" }, { "mov", "libx264" },
                                           { "mkv", "libx264" }, { "webm", "libvpx-vp9" }, { "avi", "mpeg4" } };

/* Codecs by the names that people know them by, and which of their encoders serves films best. */
static const picture_kind nicknames[] = { { "h264", "libx264" }, { "x264", "libx264" }, { "h265", "libx265" }, { "hevc", "libx265" }, { "x265", "libx265" },
                                          { "av1", "libsvtav1" }, { "vp9", "libvpx-vp9" }, { "prores", "prores_ks" } };

static const char *find_kind(const picture_kind *kinds, int n, const char *extension) {
    for (int i = 0; i < n; i++)
        if (av_strcasecmp(kinds[i].extension, extension) == 0) return kinds[i].codec;
    return NULL;
}

int uf_writer_failed(const uf_writer *w, int av) {
    char text[128];
    if (uf_ctx_cancelled(w->ctx)) return uf_fail(w->ctx, UF_EINTR, "stopped; '%s' was not written", w->path);
    if (av == AVERROR(ENOSPC))
        return uf_fail(w->ctx, UF_EIO, "cannot write '%s': %s; free some space, or write elsewhere", w->path, uf_av_text(av, text));
    if (av == AVERROR(EINVAL) || av == AVERROR_INVALIDDATA) /* no fault of the disk: times or packets that the format cannot take */
        return uf_fail(w->ctx, UF_EDATA, "cannot write '%s': what is copied from the input does not fit there (%s); the input may be damaged, "
                       "or try another format", w->path, uf_av_text(av, text));
    return uf_fail(w->ctx, av == AVERROR(ENOMEM) ? UF_ENOMEM : UF_EIO, "cannot write '%s': %s", w->path, uf_av_text(av, text));
}

static int pick_codec(uf_writer *w, const char *by_extension) {
    const char *known = w->codec_name ? find_kind(nicknames, UF_LEN(nicknames), w->codec_name) : NULL;
    const char *name = known && avcodec_find_encoder_by_name(known) ? known : w->codec_name ? w->codec_name : by_extension;
    if (w->sink == UF_SINK_PIPE) name = "wrapped_avframe";
    w->codec = name ? avcodec_find_encoder_by_name(name) : avcodec_find_encoder(w->format->video_codec);
    if (!w->codec || w->codec->type != AVMEDIA_TYPE_VIDEO)
        return uf_fail(w->ctx, w->codec_name ? UF_EINVAL : UF_EUNSUPPORTED,
                       "this FFmpeg has no video encoder '%s'; give another with --codec (ffmpeg -encoders lists them)",
                       name ? name : avcodec_get_name(w->format->video_codec));
    if (w->sink == UF_SINK_FILM && avformat_query_codec(w->format, w->codec->id, FF_COMPLIANCE_EXPERIMENTAL) == 0)
        return uf_fail(w->ctx, UF_EINVAL, "'%s' cannot hold %s video; write to a .mkv file or leave --codec out", w->path,
                       avcodec_get_name(w->codec->id));
    return UF_OK;
}

static int pick_format(uf_writer *w) {
    const char *dot = strrchr(w->path, '.'), *slash = strrchr(w->path, '/'), *extension = dot && dot > slash ? dot + 1 : "";
    const char *codec = find_kind(picture_kinds, UF_LEN(picture_kinds), extension);
    if (strcmp(w->path, "-") == 0 || av_strcasecmp(extension, "y4m") == 0) {
        w->sink = UF_SINK_PIPE;
        w->format = av_guess_format("yuv4mpegpipe", NULL, NULL);
    } else if (codec) {
        w->sink = av_filename_number_test(w->path) ? UF_SINK_SEQUENCE : UF_SINK_PICTURE;
        if (w->codec_name) return uf_fail(w->ctx, UF_EINVAL, "'%s' is a picture: leave --codec out", w->path);
        return pick_codec(w, codec);
    } else {
        w->sink = UF_SINK_FILM;
        w->format = av_guess_format(NULL, w->path, NULL);
        codec = find_kind(film_kinds, UF_LEN(film_kinds), extension);
    }
    if (!w->format || (!codec && (w->format->flags & AVFMT_NOFILE)) || w->format->video_codec == AV_CODEC_ID_NONE)
        return uf_fail(w->ctx, UF_EINVAL, "cannot tell the format of '%s' from its name; end it in .mp4, .mkv, .mov, .avi, .webm, .png or .jpg",
                       w->path);
    return pick_codec(w, codec);
}

static bool has_parts(const uf_writer *w) {
    return w->sink == UF_SINK_FILM || w->sink == UF_SINK_PICTURE || (w->sink == UF_SINK_PIPE && strcmp(w->path, "-") != 0);
}

int uf_writer_open(uf_writer **out, uf_ctx *ctx, const char *path, const uf_writer_options *o) {
    int err;
    uf_writer *w = uf_alloc(ctx, 1, sizeof(*w));
    if (!w) return UF_ENOMEM;
    w->ctx = ctx;
    w->crf = o->crf;
    w->overwrite = o->overwrite;
    w->still = o->still;
    w->wait = o->wait;
    w->twice = o->twice;
    w->encoder_options = o->encoder_options;
    w->first_pts = w->last_pts = AV_NOPTS_VALUE;
    w->packet = av_packet_alloc();
    w->path = uf_strdup(ctx, path);
    if (o->codec) w->codec_name = uf_strdup(ctx, o->codec);
    err = w->packet && w->path && (!o->codec || w->codec_name) ? UF_OK
                                                               : uf_fail(ctx, UF_ENOMEM, "cannot write '%s': out of memory", path);
    if (err == UF_OK) err = pick_format(w);
    if (err == UF_OK && has_parts(w)) err = uf_whole_open(&w->whole, ctx, path, o->overwrite);
    if (err < 0) uf_writer_close(&w);
    else *out = w;
    return err;
}

/* Another try helps against a stop, a full disk, too little memory; not against a film that is damaged. */
static void leave_job(uf_writer *w) {
    int code = uf_ctx_error_code(w->ctx);
    bool keep = code == UF_EINTR || code == UF_EIO || code == UF_ENOMEM;
    if (!w->job) return;
    if (keep && uf_job_n_frames(w->job) > 0)
        uf_log(w->ctx, UF_LOG_INFO, "%lld frames are finished and lie in '%s': the same command goes on from there; delete that folder to give up",
               (long long)uf_job_n_frames(w->job), uf_job_folder(w->job));
    uf_job_close(&w->job, keep);
}

void uf_writer_close(uf_writer **writer) {
    uf_writer *w = writer ? *writer : NULL;
    if (!w) return;
    avcodec_free_context(&w->enc);
    if (w->oc && w->oc->pb) avio_closep(&w->oc->pb);
    avformat_free_context(w->oc);
    av_packet_free(&w->packet);
    av_buffer_unref(&w->tags);
    av_buffer_unref(&w->icc);
    uf_whole_close(&w->whole);
    leave_job(w);
    free(w->map);
    free(w->path);
    free(w->codec_name);
    free(w);
    *writer = NULL;
}

int64_t uf_writer_n_done(const uf_writer *w) {
    return w->job ? uf_job_n_frames(w->job) : 0;
}

bool uf_writer_copies(const uf_writer *w) {
    return w->job != NULL;
}

const uf_target *uf_writer_target(const uf_writer *w) {
    return &w->target;
}

/* Can the encoder, or its container, say that luma has full range? AVI says nothing of colours. */
static bool takes_full(const AVOutputFormat *format, enum AVCodecID id) {
    static const enum AVCodecID by_themselves[] = { AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_MJPEG, AV_CODEC_ID_VP9, AV_CODEC_ID_AV1 };
    static const enum AVCodecID not_these[] = { AV_CODEC_ID_MPEG4, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG1VIDEO,
        AV_CODEC_ID_MSMPEG4V2, AV_CODEC_ID_MSMPEG4V3, AV_CODEC_ID_THEORA, AV_CODEC_ID_PRORES, AV_CODEC_ID_DNXHD,
        AV_CODEC_ID_VP8, AV_CODEC_ID_FLV1, AV_CODEC_ID_H263 };
    for (int i = 0; i < UF_LEN(not_these); i++)
        if (not_these[i] == id) return false;
    if (!format || strcmp(format->name, "avi") != 0) return true;
    for (int i = 0; i < UF_LEN(by_themselves); i++)
        if (by_themselves[i] == id) return true;
    return false;
}

static void set_time_base(uf_writer *w, const AVStream *in, AVRational rate) {
    bool counts = w->format && av_match_name(w->format->name, "avi,yuv4mpegpipe,m4v,h264,hevc"); /* frames, not times */
    bool small = w->codec->id == AV_CODEC_ID_MPEG4 || w->codec->id == AV_CODEC_ID_MPEG2VIDEO || w->codec->id == AV_CODEC_ID_MPEG1VIDEO;
    w->grid = counts || (small && (in->time_base.den > 65535 || w->codec->id != AV_CODEC_ID_MPEG4));
    if (counts && w->ic->start_time != AV_NOPTS_VALUE) w->start_us = w->ic->start_time;
    w->in_base = in->time_base;
    w->enc->time_base = w->grid ? av_inv_q(rate) : in->time_base;
    w->enc->framerate = rate;
}

static int open_encoder(uf_writer *w) {
    char text[128];
    const uf_reader *in = w->in;
    const AVFrame *f = uf_reader_first(in);
    AVStream *st = w->ic->streams[uf_reader_video(in)];
    AVRational rate = uf_reader_rate(in);
    AVDictionary *o = NULL;
    int av, err;
    w->enc = avcodec_alloc_context3(w->codec);
    if (!w->enc) return uf_fail(w->ctx, UF_ENOMEM, "cannot open encoder '%s': out of memory", w->codec->name);
    uf_av_adopt_codec(w->ctx, w->enc, &w->says);
    if (rate.num <= 0 || rate.den <= 0) rate = (AVRational){ 25, 1 };
    set_time_base(w, st, rate);
    w->enc->width = f->width * (w->twice ? 2 : 1);
    w->enc->height = f->height;
    w->enc->pix_fmt = w->target.format;
    w->enc->color_range = w->target.range;
    w->enc->colorspace = w->target.matrix;
    w->enc->color_primaries = f->color_primaries;
    w->enc->color_trc = f->color_trc;
    w->enc->chroma_sample_location = f->chroma_location;
    w->enc->sample_aspect_ratio = av_guess_sample_aspect_ratio((AVFormatContext *)w->ic, st, (AVFrame *)f);
    if (w->codec->id == AV_CODEC_ID_WEBP && w->enc->sample_aspect_ratio.num > 0 && av_cmp_q(w->enc->sample_aspect_ratio, (AVRational){ 1, 1 }))
        uf_log(w->ctx, UF_LOG_WARN, "'%s' cannot say that its pixels are not square (%d:%d), it will look squeezed; write to .png or .jpg",
               w->path, w->enc->sample_aspect_ratio.num, w->enc->sample_aspect_ratio.den);
    w->enc->thread_count = w->sink == UF_SINK_FILM ? uf_ctx_threads(w->ctx) : 1;
    if (f->interlaced_frame) {
        if (f->height % 2 == 0) w->enc->flags |= AV_CODEC_FLAG_INTERLACED_DCT | AV_CODEC_FLAG_INTERLACED_ME;
        w->enc->field_order = f->top_field_first ? AV_FIELD_TT : AV_FIELD_BB;
        if (!w->told_fields)
            uf_log(w->ctx, UF_LOG_INFO, "'%s' is interlaced: whole frames are coloured and the field order is kept", uf_reader_path(in));
        w->told_fields = true;
    }
    if (w->oc && (w->oc->oformat->flags & AVFMT_GLOBALHEADER)) w->enc->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (w->codec->id == AV_CODEC_ID_TIFF && f->opaque_ref) {
        const uf_tags *t = (const void *)f->opaque_ref->data;
        if (t->dpi[0] >= 1 && t->dpi[0] < 65536) av_dict_set_int(&o, "dpi", lround(t->dpi[0]), 0);
    }
    if ((err = uf_encoder_setup(w->ctx, w->enc, w->crf, w->encoder_options, &o)) == UF_OK && (av = avcodec_open2(w->enc, w->codec, &o)) < 0)
        err = uf_fail(w->ctx, UF_EUNSUPPORTED, "encoder '%s' refuses %dx%d %s: %s; %s", w->codec->name, f->width, f->height,
                      av_get_pix_fmt_name(w->target.format), uf_av_text(av, text),
                      w->encoder_options ? "correct its options" : "choose another with --codec");
    for (int i = 0; err == UF_OK && w->encoder_options && w->encoder_options[i]; i += 2)
        if (av_dict_get(o, w->encoder_options[i], NULL, 0))
            err = uf_fail(w->ctx, UF_EINVAL, "encoder '%s' has no option '%s'; 'ffmpeg -h encoder=%s' lists them", w->codec->name,
                          w->encoder_options[i], w->codec->name);
    av_dict_free(&o);
    return err;
}

/* Readers of Matroska take the samples that an Opus decoder throws away off its timestamps. Before FFmpeg 7 the muxer did not add them,
 * and moved all streams until none began below 0: the picture ran late by as much. In the stream's time base. */
static int64_t opus_padding(const uf_writer *w, const AVStream *st) {
    const AVCodecParameters *p = st->codecpar;
    if (LIBAVFORMAT_VERSION_MAJOR >= 61 || p->codec_id != AV_CODEC_ID_OPUS || p->sample_rate <= 0) return 0;
    if (strcmp(w->format->name, "matroska") != 0 && strcmp(w->format->name, "webm") != 0) return 0;
    return av_rescale_q(p->initial_padding, (AVRational){ 1, p->sample_rate }, st->time_base);
}

/* Nothing begins below 0, so that nothing need be moved. */
static bool starts_right(const uf_writer *w) {
    bool opus = false;
    for (unsigned i = 0; i < w->ic->nb_streams; i++) {
        const AVStream *st = w->ic->streams[i];
        int64_t padding = opus_padding(w, st);
        if (w->map[i] < 0 || st->start_time == AV_NOPTS_VALUE) continue;
        if (st->start_time + padding < 0) return false;
        opus |= padding > 0;
    }
    return opus;
}

/* How bright an HDR film is meant to be travels in the frames of some codecs; the container can say it for all. */
static int keep_light(uf_writer *w) {
    static const struct { enum AVFrameSideDataType of; enum AVPacketSideDataType as; } kept[] = {
        { AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, AV_PKT_DATA_MASTERING_DISPLAY_METADATA },
        { AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, AV_PKT_DATA_CONTENT_LIGHT_LEVEL } };
    static const enum AVFrameSideDataType lost[] = { AV_FRAME_DATA_DYNAMIC_HDR_PLUS, AV_FRAME_DATA_DOVI_METADATA };
    const AVFrame *f = uf_reader_first(w->in);
    for (int i = 0; i < UF_LEN(kept); i++) {
        const AVFrameSideData *d = av_frame_get_side_data(f, kept[i].of);
        if (!d || av_stream_get_side_data(w->film, kept[i].as, NULL)) continue;
        uint8_t *data = av_stream_new_side_data(w->film, kept[i].as, d->size);
        if (!data) return uf_writer_failed(w, AVERROR(ENOMEM));
        memcpy(data, d->data, d->size);
    }
    for (int i = 0; i < UF_LEN(lost); i++)
        if (av_frame_get_side_data(f, lost[i]))
            uf_log(w->ctx, UF_LOG_WARN, "'%s' tells the brightness of each scene (%s): that is left out", uf_reader_path(w->in), av_frame_side_data_name(lost[i]));
    return UF_OK;
}

static int open_muxer(uf_writer *w) {
    const char *path = w->whole ? uf_whole_path(w->whole) : w->path;
    char *url = uf_av_url(w->ctx, path, true);
    int av;
    if (!url) return UF_ENOMEM;
    w->oc->url = av_strdup(url);
    av = avio_open2(&w->oc->pb, url, AVIO_FLAG_WRITE, &w->oc->interrupt_callback, NULL);
    free(url);
    if (av < 0) return uf_writer_failed(w, av);
    if (avcodec_parameters_from_context(w->film->codecpar, w->enc) < 0) return uf_writer_failed(w, AVERROR(ENOMEM));
    w->film->time_base = w->enc->time_base;
    w->film->avg_frame_rate = w->enc->framerate;
    w->film->sample_aspect_ratio = w->enc->sample_aspect_ratio;
    if (w->sink == UF_SINK_FILM) UF_TRY(keep_light(w));
    if (starts_right(w)) w->oc->avoid_negative_ts = 0;
    if ((av = avformat_write_header(w->oc, NULL)) < 0) return uf_writer_failed(w, w->oc->pb->error < 0 ? w->oc->pb->error : av);
    return UF_OK;
}

/* Formats that carry pictures alone leave the other streams behind, and say so. */
static int add_film_alone(uf_writer *w, const uf_reader *in) {
    int left = 0;
    for (unsigned i = 0; i < w->ic->nb_streams; i++) {
        w->map[i] = -1;
        left += uf_reader_copies(in, (int)i);
    }
    if (left && !w->still) uf_log(w->ctx, UF_LOG_WARN, "'%s' carries pictures only: %d other stream%s left out", w->path, left, left > 1 ? "s are" : " is");
    if (!w->oc) return UF_OK;
    w->film = avformat_new_stream(w->oc, NULL);
    w->oc->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL; /* y4m with more than 8 bits */
    return w->film ? UF_OK : uf_writer_failed(w, AVERROR(ENOMEM));
}

/* A sequence keeps the first number of the sequence it comes from. */
static int64_t first_number(const char *path) {
    char name[4096];
    if (!av_filename_number_test(path)) return 1;
    for (int i = 0; i <= 100000; i++)
        if (av_get_frame_filename(name, sizeof(name), path, i) == 0 && access(name, F_OK) == 0) return i;
    return 1;
}

bool uf_writer_keeps(const uf_writer *w) {
    return w->sink == UF_SINK_FILM && w->whole;
}

int uf_writer_start(uf_writer *w, const uf_reader *in, const char *identity) {
    w->in = in;
    w->ic = uf_reader_format(in);
    w->first_pts = uf_reader_first(in)->pts;
    w->number = first_number(uf_reader_path(in));
    w->map = uf_alloc(w->ctx, w->ic->nb_streams + 1, sizeof(*w->map));
    if (!w->map) return UF_ENOMEM;
    if (w->format) {
        if (avformat_alloc_output_context2(&w->oc, w->format, NULL, NULL) < 0) return uf_writer_failed(w, AVERROR(ENOMEM));
        uf_av_adopt_format(w->ctx, w->oc);
        w->oc->flags |= AVFMT_FLAG_BITEXACT; /* no random numbers in it: the same job gives the same file */
    }
    if (w->sink == UF_SINK_FILM) {
        UF_TRY(uf_remux_streams(w->ctx, w->oc, in, w->path, w->map, &w->film));
        if (!uf_reader_is_part(in)) UF_TRY(uf_remux_chapters(w->ctx, w->oc, w->ic, w->path));
    } else {
        UF_TRY(add_film_alone(w, in));
    }
    UF_TRY(uf_target_pick(&w->target, w->ctx, uf_reader_first(in), w->codec, w->sink, takes_full(w->format, w->codec->id)));
    UF_TRY(open_encoder(w));
    if (identity && uf_writer_keeps(w)) {
        UF_TRY(uf_job_open(&w->job, w->ctx, w->path, identity, w->overwrite));
        UF_TRY(uf_whole_shelter(w->whole, uf_job_folder(w->job))); /* a kill leaves nothing anywhere else */
        w->n_frames = uf_job_n_frames(w->job);
    }
    return w->oc ? open_muxer(w) : UF_OK;
}

/* ---- packets ------------------------------------------------------------------------------------------------ */

static int mux(uf_writer *w, AVPacket *packet) {
    int av = av_interleaved_write_frame(w->oc, packet);
    if (av >= 0 && w->oc->pb) av = w->oc->pb->error < 0 ? w->oc->pb->error : 0;
    return av < 0 ? uf_writer_failed(w, w->oc->pb && w->oc->pb->error < 0 ? w->oc->pb->error : av) : UF_OK;
}

/* A packet as the encoder gave it. */
static int mux_film(uf_writer *w, AVPacket *packet) {
    av_packet_rescale_ts(packet, w->enc->time_base, w->film->time_base);
    packet->stream_index = w->film->index;
    return mux(w, packet);
}

/* Encoders forget how long a frame lasts; variable frame rates need it. */
static void restore_duration(uf_writer *w) {
    for (int i = 0; i < N_DURATIONS && w->packet->pts != AV_NOPTS_VALUE; i++)
        if (w->durations[i].pts == w->packet->pts && w->durations[i].duration > 0) w->packet->duration = w->durations[i].duration;
}

static int drain(uf_writer *w) {
    for (;;) {
        int av = avcodec_receive_packet(w->enc, w->packet), err;
        if (av == AVERROR(EAGAIN) || av == AVERROR_EOF) return UF_OK;
        if (av < 0) return uf_writer_failed(w, av);
        if (!w->oc) {
            err = uf_writer_picture(w);
        } else {
            restore_duration(w);
            err = w->job ? uf_job_add(w->job, w->packet, w->wait) : mux_film(w, w->packet);
        }
        av_packet_unref(w->packet);
        if (err < 0) return err;
    }
}

/* Frame number for containers without timestamps; a film whose frames are not evenly spaced does not fit there. */
static int to_grid(uf_writer *w, AVFrame *f) {
    double unit = av_q2d(w->enc->time_base), base = av_q2d(w->in_base);
    double from_first = (double)(f->pts - w->first_pts) * base / unit;
    double start = ((double)w->first_pts * base - (double)w->start_us / AV_TIME_BASE) / unit;
    int64_t n = llround(from_first);
    char clock[32];
    if (fabs(from_first - (double)n) * unit > base * 1.01 + 1e-3 * unit || (w->last_pts != AV_NOPTS_VALUE && n <= w->last_pts))
        return uf_fail(w->ctx, UF_EUNSUPPORTED,
                       "'%s' holds a constant frame rate only, and frame %lld, at %s, lies between two; write to a .mkv file",
                       w->path, (long long)w->n_frames, uf_clock_text((double)f->pts * base, clock));
    w->last_pts = n;
    f->pts = n + (start > 0 ? llround(start) : 0);
    f->pkt_duration = 1;
    return UF_OK;
}

static int end_stretch(uf_writer *w) {
    int av = avcodec_send_frame(w->enc, NULL);
    if (av < 0 && av != AVERROR_EOF) return uf_writer_failed(w, av);
    UF_TRY(drain(w));
    if (w->job && w->in_stretch) UF_TRY(uf_job_end_stretch(w->job, w->in_stretch));
    w->in_stretch = 0;
    return UF_OK;
}

/* A new encoder for the next stretch, so that what is finished needs nothing that is not. The film has one header. */
static int next_stretch(uf_writer *w) {
    const AVCodecParameters *head = w->film->codecpar;
    UF_TRY(end_stretch(w));
    avcodec_free_context(&w->enc);
    UF_TRY(open_encoder(w));
    if (w->enc->extradata_size != head->extradata_size || (head->extradata_size && memcmp(w->enc->extradata, head->extradata, (size_t)head->extradata_size)))
        return uf_fail(w->ctx, UF_EUNSUPPORTED, "encoder '%s' gives every part of a film another header; choose another with --codec", w->codec->name);
    return UF_OK;
}

static int write_frame(uf_writer *w, AVFrame *f) {
    int av;
    UF_TRY(uf_writer_keep_tags(w, f));
    if (w->sink == UF_SINK_PICTURE && w->n_frames > 0)
        return uf_fail(w->ctx, UF_EINVAL, "the input has more than one frame, '%s' holds one; name the output like frame-%%05d.png", w->path);
    if (w->job && w->in_stretch == UF_STRETCH) UF_TRY(next_stretch(w));
    if (w->grid) UF_TRY(to_grid(w, f));
    w->durations[w->n_frames % N_DURATIONS].pts = f->pts;
    w->durations[w->n_frames % N_DURATIONS].duration = f->pkt_duration;
    w->n_frames++;
    w->in_stretch++;
    f->quality = w->enc->global_quality;
    av = avcodec_send_frame(w->enc, f);
    return av < 0 ? uf_writer_failed(w, av) : drain(w);
}

static int write_copy(uf_writer *w, AVPacket *p) {
    const AVStream *from = w->ic->streams[p->stream_index], *to;
    int64_t shift = av_rescale_q(w->start_us, AV_TIME_BASE_Q, from->time_base) - opus_padding(w, from);
    if (w->map[p->stream_index] < 0) return UF_OK;
    to = w->oc->streams[w->map[p->stream_index]];
    if (p->pts == AV_NOPTS_VALUE) p->pts = p->dts;
    if (p->pts != AV_NOPTS_VALUE) p->pts -= shift;
    if (p->dts != AV_NOPTS_VALUE) p->dts -= shift;
    p->stream_index = to->index;
    p->pos = -1;
    av_packet_rescale_ts(p, from->time_base, to->time_base);
    return mux(w, p);
}

int uf_writer_write(uf_writer *w, uf_item *item) {
    int err = item->frame ? write_frame(w, item->frame) : item->packet ? write_copy(w, item->packet) : UF_OK;
    uf_item_clear(item);
    return err;
}

/* ---- all stretches and what is copied, into the film ----------------------------------------------------------- */

typedef struct assembly {
    AVFormatContext *source;
    AVPacket *film, *copy; /* next of each kind */
    bool has_film, has_copy, film_ends, copy_ends;
    int64_t last_dts;
} assembly;

static int fetch(uf_writer *w, assembly *a) {
    while (!a->copy_ends && !a->has_copy) {
        int av = av_read_frame(a->source, a->copy);
        if (av < 0 && av != AVERROR_EOF) return uf_writer_failed(w, av);
        a->copy_ends = av < 0;
        int i = a->copy->stream_index;
        a->has_copy = !a->copy_ends && i < (int)w->ic->nb_streams && uf_reader_copies(w->in, i) && w->map[i] >= 0;
        if (!a->has_copy) av_packet_unref(a->copy);
    }
    if (!a->film_ends && !a->has_film) {
        int err = uf_job_next(w->job, a->film);
        if (err < 0 && err != UF_EOF) return err;
        a->film_ends = err == UF_EOF;
        a->has_film = !a->film_ends;
    }
    return UF_OK;
}

/* Is the film's packet the next in time? */
static bool film_first(const uf_writer *w, const assembly *a) {
    if (a->film_ends || a->copy_ends) return a->copy_ends;
    AVRational base = w->ic->streams[a->copy->stream_index]->time_base;
    int64_t ts = a->copy->dts != AV_NOPTS_VALUE ? a->copy->dts : a->copy->pts;
    if (ts == AV_NOPTS_VALUE) return false;
    return av_compare_ts(a->film->dts, w->enc->time_base, ts - av_rescale_q(w->start_us, AV_TIME_BASE_Q, base), base) <= 0;
}

/* Each stretch's encoder begins its decoding times a few frames early; where frames are not evenly spaced that may be before the
 * last one's end. The least step later is early enough: a stretch's last frames were shown before the next one's first. */
static int write_film(uf_writer *w, assembly *a) {
    AVPacket *p = a->film;
    if (a->last_dts != AV_NOPTS_VALUE && p->dts <= a->last_dts) p->dts = a->last_dts + 1;
    a->last_dts = p->dts;
    return mux_film(w, p);
}

static int assemble(uf_writer *w) {
    assembly a = { .film = av_packet_alloc(), .copy = av_packet_alloc(), .last_dts = AV_NOPTS_VALUE };
    int err = a.film && a.copy ? uf_av_open(&a.source, w->ctx, uf_reader_path(w->in)) : uf_writer_failed(w, AVERROR(ENOMEM));
    while (err == UF_OK && (err = fetch(w, &a)) == UF_OK && !(a.film_ends && a.copy_ends)) {
        bool film = film_first(w, &a);
        err = film ? write_film(w, &a) : write_copy(w, a.copy);
        av_packet_unref(film ? a.film : a.copy);
        *(film ? &a.has_film : &a.has_copy) = false;
        if (err == UF_OK && uf_ctx_cancelled(w->ctx)) err = uf_writer_failed(w, AVERROR_EXIT);
    }
    av_packet_free(&a.film);
    av_packet_free(&a.copy);
    avformat_close_input(&a.source);
    return err;
}

int uf_writer_finish(uf_writer *w) {
    int av;
    UF_TRY(end_stretch(w));
    if (w->job) UF_TRY(assemble(w));
    if (w->oc) {
        if ((av = av_write_trailer(w->oc)) < 0) return uf_writer_failed(w, w->oc->pb->error < 0 ? w->oc->pb->error : av);
        if (w->oc->pb->error < 0) return uf_writer_failed(w, w->oc->pb->error);
        if ((av = avio_closep(&w->oc->pb)) < 0) return uf_writer_failed(w, av);
    }
    if (w->whole) UF_TRY(uf_whole_commit(w->whole));
    if (w->job) uf_job_close(&w->job, false);
    return UF_OK;
}

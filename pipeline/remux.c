/* What is copied besides the film: streams, their side data and tags, chapters. Nothing is dropped in silence. */
#include "media.h"

#include <string.h>

static const char *kind(const AVStream *st) {
    const char *name = av_get_media_type_string(st->codecpar->codec_type);
    return name ? name : "unknown";
}

/* Pictures in mkv are attachments; elsewhere a cover is a video stream. */
static bool cover_becomes_attachment(const AVOutputFormat *o, const AVStream *st) {
    return (st->disposition & AV_DISPOSITION_ATTACHED_PIC) && strcmp(o->name, "matroska") == 0;
}

static bool holds(const AVOutputFormat *o, const AVStream *st) {
    const AVCodecParameters *p = st->codecpar;
    if (cover_becomes_attachment(o, st)) return true;
    if (p->codec_type == AVMEDIA_TYPE_ATTACHMENT) return strcmp(o->name, "matroska") == 0;
    if (p->codec_id == AV_CODEC_ID_NONE) return false;
    if (p->codec_type == AVMEDIA_TYPE_SUBTITLE && o->subtitle_codec == AV_CODEC_ID_NONE && strcmp(o->name, "mov") != 0 &&
        avformat_query_codec(o, p->codec_id, FF_COMPLIANCE_NORMAL) != 1)
        return false;
    return avformat_query_codec(o, p->codec_id, FF_COMPLIANCE_NORMAL) != 0;
}

static bool holds_all(const AVOutputFormat *o, const uf_reader *in) {
    const AVFormatContext *ic = uf_reader_format(in);
    for (unsigned i = 0; i < ic->nb_streams; i++) {
        enum AVMediaType type = ic->streams[i]->codecpar->codec_type;
        if (type == AVMEDIA_TYPE_DATA || type == AVMEDIA_TYPE_UNKNOWN) continue;
        if (uf_reader_copies(in, (int)i) && !holds(o, ic->streams[i])) return false;
    }
    return true;
}

static int refuse(uf_ctx *ctx, const uf_reader *in, const AVStream *st, const char *path) {
    static const char *const names[] = { "x.mkv", "x.mp4", "x.mov", "x.avi" };
    const char *codec = avcodec_get_name(st->codecpar->codec_id);
    for (int i = 0; i < UF_LEN(names); i++)
        if (holds_all(av_guess_format(NULL, names[i], NULL), in))
            return uf_fail(ctx, UF_EUNSUPPORTED, "'%s' cannot hold stream %d (%s, %s) of '%s'; write to a %s file", path,
                           st->index, kind(st), codec, uf_reader_path(in), names[i] + 1);
    return uf_fail(ctx, UF_EUNSUPPORTED, "'%s' cannot hold stream %d (%s, %s) of '%s'; take that stream out of the input first",
                   path, st->index, kind(st), codec, uf_reader_path(in));
}

static int copy_side_data(AVStream *to, const AVStream *from) {
    for (int i = 0; i < from->nb_side_data; i++) {
        const AVPacketSideData *s = &from->side_data[i];
        uint8_t *data;
        if (s->type == AV_PKT_DATA_CPB_PROPERTIES) continue; /* of the source's own encoding */
        data = av_stream_new_side_data(to, s->type, s->size);
        if (!data) return AVERROR(ENOMEM);
        memcpy(data, s->data, s->size);
    }
    return 0;
}

/* Figures that mkvmerge left about the source's own encoding of this stream. */
static void drop_statistics(AVDictionary **d) {
    static const char *const stale[] = { "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "DURATION", "_STATISTICS", "encoder",
                                         "ENCODER" };
    AVDictionaryEntry *e = NULL;
    AVDictionary *kept = NULL;
    while ((e = av_dict_get(*d, "", e, AV_DICT_IGNORE_SUFFIX))) {
        bool drop = false;
        for (int i = 0; i < UF_LEN(stale); i++) drop |= strncmp(e->key, stale[i], strlen(stale[i])) == 0;
        if (!drop) av_dict_set(&kept, e->key, e->value, 0);
    }
    av_dict_free(d);
    *d = kept;
}

static int copy_tags(AVStream *to, const AVStream *from) {
    to->disposition = from->disposition;
    to->sample_aspect_ratio = from->sample_aspect_ratio;
    to->avg_frame_rate = from->avg_frame_rate;
    to->r_frame_rate = from->r_frame_rate;
    if (av_dict_copy(&to->metadata, from->metadata, 0) < 0) return AVERROR(ENOMEM);
    return copy_side_data(to, from);
}

static int copy_cover(AVStream *to, const AVStream *from) {
    const AVPacket *p = &from->attached_pic;
    bool png = from->codecpar->codec_id == AV_CODEC_ID_PNG;
    uint8_t *data = av_mallocz((size_t)p->size + AV_INPUT_BUFFER_PADDING_SIZE);
    if (!data) return AVERROR(ENOMEM);
    memcpy(data, p->data, (size_t)p->size);
    av_freep(&to->codecpar->extradata);
    to->codecpar->codec_type = AVMEDIA_TYPE_ATTACHMENT;
    to->codecpar->extradata = data;
    to->codecpar->extradata_size = p->size;
    to->disposition = 0;
    if (!av_dict_get(to->metadata, "filename", NULL, 0)) av_dict_set(&to->metadata, "filename", png ? "cover.png" : "cover.jpg", 0);
    if (!av_dict_get(to->metadata, "mimetype", NULL, 0)) av_dict_set(&to->metadata, "mimetype", png ? "image/png" : "image/jpeg", 0);
    return 0;
}

/* FFmpeg's AVI demuxer gives compressed sound the block size of its first packet, and the AVI muxer then counts time in such
 * blocks, which these do not keep to. */
static bool has_blocks(enum AVCodecID id) {
    static const enum AVCodecID not_these[] = { AV_CODEC_ID_MP1, AV_CODEC_ID_MP2, AV_CODEC_ID_MP3, AV_CODEC_ID_AC3, AV_CODEC_ID_EAC3,
                                                AV_CODEC_ID_AAC, AV_CODEC_ID_FLAC, AV_CODEC_ID_OPUS, AV_CODEC_ID_VORBIS };
    for (int i = 0; i < UF_LEN(not_these); i++)
        if (not_these[i] == id) return false;
    return true;
}

static int add_copied(uf_ctx *ctx, AVFormatContext *oc, const AVStream *from, int *index) {
    AVStream *to = avformat_new_stream(oc, NULL);
    const struct AVCodecTag *const *tags = oc->oformat->codec_tag;
    unsigned tag = from->codecpar->codec_tag;
    if (!to || avcodec_parameters_copy(to->codecpar, from->codecpar) < 0 || copy_tags(to, from) < 0) goto fail;
    if (tags && av_codec_get_id(tags, tag) != from->codecpar->codec_id) to->codecpar->codec_tag = 0;
    if (!has_blocks(to->codecpar->codec_id)) to->codecpar->block_align = 0;
    to->time_base = from->time_base;
    *index = to->index;
    if (cover_becomes_attachment(oc->oformat, from)) {
        if (copy_cover(to, from) < 0) goto fail;
        *index = -1; /* its one packet travels in the header */
    }
    return UF_OK;
fail:
    return uf_fail(ctx, UF_ENOMEM, "cannot copy stream %d: out of memory", from->index);
}

/* A stream as a copy, or, when it is minor and the container cannot hold it, a warning. UF_EUNSUPPORTED without a message: it is to be refused. */
static int copy_or_leave(uf_ctx *ctx, AVFormatContext *oc, const AVStream *st, const char *in, const char *path, bool covers, int *index) {
    enum AVMediaType type = st->codecpar->codec_type;
    bool minor = type == AVMEDIA_TYPE_DATA || type == AVMEDIA_TYPE_UNKNOWN || (covers && (st->disposition & AV_DISPOSITION_ATTACHED_PIC));
    if (holds(oc->oformat, st)) return add_copied(ctx, oc, st, index);
    if (!minor) return UF_EUNSUPPORTED;
    uf_log(ctx, UF_LOG_WARN, "'%s' cannot hold stream %d (%s, %s) of '%s': it is left out", path, st->index, kind(st),
           avcodec_get_name(st->codecpar->codec_id), in);
    return UF_OK;
}

int uf_remux_stream(uf_ctx *ctx, AVFormatContext *oc, const AVStream *st, const char *in, const char *path, int *index) {
    *index = -1;
    int err = copy_or_leave(ctx, oc, st, in, path, true, index);
    if (err != UF_EUNSUPPORTED) return err;
    return uf_fail(ctx, UF_EUNSUPPORTED, "'%s' cannot hold stream %d (%s, %s) of '%s'; write to a .mkv file", path, st->index, kind(st),
                   avcodec_get_name(st->codecpar->codec_id), in);
}

int uf_remux_metadata(uf_ctx *ctx, AVFormatContext *oc, const AVFormatContext *ic, const char *path) {
    if (av_dict_copy(&oc->metadata, ic->metadata, 0) < 0) return uf_fail(ctx, UF_ENOMEM, "cannot write '%s': out of memory", path);
    /* The muxer names the brands and the encoder of this file itself. */
    static const char *const own[] = { "major_brand", "minor_version", "compatible_brands", "encoder" };
    for (int i = 0; i < UF_LEN(own); i++) av_dict_set(&oc->metadata, own[i], NULL, 0);
    return UF_OK;
}

int uf_remux_streams(uf_ctx *ctx, AVFormatContext *oc, const uf_reader *in, const char *path, int *map, AVStream **film) {
    AVFormatContext *ic = uf_reader_format(in);
    for (int i = 0; i < (int)ic->nb_streams; i++) {
        const AVStream *st = ic->streams[i];
        map[i] = -1;
        if (i == uf_reader_video(in)) {
            *film = avformat_new_stream(oc, NULL);
            if (!*film || copy_tags(*film, st) < 0) return uf_fail(ctx, UF_ENOMEM, "cannot write '%s': out of memory", path);
            drop_statistics(&(*film)->metadata);
            map[i] = (*film)->index;
        } else if (!uf_reader_copies(in, i)) {
            uf_log(ctx, UF_LOG_DEBUG, "stream %d (%s) of '%s' is written anew from tags", i, kind(st), uf_reader_path(in));
        } else {
            int err = copy_or_leave(ctx, oc, st, uf_reader_path(in), path, false, &map[i]);
            if (err == UF_EUNSUPPORTED) return refuse(ctx, in, st, path);
            if (err < 0) return err;
        }
    }
    return uf_remux_metadata(ctx, oc, ic, path);
}

int uf_remux_chapters(uf_ctx *ctx, AVFormatContext *oc, const AVFormatContext *ic, const char *path) {
    if (ic->nb_chapters == 0) return UF_OK;
    if (strcmp(oc->oformat->name, "avi") == 0 || strcmp(oc->oformat->name, "mpegts") == 0) {
        uf_log(ctx, UF_LOG_WARN, "'%s' cannot hold chapters: they are left out; write to a .mkv file to keep them", path);
        return UF_OK;
    }
    oc->chapters = av_calloc(ic->nb_chapters, sizeof(*oc->chapters));
    if (!oc->chapters) goto fail;
    for (unsigned i = 0; i < ic->nb_chapters; i++) {
        const AVChapter *from = ic->chapters[i];
        AVChapter *to = av_mallocz(sizeof(*to));
        if (!to) goto fail;
        oc->chapters[oc->nb_chapters++] = to;
        to->id = from->id;
        to->time_base = from->time_base;
        to->start = from->start;
        to->end = from->end;
        if (av_dict_copy(&to->metadata, from->metadata, 0) < 0) goto fail;
    }
    return UF_OK;
fail:
    return uf_fail(ctx, UF_ENOMEM, "cannot write '%s': out of memory", path);
}

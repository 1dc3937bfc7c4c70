/* Demuxing and decoding. A damaged or short film is an error with its time, never a skipped or grey frame. */
#include "fields.h"
#include "tags.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct uf_reader {
    uf_ctx *ctx;
    char *path;
    AVFormatContext *fmt;
    AVCodecContext *dec;
    AVPacket *packet;
    AVFrame *first;    /* as it is delivered */
    int w, h, format;  /* as it is decoded; w 0: not yet */
    const char *filters;
    uf_fields *fields; /* NULL without filters, and before the first frame */
    bool flushed;      /* they have been told of the end */
    bool pictures;     /* each packet is a picture file: its tags travel in the opaque_ref of its frame */
    AVBufferRef *tags; /* of the packet last sent to the decoder */
    uf_item *pending; /* what came before the first frame, then that frame: delivered first */
    int n_pending, head;
    int video;
    int64_t from, to;  /* microseconds of the file's time: the part that is wanted; to INT64_MAX: to the end */
    int64_t shift;     /* taken off all timestamps, microseconds */
    bool ended;        /* no frame is wanted any more; what is copied may come a little later in the file */
    uf_sayings says;   /* of demuxer and decoder */
    int n_told;        /* of its errors */
    int n_leading;     /* undecodable frames before the first whole one */
    int64_t n_frames;
    int64_t last_pts;  /* of the last frame, stream time base */
    int64_t step;      /* last distance between frames */
    int64_t end_us;    /* latest end of any packet */
    int64_t data_end;  /* file position after the last film packet, -1: unknown */
};

static double seconds(const uf_reader *r) {
    int64_t start = r->fmt->start_time != AV_NOPTS_VALUE ? r->fmt->start_time : 0;
    if (r->last_pts == AV_NOPTS_VALUE) return 0;
    return (double)r->last_pts * av_q2d(r->fmt->streams[r->video]->time_base) - (double)start / AV_TIME_BASE;
}

static int fail_damaged(const uf_reader *r, int av, const char *why) {
    char clock[32], text[128];
    if (uf_ctx_cancelled(r->ctx)) return uf_fail(r->ctx, UF_EINTR, "stopped; '%s' was not finished", r->path);
    if (av == AVERROR(ENOMEM)) return uf_fail(r->ctx, UF_ENOMEM, "cannot decode '%s': out of memory", r->path);
    return uf_fail(r->ctx, UF_EDATA, "'%s' is damaged after frame %lld, at %s (%s); copy it again, or repair it first",
                   r->path, (long long)r->n_frames, uf_clock_text(seconds(r), clock), av ? uf_av_text(av, text) : why);
}

static int fail_short(const uf_reader *r, double at) {
    char clock[32], total[32];
    if (r->fmt->duration <= 0 || r->fmt->duration == AV_NOPTS_VALUE)
        return uf_fail(r->ctx, UF_EDATA, "'%s' ends early, at %s; copy it again, or repair it first", r->path,
                       uf_clock_text(at, clock));
    return uf_fail(r->ctx, UF_EDATA, "'%s' ends early, at %s of %s; copy it again, or repair it first", r->path,
                   uf_clock_text(at, clock), uf_clock_text((double)r->fmt->duration / AV_TIME_BASE, total));
}

/* An mp4 whose index leads past the end of the file is known to be cut off before anything is decoded. */
static int check_index(const uf_reader *r) {
    int64_t size = r->fmt->pb && (r->fmt->pb->seekable & AVIO_SEEKABLE_NORMAL) ? avio_size(r->fmt->pb) : -1;
    AVStream *st = r->fmt->streams[r->video];
    if (size <= 0 || !strstr(r->fmt->iformat->name, "mov")) return UF_OK;
    for (int i = 0; i < avformat_index_get_entries_count(st); i++) {
        const AVIndexEntry *e = avformat_index_get_entry(st, i);
        if (e->pos + e->size > size) return fail_short(r, (double)e->timestamp * av_q2d(st->time_base));
    }
    return UF_OK;
}

/* Containers that promise a duration must keep it; a frame or two of rounding is forgiven. */
static int check_end(const uf_reader *r) {
    const AVFormatContext *f = r->fmt;
    int64_t start = f->start_time != AV_NOPTS_VALUE ? f->start_time : 0;
    if (f->pb && f->pb->error < 0 && f->pb->error != AVERROR_EOF) return fail_damaged(r, f->pb->error, "");
    if (strcmp(f->iformat->name, "yuv4mpegpipe") == 0 && f->pb && r->data_end >= 0 && avio_tell(f->pb) > r->data_end)
        return fail_short(r, seconds(r));
    if (f->duration_estimation_method != AVFMT_DURATION_FROM_STREAM || f->duration <= 0 || r->end_us == INT64_MIN)
        return UF_OK;
    if (r->end_us - start < f->duration - AV_TIME_BASE / 2)
        return fail_short(r, (double)(r->end_us - start) / AV_TIME_BASE);
    return UF_OK;
}

static void note_end(uf_reader *r, const AVPacket *p) {
    const AVStream *st = r->fmt->streams[p->stream_index];
    int64_t ts = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    if (st->disposition & AV_DISPOSITION_ATTACHED_PIC) return;
    if (p->stream_index == r->video && p->pos >= 0) r->data_end = p->pos + p->size;
    if (ts == AV_NOPTS_VALUE) return;
    ts = av_rescale_q(ts + p->duration, st->time_base, AV_TIME_BASE_Q);
    if (ts > r->end_us) r->end_us = ts;
}

/* What the decoder calls an error, and is not seen to be damage: a person should look. */
static void tell_errors(uf_reader *r) {
    enum { MOST = 10 };
    char clock[32];
    int n = atomic_exchange(&r->says.n_errors, 0);
    if (!n || r->n_told++ > MOST) return;
    uf_log(r->ctx, UF_LOG_WARN, r->n_told > MOST ? "'%s': more of that from frame %lld on, at %s (%s)" : "'%s': FFmpeg is not happy near frame %lld, at %s (%s); look at the result there",
           r->path, (long long)r->n_frames, uf_clock_text(seconds(r), clock), r->says.error);
}

/* Gives the frame a timestamp that grows, and refuses what is damaged or has changed. UF_EOF: leave this one out. */
static int check_frame(uf_reader *r, AVFrame *f) {
    bool damaged = (f->flags & AV_FRAME_FLAG_CORRUPT) || f->decode_error_flags;
    if (damaged && r->n_frames == 0) { /* a recording that starts between key frames */
        if (r->n_leading++ == 0 && !r->shift)
            uf_log(r->ctx, UF_LOG_WARN, "'%s' starts between key frames: frames before the first whole one are left out",
                   r->path);
        atomic_store(&r->says.n_damage, 0);
        return UF_EOF;
    }
    if (r->n_leading && r->n_frames == 0) atomic_store(&r->says.n_damage, 0);
    if (atomic_load(&r->says.n_damage)) return fail_damaged(r, 0, r->says.damage);
    tell_errors(r);
    if (damaged) return fail_damaged(r, 0, "a frame has missing parts");
    if (r->w && (f->width != r->w || f->height != r->h || f->format != r->format))
        return uf_fail(r->ctx, UF_EUNSUPPORTED,
                       "'%s' changes from %dx%d to %dx%d at frame %lld; cut it into one film a size first", r->path,
                       r->w, r->h, f->width, f->height, (long long)r->n_frames);
    r->w = f->width;
    r->h = f->height;
    r->format = f->format;
    f->pts = f->best_effort_timestamp;
    if (f->pts == AV_NOPTS_VALUE) f->pts = r->last_pts == AV_NOPTS_VALUE ? 0 : r->last_pts + r->step;
    if (r->last_pts != AV_NOPTS_VALUE && f->pts <= r->last_pts) {
        uf_log(r->ctx, UF_LOG_WARN, "'%s': frame %lld has a timestamp that goes back; it is moved by the least step",
               r->path, (long long)r->n_frames);
        f->pts = r->last_pts + 1;
    } else if (r->last_pts != AV_NOPTS_VALUE) {
        r->step = f->pts - r->last_pts;
    }
    r->last_pts = f->pts;
    r->n_frames++;
    if (uf_reader_is_part(r)) {
        AVRational base = r->fmt->streams[r->video]->time_base;
        int64_t at = av_rescale_q(f->pts, base, AV_TIME_BASE_Q);
        r->ended |= at >= r->to;
        if (at < r->from || r->ended) return UF_EOF;
        f->pts -= av_rescale_q(r->shift, AV_TIME_BASE_Q, base);
    }
    return UF_OK;
}

/* A packet of the part that is wanted, moved to its time; or not. */
static bool is_wanted(const uf_reader *r, AVPacket *p) {
    AVRational base = r->fmt->streams[p->stream_index]->time_base;
    int64_t ts = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts, shift = av_rescale_q(r->shift, AV_TIME_BASE_Q, base);
    if (!uf_reader_is_part(r) || ts == AV_NOPTS_VALUE) return true;
    int64_t at = av_rescale_q(ts, base, AV_TIME_BASE_Q);
    if (at >= r->to || at < r->from) return false; /* one that begins before would move the whole part */
    if (p->pts != AV_NOPTS_VALUE) p->pts -= shift;
    if (p->dts != AV_NOPTS_VALUE) p->dts -= shift;
    return true;
}

/* Half a second after the last frame: what belongs to it has been read. */
static bool is_past(const uf_reader *r, const AVPacket *p) {
    return p->dts != AV_NOPTS_VALUE &&
           av_rescale_q(p->dts, r->fmt->streams[p->stream_index]->time_base, AV_TIME_BASE_Q) > r->to + AV_TIME_BASE / 2;
}

/* One packet more: to the decoder, or out through item when it is to be copied. */
static int feed(uf_reader *r, uf_item *item) {
    int av = av_read_frame(r->fmt, r->packet);
    if (av == AVERROR_EOF) {
        if (r->ended) return UF_EOF;
        int err = uf_reader_is_part(r) ? UF_OK : check_end(r);
        avcodec_send_packet(r->dec, NULL);
        return err;
    }
    if (av < 0) return fail_damaged(r, av, "");
    note_end(r, r->packet);
    if (r->packet->stream_index != r->video) {
        if (!uf_reader_copies(r, r->packet->stream_index) || !is_wanted(r, r->packet)) {
            av_packet_unref(r->packet);
            return UF_OK;
        }
        item->packet = av_packet_alloc();
        if (!item->packet) return uf_fail(r->ctx, UF_ENOMEM, "cannot read '%s': out of memory", r->path);
        av_packet_move_ref(item->packet, r->packet);
        return UF_OK;
    }
    if (r->ended) {
        bool past = is_past(r, r->packet);
        av_packet_unref(r->packet);
        return past ? UF_EOF : UF_OK;
    }
    av_buffer_unref(&r->tags);
    if (r->pictures) UF_TRY(uf_tags_read(&r->tags, r->ctx, r->dec->codec_id, r->packet->data, (size_t)r->packet->size));
    if (r->packet->flags & AV_PKT_FLAG_CORRUPT) av = AVERROR_INVALIDDATA;
    else av = avcodec_send_packet(r->dec, r->packet);
    av_packet_unref(r->packet);
    return av < 0 ? fail_damaged(r, av, "") : UF_OK;
}

/* A decoded frame that is wanted, on its way out. */
static int deliver(uf_reader *r, AVFrame **frame, uf_item *item) {
    AVStream *st = r->fmt->streams[r->video];
    (*frame)->opaque_ref = r->tags;
    r->tags = NULL;
    if (!r->filters && (av_pix_fmt_desc_get((*frame)->format)->flags & AV_PIX_FMT_FLAG_FLOAT)) {
        uf_log(r->ctx, UF_LOG_INFO, "'%s' has floating-point samples: they are taken with 16 bits, and what is outside of black to white is cut off", r->path);
        r->filters = "format=gray16le|gbrp16le|gbrap16le";
    }
    if (!r->filters) {
        item->frame = *frame;
        *frame = NULL;
        return UF_OK;
    }
    if (!r->fields) UF_TRY(uf_fields_open(&r->fields, r->ctx, *frame, st->time_base, av_guess_frame_rate(r->fmt, st, NULL), r->filters));
    return uf_fields_push(r->fields, *frame);
}

/* What the filters have ready. UF_EOF: nothing, and nothing will come. */
static int pull(uf_reader *r, uf_item *item) {
    int av;
    AVFrame *f = av_frame_alloc();
    if (!f) return uf_fail(r->ctx, UF_ENOMEM, "cannot decode '%s': out of memory", r->path);
    if ((av = uf_fields_pull(r->fields, f)) == 0) item->frame = f;
    else av_frame_free(&f);
    return av == 0 || av == AVERROR(EAGAIN) ? UF_OK : av == AVERROR_EOF ? UF_EOF : fail_damaged(r, av, "");
}

static int flush(uf_reader *r) {
    if (!r->fields || r->flushed) return UF_EOF;
    r->flushed = true;
    return uf_fields_push(r->fields, NULL);
}

static int advance(uf_reader *r, uf_item *item) {
    AVFrame *frame = av_frame_alloc();
    int err = UF_OK;
    if (!frame) return uf_fail(r->ctx, UF_ENOMEM, "cannot decode '%s': out of memory", r->path);
    *item = (uf_item){ 0 };
    while (err == UF_OK && !item->packet && !item->frame) {
        if (r->fields && ((err = pull(r, item)) < UF_EOF || item->frame)) continue;
        bool drained = err == UF_EOF;
        err = UF_OK;
        int av = r->ended ? AVERROR(EAGAIN) : avcodec_receive_frame(r->dec, frame);
        if (uf_ctx_cancelled(r->ctx)) {
            err = uf_fail(r->ctx, UF_EINTR, "stopped; '%s' was not finished", r->path);
        } else if (av == 0) {
            err = check_frame(r, frame);
            if (err == UF_OK) {
                err = deliver(r, &frame, item);
            } else if (err == UF_EOF) {
                av_frame_unref(frame);
                err = UF_OK;
            }
        } else if (av == AVERROR(EAGAIN)) {
            err = feed(r, item);
        } else {
            if (av == AVERROR_EOF) tell_errors(r);
            if (av == AVERROR_EOF && atomic_load(&r->says.n_damage)) err = fail_damaged(r, 0, r->says.damage);
            else err = av != AVERROR_EOF ? fail_damaged(r, av, "") : drained ? UF_EOF : flush(r);
        }
        if (err == UF_OK && r->ended && r->fields && !r->flushed) err = flush(r);
    }
    av_frame_free(&frame);
    if (err < 0) uf_item_clear(item);
    return err;
}

/* Decodes up to the first frame, so that the encoder can be opened for what really comes. */
static int prime(uf_reader *r) {
    int room = 0, err;
    uf_item item;
    while ((err = advance(r, &item)) == UF_OK) {
        if (r->n_pending == room) {
            uf_item *more = realloc(r->pending, (size_t)(room = room * 2 + 16) * sizeof(*more));
            if (!more) {
                uf_item_clear(&item);
                return uf_fail(r->ctx, UF_ENOMEM, "cannot read '%s': out of memory", r->path);
            }
            r->pending = more;
        }
        r->pending[r->n_pending++] = item;
        if (!item.frame) continue;
        r->first = av_frame_clone(item.frame);
        return r->first ? UF_OK : uf_fail(r->ctx, UF_ENOMEM, "cannot read '%s': out of memory", r->path);
    }
    if (err == UF_EOF && uf_reader_is_part(r) && r->n_frames > 0)
        return uf_fail(r->ctx, UF_EINVAL, "'%s' has no frame in that part; 'unfade info' tells how long it is", r->path);
    return err == UF_EOF ? uf_fail(r->ctx, UF_EDATA, "'%s' holds no picture that can be decoded", r->path) : err;
}

static int pick_video(uf_reader *r) {
    r->video = -1;
    for (unsigned i = 0; i < r->fmt->nb_streams; i++) {
        const AVStream *st = r->fmt->streams[i];
        if (st->codecpar->codec_type != AVMEDIA_TYPE_VIDEO || (st->disposition & AV_DISPOSITION_ATTACHED_PIC)) continue;
        if (r->video < 0 || ((st->disposition & AV_DISPOSITION_DEFAULT) &&
                             !(r->fmt->streams[r->video]->disposition & AV_DISPOSITION_DEFAULT)))
            r->video = (int)i;
    }
    if (r->video < 0) return uf_fail(r->ctx, UF_EDATA, "'%s' has no video stream; give a film or a picture", r->path);
    return UF_OK;
}

static int open_decoder(uf_reader *r) {
    char text[128];
    const AVCodecParameters *p = r->fmt->streams[r->video]->codecpar;
    const AVCodec *codec = avcodec_find_decoder(p->codec_id);
    int av;
    if (!codec)
        return uf_fail(r->ctx, UF_EUNSUPPORTED, "cannot decode '%s': this FFmpeg has no decoder for '%s'; convert it first",
                       r->path, avcodec_get_name(p->codec_id));
    r->dec = avcodec_alloc_context3(codec);
    if (!r->dec || avcodec_parameters_to_context(r->dec, p) < 0)
        return uf_fail(r->ctx, UF_ENOMEM, "cannot decode '%s': out of memory", r->path);
    uf_av_adopt_codec(r->ctx, r->dec, &r->says);
    r->pictures = strncmp(r->fmt->iformat->name, "image2", 6) == 0 || strstr(r->fmt->iformat->name, "_pipe");
    r->dec->pkt_timebase = r->fmt->streams[r->video]->time_base;
    /* Threads a slice, not a frame: frame threads lose the errors of the last frames. */
    r->dec->thread_type = FF_THREAD_SLICE;
    r->dec->thread_count = uf_ctx_threads(r->ctx) > 4 ? 4 : uf_ctx_threads(r->ctx);
    /* With slice threads the decoder for h264 does not look for missing blocks, and what lay in memory is shown in their place. */
    if (p->codec_id == AV_CODEC_ID_H264) r->dec->thread_count = 1;
    /* Without EXPLODE decoders hide damage behind grey or repeated blocks (but the one for tiff then refuses any tag
     * that it does not know); without OUTPUT_CORRUPT they drop frames. */
    r->dec->err_recognition = AV_EF_CRCCHECK | (p->codec_id == AV_CODEC_ID_TIFF ? 0 : AV_EF_EXPLODE);
    r->dec->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
    if ((av = avcodec_open2(r->dec, codec, NULL)) < 0)
        return uf_fail(r->ctx, uf_av_code(av), "cannot decode '%s': %s", r->path, uf_av_text(av, text));
    return UF_OK;
}

/* To the key frame before the part; a source that cannot seek is read from its start. */
static void go_to_part(uf_reader *r, double from, double length) {
    int64_t start = r->fmt->start_time != AV_NOPTS_VALUE ? r->fmt->start_time : 0;
    r->shift = (int64_t)(from * AV_TIME_BASE);
    r->from = start + r->shift;
    r->to = length > 0 ? r->from + (int64_t)(length * AV_TIME_BASE) : INT64_MAX;
    if (r->shift > 0) avformat_seek_file(r->fmt, -1, INT64_MIN, r->from, r->from, 0);
}

bool uf_reader_is_part(const uf_reader *r) {
    return r->shift > 0 || r->to != INT64_MAX;
}

int uf_reader_open(uf_reader **out, uf_ctx *ctx, const char *path) {
    return uf_reader_open_with(out, ctx, path, &(uf_reader_options){ 0 });
}

int uf_reader_open_with(uf_reader **out, uf_ctx *ctx, const char *path, const uf_reader_options *o) {
    int err;
    uf_reader *r = uf_alloc(ctx, 1, sizeof(*r));
    if (!r) return UF_ENOMEM;
    r->ctx = ctx;
    r->last_pts = AV_NOPTS_VALUE;
    r->end_us = INT64_MIN;
    r->to = INT64_MAX;
    r->filters = o->filters;
    r->data_end = -1;
    r->path = uf_strdup(ctx, path);
    r->packet = av_packet_alloc();
    err = r->path && r->packet ? UF_OK : uf_fail(ctx, UF_ENOMEM, "cannot open '%s': out of memory", path);
    if (err == UF_OK) err = uf_av_open(&r->fmt, ctx, path);
    if (err == UF_OK) r->fmt->opaque = &r->says; /* what the demuxer has to say comes to the same ear */
    if (err == UF_OK) err = pick_video(r);
    if (err == UF_OK) {
        AVRational rate = r->fmt->streams[r->video]->avg_frame_rate;
        r->step = rate.num && rate.den ? av_rescale_q(1, av_inv_q(rate), r->fmt->streams[r->video]->time_base) : 1;
        err = check_index(r);
    }
    if (err == UF_OK) err = open_decoder(r);
    if (err == UF_OK) go_to_part(r, o->from, o->length);
    if (err == UF_OK) err = prime(r);
    if (err < 0) uf_reader_close(&r);
    else *out = r;
    return err;
}

void uf_reader_close(uf_reader **reader) {
    uf_reader *r = reader ? *reader : NULL;
    if (!r) return;
    for (; r->head < r->n_pending; r->head++) uf_item_clear(&r->pending[r->head]);
    free(r->pending);
    av_frame_free(&r->first);
    uf_fields_close(&r->fields);
    av_buffer_unref(&r->tags);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->dec);
    avformat_close_input(&r->fmt);
    free(r->path);
    free(r);
    *reader = NULL;
}

int uf_reader_next(uf_reader *r, uf_item *item) {
    if (r->head < r->n_pending) {
        *item = r->pending[r->head];
        r->pending[r->head++] = (uf_item){ 0 };
        return UF_OK;
    }
    return advance(r, item);
}

AVFormatContext *uf_reader_format(const uf_reader *r) {
    return r->fmt;
}

int uf_reader_video(const uf_reader *r) {
    return r->video;
}

/* Timecode and chapter tracks of mov are written anew by the muxer from the metadata and chapters that we copy. */
bool uf_reader_copies(const uf_reader *r, int i) {
    const AVStream *st = r->fmt->streams[i];
    if (i == r->video || st->discard >= AVDISCARD_ALL) return false;
    return st->codecpar->codec_tag != MKTAG('t', 'm', 'c', 'd');
}

const AVFrame *uf_reader_first(const uf_reader *r) {
    return r->first;
}

const char *uf_reader_path(const uf_reader *r) {
    return r->path;
}

AVRational uf_reader_rate(const uf_reader *r) {
    return r->fields ? uf_fields_rate(r->fields) : av_guess_frame_rate(r->fmt, r->fmt->streams[r->video], NULL);
}

static int64_t n_decoded(const uf_reader *r) {
    const AVStream *st = r->fmt->streams[r->video];
    AVRational rate = st->avg_frame_rate;
    double length = st->duration > 0 ? (double)st->duration * av_q2d(st->time_base)
                    : r->fmt->duration > 0 ? (double)r->fmt->duration / AV_TIME_BASE : 0;
    if (uf_reader_is_part(r)) {
        double part = r->to != INT64_MAX ? (double)(r->to - r->from) / AV_TIME_BASE : length;
        length = length > 0 ? fmin(part, length - (double)r->shift / AV_TIME_BASE) : part;
    } else if (st->nb_frames > 0) {
        return st->nb_frames;
    }
    return rate.num && rate.den && length > 0 ? (int64_t)(length * av_q2d(rate) + 0.5) : 0;
}

int64_t uf_reader_n_frames(const uf_reader *r) {
    AVRational from = av_guess_frame_rate(r->fmt, r->fmt->streams[r->video], NULL), to = uf_reader_rate(r);
    int64_t n = n_decoded(r);
    return r->fields && from.num > 0 && to.num > 0 ? llround((double)n * av_q2d(to) / av_q2d(from)) : n;
}

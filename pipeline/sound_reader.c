#include "sound_reader.h"

#include <libavutil/opt.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 20 }; /* parts of a second: timestamps that jump further leave a gap */

struct uf_sound_reader {
    uf_ctx *ctx;
    char *path;
    AVFormatContext *fmt;
    AVCodecContext *codec;
    SwrContext *swr; /* to planar float, nothing else */
    AVPacket *packet;
    AVFrame *frame;
    uf_sayings says;
    int stream, room;
    float **x;
    double start;
    int64_t n;       /* samples so far */
    int64_t silence; /* still to be given for a gap */
    bool begun, draining, held;
    bool damaged;
};

static int open_codec(uf_sound_reader *r) {
    const AVCodec *c = NULL;
    r->stream = av_find_best_stream(r->fmt, AVMEDIA_TYPE_AUDIO, -1, -1, &c, 0);
    if (r->stream == AVERROR_DECODER_NOT_FOUND)
        return uf_fail(r->ctx, UF_EUNSUPPORTED, "the sound of '%s' is of a kind that FFmpeg here cannot decode; convert it first", r->path);
    if (r->stream < 0) return uf_fail(r->ctx, UF_EDATA, "there is no sound in '%s'; give a recording, or a film with sound", r->path);
    r->codec = avcodec_alloc_context3(c);
    if (!r->codec) return UF_ENOMEM;
    uf_av_adopt_codec(r->ctx, r->codec, &r->says);
    r->codec->pkt_timebase = r->fmt->streams[r->stream]->time_base;
    int err = avcodec_parameters_to_context(r->codec, r->fmt->streams[r->stream]->codecpar);
    if (err >= 0) err = avcodec_open2(r->codec, c, NULL);
    if (err < 0) return uf_av_fail(r->ctx, "decode", r->path, err);
    if (r->codec->ch_layout.nb_channels < 1 || r->codec->sample_rate < 1)
        return uf_fail(r->ctx, UF_EDATA, "the sound of '%s' has no channels or no rate: it is damaged", r->path);
    AVChannelLayout *l = &r->codec->ch_layout, plain = { .order = AV_CHANNEL_ORDER_UNSPEC, .nb_channels = l->nb_channels };
    err = swr_alloc_set_opts2(&r->swr, &plain, AV_SAMPLE_FMT_FLTP, r->codec->sample_rate, &plain, r->codec->sample_fmt,
                              r->codec->sample_rate, 0, NULL);
    if (err >= 0) err = swr_init(r->swr);
    return err < 0 ? uf_av_fail(r->ctx, "decode", r->path, err) : UF_OK;
}

int uf_sound_reader_open(uf_sound_reader **out, uf_ctx *ctx, const char *path) {
    uf_sound_reader *r = uf_alloc(ctx, 1, sizeof(*r));
    if (!r) return UF_ENOMEM;
    r->ctx = ctx;
    r->path = uf_strdup(ctx, path);
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    int err = r->path && r->packet && r->frame ? uf_av_open(&r->fmt, ctx, path) : UF_ENOMEM;
    if (err == UF_OK) err = open_codec(r);
    if (err == UF_OK && !(r->x = uf_alloc(ctx, (size_t)r->codec->ch_layout.nb_channels, sizeof(*r->x)))) err = UF_ENOMEM;
    if (err < 0) uf_sound_reader_close(&r);
    else *out = r;
    return err;
}

void uf_sound_reader_close(uf_sound_reader **pr) {
    uf_sound_reader *r = *pr;
    if (!r) return;
    for (int i = 0; r->x && i < r->codec->ch_layout.nb_channels; i++) free(r->x[i]);
    free(r->x);
    swr_free(&r->swr);
    avcodec_free_context(&r->codec);
    avformat_close_input(&r->fmt);
    av_packet_free(&r->packet);
    av_frame_free(&r->frame);
    free(r->path);
    free(r);
    *pr = NULL;
}

static int make_room(uf_sound_reader *r, int n) {
    if (n <= r->room) return UF_OK;
    for (int i = 0; i < r->codec->ch_layout.nb_channels; i++) {
        free(r->x[i]);
        if (!(r->x[i] = uf_alloc(r->ctx, (size_t)n, sizeof(float)))) return UF_ENOMEM;
    }
    r->room = n;
    return UF_OK;
}

static int give(uf_sound_reader *r, uf_sound_item *item, int n) {
    *item = (uf_sound_item){ .x = r->x, .n = n };
    r->n += n;
    return UF_OK;
}

static int give_silence(uf_sound_reader *r, uf_sound_item *item) {
    int n = r->silence > 4096 ? 4096 : (int)r->silence;
    UF_TRY(make_room(r, n));
    for (int i = 0; i < r->codec->ch_layout.nb_channels; i++) memset(r->x[i], 0, (size_t)n * sizeof(float));
    r->silence -= n;
    return give(r, item, n);
}

static int give_frame(uf_sound_reader *r, uf_sound_item *item) {
    int n = r->frame->nb_samples, got;
    UF_TRY(make_room(r, n));
    got = swr_convert(r->swr, (uint8_t **)r->x, n, (const uint8_t **)r->frame->extended_data, n);
    av_frame_unref(r->frame);
    r->held = false;
    return got < 0 ? uf_av_fail(r->ctx, "decode", r->path, got) : give(r, item, got);
}

/* A decoded frame: where does it lie? */
static int take(uf_sound_reader *r) {
    AVRational tb = r->fmt->streams[r->stream]->time_base;
    const AVFrame *f = r->frame;
    if (f->sample_rate != r->codec->sample_rate || f->ch_layout.nb_channels != r->codec->ch_layout.nb_channels || f->format != r->codec->sample_fmt)
        return uf_fail(r->ctx, UF_EUNSUPPORTED, "the sound of '%s' changes its rate or its channels on the way; cut it there first", r->path);
    r->held = true;
    int64_t pts = f->pts != AV_NOPTS_VALUE ? f->pts : f->best_effort_timestamp; /* the first knows of samples that were cut off */
    if (pts == AV_NOPTS_VALUE) return UF_OK;
    double at = (double)pts * av_q2d(tb), rate = r->codec->sample_rate;
    if (!r->begun) r->start = at;
    double late = at - r->start - (double)r->n / rate;
    if (r->begun && late > 1. / GAP && late < 3600) {
        char clock[32];
        r->silence = (int64_t)(late * rate + .5);
        uf_log(r->ctx, UF_LOG_WARN, "the sound of '%s' has a gap of %.2f s at %s: it becomes silence", r->path, late, uf_clock_text(at, clock));
    }
    r->begun = true;
    return UF_OK;
}

int uf_sound_reader_next(uf_sound_reader *r, uf_sound_item *item) {
    *item = (uf_sound_item){ 0 };
    av_packet_unref(r->packet);
    for (;;) {
        if (r->silence > 0) return give_silence(r, item);
        if (r->held) return give_frame(r, item);
        int err = avcodec_receive_frame(r->codec, r->frame);
        if (err >= 0) {
            UF_TRY(take(r));
            continue;
        }
        if (err == AVERROR_EOF) return UF_EOF;
        if (err != AVERROR(EAGAIN)) return uf_av_fail(r->ctx, "decode", r->path, err);
        if (r->draining) return UF_EOF;
        err = av_read_frame(r->fmt, r->packet);
        if (err == AVERROR_EOF) {
            r->draining = true;
            avcodec_send_packet(r->codec, NULL);
        } else if (err < 0) {
            return uf_av_fail(r->ctx, "read", r->path, err);
        } else if (r->packet->stream_index != r->stream) {
            *item = (uf_sound_item){ .packet = r->packet };
            return UF_OK;
        } else {
            err = avcodec_send_packet(r->codec, r->packet);
            av_packet_unref(r->packet);
            if (err == AVERROR_INVALIDDATA && !r->damaged) { /* a broken packet is a short gap, which the next one's timestamp shows */
                char clock[32];
                uf_log(r->ctx, UF_LOG_WARN, "the sound of '%s' is damaged at %s: what cannot be decoded becomes silence", r->path,
                       uf_clock_text(r->start + (double)r->n / r->codec->sample_rate, clock));
                r->damaged = true;
            } else if (err < 0 && err != AVERROR_INVALIDDATA) {
                return uf_av_fail(r->ctx, "decode", r->path, err);
            }
        }
    }
}

AVFormatContext *uf_sound_reader_format(const uf_sound_reader *r) { return r->fmt; }
const AVCodecContext *uf_sound_reader_codec(const uf_sound_reader *r) { return r->codec; }
int uf_sound_reader_stream(const uf_sound_reader *r) { return r->stream; }
int uf_sound_reader_rate(const uf_sound_reader *r) { return r->codec->sample_rate; }
int uf_sound_reader_channels(const uf_sound_reader *r) { return r->codec->ch_layout.nb_channels; }
double uf_sound_reader_start(const uf_sound_reader *r) { return r->start; }

double uf_sound_reader_seconds(const uf_sound_reader *r) {
    const AVStream *st = r->fmt->streams[r->stream];
    if (st->duration != AV_NOPTS_VALUE && st->duration > 0) return (double)st->duration * av_q2d(st->time_base);
    return r->fmt->duration != AV_NOPTS_VALUE && r->fmt->duration > 0 ? (double)r->fmt->duration / AV_TIME_BASE : 0;
}

/* ---- rates ------------------------------------------------------------------------------------------------------------- */

int uf_sound_rates_open(uf_ctx *ctx, SwrContext **s, int channels, int from, int to, double precision) {
    AVChannelLayout layout = { .order = AV_CHANNEL_ORDER_UNSPEC, .nb_channels = channels };
    for (int plain = 0; plain < 2; plain++) { /* FFmpeg may have been built without soxr */
        swr_free(s);
        int err = swr_alloc_set_opts2(s, &layout, AV_SAMPLE_FMT_FLTP, to, &layout, AV_SAMPLE_FMT_FLTP, from, 0, NULL);
        if (err >= 0 && !plain) err = av_opt_set(*s, "resampler", "soxr", 0);
        if (err >= 0 && !plain && precision > 0) err = av_opt_set_double(*s, "precision", precision, 0);
        if (err >= 0 && swr_init(*s) >= 0) return UF_OK;
    }
    return uf_fail(ctx, UF_EUNSUPPORTED, "sound of %d samples a second with %d channels cannot be brought to %d; convert it first", from,
                   channels, to);
}

enum { QUICK_TAPS = 64 }; /* at the lower rate */
static const double quick_cutoff = .97;

int uf_sound_rates_open_quick(uf_ctx *ctx, SwrContext **s, int channels, int from, int to) {
    AVChannelLayout layout = { .order = AV_CHANNEL_ORDER_UNSPEC, .nb_channels = channels };
    int err = swr_alloc_set_opts2(s, &layout, AV_SAMPLE_FMT_FLTP, to, &layout, AV_SAMPLE_FMT_FLTP, from, 0, NULL);
    if (err >= 0) err = av_opt_set(*s, "resampler", "swr", 0);
    if (err >= 0) err = av_opt_set_int(*s, "filter_size", QUICK_TAPS, 0);
    if (err >= 0) err = av_opt_set_double(*s, "cutoff", quick_cutoff, 0);
    if (err >= 0 && swr_init(*s) >= 0) return UF_OK;
    return uf_fail(ctx, UF_EUNSUPPORTED, "sound of %d samples a second with %d channels cannot be brought to %d; convert it first", from,
                   channels, to);
}

double uf_sound_rates_delay(int from, int to) {
    return from == to ? 0 : QUICK_TAPS / 2 / quick_cutoff / (from < to ? from : to);
}

/* ---- all at once --------------------------------------------------------------------------------------------------------- */

static int add(uf_ctx *ctx, uf_sound *s, size_t *room, float *const *x, int channels, int n) {
    if (s->n + (size_t)n > *room) {
        size_t more = 2 * (s->n + (size_t)n) + 65536;
        float *at = realloc(s->x, more * sizeof(*at));
        if (!at) return uf_fail(ctx, UF_ENOMEM, "out of memory for sound; give shorter files");
        s->x = at;
        *room = more;
    }
    for (int i = 0; i < n; i++) s->x[s->n++] = uf_sound_mean(x, channels, i);
    return UF_OK;
}

int uf_sound_read_all(uf_ctx *ctx, const char *path, uf_sound *out) {
    uf_sound_reader *r = NULL;
    uf_sound_item item;
    size_t room = 0;
    *out = (uf_sound){ 0 };
    int err = uf_sound_reader_open(&r, ctx, path);
    if (err == UF_OK) out->rate = uf_sound_reader_rate(r);
    while (err == UF_OK && (err = uf_sound_reader_next(r, &item)) == UF_OK)
        if (!item.packet) err = add(ctx, out, &room, item.x, uf_sound_reader_channels(r), item.n);
    uf_sound_reader_close(&r);
    return err == UF_EOF ? UF_OK : err;
}

int uf_sound_at_rate(uf_ctx *ctx, const uf_sound *s, int rate, uf_sound *out) {
    SwrContext *swr = NULL;
    size_t room = rate == s->rate ? s->n + 1 : (size_t)((double)s->n * rate / s->rate) + 4096;
    *out = (uf_sound){ .x = uf_alloc(ctx, room, sizeof(float)), .rate = rate };
    if (!out->x) return UF_ENOMEM;
    if (rate == s->rate) {
        if (s->n) memcpy(out->x, s->x, s->n * sizeof(*s->x));
        out->n = s->n;
        return UF_OK;
    }
    UF_TRY(uf_sound_rates_open(ctx, &swr, 1, s->rate, rate, 0));
    int got = 0;
    for (size_t at = 0, last = 0; got >= 0 && !last;) {
        int n = s->n - at > 65536 ? 65536 : (int)(s->n - at);
        const uint8_t *in = (const uint8_t *)(s->x + at);
        uint8_t *to = (uint8_t *)(out->x + out->n);
        got = swr_convert(swr, &to, (int)(room - out->n > 1 << 24 ? 1 << 24 : room - out->n), n ? &in : NULL, n);
        if (got > 0) out->n += (size_t)got;
        at += (size_t)n;
        last = !n && got <= 0;
    }
    swr_free(&swr);
    return got < 0 ? uf_fail(ctx, UF_ENOMEM, "cannot bring sound from %d to %d samples a second", s->rate, rate) : UF_OK;
}

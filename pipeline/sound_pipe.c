#include "sound_pipe.h"

#include "sound_writer.h"

#include <errno.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 4096, AT_ONCE = 2048, GLANCE_MS = 100 }; /* bytes; samples; how often somebody who waits looks whether to stop */

typedef struct formats {
    const char *muxer;
    enum AVCodecID codec; /* NONE: whatever the header says */
} formats;
static const formats known[] = { [UF_PIPE_WAV] = { "wav", AV_CODEC_ID_NONE },
                                 [UF_PIPE_S16] = { "s16le", AV_CODEC_ID_PCM_S16LE },
                                 [UF_PIPE_F32] = { "f32le", AV_CODEC_ID_PCM_F32LE } };

/* true: reading or writing will not block, or will say what is wrong; false: the job was cancelled `patience` seconds ago. */
static bool wait_for(uf_ctx *ctx, int fd, short what, double patience) {
    struct pollfd p = { .fd = fd, .events = what };
    double since = 0;
    for (;;) {
        if (uf_ctx_cancelled(ctx)) {
            if (since == 0) since = uf_now();
            if (uf_now() - since >= patience) return false;
        }
        int n = poll(&p, 1, GLANCE_MS);
        if (n > 0 || (n < 0 && errno != EINTR)) return true;
    }
}

/* ---- in -------------------------------------------------------------------------------------------------------------- */

struct uf_sound_source {
    uf_ctx *ctx;
    int fd;
    AVIOContext *pb;
    AVFormatContext *fmt; /* reads the header and nothing else: its packets would wait for a kilobyte */
    AVCodecContext *codec;
    SwrContext *swr;
    AVPacket *packet;
    AVFrame *frame;
    int64_t left;         /* bytes of sound to come, as the header says */
    int unit;             /* bytes of a sample of all channels */
    uint8_t *bytes;       /* AT_ONCE units, the first n_bytes of them read */
    int n_bytes;
    float **x;            /* AT_ONCE samples of each channel */
};

static int fill(void *user, uint8_t *to, int size) {
    uf_sound_source *s = user;
    for (;;) {
        if (!wait_for(s->ctx, s->fd, POLLIN, 0)) return AVERROR_EOF;
        ssize_t n = read(s->fd, to, (size_t)size);
        if (n > 0) return (int)n;
        if (n == 0) return AVERROR_EOF;
        if (errno != EINTR && errno != EAGAIN) return AVERROR(errno);
    }
}

/* FFmpeg believes a header's length only where the file is known to be as long; the end is found out here when it comes. */
static int64_t endless(void *user, int64_t offset, int whence) {
    (void)user;
    (void)offset;
    return whence == AVSEEK_SIZE ? INT64_MAX : AVERROR(ESPIPE);
}

/* Writers that do not know a length say 0 or nearly 2 or 4 GB. */
static int64_t length_of(const AVStream *st, int unit) {
    enum { ENDLESS = 0x7fff0000 - BUFFER };
    bool told = st->duration != AV_NOPTS_VALUE && st->duration > 0 && st->duration < ENDLESS / unit;
    return told ? st->duration * unit : INT64_MAX;
}

static int read_header(uf_sound_source *s, AVCodecParameters **p) {
    if (!(s->fmt = avformat_alloc_context())) return UF_ENOMEM;
    uf_av_adopt_format(s->ctx, s->fmt);
    s->fmt->pb = s->pb;
    int err = avformat_open_input(&s->fmt, "", av_find_input_format("wav"), NULL);
    if (err < 0 || s->fmt->nb_streams < 1)
        return uf_fail(s->ctx, UF_EDATA, "what comes through the pipe does not begin as a WAV file; for raw samples tell --format s16le (or f32le), "
                       "--rate and --channels");
    *p = s->fmt->streams[0]->codecpar;
    return UF_OK;
}

static int decoder_open(uf_sound_source *s, const uf_pipe_sound *p) {
    AVCodecParameters *from = NULL;
    if (p->format == UF_PIPE_WAV) UF_TRY(read_header(s, &from));
    const AVCodec *c = avcodec_find_decoder(from ? from->codec_id : known[p->format].codec);
    int bits = c ? av_get_exact_bits_per_sample(c->id) : 0;
    if (!c || bits < 8 || bits % 8)
        return uf_fail(s->ctx, UF_EUNSUPPORTED, "the WAV that comes through the pipe holds packed sound; let it hold plain samples (PCM)");
    if (!(s->codec = avcodec_alloc_context3(c))) return UF_ENOMEM;
    if (from) {
        if (avcodec_parameters_to_context(s->codec, from) < 0) return UF_ENOMEM;
    } else {
        s->codec->sample_rate = p->rate;
        av_channel_layout_default(&s->codec->ch_layout, p->channels);
    }
    int err = avcodec_open2(s->codec, c, NULL), channels = s->codec->ch_layout.nb_channels;
    if (err < 0) return uf_av_fail(s->ctx, "decode", "standard input", err);
    if (channels < 1 || channels > 64 || s->codec->sample_rate < 1)
        return uf_fail(s->ctx, UF_EDATA, "sound with %d channels and %d samples a second cannot be cleaned", channels, s->codec->sample_rate);
    s->unit = channels * bits / 8;
    s->left = from ? length_of(s->fmt->streams[0], s->unit) : INT64_MAX;
    AVChannelLayout plain = { .order = AV_CHANNEL_ORDER_UNSPEC, .nb_channels = channels };
    err = swr_alloc_set_opts2(&s->swr, &plain, AV_SAMPLE_FMT_FLTP, s->codec->sample_rate, &plain, s->codec->sample_fmt, s->codec->sample_rate, 0, NULL);
    if (err >= 0) err = swr_init(s->swr);
    return err < 0 ? uf_av_fail(s->ctx, "decode", "standard input", err) : UF_OK;
}

static int source_memory(uf_sound_source *s) {
    int channels = s->codec->ch_layout.nb_channels;
    s->bytes = uf_alloc(s->ctx, AT_ONCE, (size_t)s->unit);
    s->x = uf_alloc(s->ctx, (size_t)channels, sizeof(*s->x));
    s->packet = av_packet_alloc();
    s->frame = av_frame_alloc();
    for (int i = 0; s->x && i < channels; i++)
        if (!(s->x[i] = uf_alloc(s->ctx, AT_ONCE, sizeof(float)))) return UF_ENOMEM;
    return s->bytes && s->x && s->packet && s->frame ? UF_OK : UF_ENOMEM;
}

int uf_sound_source_open(uf_sound_source **out, uf_ctx *ctx, int fd, const uf_pipe_sound *p) {
    uf_sound_source *s = uf_alloc(ctx, 1, sizeof(*s));
    uint8_t *buffer = s ? av_malloc(BUFFER) : NULL;
    int err = s && buffer ? UF_OK : UF_ENOMEM;
    if (err == UF_OK) {
        s->ctx = ctx;
        s->fd = fd;
        if (!(s->pb = avio_alloc_context(buffer, BUFFER, 0, s, fill, NULL, endless))) {
            av_free(buffer);
            err = UF_ENOMEM;
        } else {
            s->pb->seekable = 0;
        }
    }
    if (err == UF_OK) err = decoder_open(s, p);
    if (err == UF_OK) err = source_memory(s);
    if (err < 0) uf_sound_source_close(&s);
    else *out = s;
    return err;
}

static void pb_close(AVIOContext **pb) {
    if (*pb) av_freep(&(*pb)->buffer);
    avio_context_free(pb);
}

void uf_sound_source_close(uf_sound_source **ps) {
    uf_sound_source *s = *ps;
    if (!s) return;
    for (int i = 0; s->x && i < s->codec->ch_layout.nb_channels; i++) free(s->x[i]);
    free(s->x);
    free(s->bytes);
    swr_free(&s->swr);
    avcodec_free_context(&s->codec);
    avformat_close_input(&s->fmt);
    pb_close(&s->pb);
    av_packet_free(&s->packet);
    av_frame_free(&s->frame);
    free(s);
    *ps = NULL;
}

/* The whole samples among the bytes, to s->x; the rest waits for its other bytes. */
static int decode(uf_sound_source *s, int n) {
    int size = n * s->unit, err = av_new_packet(s->packet, size);
    if (err >= 0) memcpy(s->packet->data, s->bytes, (size_t)size);
    if (err >= 0) err = avcodec_send_packet(s->codec, s->packet);
    av_packet_unref(s->packet);
    if (err >= 0) err = avcodec_receive_frame(s->codec, s->frame);
    if (err >= 0) err = swr_convert(s->swr, (uint8_t **)s->x, n, (const uint8_t **)s->frame->extended_data, s->frame->nb_samples);
    av_frame_unref(s->frame);
    if (err >= 0 && err != n) err = AVERROR_INVALIDDATA;
    if (err < 0) return uf_av_fail(s->ctx, "decode", "standard input", err);
    s->n_bytes -= size;
    memmove(s->bytes, s->bytes + size, (size_t)s->n_bytes);
    return UF_OK;
}

int uf_sound_source_next(uf_sound_source *s, float *const **x, int *n) {
    do {
        int room = AT_ONCE * s->unit - s->n_bytes;
        if (s->left < room) room = (int)s->left; /* tags may stand behind the sound */
        int got = room > 0 ? avio_read_partial(s->pb, s->bytes + s->n_bytes, room) : AVERROR_EOF;
        if (got == AVERROR_EOF || got == 0) return UF_EOF;
        if (got < 0) return uf_av_fail(s->ctx, "read", "standard input", got);
        s->n_bytes += got;
        if (s->left != INT64_MAX) s->left -= got;
    } while (s->n_bytes < s->unit);
    *n = s->n_bytes / s->unit;
    *x = s->x;
    return decode(s, *n);
}

const AVCodecContext *uf_sound_source_codec(const uf_sound_source *s) { return s->codec; }

/* ---- out ------------------------------------------------------------------------------------------------------------- */

struct uf_sound_sink {
    uf_ctx *ctx;
    int fd;
    AVIOContext *pb;
    AVFormatContext *fmt;
    AVCodecContext *enc;
    SwrContext *swr;
    AVPacket *packet;
    int64_t pts;
    bool gone, stuck; /* nobody reads: the pipe is closed; cancelled, and it stays full */
};

static int empty(void *user, uint8_t *from, int size) {
    uf_sound_sink *s = user;
    for (int at = 0; at < size;) {
        if (!wait_for(s->ctx, s->fd, POLLOUT, UF_PIPE_PATIENCE)) {
            s->stuck = true;
            return AVERROR_EXIT;
        }
        ssize_t n = write(s->fd, from + at, (size_t)(size - at));
        if (n > 0) at += (int)n;
        else if (n < 0 && errno == EPIPE) s->gone = true;
        if (n < 0 && errno != EINTR && errno != EAGAIN) return AVERROR(errno);
    }
    return size;
}

static int sink_result(uf_sound_sink *s, int av) {
    char text[128];
    if (av >= 0) return UF_OK;
    if (s->gone) return UF_EOF;
    if (s->stuck) return uf_fail(s->ctx, UF_EINTR, "stopped: nobody took the last of the sound");
    return uf_fail(s->ctx, uf_av_code(av), "cannot write to standard output: %s", uf_av_text(av, text));
}

static int encoder_open(uf_sound_sink *s, enum AVCodecID id, const AVCodecContext *like) {
    const AVCodec *c = avcodec_find_encoder(id);
    if (!c || !(s->enc = avcodec_alloc_context3(c))) return AVERROR(ENOMEM);
    AVCodecContext *e = s->enc;
    e->sample_fmt = c->sample_fmts[0];
    e->sample_rate = like->sample_rate;
    e->time_base = (AVRational){ 1, e->sample_rate };
    int err = av_channel_layout_copy(&e->ch_layout, &like->ch_layout);
    if (err >= 0) err = avcodec_open2(e, c, NULL);
    if (err >= 0)
        err = swr_alloc_set_opts2(&s->swr, &e->ch_layout, e->sample_fmt, e->sample_rate, &e->ch_layout, AV_SAMPLE_FMT_FLTP, e->sample_rate, 0, NULL);
    if (err >= 0 && e->sample_fmt == AV_SAMPLE_FMT_S16) av_opt_set(s->swr, "dither_method", "triangular", 0);
    return err < 0 ? err : swr_init(s->swr);
}

static int muxer_open(uf_sound_sink *s, const char *name) {
    int err = avformat_alloc_output_context2(&s->fmt, NULL, name, NULL);
    if (err < 0) return err;
    AVStream *st = avformat_new_stream(s->fmt, NULL);
    s->fmt->pb = s->pb;
    s->fmt->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_FLUSH_PACKETS; /* no tag between header and sound */
    if (!st || !s->packet) return AVERROR(ENOMEM);
    st->time_base = s->enc->time_base;
    err = avcodec_parameters_from_context(st->codecpar, s->enc);
    if (err >= 0) err = avformat_write_header(s->fmt, NULL);
    avio_flush(s->pb); /* who waits for a header gets it before there is any sound */
    return err < 0 ? err : s->pb->error;
}

int uf_sound_sink_open(uf_sound_sink **out, uf_ctx *ctx, int fd, uf_pipe_format format, const AVCodecContext *like) {
    uf_sound_sink *s = uf_alloc(ctx, 1, sizeof(*s));
    uint8_t *buffer = s ? av_malloc(BUFFER) : NULL;
    int err = UF_ENOMEM;
    if (buffer) {
        s->ctx = ctx;
        s->fd = fd;
        s->packet = av_packet_alloc();
        s->pb = avio_alloc_context(buffer, BUFFER, 1, s, NULL, empty, NULL);
        if (!s->pb) av_free(buffer);
    }
    if (s && s->pb) {
        err = encoder_open(s, format == UF_PIPE_WAV ? uf_sound_pcm_for(like) : known[format].codec, like);
        if (err >= 0) err = muxer_open(s, known[format].muxer);
        err = sink_result(s, err);
    }
    if (err < 0) uf_sound_sink_close(&s);
    else *out = s;
    return err;
}

void uf_sound_sink_close(uf_sound_sink **ps) {
    uf_sound_sink *s = *ps;
    if (!s) return;
    avformat_free_context(s->fmt);
    avcodec_free_context(&s->enc);
    swr_free(&s->swr);
    pb_close(&s->pb);
    av_packet_free(&s->packet);
    free(s);
    *ps = NULL;
}

/* The frame's packet, into the pipe. */
static int send(uf_sound_sink *s, const AVFrame *f) {
    int err = avcodec_send_frame(s->enc, f);
    if (err >= 0) err = avcodec_receive_packet(s->enc, s->packet);
    if (err >= 0) err = av_write_frame(s->fmt, s->packet);
    av_packet_unref(s->packet);
    avio_flush(s->pb);
    return err < 0 ? err : s->pb->error;
}

int uf_sound_sink_write(uf_sound_sink *s, const float *const *x, int n) {
    AVFrame *f = av_frame_alloc();
    if (!f) return UF_ENOMEM;
    f->nb_samples = n;
    f->format = s->enc->sample_fmt;
    f->sample_rate = s->enc->sample_rate;
    f->pts = s->pts;
    int err = av_channel_layout_copy(&f->ch_layout, &s->enc->ch_layout);
    if (err >= 0) err = av_frame_get_buffer(f, 0);
    if (err >= 0) err = swr_convert(s->swr, f->extended_data, n, (const uint8_t **)(uintptr_t)x, n);
    if (err >= 0) uf_sound_keep_silence(s->enc, x, n, f->extended_data);
    if (err >= 0) err = send(s, f);
    av_frame_free(&f);
    s->pts += n;
    return sink_result(s, err);
}

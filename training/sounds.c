/* Recordings for training: found like pictures, decoded once to mono 16 bit at one rate, and kept in memory. */
#include "sounds.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sound {
    int16_t *at;
    size_t n;
} sound;

struct uf_sounds {
    uf_ctx *ctx;
    uf_data *data;
    sound *sound;
    int64_t n;
    int rate;
};

typedef struct bytes {
    const uint8_t *at;
    int64_t n, pos;
} bytes;

static int read_bytes(void *user, uint8_t *to, int n) {
    bytes *b = user;
    int64_t left = b->n - b->pos;
    if (left <= 0) return AVERROR_EOF;
    if (n > left) n = (int)left;
    memcpy(to, b->at + b->pos, (size_t)n);
    b->pos += n;
    return n;
}

static int64_t seek_bytes(void *user, int64_t to, int whence) {
    bytes *b = user;
    if (whence == AVSEEK_SIZE) return b->n;
    int64_t at = whence == SEEK_CUR ? b->pos + to : whence == SEEK_END ? b->n + to : to;
    return at < 0 || at > b->n ? AVERROR(EINVAL) : (b->pos = at);
}

typedef struct decoding {
    AVIOContext *io;
    AVFormatContext *file;
    AVCodecContext *codec;
    SwrContext *rates;
    AVPacket *packet;
    AVFrame *frame;
    int stream, rate;
    sound *to;
    size_t room;
} decoding;

static void decoding_close(decoding *d) {
    swr_free(&d->rates);
    avcodec_free_context(&d->codec);
    avformat_close_input(&d->file);
    if (d->io) av_freep(&d->io->buffer);
    avio_context_free(&d->io);
    av_packet_free(&d->packet);
    av_frame_free(&d->frame);
}

static int rates_open(decoding *d, const char *engine) {
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    swr_free(&d->rates);
    int err = swr_alloc_set_opts2(&d->rates, &mono, AV_SAMPLE_FMT_S16, d->rate, &d->codec->ch_layout, d->codec->sample_fmt,
                                  d->codec->sample_rate, 0, NULL);
    if (err >= 0 && engine) err = av_opt_set(d->rates, "resampler", engine, 0);
    /* Between 16 bit and 16 bit soxr would work in 16 bit too, and dither it with a seed of its own each time. */
    if (err >= 0) err = av_opt_set_sample_fmt(d->rates, "internal_sample_fmt", AV_SAMPLE_FMT_FLTP, 0);
    return err < 0 ? err : swr_init(d->rates);
}

static int decoding_open(decoding *d, bytes *from, const char *name) {
    uint8_t *buffer = av_malloc(4096);
    d->io = buffer ? avio_alloc_context(buffer, 4096, 0, from, read_bytes, NULL, seek_bytes) : NULL;
    d->file = d->io ? avformat_alloc_context() : NULL;
    if (!d->file) return AVERROR(ENOMEM);
    d->file->pb = d->io;
    int err = avformat_open_input(&d->file, name, NULL, NULL);
    if (err >= 0) err = avformat_find_stream_info(d->file, NULL);
    if (err < 0) return err;
    const AVCodec *codec = NULL;
    d->stream = av_find_best_stream(d->file, AVMEDIA_TYPE_AUDIO, -1, -1, &codec, 0);
    if (d->stream < 0) return d->stream;
    d->codec = avcodec_alloc_context3(codec);
    d->packet = av_packet_alloc();
    d->frame = av_frame_alloc();
    if (!d->codec || !d->packet || !d->frame) return AVERROR(ENOMEM);
    err = avcodec_parameters_to_context(d->codec, d->file->streams[d->stream]->codecpar);
    if (err >= 0) err = avcodec_open2(d->codec, codec, NULL);
    if (err < 0) return err;
    if (!d->codec->ch_layout.nb_channels || d->codec->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&d->codec->ch_layout, d->codec->ch_layout.nb_channels ? d->codec->ch_layout.nb_channels : 1);
    return rates_open(d, "soxr") < 0 ? rates_open(d, NULL) : 0; /* FFmpeg may have been built without it */
}

/* frame NULL: what is still inside. */
static int convert(decoding *d, const AVFrame *f) {
    int most = swr_get_out_samples(d->rates, f ? f->nb_samples : 0);
    if (most < 0) return most;
    if (d->to->n + (size_t)most > d->room) {
        size_t room = 2 * (d->to->n + (size_t)most) + 4096;
        int16_t *at = realloc(d->to->at, room * sizeof *at);
        if (!at) return AVERROR(ENOMEM);
        d->to->at = at;
        d->room = room;
    }
    uint8_t *out = (uint8_t *)(d->to->at + d->to->n);
    int n = swr_convert(d->rates, &out, most, f ? (const uint8_t **)f->extended_data : NULL, f ? f->nb_samples : 0);
    if (n > 0) d->to->n += (size_t)n;
    return n;
}

static int drain(decoding *d, const AVPacket *packet) {
    int err = avcodec_send_packet(d->codec, packet);
    while (err >= 0 && (err = avcodec_receive_frame(d->codec, d->frame)) >= 0) {
        err = convert(d, d->frame);
        av_frame_unref(d->frame);
    }
    return err == AVERROR(EAGAIN) || err == AVERROR_EOF || err == AVERROR_INVALIDDATA ? 0 : err;
}

static int decode(sound *to, const void *data, size_t n, const char *name, int rate) {
    bytes b = {data, (int64_t)n, 0};
    decoding d = {.rate = rate, .to = to};
    int err = decoding_open(&d, &b, name);
    while (err >= 0 && av_read_frame(d.file, d.packet) >= 0) {
        if (d.packet->stream_index == d.stream) err = drain(&d, d.packet);
        av_packet_unref(d.packet);
    }
    if (err >= 0) err = drain(&d, NULL);
    while (err >= 0 && (err = convert(&d, NULL)) > 0) continue;
    decoding_close(&d);
    return err < 0 || !to->n ? UF_EDATA : UF_OK;
}

static void load(uf_sounds *s, int64_t i) {
    const void *data = NULL;
    void *owned = NULL;
    size_t n = 0;
    int err = uf_data_read(s->data, i, &data, &n, &owned);
    if (err == UF_OK) err = decode(&s->sound[i], data, n, uf_data_name(s->data, i), s->rate);
    free(owned);
    if (err < 0) uf_log(s->ctx, UF_LOG_WARN, "passed over '%s': no sound in it, or damaged", uf_data_name(s->data, i));
}

/* How far the quiet parts lie below the loud ones: of pieces of 32 ms the 8th and the 95th of a hundred, in dB, of differences between samples a
 * sixteenth of a ms apart, so that rumble hides nothing. `level` has room for n / (32 ms) values. 0: too short to tell. */
static double dynamic_range(const sound *x, int rate, double *level) {
    size_t size = (size_t)(rate * 32 / 1000), step = (size_t)(rate / 16000), n = 0;
    if (!step) step = 1;
    for (size_t at = 0; at + size + step <= x->n; at += size) {
        double e = 0;
        for (size_t i = at; i < at + size; i++) {
            double d = (double)x->at[i + step] - (double)x->at[i];
            e += d * d;
        }
        level[n++] = e / (double)size;
    }
    if (n < 10) return 0;
    uf_sort(level, n);
    return 10 * log10((level[n * 95 / 100] + 1e-3) / (level[n * 8 / 100] + 1e-3));
}

/* Leaves out the recordings that are not as clean as their source asks. */
static int choose(uf_sounds *s, const uf_source *sources, int n) {
    int64_t count = uf_data_n(s->data), kept = 0;
    bool asked = false;
    size_t longest = 0;
    for (int i = 0; i < n; i++) asked |= sources[i].dynamic_range > 0;
    if (!asked) return UF_OK;
    for (int64_t i = 0; i < count; i++)
        if (s->sound[i].n > longest) longest = s->sound[i].n;
    bool *wanted = uf_alloc(s->ctx, (size_t)count, sizeof *wanted);
    double *level = uf_alloc(s->ctx, longest / (size_t)(s->rate * 32 / 1000) + 1, sizeof *level);
    int64_t at = 0;
    for (int from = 0; wanted && level && from < n; from++) {
        int64_t first = at, good = 0;
        double least = (double)sources[from].dynamic_range;
        for (; at < count && uf_data_source(s->data, at) == from; at++) good += wanted[at] = least <= 0 || dynamic_range(&s->sound[at], s->rate, level) >= least;
        if (least > 0) uf_log(s->ctx, UF_LOG_INFO, "%s: %lld of %lld recordings have a dynamic range of %.0f dB", sources[from].path, (long long)good, (long long)(at - first), least);
    }
    free(level);
    int err = wanted && level ? uf_data_keep(s->data, wanted) : UF_ENOMEM;
    for (int64_t i = 0; wanted && i < count; i++) {
        if (wanted[i]) s->sound[kept++] = s->sound[i];
        else free(s->sound[i].at);
    }
    if (wanted) s->n = kept;
    free(wanted);
    return err;
}

int uf_sounds_open(uf_sounds **out, uf_ctx *ctx, const uf_source *sources, int n, int rate) {
    uf_sounds *s = uf_alloc(ctx, 1, sizeof *s);
    if (!s) return UF_ENOMEM;
    s->ctx = ctx;
    s->rate = rate;
    int err = uf_data_open_sounds(&s->data, ctx, sources, n);
    if (err == UF_OK && !(s->sound = uf_alloc(ctx, (size_t)uf_data_n(s->data), sizeof *s->sound))) err = UF_ENOMEM;
    int64_t count = s->n = err == UF_OK ? uf_data_n(s->data) : 0;
    double seconds = 0;
    int level = av_log_get_level();
    av_log_set_level(AV_LOG_FATAL); /* one warning a file is ours */
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) load(s, i);
    av_log_set_level(level);
    if (err == UF_OK) err = choose(s, sources, n);
    for (int64_t i = 0; i < s->n; i++) seconds += (double)s->sound[i].n / rate;
    if (err == UF_OK && seconds <= 0) err = uf_fail(ctx, UF_EDATA, "none of the recordings can be read; check the paths in the recipe");
    if (err == UF_OK) uf_log(ctx, UF_LOG_INFO, "%lld recordings, %.0f minutes", (long long)s->n, seconds / 60);
    if (err < 0) uf_sounds_close(&s);
    else *out = s;
    return err;
}

void uf_sounds_close(uf_sounds **ps) {
    uf_sounds *s = *ps;
    if (!s) return;
    for (int64_t i = 0; i < s->n; i++) free(s->sound[i].at);
    free(s->sound);
    uf_data_close(&s->data);
    free(s);
    *ps = NULL;
}

const int16_t *uf_sounds_pick(const uf_sounds *s, uint64_t seed, uint64_t index, size_t *n) {
    const sound *x = &s->sound[uf_data_pick(s->data, seed, index)];
    *n = x->n;
    return x->at;
}

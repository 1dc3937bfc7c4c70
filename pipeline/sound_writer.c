#include "sound_writer.h"

#include "wave_chunks.h"

#include <libavutil/audio_fifo.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct uf_sound_writer {
    uf_ctx *ctx;
    char *path, *url;
    char *chunks_from;    /* a wave file whose cue points and the like go along, or NULL */
    uf_whole *whole;
    AVFormatContext *oc, *in;
    AVCodecContext *enc;
    AVStream *stream;
    SwrContext *swr;      /* float to what the encoder takes; dithers on the way to 16 bit */
    AVAudioFifo *fifo;    /* encoders want whole frames */
    AVPacket *packet;
    uf_sayings says;
    int *map, rate, delay; /* delay: samples by which packets are told later than they are */
    int64_t n_cut;        /* samples beyond what the encoder's format can hold */
    int64_t pts;          /* of the next frame, in samples of the encoder */
    bool placed;
};

int uf_sound_writer_open(uf_sound_writer **out, uf_ctx *ctx, const char *path, bool overwrite) {
    uf_sound_writer *w = uf_alloc(ctx, 1, sizeof(*w));
    int err = w && (w->path = uf_strdup(ctx, path)) ? UF_OK : UF_ENOMEM;
    if (err == UF_OK) {
        w->ctx = ctx;
        const AVOutputFormat *o = av_guess_format(NULL, path, NULL);
        if (!o || (o->flags & AVFMT_NOFILE) || o->audio_codec == AV_CODEC_ID_NONE)
            err = uf_fail(ctx, UF_EUNSUPPORTED, "'%s' has no ending that says which kind of sound file it should be; try .wav, .flac, .mp3, "
                          "or .mkv for a film", path);
    }
    if (err == UF_OK) err = uf_whole_open(&w->whole, ctx, path, overwrite);
    if (err < 0) uf_sound_writer_close(&w);
    else *out = w;
    return err;
}

static bool is_film(const AVStream *st) {
    return st->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && !(st->disposition & AV_DISPOSITION_ATTACHED_PIC);
}

static bool is_one_of(const char *name, const char *list) {
    const char *at = strstr(list, name);
    return at && (at == list || at[-1] == ' ') && (at[strlen(name)] == ' ' || !at[strlen(name)]);
}

enum AVCodecID uf_sound_pcm_for(const AVCodecContext *dec) {
    int bits = dec->bits_per_raw_sample ? dec->bits_per_raw_sample : av_get_bits_per_sample(dec->codec_id);
    if (dec->codec_id == AV_CODEC_ID_PCM_F32LE || dec->codec_id == AV_CODEC_ID_PCM_F32BE) return AV_CODEC_ID_PCM_F32LE;
    if (dec->codec_id == AV_CODEC_ID_PCM_F64LE || dec->codec_id == AV_CODEC_ID_PCM_F64BE) return AV_CODEC_ID_PCM_F64LE;
    return bits > 24 ? AV_CODEC_ID_PCM_S32LE : bits > 16 ? AV_CODEC_ID_PCM_S24LE : AV_CODEC_ID_PCM_S16LE;
}

/* A film keeps its sound's codec where that can be written; a sound file takes its container's usual one. */
static const AVCodec *choose(const uf_sound_writer *w, const AVCodecContext *dec, bool film) {
    const AVOutputFormat *o = w->oc->oformat;
    enum AVCodecID same = dec->codec_id, usual = av_guess_codec(o, NULL, w->path, NULL, AVMEDIA_TYPE_AUDIO);
    bool wave = usual == AV_CODEC_ID_PCM_S16LE;
    const AVCodec *c = NULL;
    if (wave) c = avcodec_find_encoder(uf_sound_pcm_for(dec));
    if (!c && film && avformat_query_codec(o, same, FF_COMPLIANCE_NORMAL) == 1) c = avcodec_find_encoder(same);
    if (c && (c->capabilities & AV_CODEC_CAP_EXPERIMENTAL)) c = NULL; /* FFmpeg's own vorbis and opus */
    if (!c && usual == AV_CODEC_ID_VORBIS) c = avcodec_find_encoder_by_name("libvorbis");
    if (!c && usual == AV_CODEC_ID_OPUS) c = avcodec_find_encoder_by_name("libopus");
    return c ? c : avcodec_find_encoder(usual);
}

/* The format that loses least: as deep as the source, no deeper without need. */
static enum AVSampleFormat format_for(const AVCodec *c, const AVCodecContext *dec) {
    enum AVSampleFormat best = AV_SAMPLE_FMT_NONE;
    bool deep = dec->bits_per_raw_sample > 16 || av_get_bits_per_sample(dec->codec_id) > 16;
    for (const enum AVSampleFormat *f = c->sample_fmts; f && *f != AV_SAMPLE_FMT_NONE; f++) {
        enum AVSampleFormat packed = av_get_packed_sample_fmt(*f);
        if (best == AV_SAMPLE_FMT_NONE) best = *f;
        if (packed == AV_SAMPLE_FMT_FLT) return *f;
        if (deep ? packed == AV_SAMPLE_FMT_S32 : packed == AV_SAMPLE_FMT_S16) best = *f;
    }
    return best == AV_SAMPLE_FMT_NONE ? AV_SAMPLE_FMT_FLTP : best;
}

static int rate_for(const AVCodec *c, int rate) {
    int best = 0;
    for (const int *r = c->supported_samplerates; r && *r; r++)
        if (!best || (best < rate ? *r > best : *r >= rate && *r < best)) best = *r;
    return best ? best : rate;
}

static int encoder_open(uf_sound_writer *w, const AVCodecContext *dec, const AVStream *from, bool film) {
    const AVCodec *c = choose(w, dec, film);
    if (!c) return uf_fail(w->ctx, UF_EUNSUPPORTED, "no encoder for the sound of '%s' is here; write to a .wav or .flac file", w->path);
    AVCodecContext *e = w->enc = avcodec_alloc_context3(c);
    if (!e) return UF_ENOMEM;
    uf_av_adopt_codec(w->ctx, e, &w->says);
    e->sample_fmt = format_for(c, dec);
    e->sample_rate = rate_for(c, w->rate);
    if (av_channel_layout_copy(&e->ch_layout, &dec->ch_layout) < 0) return UF_ENOMEM;
    int channels = e->ch_layout.nb_channels;
    if (e->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC) {
        av_channel_layout_uninit(&e->ch_layout);
        av_channel_layout_default(&e->ch_layout, channels);
    }
    int64_t source = from ? from->codecpar->bit_rate : 0;
    if (!av_get_bits_per_sample(c->id) && c->id != AV_CODEC_ID_FLAC)
        e->bit_rate = source >= 48000 * channels && source < 256000 * channels ? source : 96000 * (int64_t)channels;
    if (av_get_packed_sample_fmt(e->sample_fmt) == AV_SAMPLE_FMT_S32 && dec->bits_per_raw_sample > 16) e->bits_per_raw_sample = 24;
    e->time_base = (AVRational){ 1, e->sample_rate };
    if (w->oc->oformat->flags & AVFMT_GLOBALHEADER) e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    int err = avcodec_open2(e, c, NULL);
    if (err < 0)
        return uf_fail(w->ctx, UF_EUNSUPPORTED, "%s cannot hold sound of %d channels with %d samples a second; write to a .wav or .flac file",
                       c->name, channels, e->sample_rate);
    if ((err = swr_alloc_set_opts2(&w->swr, &e->ch_layout, e->sample_fmt, e->sample_rate, &e->ch_layout, AV_SAMPLE_FMT_FLTP, w->rate, 0, NULL)) < 0)
        return uf_av_fail(w->ctx, "convert sound for", w->path, err);
    if (av_get_packed_sample_fmt(e->sample_fmt) == AV_SAMPLE_FMT_S16) av_opt_set(w->swr, "dither_method", "triangular", 0);
    if (e->sample_rate != w->rate) av_opt_set(w->swr, "resampler", "soxr", 0);
    if ((err = swr_init(w->swr)) < 0) return uf_av_fail(w->ctx, "convert sound for", w->path, err);
    w->fifo = av_audio_fifo_alloc(e->sample_fmt, channels, 1);
    w->packet = av_packet_alloc();
    return w->fifo && w->packet ? UF_OK : UF_ENOMEM;
}

static int sound_stream(uf_sound_writer *w, const AVCodecContext *dec, const AVStream *from, bool film) {
    UF_TRY(encoder_open(w, dec, from, film));
    w->stream = avformat_new_stream(w->oc, NULL);
    if (!w->stream || avcodec_parameters_from_context(w->stream->codecpar, w->enc) < 0 ||
        (from && av_dict_copy(&w->stream->metadata, from->metadata, 0) < 0))
        return UF_ENOMEM;
    w->stream->time_base = w->enc->time_base;
    if (from) w->stream->disposition = from->disposition;
    return UF_OK;
}

/* The time of day of a broadcast wave is told in samples. */
static void recount(uf_sound_writer *w, int rate, int before) {
    const AVDictionaryEntry *e = av_dict_get(w->oc->metadata, "time_reference", NULL, 0);
    if (e) av_dict_set_int(&w->oc->metadata, "time_reference", av_rescale(strtoll(e->value, NULL, 10), rate, before), 0);
}

int uf_sound_writer_start(uf_sound_writer *w, AVFormatContext *in, const char *in_path, int sound, const AVCodecContext *dec, int rate) {
    bool film = false;
    for (unsigned i = 0; in && i < in->nb_streams; i++) film |= is_film(in->streams[i]);
    const char *temporary = uf_whole_path(w->whole);
    int err = avformat_alloc_output_context2(&w->oc, NULL, NULL, temporary);
    if (err < 0) return uf_av_fail(w->ctx, "write", w->path, err);
    uf_av_adopt_format(w->ctx, w->oc);
    bool holds_film = avformat_query_codec(w->oc->oformat, AV_CODEC_ID_MPEG4, FF_COMPLIANCE_NORMAL) == 1;
    w->in = in;
    w->rate = rate;
    w->map = uf_alloc(w->ctx, in ? in->nb_streams : 1, sizeof(*w->map));
    if (!w->map) return UF_ENOMEM;
    if (!in) UF_TRY(sound_stream(w, dec, NULL, film));
    for (unsigned i = 0; in && i < in->nb_streams; i++) {
        w->map[i] = -1;
        if ((int)i == sound) {
            UF_TRY(sound_stream(w, dec, in->streams[i], film));
            w->map[i] = w->stream->index;
        } else if (!holds_film && is_film(in->streams[i])) {
            uf_log(w->ctx, UF_LOG_WARN, "'%s' is a sound file: the pictures of '%s' are left out", w->path, in_path);
        } else {
            UF_TRY(uf_remux_stream(w->ctx, w->oc, in->streams[i], in_path, w->path, &w->map[i]));
        }
    }
    if (in) UF_TRY(uf_remux_metadata(w->ctx, w->oc, in, w->path));
    if (in) UF_TRY(uf_remux_chapters(w->ctx, w->oc, in, w->path));
    w->oc->max_interleave_delta = 60 * (int64_t)AV_TIME_BASE; /* the sound comes some 12 s after the picture */
    AVDictionary *options = NULL;
    if (!strcmp(w->oc->oformat->name, "wav")) {
        av_dict_set(&options, "rf64", "auto", 0);
        if (rate != dec->sample_rate) recount(w, rate, dec->sample_rate);
        else if (in && !strcmp(in->iformat->name, "wav") && !(w->chunks_from = uf_strdup(w->ctx, in_path))) return UF_ENOMEM;
        if (av_dict_get(w->oc->metadata, "time_reference", NULL, 0) || av_dict_get(w->oc->metadata, "originator", NULL, 0))
            av_dict_set(&options, "write_bext", "1", 0);
    }
    /* Readers of Matroska take the delay of Opus off again, and FFmpeg's muxer does not add it. */
    if (is_one_of(w->oc->oformat->name, "matroska webm") && w->enc->codec_id == AV_CODEC_ID_OPUS) w->delay = w->enc->initial_padding;
    if (is_one_of(w->oc->oformat->name, "mp4 mov ipod"))
        av_dict_set_int(&options, "movie_timescale", w->enc->sample_rate, 0); /* its default rounds beginnings to milliseconds */
    w->url = uf_av_url(w->ctx, temporary, true);
    if (!w->url) err = UF_ENOMEM;
    else if ((err = avio_open2(&w->oc->pb, w->url, AVIO_FLAG_WRITE, &w->oc->interrupt_callback, NULL)) < 0) err = uf_av_fail(w->ctx, "write", w->path, err);
    else if ((err = avformat_write_header(w->oc, &options)) < 0) err = uf_av_fail(w->ctx, "begin", w->path, err);
    av_dict_free(&options);
    return err;
}

static int send(uf_sound_writer *w, AVFrame *f) {
    int err = avcodec_send_frame(w->enc, f);
    while (err >= 0 && (err = avcodec_receive_packet(w->enc, w->packet)) >= 0) {
        w->packet->pts += w->delay;
        w->packet->dts += w->delay;
        av_packet_rescale_ts(w->packet, w->enc->time_base, w->stream->time_base);
        w->packet->stream_index = w->stream->index;
        err = av_interleaved_write_frame(w->oc, w->packet);
    }
    return err == AVERROR(EAGAIN) || err == AVERROR_EOF ? UF_OK : uf_av_fail(w->ctx, "write", w->path, err);
}

/* Whole frames out of the fifo; `all`: the last, shorter one too. */
static int encode(uf_sound_writer *w, bool all) {
    int whole = w->enc->frame_size > 0 ? w->enc->frame_size : 4096, left;
    while ((left = av_audio_fifo_size(w->fifo)) >= whole || (all && left > 0)) {
        AVFrame *f = av_frame_alloc();
        if (!f) return UF_ENOMEM;
        f->nb_samples = left < whole ? left : whole;
        f->format = w->enc->sample_fmt;
        f->sample_rate = w->enc->sample_rate;
        int err = av_channel_layout_copy(&f->ch_layout, &w->enc->ch_layout);
        if (err >= 0) err = av_frame_get_buffer(f, 0);
        if (err >= 0) err = av_audio_fifo_read(w->fifo, (void **)f->extended_data, f->nb_samples);
        f->pts = w->pts;
        w->pts += f->nb_samples;
        err = err < 0 ? uf_av_fail(w->ctx, "write", w->path, err) : send(w, f);
        av_frame_free(&f);
        UF_TRY(err);
    }
    return UF_OK;
}

/* Dither belongs to sound: where there is none, nothing is put. */
void uf_sound_keep_silence(const AVCodecContext *enc, const float *const *x, int n, uint8_t **out) {
    int channels = enc->ch_layout.nb_channels;
    bool planar = av_sample_fmt_is_planar(enc->sample_fmt);
    if (av_get_packed_sample_fmt(enc->sample_fmt) != AV_SAMPLE_FMT_S16) return;
    for (int c = 0; c < channels; c++) {
        int16_t *to = (int16_t *)(uintptr_t)out[planar ? c : 0] + (planar ? 0 : c);
        for (int i = 0; i < n; i++)
            if (fabsf(x[c][i]) < 1e-6f) to[(size_t)i * (size_t)(planar ? 1 : channels)] = 0;
    }
}

static int convert(uf_sound_writer *w, const float *const *x, int n) {
    int most = swr_get_out_samples(w->swr, n), got;
    uint8_t **out = NULL;
    if (most <= 0) return UF_OK;
    if (av_samples_alloc_array_and_samples(&out, NULL, w->enc->ch_layout.nb_channels, most, w->enc->sample_fmt, 0) < 0) return UF_ENOMEM;
    got = swr_convert(w->swr, out, most, (const uint8_t **)(uintptr_t)x, n);
    if (got == n && w->enc->sample_rate == w->rate) uf_sound_keep_silence(w->enc, x, n, out);
    if (got >= 0 && av_audio_fifo_write(w->fifo, (void **)out, got) < got) got = AVERROR(ENOMEM);
    av_freep(&out[0]);
    av_freep(&out);
    return got < 0 ? uf_av_fail(w->ctx, "convert sound for", w->path, got) : got;
}

/* Whole numbers hold nothing beyond full scale. */
static void count_cut(uf_sound_writer *w, const float *const *x, int n) {
    enum AVSampleFormat f = av_get_packed_sample_fmt(w->enc->sample_fmt);
    if (f == AV_SAMPLE_FMT_FLT || f == AV_SAMPLE_FMT_DBL) return;
    for (int c = 0; c < w->enc->ch_layout.nb_channels; c++)
        for (int i = 0; i < n; i++) w->n_cut += fabsf(x[c][i]) > 1.f;
}

int uf_sound_writer_write(uf_sound_writer *w, const float *const *x, int n, double start) {
    count_cut(w, x, n);
    if (!w->placed) w->pts = av_rescale_q((int64_t)(start * AV_TIME_BASE + (start < 0 ? -.5 : .5)), AV_TIME_BASE_Q, w->enc->time_base);
    w->placed = true;
    int got = convert(w, x, n);
    return got < 0 ? got : encode(w, false);
}

int uf_sound_writer_copy(uf_sound_writer *w, AVPacket *p) {
    int from = p->stream_index, to = w->map[from], err = 0;
    if (to >= 0) {
        av_packet_rescale_ts(p, w->in->streams[from]->time_base, w->oc->streams[to]->time_base);
        p->stream_index = to;
        p->pos = -1;
        err = av_interleaved_write_frame(w->oc, p);
    }
    av_packet_unref(p);
    return err < 0 ? uf_av_fail(w->ctx, "write", w->path, err) : UF_OK;
}

int uf_sound_writer_finish(uf_sound_writer *w) {
    int got = 1, err = UF_OK;
    while (w->enc->sample_rate != w->rate && got > 0) got = convert(w, NULL, 0);
    if (got < 0) return got;
    UF_TRY(encode(w, true));
    UF_TRY(send(w, NULL));
    if ((err = av_write_trailer(w->oc)) < 0) return uf_av_fail(w->ctx, "finish", w->path, err);
    if ((err = avio_closep(&w->oc->pb)) < 0) return uf_av_fail(w->ctx, "finish", w->path, err);
    if (w->n_cut)
        uf_log(w->ctx, UF_LOG_WARN, "'%s' cannot hold how loud its sound is: %lld samples were cut off; --loudness -16 makes room for them", w->path, (long long)w->n_cut);
    if (w->chunks_from) UF_TRY(uf_wave_chunks_copy(w->ctx, w->chunks_from, uf_whole_path(w->whole), w->path));
    return uf_whole_commit(w->whole);
}

void uf_sound_writer_close(uf_sound_writer **pw) {
    uf_sound_writer *w = *pw;
    if (!w) return;
    if (w->oc && w->oc->pb) avio_closep(&w->oc->pb);
    avformat_free_context(w->oc);
    avcodec_free_context(&w->enc);
    swr_free(&w->swr);
    if (w->fifo) av_audio_fifo_free(w->fifo);
    av_packet_free(&w->packet);
    uf_whole_close(&w->whole);
    free(w->map);
    free(w->chunks_from);
    free(w->url);
    free(w->path);
    free(w);
    *pw = NULL;
}

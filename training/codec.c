/* What the codecs of telephones, messengers and small recorders do to sound: through FFmpeg's encoder and back. */
#include "sounds.h"

#include <libavcodec/avcodec.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *encoder;
    int rate, from, to; /* Hz; bits a second */
} codecs[] = {
    {"libopus", 16000, 8000, 24000}, {"libmp3lame", 16000, 16000, 48000}, {"aac", 16000, 16000, 40000}, {"g722", 16000, 64000, 64000}, {"libgsm", 8000, 13000, 13000},
};

enum { TAIL = 8000, PIECE = 320 }; /* samples: silence behind the sound, which pushes it out of the codec; a frame of codecs that take any */

int uf_codecs_n(void) { return UF_LEN(codecs); }
const char *uf_codec_name(int which) { return codecs[which].encoder; }

typedef struct passing {
    AVCodecContext *enc, *dec;
    SwrContext *in, *out;
    AVFrame *frame;
    AVPacket *packet;
    float *y; /* what came back, at the mixture's rate */
    int n, room;
} passing;

static void passing_close(passing *p) {
    avcodec_free_context(&p->enc);
    avcodec_free_context(&p->dec);
    swr_free(&p->in);
    swr_free(&p->out);
    av_frame_free(&p->frame);
    av_packet_free(&p->packet);
    free(p->y);
}

static int rates(SwrContext **s, enum AVSampleFormat to, int to_rate, AVChannelLayout *layout, enum AVSampleFormat from, int from_rate) {
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    int err = swr_alloc_set_opts2(s, &mono, to, to_rate, layout, from, from_rate, 0, NULL);
    return err < 0 ? err : swr_init(*s);
}

static int passing_open(passing *p, int which, double share, int rate, int n) {
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    const AVCodec *c = avcodec_find_encoder_by_name(codecs[which].encoder), *d = c ? avcodec_find_decoder(c->id) : NULL;
    if (!d) return AVERROR_ENCODER_NOT_FOUND;
    *p = (passing){.enc = avcodec_alloc_context3(c), .dec = avcodec_alloc_context3(d), .frame = av_frame_alloc(), .packet = av_packet_alloc(),
                   .room = n + 4 * TAIL};
    p->y = calloc((size_t)p->room, sizeof *p->y);
    if (!p->enc || !p->dec || !p->frame || !p->packet || !p->y) return AVERROR(ENOMEM);
    p->enc->sample_fmt = c->sample_fmts[0];
    p->enc->sample_rate = codecs[which].rate;
    p->enc->ch_layout = mono;
    p->enc->bit_rate = (int64_t)(codecs[which].from + share * (codecs[which].to - codecs[which].from));
    p->enc->time_base = (AVRational){1, codecs[which].rate};
    p->enc->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    p->enc->thread_count = p->dec->thread_count = 1;
    p->enc->log_level_offset = p->dec->log_level_offset = AV_LOG_TRACE; /* nobody needs their news, thousands of times */
    p->dec->pkt_timebase = p->enc->time_base;
    int err = avcodec_open2(p->enc, c, NULL);
    AVCodecParameters *about = err >= 0 ? avcodec_parameters_alloc() : NULL;
    if (err >= 0) err = about ? avcodec_parameters_from_context(about, p->enc) : AVERROR(ENOMEM);
    if (err >= 0) err = avcodec_parameters_to_context(p->dec, about);
    avcodec_parameters_free(&about);
    if (err >= 0) err = avcodec_open2(p->dec, d, NULL);
    return err < 0 ? err : rates(&p->in, p->enc->sample_fmt, p->enc->sample_rate, &mono, AV_SAMPLE_FMT_FLT, rate);
}

/* frame NULL: what is still between the rates. */
static int keep(passing *p, AVFrame *f, int rate) {
    if (!p->out) {
        if (!f) return 0;
        int err = rates(&p->out, AV_SAMPLE_FMT_FLT, rate, &f->ch_layout, f->format, f->sample_rate);
        if (err < 0) return err;
    }
    uint8_t *to = (uint8_t *)(p->y + p->n);
    int got = swr_convert(p->out, &to, p->room - p->n, f ? (const uint8_t **)f->extended_data : NULL, f ? f->nb_samples : 0);
    if (got > 0) p->n += got;
    return got;
}

static int decode(passing *p, const AVPacket *packet, int rate) {
    int err = avcodec_send_packet(p->dec, packet);
    while (err >= 0 && (err = avcodec_receive_frame(p->dec, p->frame)) >= 0) err = keep(p, p->frame, rate);
    return err == AVERROR(EAGAIN) || err == AVERROR_EOF ? 0 : err;
}

static int encode(passing *p, AVFrame *f, int rate) {
    int err = avcodec_send_frame(p->enc, f);
    while (err >= 0 && (err = avcodec_receive_packet(p->enc, p->packet)) >= 0) {
        err = decode(p, p->packet, rate);
        av_packet_unref(p->packet);
    }
    return err == AVERROR(EAGAIN) || err == AVERROR_EOF ? 0 : err;
}

/* x, with silence behind it, through the encoder in its frames. */
static int pass(passing *p, const float *x, int n, int rate) {
    int piece = p->enc->frame_size > 0 ? p->enc->frame_size : PIECE, size = av_get_bytes_per_sample(p->enc->sample_fmt);
    int most = swr_get_out_samples(p->in, n) + TAIL + piece, err = 0;
    uint8_t *raw = calloc((size_t)most + TAIL, (size_t)size), *to = raw;
    if (!raw) return AVERROR(ENOMEM);
    const uint8_t *from = (const uint8_t *)x;
    int got = swr_convert(p->in, &to, most, &from, n);
    AVFrame *f = got < 0 ? NULL : av_frame_alloc();
    for (int at = 0; f && err >= 0 && at + piece <= got + TAIL; at += piece) {
        f->nb_samples = piece;
        f->format = p->enc->sample_fmt;
        f->sample_rate = p->enc->sample_rate;
        f->ch_layout = p->enc->ch_layout;
        f->pts = at;
        f->data[0] = raw + (size_t)at * (size_t)size;
        f->linesize[0] = piece * size;
        f->extended_data = f->data;
        err = encode(p, f, rate);
    }
    if (f && err >= 0) err = encode(p, NULL, rate);
    if (f && err >= 0) err = decode(p, NULL, rate);
    if (f && err >= 0) err = keep(p, NULL, rate);
    if (f) f->extended_data = f->data; /* borrowed: nothing of it is the frame's */
    av_frame_free(&f);
    free(raw);
    return got < 0 ? got : err;
}

/* How many samples y comes after x: where they agree best. */
static int delay(uf_fft *f, const float *x, int n, const float *y, int n_y, float (*spectrum)[2]) {
    int best = 0, bins = f->n / 2 + 1, most = f->n - n < TAIL ? f->n - n : TAIL;
    for (int k = 0; k < 2; k++) {
        memset(f->time, 0, (size_t)f->n * sizeof(float));
        memcpy(f->time, k ? y : x, (size_t)(!k ? n : n_y < f->n ? n_y : f->n) * sizeof(float));
        uf_fft_forward(f);
        if (!k) memcpy(spectrum, f->bins, (size_t)bins * sizeof *spectrum);
    }
    for (int b = 0; b < bins; b++) {
        float re = f->bins[b][0], im = f->bins[b][1], p = spectrum[b][0], q = -spectrum[b][1];
        f->bins[b][0] = re * p - im * q;
        f->bins[b][1] = re * q + im * p;
    }
    uf_fft_inverse(f);
    for (int i = 1; i < most; i++)
        if (f->time[i] > f->time[best]) best = i;
    return best;
}

bool uf_codec_pass(int which, double share, int rate, float *x, int n, uf_fft *f, float (*spectrum)[2]) {
    passing p = {0};
    int err = passing_open(&p, which, share, rate, n);
    if (err >= 0) err = pass(&p, x, n, rate);
    bool done = err >= 0 && p.n >= n;
    if (done) {
        int late = delay(f, x, n, p.y, p.n, spectrum);
        for (int i = 0; i < n; i++) x[i] = i + late < p.n ? fminf(fmaxf(p.y[i + late], -1.f), 1.f) : 0.f;
    }
    passing_close(&p);
    return done;
}

/* One grey picture as a PNG file. */
#include "chain.h"

#include <errno.h>
#include <string.h>

static int encode(uf_ctx *ctx, AVCodecContext *enc, AVFrame *f, AVPacket *p, const uint8_t *grey, int w, int h) {
    f->format = enc->pix_fmt = AV_PIX_FMT_GRAY8;
    f->width = enc->width = w;
    f->height = enc->height = h;
    enc->time_base = (AVRational){ 1, 25 };
    int av = av_frame_get_buffer(f, 0);
    for (int y = 0; av >= 0 && y < h; y++) memcpy(f->data[0] + (ptrdiff_t)y * f->linesize[0], grey + (ptrdiff_t)y * w, (size_t)w);
    if (av >= 0) av = avcodec_open2(enc, enc->codec, NULL);
    if (av >= 0) av = avcodec_send_frame(enc, f);
    if (av >= 0) av = avcodec_receive_packet(enc, p);
    return av < 0 ? uf_fail(ctx, uf_av_code(av), "cannot make a PNG picture of %dx%d", w, h) : UF_OK;
}

int uf_png_write(uf_ctx *ctx, const char *path, const uint8_t *grey, int w, int h) {
    const AVCodec *png = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!png) return uf_fail(ctx, UF_EUNSUPPORTED, "this FFmpeg writes no PNG; install a full one");
    AVCodecContext *enc = avcodec_alloc_context3(png);
    AVFrame *f = av_frame_alloc();
    AVPacket *p = av_packet_alloc();
    int err = enc && f && p ? encode(ctx, enc, f, p, grey, w, h) : uf_fail(ctx, UF_ENOMEM, "out of memory for '%s'", path);
    if (err == UF_OK) {
        FILE *file = fopen(path, "wb");
        bool whole = file && fwrite(p->data, 1, (size_t)p->size, file) == (size_t)p->size;
        if (file && fclose(file) != 0) whole = false;
        if (!whole) err = uf_fail(ctx, UF_EIO, "cannot write '%s': %s; free some space or give another folder", path, strerror(errno));
    }
    avcodec_free_context(&enc);
    av_frame_free(&f);
    av_packet_free(&p);
    return err;
}

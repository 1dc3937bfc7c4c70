#include "tags.h"

#include <libavutil/avstring.h>
#include <libavutil/crc.h>
#include <libavutil/intreadwrite.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The words that begin a block of each kind; their final 0 belongs to them. */
static const char exif_word[] = "Exif\0", xmp_word[] = "http://ns.adobe.com/xap/1.0/", icc_word[] = "ICC_PROFILE";
static const char xmp_text[] = "XML:com.adobe.xmp\0\0\0\0"; /* keyword, not compressed, no language, no translation */
static const uint8_t png_signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

enum { SOI = 0xd8, SOS = 0xda, APP0 = 0xe0, APP1 = 0xe1, APP2 = 0xe2, APP14 = 0xee, APP15 = 0xef, COM = 0xfe };

#define STARTS(p, n, word) ((n) >= sizeof(word) && memcmp((p), (word), sizeof(word)) == 0)

static int set(uf_bytes *b, uf_ctx *ctx, const uint8_t *data, size_t n) {
    return b->n ? UF_OK : uf_bytes_add(b, ctx, data, n); /* the first of a kind counts */
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

/* p: what stands after the marker and the length. */
static int read_segment(uf_tags *t, uf_ctx *ctx, int marker, const uint8_t *p, size_t n) {
    if (marker == APP0 && n >= 12 && STARTS(p, n, "JFIF") && p[7] > 0) {
        for (int i = 0; i < 2; i++) t->dpi[i] = AV_RB16(p + 8 + 2 * i) * (p[7] == 2 ? 2.54 : 1);
        return UF_OK;
    }
    if (marker == APP1 && STARTS(p, n, exif_word)) return set(&t->exif, ctx, p + sizeof(exif_word), n - sizeof(exif_word));
    if (marker == APP1 && STARTS(p, n, xmp_word)) return set(&t->xmp, ctx, p + sizeof(xmp_word), n - sizeof(xmp_word));
    if (marker == APP2 && (STARTS(p, n, icc_word) || STARTS(p, n, "MPF"))) return UF_OK; /* by FFmpeg; offsets of the old file */
    if (marker == COM && n >= 4 && memcmp(p, "Lavc", 4) == 0) return UF_OK; /* FFmpeg's encoder names itself again */
    if ((marker >= APP1 && marker <= APP15 && marker != APP14) || marker == COM) return uf_bytes_add(&t->own, ctx, p - 4, n + 4);
    return UF_OK;
}

static int read_jpeg(uf_tags *t, uf_ctx *ctx, const uint8_t *file, size_t n) {
    for (size_t at = 2; at + 4 <= n && file[at] == 0xff; ) {
        size_t length = AV_RB16(file + at + 2);
        if (file[at + 1] == 0xff) { /* fill */
            at++;
            continue;
        }
        if (file[at + 1] == SOS || length < 2 || length > n - at - 2) break;
        UF_TRY(read_segment(t, ctx, file[at + 1], file + at + 4, length - 2));
        at += 2 + length;
    }
    return UF_OK;
}

static int read_png(uf_tags *t, uf_ctx *ctx, const uint8_t *file, size_t n) {
    for (size_t at = 8; at + 12 <= n; ) {
        size_t length = AV_RB32(file + at);
        const uint8_t *p = file + at + 8;
        if (length > n - at - 12) break;
        if (memcmp(p - 4, "eXIf", 4) == 0) UF_TRY(set(&t->exif, ctx, p, length));
        else if (memcmp(p - 4, "pHYs", 4) == 0 && length == 9 && p[8] == 1)
            for (int i = 0; i < 2; i++) t->dpi[i] = AV_RB32(p + 4 * i) * 0.0254;
        else if (memcmp(p - 4, "iTXt", 4) == 0 && STARTS(p, length, xmp_text))
            UF_TRY(set(&t->xmp, ctx, p + sizeof(xmp_text), length - sizeof(xmp_text)));
        else if (memcmp(p - 3, "EXt", 3) == 0 || memcmp(p - 3, "TXt", 3) == 0)
            UF_TRY(uf_bytes_add(&t->own, ctx, file + at, length + 12));
        at += length + 12;
    }
    return UF_OK;
}

static int read_webp(uf_tags *t, uf_ctx *ctx, const uint8_t *file, size_t n) {
    for (size_t at = 12; at + 8 <= n; ) {
        size_t length = AV_RL32(file + at + 4);
        const uint8_t *p = file + at + 8;
        if (length > n - at - 8) break;
        if (memcmp(p - 8, "EXIF", 4) == 0) { /* some writers put JPEG's word before it */
            size_t skip = STARTS(p, length, exif_word) ? sizeof(exif_word) : 0;
            UF_TRY(set(&t->exif, ctx, p + skip, length - skip));
        } else if (memcmp(p - 8, "XMP ", 4) == 0) {
            UF_TRY(set(&t->xmp, ctx, p, length));
        }
        at += 8 + length + (length & 1);
    }
    return UF_OK;
}

static int read_tiff(uf_tags *t, uf_ctx *ctx, const uint8_t *file, size_t n) {
    UF_TRY(uf_exif_merge(&t->exif, ctx, file, n, NULL));
    if (t->exif.n <= 8 + 2 + 4) t->exif.n = 0; /* an empty table */
    return UF_OK;
}

static void free_tags(void *opaque, uint8_t *data) {
    uf_tags *t = opaque;
    (void)data;
    free(t->exif.data);
    free(t->xmp.data);
    free(t->own.data);
    free(t);
}

int uf_tags_read(AVBufferRef **out, uf_ctx *ctx, enum AVCodecID id, const uint8_t *file, size_t n) {
    int err = UF_OK;
    uf_tags *t = uf_alloc(ctx, 1, sizeof(*t));
    if (!t) return UF_ENOMEM;
    t->of = id;
    if (id == AV_CODEC_ID_MJPEG) err = read_jpeg(t, ctx, file, n);
    else if (id == AV_CODEC_ID_PNG) err = read_png(t, ctx, file, n);
    else if (id == AV_CODEC_ID_WEBP) err = read_webp(t, ctx, file, n);
    else if (id == AV_CODEC_ID_TIFF) err = read_tiff(t, ctx, file, n);
    if (err == UF_OK && t->exif.n) {
        uf_exif_drop_thumbnail(t->exif.data, t->exif.n);
        if (!(t->dpi[0] > 0 && t->dpi[1] > 0)) uf_exif_density(t->exif.data, t->exif.n, t->dpi);
    }
    if (!(t->dpi[0] > 0 && t->dpi[1] > 0)) t->dpi[0] = t->dpi[1] = 0;
    if (err == UF_OK && (t->exif.n || t->xmp.n || t->own.n || t->dpi[0] > 0)) {
        *out = av_buffer_create((uint8_t *)t, sizeof(*t), free_tags, t, AV_BUFFER_FLAG_READONLY);
        if (*out) return UF_OK;
        err = uf_fail(ctx, UF_ENOMEM, "cannot keep the tags of a picture: out of memory");
    }
    free_tags(t, NULL);
    return err;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void lose(char *lost, size_t n, const char *what) {
    av_strlcatf(lost, n, "%s%s", *lost ? ", " : "", what);
}

static int add_segment(uf_bytes *to, uf_ctx *ctx, int marker, const char *word, size_t n_word, const uf_bytes *b, const char *name,
                       char *lost, size_t n_lost) {
    uint8_t head[4] = { 0xff, (uint8_t)marker };
    if (!b->n) return UF_OK;
    if (b->n + n_word + 2 > 65535) {
        lose(lost, n_lost, name);
        return UF_OK;
    }
    AV_WB16(head + 2, b->n + n_word + 2);
    UF_TRY(uf_bytes_add(to, ctx, head, 4));
    UF_TRY(uf_bytes_add(to, ctx, word, n_word));
    return uf_bytes_add(to, ctx, b->data, b->n);
}

static int write_jpeg(uf_bytes *to, uf_ctx *ctx, const uf_bytes *file, const uf_tags *t, char *lost, size_t n_lost) {
    size_t head = 2; /* the encoder begins with JFIF's segment */
    if (file->n > 20 && file->data[3] == APP0 && STARTS(file->data + 6, file->n - 6, "JFIF")) head = 4u + AV_RB16(file->data + 4);
    if (head > file->n) head = file->n < 2 ? file->n : 2;
    UF_TRY(uf_bytes_add(to, ctx, file->data, head));
    if (t->dpi[0] > 0 && head >= 18) {
        to->data[13] = 1; /* dots per inch */
        for (int i = 0; i < 2; i++) AV_WB16(to->data + 14 + 2 * i, lround(fmin(t->dpi[i], 65535)));
    }
    UF_TRY(add_segment(to, ctx, APP1, exif_word, sizeof(exif_word), &t->exif, "EXIF", lost, n_lost));
    UF_TRY(add_segment(to, ctx, APP1, xmp_word, sizeof(xmp_word), &t->xmp, "XMP", lost, n_lost));
    if (t->of == AV_CODEC_ID_MJPEG) UF_TRY(uf_bytes_add(to, ctx, t->own.data, t->own.n));
    return uf_bytes_add(to, ctx, file->data + head, file->n - head);
}

static int add_chunk(uf_bytes *to, uf_ctx *ctx, const char *kind, const void *word, size_t n_word, const void *data, size_t n) {
    uint8_t length[4], sum[4];
    size_t from = to->n + 4;
    AV_WB32(length, n_word + n);
    UF_TRY(uf_bytes_add(to, ctx, length, 4));
    UF_TRY(uf_bytes_add(to, ctx, kind, 4));
    UF_TRY(uf_bytes_add(to, ctx, word, n_word));
    UF_TRY(uf_bytes_add(to, ctx, data, n));
    AV_WB32(sum, ~av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), ~0u, to->data + from, to->n - from));
    return uf_bytes_add(to, ctx, sum, 4);
}

/* Behind the header, before the samples; the encoder's own density, which is an aspect only, gives way. */
static int write_png(uf_bytes *to, uf_ctx *ctx, const uf_bytes *file, const uf_tags *t) {
    size_t head = sizeof(png_signature) + 25;
    uint8_t density[9] = { [8] = 1 }; /* dots per metre */
    if (file->n < head || memcmp(file->data, png_signature, sizeof(png_signature))) return uf_bytes_add(to, ctx, file->data, file->n);
    UF_TRY(uf_bytes_add(to, ctx, file->data, head));
    for (int i = 0; i < 2; i++) AV_WB32(density + 4 * i, lround(fmin(t->dpi[i] / 0.0254, INT32_MAX)));
    if (t->dpi[0] > 0) UF_TRY(add_chunk(to, ctx, "pHYs", "", 0, density, sizeof(density)));
    if (t->exif.n) UF_TRY(add_chunk(to, ctx, "eXIf", "", 0, t->exif.data, t->exif.n));
    if (t->xmp.n) UF_TRY(add_chunk(to, ctx, "iTXt", xmp_text, sizeof(xmp_text), t->xmp.data, t->xmp.n));
    if (t->of == AV_CODEC_ID_PNG) UF_TRY(uf_bytes_add(to, ctx, t->own.data, t->own.n));
    for (size_t at = head, n; at + 12 <= file->n; at += n) {
        n = (size_t)AV_RB32(file->data + at) + 12;
        if (n > file->n - at) n = file->n - at;
        if (t->dpi[0] <= 0 || memcmp(file->data + at + 4, "pHYs", 4)) UF_TRY(uf_bytes_add(to, ctx, file->data + at, n));
    }
    return UF_OK;
}

static int add_riff(uf_bytes *to, uf_ctx *ctx, const char *kind, const void *data, size_t n) {
    uint8_t length[4];
    if (!n) return UF_OK;
    AV_WL32(length, n);
    UF_TRY(uf_bytes_add(to, ctx, kind, 4));
    UF_TRY(uf_bytes_add(to, ctx, length, 4));
    UF_TRY(uf_bytes_add(to, ctx, data, n));
    return n & 1 ? uf_bytes_add(to, ctx, "", 1) : UF_OK;
}

/* The extended form of the file (RFC 9649): a head that tells what follows, the profile, the samples, the tags. */
static int write_webp(uf_bytes *to, uf_ctx *ctx, const uf_bytes *file, int w, int h, const uf_tags *t, const uf_bytes *icc) {
    const uint8_t *first = file->data + 12;
    size_t skip = 12;
    uint8_t head[10] = { 0 };
    if (file->n < 30 || memcmp(file->data, "RIFF", 4)) return uf_bytes_add(to, ctx, file->data, file->n);
    if (memcmp(first, "VP8X", 4) == 0) {
        head[0] = first[8];
        skip += 18;
    } else if (memcmp(first, "VP8L", 4) == 0) {
        head[0] = first[12] & 0x10; /* alpha stands at the same place in both */
    }
    head[0] |= (uint8_t)((icc ? 0x20 : 0) | (t->exif.n ? 0x08 : 0) | (t->xmp.n ? 0x04 : 0));
    AV_WL24(head + 4, w - 1);
    AV_WL24(head + 7, h - 1);
    UF_TRY(uf_bytes_add(to, ctx, file->data, 12));
    UF_TRY(add_riff(to, ctx, "VP8X", head, sizeof(head)));
    if (icc) UF_TRY(add_riff(to, ctx, "ICCP", icc->data, icc->n));
    UF_TRY(uf_bytes_add(to, ctx, file->data + skip, file->n - skip));
    UF_TRY(add_riff(to, ctx, "EXIF", t->exif.data, t->exif.n));
    UF_TRY(add_riff(to, ctx, "XMP ", t->xmp.data, t->xmp.n));
    AV_WL32(to->data + 4, to->n - 8);
    return UF_OK;
}

static int write_tiff(uf_bytes *to, uf_ctx *ctx, const uf_bytes *file, const uf_tags *t, const uf_bytes *icc) {
    UF_TRY(uf_bytes_add(to, ctx, file->data, file->n));
    return uf_exif_merge(to, ctx, t->exif.data, t->exif.n, icc);
}

int uf_tags_write(uf_bytes *file, uf_ctx *ctx, enum AVCodecID id, int w, int h, const uf_tags *tags, const uf_bytes *icc,
                  char *lost, size_t n_lost) {
    static const uf_tags none;
    const uf_tags *t = tags ? tags : &none;
    uf_bytes to = { 0 };
    double dpi[2];
    int err = UF_OK;
    *lost = 0;
    if (id == AV_CODEC_ID_MJPEG) err = write_jpeg(&to, ctx, file, t, lost, n_lost);
    else if (id == AV_CODEC_ID_PNG) err = write_png(&to, ctx, file, t);
    else if (id == AV_CODEC_ID_WEBP) err = write_webp(&to, ctx, file, w, h, t, icc);
    else if (id == AV_CODEC_ID_TIFF) err = write_tiff(&to, ctx, file, t, icc);
    if (id == AV_CODEC_ID_TIFF && t->xmp.n) lose(lost, n_lost, "XMP");
    if (id == AV_CODEC_ID_WEBP && t->dpi[0] > 0 && !uf_exif_density(t->exif.data, t->exif.n, dpi)) lose(lost, n_lost, "dots per inch");
    if (t->own.n && t->of != id) lose(lost, n_lost, t->of == AV_CODEC_ID_PNG ? "text" : "IPTC or comments");
    if (err == UF_OK) {
        free(file->data);
        *file = to;
    } else {
        free(to.data);
    }
    return err;
}

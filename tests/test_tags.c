/* What a picture file tells beside its picture: it comes out as it went in, or the loss is told. FFmpeg's own readers judge
 * what was written. */
#include "media.h"
#include "tags.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <libavutil/intreadwrite.h>

enum { W = 97, H = 65 };

static uf_ctx *ctx;
static char dir[64], warnings[1024];

static const char *in_dir(const char *name) {
    static char path[16][128];
    static int next;
    char *p = path[next++ % 16];
    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static void keep_warning(void *user, uf_level level, const char *message) {
    (void)user;
    if (level == UF_LOG_WARN) snprintf(warnings + strlen(warnings), sizeof(warnings) - strlen(warnings), "%s\n", message);
}

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/unfade-tags-XXXXXX");
    if (!mkdtemp(dir) || uf_ctx_open(&ctx) < 0) return -1;
    uf_ctx_set_log(ctx, UF_LOG_WARN, keep_warning, NULL);
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = { "plain.jpg", "in.jpg", "in.y4m", "o.jpg", "o.png", "o.webp", "o.tif", "p.jpg", "p.tif", "o.mkv" };
    (void)state;
    for (int i = 0; i < UF_LEN(names); i++) unlink(in_dir(names[i]));
    uf_ctx_close(&ctx);
    return rmdir(dir);
}

/* ---- material ------------------------------------------------------------------------------------------------ */

static int paint(void *user, const float *luma, int w, int h, float *chroma) {
    (void)user, (void)luma;
    memset(chroma, 0, sizeof(*chroma) * (size_t)(w * h / 2));
    return UF_OK;
}

static void colorize(const char *in, const char *out) {
    uf_film_options o = { .paint = paint, .colorize = { .size = 64, .overwrite = true } };
    *warnings = 0;
    uf_ctx_clear(ctx);
    if (uf_film_colorize(ctx, in, out, &o) < 0) fail_msg("%s", uf_ctx_error(ctx));
}

static bool big;
static void put16(uint8_t *p, unsigned v) {
    if (big) AV_WB16(p, v);
    else AV_WL16(p, v);
}
static void put32(uint8_t *p, unsigned v) {
    if (big) AV_WB32(p, v);
    else AV_WL32(p, v);
}
static void put_tag(uint8_t *p, unsigned tag, unsigned type, unsigned count, unsigned v) {
    put16(p, tag);
    put16(p + 2, type);
    put32(p + 4, count);
    if (type == 3) put16(p + 8, v);
    else put32(p + 8, v);
}

/* Maker, orientation 6, 300 dots per inch, an exposure of 1/60 s in a table below, and a table with a small picture. */
enum { N_EXIF = 180 };
static void make_exif(uint8_t b[N_EXIF], bool big_endian) {
    memset(b, 0, N_EXIF);
    big = big_endian;
    memcpy(b, big ? "MM\0*" : "II*\0", 4);
    put32(b + 4, 8);
    put16(b + 8, 6);
    put_tag(b + 10, 271, 2, 6, 110);
    put_tag(b + 22, 274, 3, 1, 6);
    put_tag(b + 34, 282, 5, 1, 116);
    put_tag(b + 46, 283, 5, 1, 116);
    put_tag(b + 58, 296, 3, 1, 2);
    put_tag(b + 70, 34665, 4, 1, 124);
    put32(b + 82, 150); /* the next table */
    memcpy(b + 110, "Zorki", 6);
    put32(b + 116, 300);
    put32(b + 120, 1);
    put16(b + 124, 1);
    put_tag(b + 126, 33434, 5, 1, 142);
    put32(b + 142, 1);
    put32(b + 146, 60);
    put16(b + 150, 1);
    put_tag(b + 152, 513, 4, 1, 170);
}

static size_t load(const char *path, uint8_t *to, size_t room) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(to, 1, room, f);
    fclose(f);
    return n;
}

static void save(const char *path, const uint8_t *a, size_t n_a, const uint8_t *b, size_t n_b, const uint8_t *c, size_t n_c) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(a, 1, n_a, f) + fwrite(b, 1, n_b, f) + fwrite(c, 1, n_c, f), n_a + n_b + n_c);
    assert_int_equal(fclose(f), 0);
}

static size_t put_segment(uint8_t *to, int marker, const void *word, size_t n_word, const void *data, size_t n) {
    to[0] = 0xff;
    to[1] = (uint8_t)marker;
    AV_WB16(to + 2, n_word + n + 2);
    memcpy(to + 4, word, n_word);
    memcpy(to + 4 + n_word, data, n);
    return 4 + n_word + n;
}

enum { EXIF = 1, XMP = 2, IPTC = 4, RGB_PROFILE = 8, GREY_PROFILE = 16, DENSITY = 32, WIDE = 64 };
static const char xmp[] = "<x:xmpmeta>the album of 1937</x:xmpmeta>";

/* A grey JPEG with these, put together by hand. */
static void write_jpeg(const char *path, unsigned what, bool big_endian) {
    static uint8_t file[1 << 16];
    uint8_t extra[1024], exif[N_EXIF], profile[160] = { 0 };
    size_t n, n_extra = 0;
    FILE *f = fopen(in_dir("in.y4m"), "wb");
    fprintf(f, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 Cmono\nFRAME\n", W, H);
    for (int i = 0; i < W * H; i++) fputc(i % W * 2, f);
    fclose(f);
    colorize(in_dir("in.y4m"), in_dir("plain.jpg"));
    n = load(in_dir("plain.jpg"), file, sizeof(file));
    assert_memory_equal(file + 6, "JFIF", 5);
    if (what & DENSITY) memcpy(file + 13, "\1\2\x58\2\x58", 5); /* 600 dots per inch */
    if (what & WIDE) memcpy(file + 13, "\0\0\4\0\3", 5); /* no unit: the shape of a pixel */
    make_exif(exif, big_endian);
    memcpy(profile + 16, what & GREY_PROFILE ? "GRAY" : "RGB ", 4);
    if (what & EXIF) n_extra += put_segment(extra + n_extra, 0xe1, "Exif\0", 6, exif, sizeof(exif));
    if (what & XMP) n_extra += put_segment(extra + n_extra, 0xe1, "http://ns.adobe.com/xap/1.0/", 29, xmp, sizeof(xmp) - 1);
    if (what & (RGB_PROFILE | GREY_PROFILE)) n_extra += put_segment(extra + n_extra, 0xe2, "ICC_PROFILE\0\1\1", 14, profile, sizeof(profile));
    if (what & IPTC) n_extra += put_segment(extra + n_extra, 0xed, "Photoshop 3.0", 14, "8BIM", 4);
    save(path, file, 20, extra, n_extra, file + 20, n - 20);
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

typedef struct told { /* what a file tells */
    int w, h, orientation;
    AVRational aspect;
    double dpi[2];
    size_t n_xmp, n_own, n_profile;
    char make[32], orientation_text[32], exposure[32]; /* as FFmpeg reads them */
} told;

static void copy_text(char to[32], const AVFrame *f, const char *key) {
    const AVDictionaryEntry *e = av_dict_get(f->metadata, key, NULL, 0);
    snprintf(to, 32, "%s", e ? e->value : "");
}

static told read_told(const char *path) {
    told t = { 0 };
    uf_reader *r = NULL;
    if (uf_reader_open(&r, ctx, path) < 0) fail_msg("%s", uf_ctx_error(ctx));
    const AVFrame *f = uf_reader_first(r);
    const AVFrameSideData *icc = av_frame_get_side_data(f, AV_FRAME_DATA_ICC_PROFILE);
    t.w = f->width;
    t.h = f->height;
    t.aspect = f->sample_aspect_ratio;
    t.n_profile = icc ? icc->size : 0;
    copy_text(t.make, f, "Make");
    copy_text(t.orientation_text, f, "Orientation");
    copy_text(t.exposure, f, "ExposureTime");
    if (f->opaque_ref) {
        const uf_tags *tags = (const void *)f->opaque_ref->data;
        t.orientation = uf_exif_orientation(tags->exif.data, tags->exif.n);
        memcpy(t.dpi, tags->dpi, sizeof(t.dpi));
        t.n_xmp = tags->xmp.n;
        t.n_own = tags->own.n;
    }
    uf_reader_close(&r);
    return t;
}

static void test_kept(void **state) {
    static const char *const names[] = { "o.jpg", "o.png", "o.webp", "o.tif" };
    (void)state;
    for (int order = 0; order < 2; order++) {
        write_jpeg(in_dir("in.jpg"), EXIF | XMP | RGB_PROFILE, order);
        for (int i = 0; i < UF_LEN(names); i++) {
            bool tiff = strcmp(names[i], "o.tif") == 0, png = strcmp(names[i], "o.png") == 0;
            colorize(in_dir("in.jpg"), in_dir(names[i]));
            told t = read_told(in_dir(names[i]));
            assert_int_equal(t.w, W); /* the pixels are not turned, the tag says how to look at them */
            assert_int_equal(t.h, H);
            assert_int_equal(t.orientation, 6);
            assert_int_equal(lround(t.dpi[0]), 300);
            assert_int_equal(t.n_profile, 160);
            assert_int_equal(t.n_xmp, tiff ? 0 : sizeof(xmp) - 1);
            if (!png) assert_string_equal(tiff ? "Zorki" : t.make, "Zorki");
            if (!png && !tiff) assert_non_null(strstr(t.orientation_text, "6"));
            if (!png && !tiff) assert_non_null(strstr(t.exposure, "60"));
            if (tiff) assert_non_null(strstr(warnings, "(XMP)"));
            else assert_string_equal(warnings, "");
        }
    }
}

/* Out of a TIFF file, whose tags stand among those of its samples, and back into one. */
static void test_tiff(void **state) {
    told t;
    (void)state;
    write_jpeg(in_dir("in.jpg"), EXIF, true);
    colorize(in_dir("in.jpg"), in_dir("o.tif"));
    colorize(in_dir("o.tif"), in_dir("p.tif"));
    colorize(in_dir("p.tif"), in_dir("p.jpg"));
    t = read_told(in_dir("p.jpg"));
    assert_int_equal(t.orientation, 6);
    assert_string_equal(t.make, "Zorki");
    assert_non_null(strstr(t.exposure, "60"));
    assert_int_equal(lround(t.dpi[1]), 300);
    assert_string_equal(warnings, "");
}

static void test_density(void **state) {
    static const char *const names[] = { "o.jpg", "o.png", "o.tif" };
    (void)state;
    write_jpeg(in_dir("in.jpg"), DENSITY, false);
    for (int i = 0; i < UF_LEN(names); i++) {
        colorize(in_dir("in.jpg"), in_dir(names[i]));
        told t = read_told(in_dir(names[i]));
        assert_int_equal(lround(t.dpi[0]), 600);
        assert_int_equal(lround(t.dpi[1]), 600);
        assert_string_equal(warnings, "");
    }
    colorize(in_dir("in.jpg"), in_dir("o.webp"));
    assert_non_null(strstr(warnings, "dots per inch"));
}

static void test_aspect(void **state) {
    static const char *const names[] = { "o.jpg", "o.png", "o.tif", "o.webp" };
    (void)state;
    write_jpeg(in_dir("in.jpg"), WIDE, false);
    for (int i = 0; i < UF_LEN(names); i++) {
        colorize(in_dir("in.jpg"), in_dir(names[i]));
        told t = read_told(in_dir(names[i]));
        if (strcmp(names[i], "o.webp") == 0) assert_non_null(strstr(warnings, "not square (4:3)"));
        else if (strcmp(names[i], "o.tif") == 0) assert_int_equal(lround(100 * t.dpi[1] / t.dpi[0]), 133);
        else assert_int_equal(3 * t.aspect.num, 4 * t.aspect.den);
    }
}

static void test_losses_are_told(void **state) {
    (void)state;
    write_jpeg(in_dir("in.jpg"), IPTC, false);
    colorize(in_dir("in.jpg"), in_dir("o.jpg"));
    assert_string_equal(warnings, "");
    assert_true(read_told(in_dir("o.jpg")).n_own > 0);
    colorize(in_dir("in.jpg"), in_dir("o.png"));
    assert_non_null(strstr(warnings, "IPTC"));
    write_jpeg(in_dir("in.jpg"), GREY_PROFILE, false); /* of a grey scan: wrong for a picture in colour */
    colorize(in_dir("in.jpg"), in_dir("o.jpg"));
    assert_non_null(strstr(warnings, "colour profile"));
    assert_int_equal(read_told(in_dir("o.jpg")).n_profile, 0);
    write_jpeg(in_dir("in.jpg"), EXIF, false);
    colorize(in_dir("in.jpg"), in_dir("o.mkv"));
    assert_non_null(strstr(warnings, "which side is up"));
}

/* Damaged tags are never worse than none. */
static void test_damage(void **state) {
    static const char *const names[] = { "in.jpg", "o.png", "o.webp", "o.tif" };
    static const enum AVCodecID ids[] = { AV_CODEC_ID_MJPEG, AV_CODEC_ID_PNG, AV_CODEC_ID_WEBP, AV_CODEC_ID_TIFF };
    static uint8_t good[1 << 17];
    uint32_t seed = 1;
    char lost[128];
    int n_read = 0;
    (void)state;
    write_jpeg(in_dir("in.jpg"), EXIF | XMP | RGB_PROFILE | IPTC | DENSITY, false);
    for (int i = 0; i < UF_LEN(names); i++) {
        if (i) colorize(in_dir("in.jpg"), in_dir(names[i]));
        size_t n = load(in_dir(names[i]), good, sizeof(good));
        size_t head = n < 700 ? n : 700; /* tags stand near the start or near the end */
        for (int round = 0; round < 1500; round++) {
            seed = seed * 1664525u + 1013904223u;
            size_t m = round % 8 ? n : 1 + seed % n, at = round % 2 ? seed % head : n - 1 - seed % head;
            uint8_t *bad = malloc(m); /* of the exact size, so that the address sanitizer sees every step outside */
            memcpy(bad, good, m);
            if (at < m) bad[at] = round % 3 ? (uint8_t)(seed >> 24) : 0xff;
            AVBufferRef *tags = NULL;
            uf_bytes file = { 0 };
            assert_int_equal(uf_tags_read(&tags, ctx, ids[i], bad, m), UF_OK);
            assert_int_equal(uf_bytes_add(&file, ctx, bad, m), UF_OK);
            n_read += tags != NULL;
            assert_int_equal(uf_tags_write(&file, ctx, ids[(i + round) % 4], W, H,
                                           tags ? (const void *)tags->data : NULL, NULL, lost, sizeof(lost)), UF_OK);
            assert_true(file.n < 3 * m + (1 << 18));
            free(file.data);
            av_buffer_unref(&tags);
            free(bad);
        }
    }
    assert_true(n_read > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),   cmocka_unit_test(test_tiff),   cmocka_unit_test(test_density),
        cmocka_unit_test(test_aspect), cmocka_unit_test(test_losses_are_told), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

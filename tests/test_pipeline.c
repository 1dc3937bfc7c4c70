/* The film pipeline, with a stand-in for the network: what goes in comes out, whole or not at all. */
#include "colorizer.h"
#include "media.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { W = 97, H = 65, N = 12 };

typedef struct place { /* a folder of its own for each test */
    uf_ctx *ctx;
    char dir[64], name[8][128];
    int next;
} place;

static const char *in_place(place *p, const char *name) {
    char *s = p->name[p->next++ % 8];
    snprintf(s, sizeof(p->name[0]), "%s/%s", p->dir, name);
    return s;
}

static int setup(void **state) {
    place *p = calloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/unfade-test-XXXXXX");
    if (!mkdtemp(p->dir) || uf_ctx_open(&p->ctx) < 0) return -1;
    *state = p;
    return 0;
}

static int n_files(const place *p, bool remove_them) {
    DIR *d = opendir(p->dir);
    struct dirent *e;
    char path[512];
    int n = 0;
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(path, sizeof(path), "%s/%s", p->dir, e->d_name);
        if (remove_them) unlink(path);
        n++;
    }
    closedir(d);
    return n;
}

static int teardown(void **state) {
    place *p = *state;
    n_files(p, true);
    rmdir(p->dir);
    uf_ctx_close(&p->ctx);
    free(p);
    return 0;
}

/* ---- material ------------------------------------------------------------------------------------------------ */

static int sample(int x, int y, int t, int max) {
    return (x * 7 + y * 3 + t * 11 + (x / 16 + y / 16) % 2 * 60) % (max * 219 / 255) + max * 16 / 255;
}

static void write_y4m(const char *path, int w, int h, int n, int depth) {
    FILE *f = fopen(path, "wb");
    int cw = (w + 1) / 2, ch = (h + 1) / 2, bytes = depth > 8 ? 2 : 1;
    fprintf(f, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 %s\n", w, h, depth > 8 ? "C420p10 XYSCSS=420P10" : "C420jpeg");
    for (int t = 0; t < n; t++) {
        fprintf(f, "FRAME\n");
        for (int i = 0; i < w * h + 2 * cw * ch; i++) {
            int v = i < w * h ? sample(i % w, i / w, t, (1 << depth) - 1) : 1 << (depth - 1);
            fputc(v & 255, f);
            if (bytes == 2) fputc(v >> 8, f);
        }
    }
    fclose(f);
}

static void write_packet(AVFormatContext *oc, int stream, int64_t pts, int64_t duration, const uint8_t *data, int size) {
    AVPacket *p = av_packet_alloc();
    assert_int_equal(av_new_packet(p, size), 0);
    memcpy(p->data, data, (size_t)size);
    p->stream_index = stream;
    p->pts = p->dts = pts;
    p->duration = duration;
    p->flags |= AV_PKT_FLAG_KEY;
    assert_true(av_interleaved_write_frame(oc, p) >= 0);
    av_packet_free(&p);
}

static AVStream *add_stream(AVFormatContext *oc, enum AVMediaType type, enum AVCodecID id, AVRational base) {
    AVStream *st = avformat_new_stream(oc, NULL);
    st->codecpar->codec_type = type;
    st->codecpar->codec_id = id;
    st->time_base = base;
    return st;
}

/* Times of the frames of write_film, ms: a variable rate that starts late. */
static int64_t film_pts(int t) {
    return 200 + t * 40 + t % 3 * 7;
}

/* Raw video with a variable rate, raw sound, a subtitle, a chapter and tags, in Matroska. */
static void write_film(const char *path) {
    AVFormatContext *oc = NULL;
    AVDictionary *o = NULL;
    AVStream *v, *a, *s;
    uint8_t picture[96 * 64 * 3 / 2], sound[80];
    assert_true(avformat_alloc_output_context2(&oc, NULL, "matroska", path) >= 0);
    v = add_stream(oc, AVMEDIA_TYPE_VIDEO, AV_CODEC_ID_RAWVIDEO, (AVRational){ 1, 1000 });
    v->codecpar->width = 96;
    v->codecpar->height = 64;
    v->codecpar->format = AV_PIX_FMT_YUV420P;
    v->codecpar->codec_tag = MKTAG('I', '4', '2', '0');
    v->codecpar->sample_aspect_ratio = v->sample_aspect_ratio = (AVRational){ 4, 3 };
    v->avg_frame_rate = (AVRational){ 25, 1 };
    a = add_stream(oc, AVMEDIA_TYPE_AUDIO, AV_CODEC_ID_PCM_S16LE, (AVRational){ 1, 1000 });
    a->codecpar->sample_rate = 1000;
    a->codecpar->format = AV_SAMPLE_FMT_S16;
    av_channel_layout_default(&a->codecpar->ch_layout, 1);
    a->codecpar->block_align = 2;
    av_dict_set(&a->metadata, "language", "fra", 0);
    s = add_stream(oc, AVMEDIA_TYPE_SUBTITLE, AV_CODEC_ID_SUBRIP, (AVRational){ 1, 1000 });
    av_dict_set(&s->metadata, "language", "eng", 0);
    av_dict_set(&oc->metadata, "title", "a film", 0);
    oc->chapters = av_calloc(1, sizeof(*oc->chapters));
    oc->chapters[oc->nb_chapters++] = av_mallocz(sizeof(AVChapter));
    oc->chapters[0]->time_base = (AVRational){ 1, 1000 };
    oc->chapters[0]->end = 300;
    av_dict_set(&oc->chapters[0]->metadata, "title", "one", 0);
    assert_true(avio_open(&oc->pb, path, AVIO_FLAG_WRITE) >= 0);
    av_dict_set(&o, "allow_raw_vfw", "1", 0);
    assert_true(avformat_write_header(oc, &o) >= 0);
    av_dict_free(&o);
    for (int t = 0; t < N; t++) {
        memset(picture, 128, sizeof(picture));
        for (int i = 0; i < 96 * 64; i++) picture[i] = (uint8_t)sample(i % 96, i / 96, t, 255);
        for (int i = 0; i < (int)sizeof(sound); i++) sound[i] = (uint8_t)(t * 31 + i * 7);
        write_packet(oc, 1, av_rescale_q(160 + t * 40, (AVRational){ 1, 1000 }, a->time_base), 40, sound, sizeof(sound));
        write_packet(oc, 0, av_rescale_q(film_pts(t), (AVRational){ 1, 1000 }, v->time_base), 0, picture, sizeof(picture));
        if (t == 3) write_packet(oc, 2, av_rescale_q(300, (AVRational){ 1, 1000 }, s->time_base), 200, (const uint8_t *)"hello", 5);
    }
    assert_true(av_write_trailer(oc) >= 0);
    avio_closep(&oc->pb);
    avformat_free_context(oc);
}

/* ---- the job ------------------------------------------------------------------------------------------------- */

static int paint(void *user, const float *luma, int w, int h, float *chroma) {
    const float *value = user;
    for (int i = 0; i < w * h; i++) assert_true(luma[i] >= 0 && luma[i] <= 1);
    for (int i = 0; i < w * h / 4; i++) {
        chroma[i] = value ? value[0] : 0.1f;
        chroma[w * h / 4 + i] = value ? value[1] : -0.1f;
    }
    return UF_OK;
}

static int colorize(place *p, const char *in, const char *out, const char *codec) {
    uf_film_options o = { .paint = paint };
    o.colorize.codec = codec;
    o.colorize.size = 64;
    uf_ctx_clear(p->ctx);
    return uf_film_colorize(p->ctx, in, out, &o);
}

static void expect_failure(place *p, const char *in, const char *out, int code, const char *words) {
    int before = n_files(p, false);
    assert_int_equal(colorize(p, in, out, NULL), code);
    if (!strstr(uf_ctx_error(p->ctx), words)) fail_msg("'%s' does not say '%s'", uf_ctx_error(p->ctx), words);
    assert_int_equal(n_files(p, false), before);
}

typedef struct film_content {
    uint64_t luma[64];
    double seconds[64];
    int n_frames, n_packets;
    uint64_t packets; /* data and times of everything copied */
    AVFrame *last;
} film_content;

static uint64_t hash_luma(const AVFrame *f) {
    uint64_t h = 0;
    size_t bytes = (size_t)f->width * (av_pix_fmt_desc_get(f->format)->comp[0].depth > 8 ? 2 : 1);
    for (int y = 0; y < f->height; y++) h = h * 31 + uf_hash(f->data[0] + (ptrdiff_t)y * f->linesize[0], bytes);
    return h;
}

static film_content read_film(place *p, const char *path) {
    film_content c = { 0 };
    uf_reader *r = NULL;
    uf_item item;
    int err;
    uf_ctx_clear(p->ctx);
    if (uf_reader_open(&r, p->ctx, path) < 0) fail_msg("%s", uf_ctx_error(p->ctx));
    while ((err = uf_reader_next(r, &item)) == UF_OK) {
        const AVStream *st = uf_reader_format(r)->streams[item.frame ? uf_reader_video(r) : item.packet->stream_index];
        if (item.frame) {
            c.luma[c.n_frames] = hash_luma(item.frame);
            c.seconds[c.n_frames++] = (double)item.frame->pts * av_q2d(st->time_base);
            av_frame_free(&c.last);
            c.last = av_frame_clone(item.frame);
        } else {
            int64_t ms = av_rescale_q(item.packet->pts, st->time_base, (AVRational){ 1, 1000 });
            c.packets += uf_hash(item.packet->data, (size_t)item.packet->size) * (uint64_t)(2 * ms + 1);
            c.n_packets++;
        }
        uf_item_clear(&item);
    }
    if (err != UF_EOF) fail_msg("%s", uf_ctx_error(p->ctx));
    uf_reader_close(&r);
    return c;
}

static void same_film(film_content *a, film_content *b) {
    assert_int_equal(a->n_frames, b->n_frames);
    for (int i = 0; i < a->n_frames; i++) {
        assert_true(a->luma[i] == b->luma[i]);
        assert_true(fabs(a->seconds[i] - b->seconds[i]) < 1e-3);
    }
    assert_int_equal(a->n_packets, b->n_packets);
    assert_true(a->packets == b->packets);
}

static void film_content_free(film_content *c) {
    av_frame_free(&c->last);
}

static void succeed(place *p, const char *in, const char *out, const char *codec) {
    if (colorize(p, in, out, codec) < 0) fail_msg("'%s' to '%s': %s", in, out, uf_ctx_error(p->ctx));
}

/* ---- films --------------------------------------------------------------------------------------------------- */

static void test_luma_exact(void **state) {
    place *p = *state;
    const int depths[] = { 8, 10 };
    for (int i = 0; i < UF_LEN(depths); i++) {
        const char *in = in_place(p, depths[i] == 8 ? "8.y4m" : "10.y4m"), *out = in_place(p, depths[i] == 8 ? "8.mkv" : "10.mkv");
        film_content a, b;
        write_y4m(in, W, H, N, depths[i]);
        succeed(p, in, out, "ffv1");
        a = read_film(p, in);
        b = read_film(p, out);
        assert_int_equal(a.n_frames, N);
        same_film(&a, &b);
        assert_int_equal(b.last->format, a.last->format);
        /* chroma 0.1, -0.1 in limited range: 128 + 22.4, 128 - 22.4 */
        if (depths[i] == 8) {
            assert_in_range(b.last->data[1][5], 149, 151);
            assert_in_range(b.last->data[2][5], 105, 107);
        }
        film_content_free(&a);
        film_content_free(&b);
    }
}

static void test_streams_copied(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.mkv"), *out = in_place(p, "out.mkv");
    film_content a, b;
    uf_media_info *info = NULL;
    write_film(in);
    succeed(p, in, out, "ffv1");
    a = read_film(p, in);
    b = read_film(p, out);
    assert_int_equal(a.n_packets, N + 1);
    for (int t = 0; t < N; t++) assert_true(fabs(b.seconds[t] * 1000 - (double)film_pts(t)) < 0.01);
    same_film(&a, &b);
    assert_int_equal(uf_media_info_open(&info, p->ctx, out), UF_OK);
    assert_int_equal(info->n_streams, 3);
    assert_int_equal(info->n_chapters, 1);
    assert_string_equal(info->streams[0].codec, "ffv1");
    assert_int_equal(info->streams[0].sar_num * 3, info->streams[0].sar_den * 4);
    assert_string_equal(info->streams[0].matrix, "smpte170m");
    assert_string_equal(info->streams[1].language, "fra");
    assert_string_equal(info->streams[2].kind, "subtitle");
    uf_media_info_close(&info);
    film_content_free(&a);
    film_content_free(&b);
}

static void test_containers(void **state) {
    static const char *const names[] = { "o.mp4", "o.mov", "o.mkv", "o.avi", "o.webm", "o.y4m" };
    place *p = *state;
    const char *in = in_place(p, "in.y4m");
    write_y4m(in, 96, 64, N, 8);
    for (int i = 0; i < UF_LEN(names); i++) {
        char out[128];
        film_content c;
        snprintf(out, sizeof(out), "%s/%s", p->dir, names[i]);
        succeed(p, in, out, NULL);
        c = read_film(p, out);
        assert_int_equal(c.n_frames, N);
        for (int t = 0; t < N; t++) assert_true(fabs(c.seconds[t] - t * 0.04) < 1e-3);
        film_content_free(&c);
    }
}

static void test_refuses_what_a_container_cannot_hold(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.mkv");
    write_film(in);
    expect_failure(p, in, in_place(p, "out.webm"), UF_EUNSUPPORTED, "stream 1 (audio, pcm_s16le)");
    expect_failure(p, in, in_place(p, "out.mp4"), UF_EUNSUPPORTED, ".mkv file");
}

static void test_hd_matrix(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv");
    film_content c;
    double r = 0.5 - 0.1402, g = 0.5 - 0.0344136 + 0.0714136, b = 0.5 + 0.1772, y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    write_y4m(in, 1280, 64, 1, 8);
    succeed(p, in, out, "ffv1");
    c = read_film(p, out);
    assert_int_equal(c.last->colorspace, AVCOL_SPC_BT709);
    assert_true(fabs(c.last->data[1][300] - (128 + 224 * (b - y) / 1.8556)) <= 1);
    assert_true(fabs(c.last->data[2][300] - (128 + 224 * (r - y) / 1.5748)) <= 1);
    film_content_free(&c);
}

static void test_pictures(void **state) {
    static const char *const names[] = { "o.png", "o.jpg", "o.tiff", "o.webp" };
    place *p = *state;
    const char *one = in_place(p, "one.y4m"), *many = in_place(p, "many.y4m");
    char out[128], back[128];
    film_content c;
    struct stat st;
    write_y4m(one, W, H, 1, 8);
    write_y4m(many, W, H, 3, 8);
    for (int i = 0; i < UF_LEN(names); i++) {
        snprintf(out, sizeof(out), "%s/%s", p->dir, names[i]);
        succeed(p, one, out, NULL);
        c = read_film(p, out);
        assert_int_equal(c.n_frames, 1);
        assert_int_equal(c.last->width, W);
        film_content_free(&c);
    }
    snprintf(out, sizeof(out), "%s/many.png", p->dir);
    expect_failure(p, many, out, UF_EINVAL, "%05d");
    snprintf(out, sizeof(out), "%s/s%%05d.png", p->dir);
    succeed(p, many, out, NULL);
    snprintf(back, sizeof(back), "%s/s00003.png", p->dir);
    assert_int_equal(stat(back, &st), 0);
    snprintf(back, sizeof(back), "%s/back.mkv", p->dir);
    succeed(p, out, back, "ffv1");
    c = read_film(p, back);
    assert_int_equal(c.n_frames, 3);
    film_content_free(&c);
}

static void test_strength(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv");
    uf_film_options o = { .paint = paint };
    film_content c;
    write_y4m(in, W, H, 1, 8);
    o.colorize.codec = "ffv1";
    o.colorize.strength = 2;
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_OK);
    c = read_film(p, out);
    assert_in_range(c.last->data[1][5], 171, 174); /* 128 + 224 * 0.2 */
    film_content_free(&c);
    o.colorize.strength = 3;
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_EINVAL);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------ */

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
}

static void test_bad_input(void **state) {
    place *p = *state;
    const char *text = in_place(p, "text.mp4"), *out = in_place(p, "out.mkv"), *in = in_place(p, "in.y4m");
    struct stat st;
    write_text(text, "this is no film\n");
    expect_failure(p, text, out, UF_EDATA, "no film, picture or sound");
    write_text(text, "");
    expect_failure(p, text, out, UF_EDATA, "text.mp4");
    expect_failure(p, in, out, UF_EIO, "in.y4m");
    write_y4m(in, W, H, 5, 8);
    assert_int_equal(stat(in, &st), 0);
    assert_int_equal(truncate(in, st.st_size - 1000), 0);
    expect_failure(p, in, out, UF_EDATA, "ends early, at 00:00:00.120");
    write_y4m(in, W, H, 0, 8);
    expect_failure(p, in, out, UF_EDATA, "in.y4m");
}

static void test_truncated_containers(void **state) {
    static const char *const names[] = { "t.mkv", "t.avi", "t.mov" };
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv");
    write_y4m(in, 96, 64, 60, 8);
    for (int i = 0; i < UF_LEN(names); i++) {
        char cut[128];
        struct stat st;
        snprintf(cut, sizeof(cut), "%s/%s", p->dir, names[i]);
        succeed(p, in, cut, NULL);
        assert_int_equal(stat(cut, &st), 0);
        assert_int_equal(truncate(cut, st.st_size / 2), 0);
        expect_failure(p, cut, out, UF_EDATA, names[i]);
    }
}

/* A folder that may not be written to, by a user for whom that counts (root may write anywhere). */
static void expect_locked(place *p, const char *in) {
    const char *locked = in_place(p, "locked");
    uid_t self = geteuid();
    assert_int_equal(mkdir(locked, 0555), 0);
    assert_int_equal(chmod(p->dir, 0755), 0);
    if (self == 0) assert_int_equal(seteuid(65534), 0);
    expect_failure(p, in, in_place(p, "locked/out.mkv"), UF_EIO, "not writable");
    if (self == 0) assert_int_equal(seteuid(0), 0);
    assert_int_equal(rmdir(locked), 0);
}

static void test_bad_output(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv");
    uf_film_options o = { .paint = paint };
    write_y4m(in, W, H, 2, 8);
    expect_failure(p, in, in, UF_EINVAL, "another name");
    write_text(out, "mine");
    expect_failure(p, in, out, UF_EEXIST, "out.mkv");
    o.colorize.overwrite = true;
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_OK);
    expect_failure(p, in, in_place(p, "out.xyz"), UF_EINVAL, "cannot tell the format");
    expect_failure(p, in, in_place(p, "none/out.mkv"), UF_EIO, "there is no folder");
    expect_failure(p, in, in_place(p, "in.y4m/out.mkv"), UF_EIO, "there is no folder");
    expect_locked(p, in);
    assert_int_equal(colorize(p, in, in_place(p, "new.mkv"), "nonsense"), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(p->ctx), "nonsense"));
}

static void test_bad_weights(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv"), *weights = in_place(p, "w.safetensors");
    uf_film_options o = { 0 };
    write_y4m(in, 96, 64, 2, 8);
    o.colorize.weights = weights;
    o.colorize.size = 64;
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_EIO);
    assert_non_null(strstr(uf_ctx_error(p->ctx), "w.safetensors"));
    write_text(weights, "not weights at all");
    uf_ctx_clear(p->ctx);
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_EDATA);
    assert_int_equal(n_files(p, false), 2);
    uf_ctx_clear(p->ctx);
    o.colorize.device = "abacus";
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_EINVAL);
}

static void cancel(void *user, const uf_progress *progress) {
    assert_true(progress->n_done > 0);
    uf_ctx_cancel(user);
}

static void test_cancel(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mkv");
    uf_film_options o = { .paint = paint };
    write_y4m(in, W, H, 60, 8);
    o.colorize.progress = cancel;
    o.colorize.user = p->ctx;
    o.colorize.codec = "ffv1";
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_EINTR);
    assert_int_equal(n_files(p, false), 1);
}

static int paint_fails(void *user, const float *luma, int w, int h, float *chroma) {
    (void)luma, (void)w, (void)h, (void)chroma;
    return uf_fail(user, UF_ENOMEM, "the network failed");
}

static void test_stage_failure(void **state) {
    place *p = *state;
    const char *in = in_place(p, "in.y4m"), *out = in_place(p, "out.mp4");
    uf_film_options o = { .paint = paint_fails, .paint_user = p->ctx };
    write_y4m(in, W, H, 30, 8);
    assert_int_equal(uf_film_colorize(p->ctx, in, out, &o), UF_ENOMEM);
    assert_string_equal(uf_ctx_error(p->ctx), "the network failed");
    assert_int_equal(n_files(p, false), 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_luma_exact), TEST(test_streams_copied), TEST(test_containers),
        TEST(test_refuses_what_a_container_cannot_hold), TEST(test_hd_matrix), TEST(test_pictures), TEST(test_strength),
        TEST(test_bad_input), TEST(test_truncated_containers), TEST(test_bad_output), TEST(test_bad_weights),
        TEST(test_cancel), TEST(test_stage_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Jobs that were cut off: whatever is left of the journal and of the stretches, what comes back is a true beginning of the film, and
 * as long as what was left allows. */
#include "job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"

enum { STRETCHES = 4, PACKETS = 7, FRAMES = 100 };

static const char *path(const char *name) {
    static char p[4][256];
    static int n;
    snprintf(p[n = (n + 1) % 4], sizeof(p[0]), "%s/%s", folder, name);
    return p[n];
}

/* Packet k of the film, whose every byte follows from k. */
static AVPacket *packet(int k) {
    AVPacket *p = av_packet_alloc();
    assert_non_null(p);
    assert_int_equal(av_new_packet(p, 5 + k * 13 % 90), 0);
    for (int i = 0; i < p->size; i++) p->data[i] = (uint8_t)(k * 31 + i);
    p->pts = 40 * k;
    p->dts = 40 * k - 80;
    p->duration = 40;
    p->flags = k % PACKETS ? 0 : AV_PKT_FLAG_KEY;
    if (k % 3 == 0) {
        uint8_t *side = av_packet_new_side_data(p, AV_PKT_DATA_MATROSKA_BLOCKADDITIONAL, 9);
        assert_non_null(side);
        memset(side, k, 9);
    }
    return p;
}

static void add_stretch(uf_job *j, int stretch) {
    for (int i = 0; i < PACKETS; i++) {
        AVPacket *p = packet(stretch * PACKETS + i);
        assert_int_equal(uf_job_add(j, p, false), UF_OK);
        av_packet_free(&p);
    }
    assert_int_equal(uf_job_end_stretch(j, FRAMES), UF_OK);
}

/* Reads the job to its end: the first n packets of the film and nothing else. */
static int count_true(uf_job *j) {
    int n = 0, err;
    AVPacket *p = av_packet_alloc();
    for (; (err = uf_job_next(j, p)) == UF_OK; n++) {
        AVPacket *should = packet(n);
        assert_int_equal(p->size, should->size);
        assert_memory_equal(p->data, should->data, (size_t)p->size);
        assert_true(p->pts == should->pts && p->dts == should->dts && p->duration == should->duration && p->flags == should->flags);
        assert_int_equal(p->side_data_elems, should->side_data_elems);
        if (p->side_data_elems) assert_memory_equal(p->side_data[0].data, should->side_data[0].data, 9);
        av_packet_free(&should);
        av_packet_unref(p);
    }
    assert_int_equal(err, UF_EOF);
    av_packet_free(&p);
    return n;
}

static void shell(const char *format, ...) {
    char cmd[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(cmd, sizeof(cmd), format, args);
    va_end(args);
    assert_int_equal(system(cmd), 0);
}

static void make_whole(uf_ctx *ctx) {
    uf_job *j = NULL;
    shell("rm -rf '%s'", path("film.unfade-job"));
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "a", false), UF_OK);
    for (int i = 0; i < STRETCHES; i++) add_stretch(j, i);
    assert_int_equal(uf_job_n_frames(j), STRETCHES * FRAMES);
    uf_job_close(&j, true);
}

/* What a file of the job, cut off after `bytes`, leaves: so many stretches, then all the rest anew. */
static void cut(uf_ctx *ctx, const char *file, int64_t bytes, int64_t stretches) {
    uf_job *j = NULL;
    shell("rm -rf '%s' && cp -r '%s' '%s'", path("cut.unfade-job"), path("film.unfade-job"), path("cut.unfade-job"));
    char name[300];
    snprintf(name, sizeof(name), "%s/%s", path("cut.unfade-job"), file);
    assert_int_equal(truncate(name, bytes), 0);
    if (uf_job_open(&j, ctx, path("cut"), "a", false) < 0) fail_msg("%s cut to %lld: %s", file, (long long)bytes, uf_ctx_error(ctx));
    if (uf_job_n_frames(j) != stretches * FRAMES)
        fail_msg("%s cut to %lld: %lld frames, not %lld", file, (long long)bytes, (long long)uf_job_n_frames(j), (long long)stretches * FRAMES);
    for (int i = (int)stretches; i < STRETCHES; i++) add_stretch(j, i);
    assert_int_equal(count_true(j), STRETCHES * PACKETS);
    uf_job_close(&j, false);
    assert_int_not_equal(access(path("cut.unfade-job"), F_OK), 0);
}

static int64_t size_of(const char *file) {
    struct stat st;
    char name[300];
    snprintf(name, sizeof(name), "%s/%s", path("film.unfade-job"), file);
    assert_int_equal(stat(name, &st), 0);
    return st.st_size;
}

static void test_truncation(void **state) {
    (void)state;
    uf_ctx *ctx;
    char journal[2048] = "";
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    make_whole(ctx);
    snprintf(journal, sizeof(journal), "%s/journal", path("film.unfade-job"));
    FILE *f = fopen(journal, "rb");
    assert_non_null(f);
    int64_t n = (int64_t)fread(journal, 1, sizeof(journal), f), lines = 0;
    fclose(f);
    assert_true(n == size_of("journal") && n > 100);
    for (int64_t i = 0; i <= n; i++) { /* at every byte */
        if (i > 0) lines += journal[i - 1] == '\n';
        cut(ctx, "journal", i, lines > 0 ? lines - 1 : 0);
    }
    for (int i = 0; i < STRETCHES; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%06d.packets", i);
        int64_t whole = size_of(name);
        for (int k = 0; k < 40; k++) cut(ctx, name, (int64_t)(uf_uniform(1, (uint64_t)i, (uint64_t)k) * (float)whole), i);
        cut(ctx, name, whole - 1, i);
        cut(ctx, name, whole, STRETCHES);
    }
    uf_ctx_close(&ctx);
}

/* A byte that changed is found too; nothing of it gets into a film. */
static void test_damage(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_job *j = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    make_whole(ctx);
    shell("printf X | dd of='%s/000002.packets' bs=1 seek=100 conv=notrunc 2>/dev/null", path("film.unfade-job"));
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "a", false), UF_OK);
    assert_int_equal(uf_job_n_frames(j), 2 * FRAMES);
    uf_job_close(&j, false);
    uf_ctx_close(&ctx);
}

static void test_whose(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_job *j = NULL, *other = NULL;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    make_whole(ctx);
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "a", false), UF_OK);
    assert_int_equal(uf_job_open(&other, ctx, path("film"), "a", true), UF_EEXIST); /* at work */
    assert_non_null(strstr(uf_ctx_error(ctx), "another unfade"));
    uf_ctx_clear(ctx);
    uf_job_close(&j, true);
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "b", false), UF_EEXIST); /* other settings */
    assert_non_null(strstr(uf_ctx_error(ctx), "--overwrite"));
    uf_ctx_clear(ctx);
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "a", false), UF_OK); /* untouched by that */
    assert_int_equal(uf_job_n_frames(j), STRETCHES * FRAMES);
    uf_job_close(&j, true);
    assert_int_equal(uf_job_open(&j, ctx, path("film"), "b", true), UF_OK);
    assert_int_equal(uf_job_n_frames(j), 0);
    uf_job_close(&j, true);
    assert_int_not_equal(access(path("film.unfade-job"), F_OK), 0); /* nothing in it was worth keeping */
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_whose),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

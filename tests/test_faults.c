/* Each thread of the colouring job fails, or falls asleep, at each of several moments: the job ends with that failure and leaves nothing, or
 * gives the same film. An alarm ends what waits for ever. */
#include "pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { W = 64, H = 64, N = 40, LONGEST = 120 };

static const char *const threads[] = { "decode", "mend", "predict", "paint", "encode" };

typedef struct fault {
    uf_ctx *ctx;
    const char *thread;
    int64_t at;
    bool sleeps;     /* at and after that item, instead of failing */
    atomic_int n;    /* times it was met */
} fault;

static int meet(void *user, const char *thread, int64_t n) {
    fault *f = user;
    if (strcmp(thread, f->thread) != 0 || n < f->at || (f->sleeps && n > f->at + 8)) return UF_OK;
    atomic_fetch_add(&f->n, 1);
    if (!f->sleeps) return uf_fail(f->ctx, UF_EIO, "the %s thread broke at %lld", thread, (long long)n);
    nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    return UF_OK;
}

static int paint(void *user, const float *luma, int w, int h, float *chroma) {
    (void)user;
    for (int i = 0; i < w * h / 4; i++) {
        chroma[i] = .2f * luma[4 * i];
        chroma[w * h / 4 + i] = -.1f;
    }
    return UF_OK;
}

static void write_film(const char *path) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fprintf(f, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", W, H);
    for (int t = 0; t < N; t++) {
        fprintf(f, "FRAME\n");
        for (int i = 0; i < W * H * 3 / 2; i++) fputc(i < W * H ? 40 + (i % W * 3 + i / W + 2 * t) % 180 : 128, f);
    }
    fclose(f);
}

static int colorize(uf_ctx *ctx, const char *in, const char *out, bool mends, fault *f) {
    uf_film_options o = { .paint = paint, .fault = f ? meet : NULL, .fault_user = f };
    o.colorize.codec = "ffv1";
    o.colorize.size = 64;
    o.colorize.deflicker = mends ? 1 : 0;
    o.colorize.overwrite = true;
    uf_ctx_clear(ctx);
    return uf_film_colorize(ctx, in, out, &o);
}

static char *content(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

typedef struct place { uf_ctx *ctx; char dir[64], in[96], out[96]; } place;

static int setup(void **state) {
    place *p = calloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/unfade-faults-XXXXXX");
    if (!mkdtemp(p->dir) || uf_ctx_open(&p->ctx) < 0) return -1;
    snprintf(p->in, sizeof(p->in), "%s/in.y4m", p->dir);
    snprintf(p->out, sizeof(p->out), "%s/out.mkv", p->dir);
    write_film(p->in);
    alarm(LONGEST);
    *state = p;
    return 0;
}

static int teardown(void **state) {
    place *p = *state;
    alarm(0);
    unlink(p->in);
    unlink(p->out);
    int left = rmdir(p->dir); /* nothing else may lie there */
    uf_ctx_close(&p->ctx);
    free(p);
    return left;
}

static void a_thread_fails(void **state) {
    place *p = *state;
    for (int i = 0; i < UF_LEN(threads); i++)
        for (int64_t at = 0; at <= N; at += at < 2 ? 1 : 19) { /* 0 1 2 21 40: the last is the end itself */
            fault f = { .ctx = p->ctx, .thread = threads[i], .at = at };
            struct stat st;
            int err = colorize(p->ctx, p->in, p->out, true, &f);
            if (atomic_load(&f.n) == 0) fail_msg("%s never came to item %d", threads[i], (int)at);
            if (err != UF_EIO || !strstr(uf_ctx_error(p->ctx), threads[i])) fail_msg("%s at %d: %d, %s", threads[i], (int)at, err, uf_ctx_error(p->ctx));
            assert_int_not_equal(stat(p->out, &st), 0);
        }
}

static void a_thread_sleeps(void **state) {
    place *p = *state;
    size_t size, size_now;
    assert_int_equal(colorize(p->ctx, p->in, p->out, true, NULL), UF_OK);
    char *whole = content(p->out, &size);
    for (int i = 0; i < UF_LEN(threads); i++)
        for (int64_t at = 0; at < N; at += 15) {
            fault f = { .ctx = p->ctx, .thread = threads[i], .at = at, .sleeps = true };
            assert_int_equal(colorize(p->ctx, p->in, p->out, true, &f), UF_OK);
            char *now = content(p->out, &size_now);
            assert_int_equal(size_now, size);
            assert_memory_equal(now, whole, size);
            free(now);
        }
    free(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(a_thread_fails, setup, teardown),
                                        cmocka_unit_test_setup_teardown(a_thread_sleeps, setup, teardown) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

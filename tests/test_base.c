/* Errors, log, limits, memory, files that appear whole, random numbers. */
#include "base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int setup(void **state) {
    uf_ctx *ctx = NULL;
    if (uf_ctx_open(&ctx) < 0) return -1;
    *state = ctx;
    return 0;
}

static int teardown(void **state) {
    uf_ctx *ctx = *state;
    uf_ctx_close(&ctx);
    return ctx ? -1 : 0;
}

/* ---- context ------------------------------------------------------------------------------------------------- */

static void test_first_error_stays(void **state) {
    uf_ctx *ctx = *state;
    assert_string_equal(uf_ctx_error(ctx), "");
    assert_int_equal(uf_fail(ctx, UF_EINVAL, "the size '%d' is odd; round it", 3), UF_EINVAL);
    assert_int_equal(uf_fail(ctx, UF_EIO, "second"), UF_EIO);
    assert_string_equal(uf_ctx_error(ctx), "the size '3' is odd; round it");
    assert_int_equal(uf_ctx_error_code(ctx), UF_EINVAL);
    uf_ctx_clear(ctx);
    assert_string_equal(uf_ctx_error(ctx), "");
    assert_int_equal(uf_ctx_error_code(ctx), UF_OK);
    uf_fail(ctx, UF_EIO, "third");
    assert_string_equal(uf_ctx_error(ctx), "third");
}

static void *fail_often(void *arg) {
    for (int i = 0; i < 1000; i++) {
        uf_fail(arg, UF_EDATA, "same words from every thread");
        if (strcmp(uf_ctx_error(arg), "same words from every thread")) return arg;
    }
    return NULL;
}

static void test_errors_from_threads(void **state) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, fail_often, *state), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(thread[i], &bad);
        assert_null(bad);
    }
}

typedef struct log_seen {
    uf_ctx *ctx;
    int n;
    char last[64];
} log_seen;

static void remember(void *user, uf_level level, const char *message) {
    log_seen *seen = user;
    seen->n++;
    snprintf(seen->last, sizeof seen->last, "%d %s", (int)level, message);
    uf_fail(seen->ctx, UF_EIO, "the log may fail too"); /* must not lock up */
}

static void test_log_level(void **state) {
    log_seen seen = {.ctx = *state};
    uf_log(*state, UF_LOG_ERROR, "nobody listens");
    uf_ctx_set_log(*state, UF_LOG_INFO, remember, &seen);
    uf_log(*state, UF_LOG_DEBUG, "too fine");
    assert_int_equal(seen.n, 0);
    uf_log(*state, UF_LOG_WARN, "%s", "heard");
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.last, "1 heard");
    assert_string_equal(uf_ctx_error(*state), "the log may fail too");
    uf_ctx_set_log(*state, UF_LOG_DEBUG, NULL, NULL);
    uf_log(*state, UF_LOG_ERROR, "silence");
    assert_int_equal(seen.n, 1);
}

static void test_cancel_and_threads(void **state) {
    assert_false(uf_ctx_cancelled(*state));
    uf_ctx_cancel(*state);
    assert_true(uf_ctx_cancelled(*state));
    assert_in_range(uf_ctx_threads(*state), 1, sysconf(_SC_NPROCESSORS_CONF));
    uf_ctx_set_threads(*state, 3);
    assert_int_equal(uf_ctx_threads(*state), 3);
    uf_ctx_set_threads(*state, 0);
    assert_in_range(uf_ctx_threads(*state), 1, sysconf(_SC_NPROCESSORS_CONF));
}

static void test_memory(void **state) {
    unsigned char *p = uf_alloc(*state, 1000, 3);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 3000; i++) assert_int_equal(p[i], 0);
    free(p);
    p = uf_alloc(*state, 0, 8);
    assert_non_null(p);
    free(p);
    assert_null(uf_alloc(*state, SIZE_MAX / 2, 3));
    assert_int_equal(uf_ctx_error_code(*state), UF_ENOMEM);
    char *s = uf_format(*state, "%d-%s", 7, "x");
    assert_string_equal(s, "7-x");
    char *copy = uf_strdup(*state, s);
    assert_string_equal(copy, s);
    free(s);
    free(copy);
}

/* ---- random numbers ------------------------------------------------------------------------------------------ */

/* kat_vectors of Random123 (Salmon et al. 2011), lines "philox4x32 10". */
static void test_philox_known_answers(void **state) {
    (void)state;
    static const struct {
        uint64_t seed, stream, index;
        uint32_t want[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < UF_LEN(known); i++) {
        uint32_t out[4];
        uf_philox(known[i].seed, known[i].stream, known[i].index, out);
        assert_memory_equal(out, known[i].want, sizeof out);
    }
}

static void test_distributions(void **state) {
    (void)state;
    enum { N = 40000 };
    double mean = 0, square = 0, fourth = 0, uniform = 0;
    int below = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = (double)uf_uniform(1, 2, i), z = (double)uf_gaussian(1, 2, i);
        assert_true(u >= 0 && u < 1);
        uniform += u;
        below += u < .25;
        mean += z;
        square += z * z;
        fourth += z * z * z * z;
    }
    assert_true(fabs(uniform / N - .5) < .01);
    assert_true(fabs((double)below / N - .25) < .01);
    assert_true(fabs(mean / N) < .02);
    assert_true(fabs(square / N - 1) < .03);
    assert_true(fabs(fourth / N - 3) < .25);
    assert_true(uf_uniform(1, 2, 5) != uf_uniform(1, 3, 5));
    assert_true(uf_uniform(1, 2, 5) != uf_uniform(2, 2, 5));
    assert_true(uf_hash("a.w", 3) != uf_hash("b.w", 3));
    assert_int_equal(uf_hash("", 0), 0x2d06800538d394c2); /* XXH3-64 of nothing, seed 0: the published sanity value */
}

/* ---- whole files --------------------------------------------------------------------------------------------- */

typedef struct folder {
    uf_ctx *ctx;
    char dir[64], file[96];
} folder;

static int folder_open(void **state) {
    folder *f = calloc(1, sizeof *f);
    if (!f || uf_ctx_open(&f->ctx) < 0) return -1;
    strcpy(f->dir, "/tmp/unfade-test-XXXXXX");
    if (!mkdtemp(f->dir)) return -1;
    snprintf(f->file, sizeof f->file, "%s/film.out.mkv", f->dir);
    *state = f;
    return 0;
}

static int count(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static int folder_close(void **state) {
    folder *f = *state;
    unlink(f->file);
    int err = rmdir(f->dir); /* fails when a test left anything behind */
    uf_ctx_close(&f->ctx);
    free(f);
    return err;
}

static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_content(const char *path, const char *text) {
    char got[64] = "";
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    got[n] = 0;
    fclose(f);
    assert_string_equal(got, text);
}

static void test_whole_commit(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    assert_int_equal(uf_whole_open(&w, f->ctx, f->file, false), UF_OK);
    const char *path = uf_whole_path(w);
    assert_string_equal(path + strlen(path) - 4, ".mkv");
    assert_non_null(strstr(path, "/.film.out.part-"));
    fputs("hello", uf_whole_file(w));
    assert_int_equal(access(f->file, F_OK), -1);
    assert_int_equal(uf_whole_commit(w), UF_OK);
    uf_whole_close(&w);
    assert_null(w);
    uf_whole_close(&w);
    assert_content(f->file, "hello");
    assert_int_equal(count(f->dir), 1);
}

/* As libraries do it: they open, write and close the temporary by its name. */
static void test_whole_by_name(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    assert_int_equal(uf_whole_open(&w, f->ctx, f->file, false), UF_OK);
    put(uf_whole_path(w), "by name");
    assert_int_equal(uf_whole_commit(w), UF_OK);
    uf_whole_close(&w);
    assert_content(f->file, "by name");
}

static void test_whole_without_commit(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    put(f->file, "old");
    assert_int_equal(uf_whole_open(&w, f->ctx, f->file, true), UF_OK);
    fputs("half", uf_whole_file(w));
    uf_whole_close(&w);
    assert_content(f->file, "old");
    assert_int_equal(count(f->dir), 1);
}

static void test_whole_exists(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    put(f->file, "old");
    assert_int_equal(uf_whole_open(&w, f->ctx, f->file, false), UF_EEXIST);
    assert_null(w);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "film.out.mkv' exists already; pass --overwrite to replace it"));
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_whole_open(&w, f->ctx, f->file, true), UF_OK);
    fputs("new", uf_whole_file(w));
    assert_int_equal(uf_whole_commit(w), UF_OK);
    uf_whole_close(&w);
    assert_content(f->file, "new");
}

/* Two jobs write the same name; the second to finish must not destroy what the first made. */
static void test_whole_race(void **state) {
    folder *f = *state;
    uf_whole *a = NULL, *b = NULL;
    assert_int_equal(uf_whole_open(&a, f->ctx, f->file, false), UF_OK);
    assert_int_equal(uf_whole_open(&b, f->ctx, f->file, false), UF_OK);
    assert_string_not_equal(uf_whole_path(a), uf_whole_path(b));
    fputs("a", uf_whole_file(a));
    fputs("b", uf_whole_file(b));
    assert_int_equal(uf_whole_commit(a), UF_OK);
    assert_int_equal(uf_whole_commit(b), UF_EEXIST);
    uf_whole_close(&a);
    uf_whole_close(&b);
    assert_content(f->file, "a");
    assert_int_equal(count(f->dir), 1);
}

static void test_whole_refusals(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    char path[160];
    snprintf(path, sizeof path, "%s/none/x.mkv", f->dir);
    assert_int_equal(uf_whole_open(&w, f->ctx, path, false), UF_EIO);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "there is no folder '"));
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_whole_open(&w, f->ctx, f->dir, true), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "is a folder"));
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_whole_open(&w, f->ctx, "/dev/null", true), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "not a regular file"));
    uf_ctx_clear(f->ctx);
    assert_int_equal(uf_whole_open(&w, f->ctx, "", true), UF_EINVAL);
    assert_null(w);
    assert_int_equal(count(f->dir), 0);
}

static void test_whole_follows_link(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    char link[160];
    struct stat st;
    snprintf(link, sizeof link, "%s/link.mkv", f->dir);
    put(f->file, "old");
    assert_int_equal(symlink(f->file, link), 0);
    assert_int_equal(uf_whole_open(&w, f->ctx, link, true), UF_OK);
    fputs("new", uf_whole_file(w));
    assert_int_equal(uf_whole_commit(w), UF_OK);
    uf_whole_close(&w);
    assert_content(f->file, "new");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link);
}

static void test_whole_long_name(void **state) {
    folder *f = *state;
    uf_whole *w = NULL;
    char path[400], name[250];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    snprintf(path, sizeof path, "%s/%s.mkv", f->dir, name);
    assert_int_equal(uf_whole_open(&w, f->ctx, path, false), UF_OK);
    assert_int_equal(uf_whole_commit(w), UF_OK);
    uf_whole_close(&w);
    unlink(path);
}

/* /dev/full would do for one stream, but not for files beside it: a small tmpfs is a disk that really fills. */
static void test_whole_full_disk(void **state) {
    folder *f = *state;
    if (mount("none", f->dir, "tmpfs", 0, "size=64k")) {
        print_message("  no permission to mount a small disk\n");
        skip();
    }
    uf_whole *w = NULL;
    int err = uf_whole_open(&w, f->ctx, f->file, false), left = -1;
    if (err == UF_OK) {
        FILE *out = uf_whole_file(w);
        for (int i = 0; out && i < 200000; i++) fputc('x', out);
        err = uf_whole_commit(w);
        uf_whole_close(&w);
        left = count(f->dir);
    }
    umount(f->dir); /* before any assertion, or the folder could not be removed */
    assert_int_equal(err, UF_EIO);
    assert_non_null(strstr(uf_ctx_error(f->ctx), "the disk is full; free some space"));
    assert_int_equal(left, 0);
}

#define CTX(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define FOLDER(t) cmocka_unit_test_setup_teardown(t, folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        CTX(test_first_error_stays),
        CTX(test_errors_from_threads),
        CTX(test_log_level),
        CTX(test_cancel_and_threads),
        CTX(test_memory),
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_distributions),
        FOLDER(test_whole_commit),
        FOLDER(test_whole_by_name),
        FOLDER(test_whole_without_commit),
        FOLDER(test_whole_exists),
        FOLDER(test_whole_race),
        FOLDER(test_whole_refusals),
        FOLDER(test_whole_follows_link),
        FOLDER(test_whole_long_name),
        FOLDER(test_whole_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

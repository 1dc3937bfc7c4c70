/* Which frames to colour by hand: as many as asked for, no two of one scene while others are left, written to be painted. */
#include "models.h"
#include "pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { WANTED = 4 };

static const char *const *also; /* networks that are asked too */

static int ask(const char *film, const char *folder, bool overwrite, uf_suggestion *s, int *n, int *code) {
    uf_ctx *ctx;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_suggest_options o = {.weights = UNFADE_SOURCE_DIR "/models/weights/color.safetensors", .folder = folder, .n = WANTED, .most = 16, .also = also,
                            .overwrite = overwrite};
    *code = uf_suggest(ctx, film, &o, s, n);
    if (*code < 0) print_message("%s\n", uf_ctx_error(ctx));
    uf_ctx_close(&ctx);
    return *code;
}

static void test_spread(void **state) {
    (void)state;
    char folder[] = "/tmp/unfade-suggest-XXXXXX", path[128];
    uf_suggestion s[WANTED], again[WANTED];
    struct stat st;
    int n = 0, code;
    if (access(UNFADE_SOURCE_DIR "/models/weights/color.safetensors", F_OK)) skip();
    assert_non_null(mkdtemp(folder));
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", folder, false, s, &n, &code), UF_OK);
    assert_int_equal(n, WANTED);
    for (int i = 0; i < n; i++) {
        assert_true(s[i].disagreement > 0 && s[i].frame >= 0);
        for (int k = 0; k < i; k++) assert_true(llabs((long long)(s[i].frame - s[k].frame)) > 12); /* scenes last a second and more */
        snprintf(path, sizeof path, "%s/frame-%08lld.png", folder, (long long)s[i].frame);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_size > 1000);
    }
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", NULL, false, again, &n, &code), UF_OK);
    for (int i = 0; i < n; i++) assert_int_equal(s[i].frame, again[i].frame);
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", folder, false, again, &n, &code), UF_EEXIST);
    for (int i = 0; i < WANTED; i++) {
        snprintf(path, sizeof path, "%s/frame-%08lld.png", folder, (long long)s[i].frame);
        unlink(path);
    }
    rmdir(folder);
}

/* A network agrees with itself, and doubts where it was made another. */
static void test_also(void **state) {
    (void)state;
    static const char weights[] = UNFADE_SOURCE_DIR "/models/weights/color.safetensors";
    const char *same[] = {weights, NULL}, *none[] = {"/nowhere/other.safetensors", NULL};
    char other[] = "/tmp/unfade-also-XXXXXX";
    const char *stronger[] = {other, NULL};
    uf_suggestion alone[WANTED], twice[WANTED], two[WANTED];
    int n = 0, code;
    if (access(weights, F_OK)) skip();
    int fd = mkstemp(other);
    assert_true(fd >= 0 && !close(fd));
    uf_ctx *ctx;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    uf_average_options o = {.n = 1, .files = same, .gain = 1.5, .overwrite = true};
    assert_int_equal(uf_model_average(ctx, other, &o), UF_OK);
    uf_ctx_close(&ctx);
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", NULL, false, alone, &n, &code), UF_OK);
    also = same;
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", NULL, false, twice, &n, &code), UF_OK);
    also = stronger;
    assert_int_equal(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", NULL, false, two, &n, &code), UF_OK);
    also = none;
    assert_true(ask(UNFADE_SOURCE_DIR "/samples/clip/album.mp4", NULL, false, two, &n, &code) < 0);
    also = NULL;
    for (int i = 0; i < n; i++) assert_true(alone[i].frame == twice[i].frame && alone[i].disagreement == twice[i].disagreement);
    assert_true(two[0].disagreement > alone[0].disagreement);
    unlink(other);
}

static void test_no_film(void **state) {
    (void)state;
    uf_suggestion s[WANTED];
    int n = 0, code;
    assert_true(ask("/nowhere/film.mp4", NULL, false, s, &n, &code) < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spread), cmocka_unit_test(test_also), cmocka_unit_test(test_no_film)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

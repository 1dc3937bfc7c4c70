/* Data: which pictures, in which order, decoded and cropped how. */
#include "training.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "folder.h"

/* A decoder holds nothing of the picture before, though both are PNG and of one size. */
static void test_pictures_are_apart(void **state) {
    (void)state;
    enum { SIDE = 64 };
    uf_ctx *ctx;
    uf_sheet *sheet = NULL;
    uf_decoder *d = NULL;
    uint8_t rgb[3 * SIDE * SIDE];
    static char file[65536];
    static float luma[2][SIDE * SIDE], chroma[2][SIDE * SIDE / 2];
    char path[128];
    int w, h;
    for (int i = 0; i < UF_LEN(rgb); i++) rgb[i] = (uint8_t)(i * 7 % 251);
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(path, sizeof path, "%s/sheet.png", folder);
    assert_int_equal(uf_sheet_open(&sheet, ctx, 1, 1, SIDE, SIDE), UF_OK);
    uf_sheet_put(sheet, 0, 0, SIDE, SIDE, rgb);
    assert_int_equal(uf_sheet_write(sheet, path), UF_OK);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    assert_int_equal(uf_decoder_open(&d, ctx), UF_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(uf_decoder_decode(d, file, n, &w, &h), UF_OK);
        assert_int_equal(uf_decoder_planes(d, 0, 0, w, h, SIDE, SIDE, luma[i], chroma[i]), UF_OK);
    }
    assert_memory_equal(luma[0], luma[1], sizeof luma[0]);
    assert_memory_equal(chroma[0], chroma[1], sizeof chroma[0]);
    uf_decoder_close(&d);
    uf_sheet_close(&sheet);
    uf_ctx_close(&ctx);
}

static void test_no_pictures(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_data *d = NULL;
    char dir[96];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(dir, sizeof dir, "%s/none", folder);
    uf_source s = {.path = dir};
    assert_int_equal(uf_data_open(&d, ctx, &s, 1), UF_EIO);
    assert_non_null(strstr(uf_ctx_error(ctx), "none"));
    uf_ctx_close(&ctx);
}

static void test_excluded_pictures(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_data *d = NULL;
    char dir[512], name[128], *names[] = {name};
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(dir, sizeof dir, "%s/samples/pictures", UNFADE_SOURCE_DIR);
    uf_source all = {.path = dir}, fewer = {.path = dir, .exclude = names, .exclude_count = 1};
    assert_int_equal(uf_data_open(&d, ctx, &all, 1), UF_OK);
    int64_t n = uf_data_n(d);
    snprintf(name, sizeof name, "%s", uf_data_name(d, 1));
    uf_data_close(&d);
    assert_int_equal(uf_data_open(&d, ctx, &fewer, 1), UF_OK);
    assert_int_equal(uf_data_n(d), n - 1);
    for (int64_t i = 0; i < n - 1; i++) assert_string_not_equal(uf_data_name(d, i), name);
    uf_data_close(&d);
    snprintf(name, sizeof name, "misspelt.jpg");
    assert_int_equal(uf_data_open(&d, ctx, &fewer, 1), UF_EDATA);
    assert_non_null(strstr(uf_ctx_error(ctx), "misspelt.jpg"));
    uf_ctx_close(&ctx);
}

/* Every picture once an epoch, in another order the next. */
static void test_order(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_data *d = NULL;
    char dir[512];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(dir, sizeof dir, "%s/samples/pictures", UNFADE_SOURCE_DIR);
    uf_source s = {.path = dir};
    assert_int_equal(uf_data_open(&d, ctx, &s, 1), UF_OK);
    int64_t n = uf_data_n(d);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        unsigned seen = 0;
        for (int64_t i = 0; i < n; i++) seen |= 1u << uf_data_pick(d, 1, (uint64_t)(epoch * n + i));
        assert_int_equal(seen, (1u << n) - 1);
    }
    uf_data_close(&d);
    uf_ctx_close(&ctx);
}

/* Mean difference of two planes where the second lies further right and down by (dx,dy). */
static double apart(const float *a, const float *b, int w, int h, int dx, int dy) {
    double sum = 0;
    for (int y = 0; y < h - dy; y++)
        for (int x = 0; x < w - dx; x++)
            sum += fabs((double)a[(y + dy) * w + x + dx] - (double)b[y * w + x]);
    return sum / ((w - dx) * (h - dy));
}

/* The second half of a batch of pairs shows what the first shows, moved by just what the loss believes, flipped or not; the grain
 * is its own. */
static void test_pairs(void **state) {
    (void)state;
    enum { N = 12, SIDE = 64, HALF = SIDE / 2 };
    uf_ctx *ctx;
    uf_data *d = NULL;
    uf_loader *l = NULL;
    const uf_batch *b;
    char dir[512];
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    snprintf(dir, sizeof dir, "%s/samples/pictures", UNFADE_SOURCE_DIR);
    uf_source s = {.path = dir};
    assert_int_equal(uf_data_open(&d, ctx, &s, 1), UF_OK);
    uf_loader_options o = {.seed = 3, .size = SIDE, .batch = N, .workers = 2, .n = 1, .noise = .1f, .smallest = .2f, .pairs = true};
    assert_int_equal(uf_loader_open(&l, ctx, d, &o), UF_OK);
    assert_int_equal(uf_loader_next(l, &b), UF_OK);
    double moved = 0, still = 0, other = 0, grain = 0;
    for (int i = 0, j = N / 2; j < N; i++, j++) {
        const float *p = b->chroma + i * SIDE * HALF, *q = b->chroma + j * SIDE * HALF;
        const float *c = b->clean + i * SIDE * SIDE, *e = b->clean + j * SIDE * SIDE;
        moved += apart(p, q, HALF, HALF, UF_MOTION_X, UF_MOTION_Y) + apart(c, e, SIDE, SIDE, 2 * UF_MOTION_X, 2 * UF_MOTION_Y);
        still += apart(p, q, HALF, HALF, 0, 0) + apart(c, e, SIDE, SIDE, 0, 0);
        grain += apart(b->luma + i * SIDE * SIDE, b->luma + j * SIDE * SIDE, SIDE, SIDE, 2 * UF_MOTION_X, 2 * UF_MOTION_Y);
        other += apart(c, b->clean + (i ? 0 : 1) * SIDE * SIDE, SIDE, SIDE, 0, 0);
    }
    if (moved > .1 * still) fail_msg("moved %.4f, still %.4f apart", moved, still);
    assert_true(grain > 2 * moved && other > still);
    uf_loader_close(&l);
    uf_data_close(&d);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_pictures),
        cmocka_unit_test(test_excluded_pictures),
        cmocka_unit_test(test_pictures_are_apart),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_pairs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

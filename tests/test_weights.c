/* Weights files: what is written is read back, and nothing hostile gets further than a sentence. */
#include "engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/unfade-weights-XXXXXX", file[64];

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(path)) return -1;
    snprintf(file, sizeof file, "%s/w.safetensors", path);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(file);
    return rmdir(path);
}

static void make(uf_ctx **ctx, uf_params **set) {
    assert_int_equal(uf_ctx_open(ctx), UF_OK);
    assert_int_equal(uf_params_open(set, *ctx, 4), UF_OK);
    assert_non_null(uf_params_add(*set, "a.w", (uf_shape){8, 3, 3, 3}, UF_INIT_HE));
    assert_non_null(uf_params_add(*set, "a.b", (uf_shape){1, 8, 1, 1}, UF_INIT_ONE));
    assert_non_null(uf_params_add(*set, "b.w", (uf_shape){2, 8, 1, 1}, UF_INIT_XAVIER));
}

static void write_file(uf_ctx *ctx, const uf_params *set, const char *dtype) {
    uf_meta meta[] = {{"model", "test"}, {"licence", "CC0 \"quoted\" ü"}};
    uf_weights_save o = {.meta = meta, .n_meta = 2, .dtype = dtype, .overwrite = true};
    assert_int_equal(uf_weights_write(ctx, file, set, &o), UF_OK);
}

static void round_trip(const char *dtype, double tolerance) {
    uf_ctx *ctx;
    uf_params *a, *b;
    uf_weights *w = NULL;
    make(&ctx, &a);
    write_file(ctx, a, dtype);
    assert_int_equal(uf_params_open(&b, ctx, 99), UF_OK);
    for (int i = 0; i < uf_params_n(a); i++)
        uf_params_add(b, uf_params_at(a, i)->name, uf_params_at(a, i)->shape, UF_INIT_ZERO);
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_string_equal(uf_weights_meta(w, "licence"), "CC0 \"quoted\" ü");
    assert_int_equal(uf_weights_load(w, b, true, NULL), UF_OK);
    for (int i = 0; i < uf_params_n(a); i++)
        for (size_t k = 0; k < uf_count(uf_params_at(a, i)->shape); k++) {
            double x = (double)uf_params_at(a, i)->value[k], y = (double)uf_params_at(b, i)->value[k];
            if (fabs(x - y) > tolerance * (fabs(x) + 1e-4)) fail_msg("%s: %g came back as %g", dtype, x, y);
        }
    uf_weights_close(&w);
    uf_params_close(&a);
    uf_params_close(&b);
    uf_ctx_close(&ctx);
}

static void test_round_trip(void **state) {
    (void)state;
    round_trip("F32", 0);
    round_trip("F16", 5e-4);
}

static void test_wrong_model(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *a, *b;
    uf_weights *w = NULL;
    make(&ctx, &a);
    write_file(ctx, a, "F32");
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_int_equal(uf_params_open(&b, ctx, 1), UF_OK);
    uf_params_add(b, "a.w", (uf_shape){8, 4, 3, 3}, UF_INIT_ONE);
    assert_int_equal(uf_weights_load(w, b, true, NULL), UF_EDATA);
    assert_non_null(strstr(uf_ctx_error(ctx), "8x3x3x3"));
    assert_true(uf_params_at(b, 0)->value[0] == 1.f); /* untouched */
    uf_weights_close(&w);
    uf_params_close(&a);
    uf_params_close(&b);
    uf_ctx_close(&ctx);
}

static unsigned char *slurp(size_t *n) {
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    unsigned char *d = malloc(1 << 16);
    *n = fread(d, 1, 1 << 16, f);
    fclose(f);
    return d;
}

static int try_bytes(uf_ctx *ctx, uf_params *set, const void *d, size_t n) {
    uf_weights *w = NULL;
    FILE *f = fopen(file, "wb");
    assert_int_equal(fwrite(d, 1, n, f), n);
    fclose(f);
    uf_ctx_clear(ctx);
    int err = uf_weights_open(&w, ctx, file);
    if (err == UF_OK) err = uf_weights_load(w, set, true, NULL);
    if (err < 0) assert_true(strlen(uf_ctx_error(ctx)) > 10);
    uf_weights_close(&w);
    return err;
}

/* Thousands of seeded damages: each is refused with a sentence, or changed nothing that the checksum covers. */
static void test_damage(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *set;
    size_t n;
    int refused = 0, rounds = 3000;
    make(&ctx, &set);
    write_file(ctx, set, "F32");
    unsigned char *good = slurp(&n), *bad = malloc(n + 16);
    for (int i = 0; i < rounds; i++) {
        uint32_t r[4];
        uf_philox(11, 0, (uint64_t)i, r);
        size_t m = n, at = r[0] % (i % 2 ? n : 400); /* every second one in the header */
        memcpy(bad, good, n);
        switch (r[1] % 5) {
        case 0: bad[at] ^= (unsigned char)(1u << r[2] % 8); break;
        case 1: bad[at] = (unsigned char)"0123456789-[]{},\":e"[r[2] % 19]; break;
        case 2: m = at; break;                                       /* cut short */
        case 3: memmove(bad + at, bad + at + 1, n - at - 1), m--; break; /* a byte lost */
        default: memset(bad + at, (int)(r[2] & 255), r[3] % 8 < n - at ? r[3] % 8 : 1); break;
        }
        refused += try_bytes(ctx, set, bad, m) < 0;
    }
    assert_true(refused > rounds * 8 / 10);
    assert_int_equal(try_bytes(ctx, set, good, n), UF_OK);
    free(good);
    free(bad);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

static int try_header(uf_ctx *ctx, uf_params *set, const char *header, size_t n_data) {
    unsigned char d[4096] = {0};
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) d[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(d + 8, header, n);
    return try_bytes(ctx, set, d, 8 + n + n_data);
}

static void test_hostile_headers(void **state) {
    (void)state;
    static const char *const headers[] = {
        "[]", "{", "{}x", "{\"a\":1}", "{\"__metadata__\":{\"x\":1}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",                       /* size disagrees */
        "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}",                       /* type */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}",  /* overflow */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",                      /* hole, out of range */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[0,8]}}",                                                               /* overlap */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}",               /* rank */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[0,8]}}",                                                               /* twice */
    };
    uf_ctx *ctx;
    uf_params *set;
    make(&ctx, &set);
    for (int i = 0; i < UF_LEN(headers); i++)
        if (try_header(ctx, set, headers[i], 8) != UF_EDATA) fail_msg("accepted: %s", headers[i]);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrong_model),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_headers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

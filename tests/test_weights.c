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
    if (err == UF_OK && set) err = uf_weights_load(w, set, true, NULL);
    if (err < 0) assert_true(strlen(uf_ctx_error(ctx)) > 10);
    uf_weights_close(&w);
    return err;
}

/* Every one of the 65536 halves is read and written back as itself; what lies between is rounded to the nearest, ties to
 * the even one; what is beyond is refused. */
static void test_halves(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *set;
    uf_weights *w = NULL;
    static const struct {
        double in, out;
    } rounded[] = {{1 + 0x1p-11, 1},    {1 + 0x3p-11, 1 + 0x1p-9}, {1 + 0x1.01p-11, 1 + 0x1p-10}, {65519, 65504},
                   {0x1p-25, 0},        {0x1.02p-25, 0x1p-24},     {0x3p-25, 0x1p-23},            {-0x1p-26, 0},
                   {0x1p-14 - 0x1p-26, 0x1p-14}, {-2049, -2048},   {2051, 2052}};
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    assert_int_equal(uf_params_open(&set, ctx, 1), UF_OK);
    uf_param *p = uf_params_add(set, "h", (uf_shape){1, 65536, 1, 1}, UF_INIT_ZERO);
    unsigned char *file_bytes = malloc(8 + 96 + 2 * 65536), *again = malloc(1 << 18);
    memset(file_bytes, ' ', 8 + 96);
    for (int i = 0; i < 8; i++) file_bytes[i] = i ? 0 : 96;
    const char *h = "{\"h\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]}}";
    memcpy(file_bytes + 8, h, strlen(h));
    for (unsigned i = 0; i < 65536; i++) {
        uint16_t v = (uint16_t)i;
        memcpy(file_bytes + 104 + 2 * i, &v, 2);
    }
    assert_int_equal(try_bytes(ctx, set, file_bytes, 104 + 2 * 65536), UF_OK);
    assert_true(p->value[0x3c00] == 1.f && p->value[0xc000] == -2.f && p->value[0x7bff] == 65504.f);
    assert_true(p->value[1] == 0x1p-24f && p->value[0x3ff] == 0x3ffp-24f && p->value[0x400] == 0x1p-14f);
    assert_true(isinf(p->value[0x7c00]) && isnan(p->value[0x7c01]) && signbit(p->value[0x8000]));
    write_file(ctx, set, "F16");
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    size_t n = fread(again, 1, 1 << 18, f);
    fclose(f);
    for (unsigned i = 0; i < 65536; i++) {
        uint16_t v;
        memcpy(&v, again + n - 131072 + 2 * i, 2);
        if ((i & 0x7fffu) <= 0x7c00u ? v != i : (v & 0x7fffu) <= 0x7c00u) fail_msg("half %04x came back as %04x", i, v);
    }
    for (int i = 0; i < UF_LEN(rounded); i++) p->value[i] = (float)rounded[i].in;
    write_file(ctx, set, "F16");
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_int_equal(uf_weights_load(w, set, true, NULL), UF_OK);
    for (int i = 0; i < UF_LEN(rounded); i++)
        if ((double)p->value[i] < rounded[i].out || (double)p->value[i] > rounded[i].out)
            fail_msg("%.9g became %.9g, wanted %.9g", rounded[i].in, (double)p->value[i], rounded[i].out);
    uf_weights_close(&w);
    p->value[7] = 65520;
    uf_weights_save o = {.dtype = "F16", .overwrite = true};
    assert_int_equal(uf_weights_write(ctx, file, set, &o), UF_EINVAL);
    assert_non_null(strstr(uf_ctx_error(ctx), "'h' holds 65520"));
    free(file_bytes);
    free(again);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

/* A checkpoint gives back values, moments and averages bit for bit, or, when not strict, values alone. */
static void test_state(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *a, *b;
    uf_weights *w = NULL;
    int n = 0;
    make(&ctx, &a);
    for (int i = 0; i < 2; i++) { /* the third parameter is frozen, say: no state */
        uf_param *p = uf_params_at(a, i);
        float **part[] = {&p->m, &p->v, &p->average};
        for (unsigned k = 0; k < 3; k++) {
            *part[k] = uf_alloc(ctx, uf_count(p->shape), sizeof(float));
            for (size_t j = 0; j < uf_count(p->shape); j++) (*part[k])[j] = uf_gaussian(k + 1, (uint64_t)i, j) * 1e-9f;
        }
    }
    uf_weights_save o = {.dtype = "F16", .state = true, .overwrite = true};
    assert_int_equal(uf_weights_write(ctx, file, a, &o), UF_OK);
    assert_int_equal(uf_params_open(&b, ctx, 99), UF_OK);
    for (int i = 0; i < uf_params_n(a); i++)
        uf_params_add(b, uf_params_at(a, i)->name, uf_params_at(a, i)->shape, UF_INIT_ZERO);
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_int_equal(uf_weights_n(w), 3 + 2 * 3);
    assert_int_equal(uf_weights_load(w, b, false, &n), UF_OK);
    assert_int_equal(n, 3);
    assert_null(uf_params_at(b, 0)->m);
    assert_int_equal(uf_weights_load(w, b, true, NULL), UF_OK);
    for (int i = 0; i < 3; i++) {
        const uf_param *p = uf_params_at(a, i), *q = uf_params_at(b, i);
        size_t bytes = uf_count(p->shape) * sizeof(float);
        assert_memory_equal(p->value, q->value, bytes);
        assert_true(!p->m == !q->m && !p->v == !q->v && !p->average == !q->average);
        if (!p->m) continue;
        assert_memory_equal(p->m, q->m, bytes);
        assert_memory_equal(p->v, q->v, bytes);
        assert_memory_equal(p->average, q->average, bytes);
    }
    uf_weights_close(&w);
    o = (uf_weights_save){.average = true, .overwrite = true};
    assert_int_equal(uf_weights_write(ctx, file, a, &o), UF_OK);
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_int_equal(uf_weights_load(w, b, true, NULL), UF_OK);
    assert_memory_equal(uf_params_at(b, 0)->value, uf_params_at(a, 0)->average, uf_count(uf_params_at(a, 0)->shape) * 4);
    uf_weights_close(&w);
    uf_params_close(&a);
    uf_params_close(&b);
    uf_ctx_close(&ctx);
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

/* Only opens: a load would refuse most of them for its own reasons. */
static int try_header(uf_ctx *ctx, const char *header, size_t n_data) {
    unsigned char d[4096] = {0};
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) d[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(d + 8, header, n);
    return try_bytes(ctx, NULL, d, 8 + n + n_data);
}

static void test_hostile_headers(void **state) {
    (void)state;
    static const char *const headers[] = {
        "[]", "{", "{}x", "{\"a\":1}", "{\"__metadata__\":{\"x\":1}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",                       /* size disagrees */
        "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}",                       /* type */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}",  /* overflow */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",                      /* out of range */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",                       /* hole before */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",                       /* bytes left over */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8.0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}",
        "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"__metadata__\":{\"sha256\":\"00\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[0,8]}}",                                                               /* overlap */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}",               /* rank */
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[0,8]}}",                                                               /* twice */
    };
    uf_ctx *ctx;
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    for (int i = 0; i < UF_LEN(headers); i++)
        if (try_header(ctx, headers[i], 8) != UF_EDATA) fail_msg("accepted: %s", headers[i]);
    assert_int_equal(try_header(ctx, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8), UF_OK);
    assert_int_equal(try_header(ctx, "{}", 0), UF_OK);
    uf_ctx_close(&ctx);
}

/* What other programs write: every rank, bfloat16, bytes in another order than the names. */
static void test_foreign(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *set;
    static const char h[] = "{\"v\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[4,10]},"
                            "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                            "\"m\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[10,14]}}   ";
    unsigned char d[512] = {0};
    uint16_t v[] = {0x3f80, 0xc020, 0x7f7f, 0x4000, 0xbf00}; /* 1, -2.5, the largest; 2, -.5 */
    float s = 7.25f;
    size_t n = sizeof h - 1;
    d[0] = (unsigned char)n;
    memcpy(d + 8, h, n);
    memcpy(d + 8 + n, &s, 4);
    memcpy(d + 12 + n, v, sizeof v);
    assert_int_equal(uf_ctx_open(&ctx), UF_OK);
    assert_int_equal(uf_params_open(&set, ctx, 1), UF_OK);
    const uf_param *pv = uf_params_add(set, "v", (uf_shape){1, 3, 1, 1}, UF_INIT_ZERO);
    const uf_param *ps = uf_params_add(set, "s", (uf_shape){1, 1, 1, 1}, UF_INIT_ZERO);
    const uf_param *pm = uf_params_add(set, "m", (uf_shape){1, 1, 2, 1}, UF_INIT_ZERO);
    if (try_bytes(ctx, set, d, 22 + n) < 0) fail_msg("%s", uf_ctx_error(ctx));
    assert_true(ps->value[0] == 7.25f && pv->value[0] == 1.f && pv->value[1] == -2.5f && pv->value[2] > 3.38e38f);
    assert_true(pm->value[0] == 2.f && pm->value[1] == -.5f);
    assert_int_equal(try_bytes(ctx, set, d, 21 + n), UF_EDATA); /* one byte short, one too many */
    assert_int_equal(try_bytes(ctx, set, d, 23 + n), UF_EDATA);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

static void test_paths(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *set;
    uf_weights *w = NULL;
    make(&ctx, &set);
    assert_int_equal(uf_weights_open(&w, ctx, "/nowhere/x.safetensors"), UF_EIO);
    assert_non_null(strstr(uf_ctx_error(ctx), "'/nowhere/x.safetensors'"));
    assert_int_equal(uf_weights_open(&w, ctx, path), UF_EDATA); /* a folder */
    assert_int_equal(try_bytes(ctx, set, "", 0), UF_EDATA);
    assert_null(w);
    uf_weights_save o = {.overwrite = false};
    assert_int_equal(uf_weights_write(ctx, file, set, &o), UF_EEXIST);
    o = (uf_weights_save){.dtype = "F64", .overwrite = true};
    assert_int_equal(uf_weights_write(ctx, file, set, &o), UF_EINVAL);
    uf_params_close(&set);
    uf_ctx_close(&ctx);
}

/* Another program that replaces a file in place first cuts it to nothing. */
static void test_cut_while_open(void **state) {
    (void)state;
    uf_ctx *ctx;
    uf_params *a, *b;
    uf_weights *w = NULL;
    make(&ctx, &a);
    assert_int_equal(uf_params_open(&b, ctx, 99), UF_OK);
    for (int i = 0; i < uf_params_n(a); i++)
        uf_params_add(b, uf_params_at(a, i)->name, uf_params_at(a, i)->shape, UF_INIT_ZERO);
    write_file(ctx, a, "F32");
    assert_int_equal(uf_weights_open(&w, ctx, file), UF_OK);
    assert_int_equal(truncate(file, 0), 0);
    assert_int_equal(uf_weights_load(w, b, true, NULL), UF_OK);
    assert_memory_equal(uf_params_at(a, 0)->value, uf_params_at(b, 0)->value,
                        uf_count(uf_params_at(a, 0)->shape) * sizeof(float));
    uf_weights_close(&w);
    uf_params_close(&a);
    uf_params_close(&b);
    uf_ctx_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrong_model),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_cut_while_open),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

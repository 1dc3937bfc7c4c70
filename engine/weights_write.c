/* Writing safetensors: beside the target, then renamed. */
#include "engine.h"

#include <jansson.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

typedef struct item { /* one tensor to write */
    const uf_param *param;
    const char *suffix;
    const float *value;
    bool half;
} item;

typedef struct writer {
    uf_ctx *ctx;
    const uf_weights_save *o;
    item *at;
    int n;
    EVP_MD_CTX *hash;
    FILE *file;
} writer;

static uint16_t half_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a >= 0x7f800000u) return (uint16_t)(sign | 0x7c00u | (a > 0x7f800000u ? 0x200u : 0)); /* inf, NaN */
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);                                  /* beyond 65520 */
    if (a < 0x38800000u) { /* subnormal: round to multiples of 2^-24 */
        float x;
        memcpy(&x, &a, sizeof x);
        x = x * 0x1p24f + 0x1p23f; /* the addition rounds to nearest even */
        memcpy(&a, &x, sizeof a);
        return (uint16_t)(sign | (a & 0x7ffu));
    }
    return (uint16_t)(sign | ((a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13));
}

static void list(writer *w, const uf_params *set) {
    bool half = w->o->dtype && !strcmp(w->o->dtype, "F16");
    for (int i = 0; i < uf_params_n(set); i++) {
        const uf_param *p = uf_params_at(set, i);
        const float *value = w->o->average && p->average ? p->average : p->value;
        w->at[w->n++] = (item){p, "", value, half && !w->o->state};
        if (!w->o->state) continue;
        if (p->m) w->at[w->n++] = (item){p, ".m", p->m, false};
        if (p->v) w->at[w->n++] = (item){p, ".v", p->v, false};
        if (p->average) w->at[w->n++] = (item){p, ".average", p->average, false};
    }
}

/* The bytes of all tensors come by twice: once to be hashed, for the header, once to the file. */
static int emit(writer *w, const item *it, bool hash) {
    enum { CHUNK = 4096 };
    uint16_t half[CHUNK];
    size_t n = uf_count(it->param->shape);
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t m = n - at < CHUNK ? n - at : CHUNK;
        for (size_t i = 0; it->half && i < m; i++) {
            half[i] = half_from_float(it->value[at + i]);
            if ((half[i] & 0x7fffu) == 0x7c00u && isfinite(it->value[at + i]))
                return uf_fail(w->ctx, UF_EINVAL, "tensor '%s' holds %g, beyond F16; save it as F32", it->param->name,
                               (double)it->value[at + i]);
        }
        const void *p = it->half ? (const void *)half : it->value + at;
        size_t bytes = m * (it->half ? 2 : 4);
        if (hash ? !EVP_DigestUpdate(w->hash, p, bytes) : fwrite(p, 1, bytes, w->file) != bytes)
            return uf_fail(w->ctx, UF_EIO, "cannot write the weights: %s", hash ? "hashing failed" : "disk full?");
    }
    return UF_OK;
}

static json_t *header(writer *w, const char *sum) {
    json_t *root = json_object(), *meta = json_object();
    size_t at = 0;
    bool ok = root && meta && !json_object_set_new(root, "__metadata__", meta);
    for (int i = 0; ok && i < w->o->n_meta; i++)
        if (w->o->meta[i].value) ok = !json_object_set_new(meta, w->o->meta[i].key, json_string(w->o->meta[i].value));
    ok = ok && !json_object_set_new(meta, "sha256", json_string(sum));
    for (int i = 0; ok && i < w->n; i++) {
        uf_shape s = w->at[i].param->shape;
        char name[160];
        size_t end = at + uf_count(s) * (w->at[i].half ? 2 : 4);
        snprintf(name, sizeof name, "%s%s", w->at[i].param->name, w->at[i].suffix);
        json_t *v = json_pack("{s:s,s:[i,i,i,i],s:[I,I]}", "dtype", w->at[i].half ? "F16" : "F32", "shape", s.n, s.c,
                              s.h, s.w, "data_offsets", (json_int_t)at, (json_int_t)end);
        ok = v && !json_object_set_new(root, name, v);
        at = end;
    }
    if (ok) return root;
    json_decref(root);
    uf_fail(w->ctx, UF_ENOMEM, "out of memory while writing the weights' header, or metadata that is not UTF-8");
    return NULL;
}

static int write_header(writer *w, const char *sum) {
    json_t *root = header(w, sum);
    if (!root) return UF_ENOMEM;
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text) return uf_fail(w->ctx, UF_ENOMEM, "out of memory while writing the weights' header");
    size_t n = strlen(text), padded = (n + 7) / 8 * 8; /* tensors start aligned */
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    bool ok = fwrite(length, 1, 8, w->file) == 8 && fwrite(text, 1, n, w->file) == n;
    for (size_t i = n; ok && i < padded; i++) ok = fputc(' ', w->file) != EOF;
    free(text);
    return ok ? UF_OK : uf_fail(w->ctx, UF_EIO, "cannot write the weights: disk full?");
}

static int write_all(writer *w) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    w->hash = EVP_MD_CTX_new();
    if (!w->hash || !EVP_DigestInit_ex(w->hash, EVP_sha256(), NULL))
        return uf_fail(w->ctx, UF_EUNSUPPORTED, "this system's OpenSSL has no SHA-256");
    for (int i = 0; i < w->n; i++) UF_TRY(emit(w, &w->at[i], true));
    EVP_DigestFinal_ex(w->hash, sum, &n);
    for (unsigned i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    UF_TRY(write_header(w, hex));
    for (int i = 0; i < w->n; i++) UF_TRY(emit(w, &w->at[i], false));
    return UF_OK;
}

int uf_weights_write(uf_ctx *ctx, const char *path, const uf_params *set, const uf_weights_save *o) {
    writer w = {.ctx = ctx, .o = o};
    uf_whole *whole = NULL;
    if (o->dtype && strcmp(o->dtype, "F32") && strcmp(o->dtype, "F16"))
        return uf_fail(ctx, UF_EINVAL, "weights cannot be written as '%s'; use F32 or F16", o->dtype);
    int err = uf_whole_open(&whole, ctx, path, o->overwrite);
    if (err == UF_OK && !(w.at = uf_alloc(ctx, 4 * (size_t)uf_params_n(set) + 1, sizeof *w.at))) err = UF_ENOMEM;
    if (err == UF_OK) {
        list(&w, set);
        w.file = uf_whole_file(whole);
        err = w.file ? write_all(&w) : UF_EIO;
    }
    if (err == UF_OK) err = uf_whole_commit(whole);
    uf_whole_close(&whole);
    EVP_MD_CTX_free(w.hash);
    free(w.at);
    return err;
}

/* Reading safetensors: 8 bytes little-endian header length, a JSON object of tensors, then their bytes. Nothing in the
 * file is trusted: every claim is checked against the file's size before a tensor is looked at. */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 << 20 };

typedef struct tensor {
    const char *name; /* owned by the JSON */
    const char *dtype;
    int rank;
    uf_shape shape; /* right-aligned */
    size_t count, from, to;
} tensor;

struct uf_weights {
    uf_ctx *ctx;
    char *path;
    unsigned char *bytes; /* the whole file: mapped, it would raise SIGBUS when another program cuts it short */
    size_t size, data;    /* data: where the tensors begin */
    json_t *header;
    tensor *at;
    int n;
};

static int bad(uf_weights *w, const char *why) {
    return uf_fail(w->ctx, UF_EDATA, "cannot read weights '%s': %s; get the file again", w->path, why);
}

/* The header's length is judged first: a long film given by mistake is refused, not read. */
static int read_bytes(uf_weights *w, int fd) {
    unsigned char start[8];
    uint64_t header = 0;
    size_t n = 0;
    if (pread(fd, start, sizeof start, 0) != sizeof start) return bad(w, "it cannot be read");
    for (int i = 7; i >= 0; i--) header = header << 8 | start[i];
    if (header < 2 || header > MAX_HEADER || header > w->size - 8)
        return bad(w, "its header length is impossible (not safetensors?)");
    w->data = 8 + (size_t)header;
    w->bytes = uf_alloc(w->ctx, 1, w->size);
    if (!w->bytes) return UF_ENOMEM;
    while (n < w->size) {
        ssize_t got = read(fd, w->bytes + n, w->size - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return uf_fail(w->ctx, UF_EIO, "cannot read weights '%s': %s; copy the file again", w->path, strerror(errno));
        if (got == 0) return bad(w, "it became shorter while it was read");
        n += (size_t)got;
    }
    return UF_OK;
}

static int read_file(uf_weights *w) {
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return uf_fail(w->ctx, UF_EIO, "cannot open weights '%s': %s; check the name and the permissions", w->path,
                       strerror(errno));
    struct stat st;
    int err = UF_OK;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) err = bad(w, "it is not a regular file");
    else if (st.st_size < 10) err = bad(w, "it is too short to be safetensors");
    if (err == UF_OK) {
        w->size = (size_t)st.st_size;
        err = read_bytes(w, fd);
    }
    close(fd);
    return err;
}

static size_t size_of(const char *dtype) {
    return !strcmp(dtype, "F32") ? 4 : !strcmp(dtype, "F16") || !strcmp(dtype, "BF16") ? 2 : 0;
}

static int fail_tensor(uf_weights *w, const char *name, const char *why) {
    return uf_fail(w->ctx, UF_EDATA, "cannot read weights '%s': tensor '%s' %s; get the file again", w->path, name, why);
}

static int read_shape(uf_weights *w, tensor *t, const json_t *shape) {
    int64_t d[4] = {1, 1, 1, 1};
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > 4) return fail_tensor(w, t->name, "has no shape of at most 4 axes");
    t->rank = (int)rank;
    t->count = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *v = json_array_get(shape, i);
        int64_t n = json_is_integer(v) ? json_integer_value(v) : -1;
        if (n < 1 || n > INT32_MAX || __builtin_mul_overflow(t->count, (size_t)n, &t->count) || t->count > w->size)
            return fail_tensor(w, t->name, "has an impossible shape");
        d[4 - rank + i] = n;
    }
    t->shape = (uf_shape){(int)d[0], (int)d[1], (int)d[2], (int)d[3]};
    return UF_OK;
}

static int read_tensor(uf_weights *w, tensor *t, const json_t *v) {
    const json_t *offsets = json_object_get(v, "data_offsets");
    t->dtype = json_string_value(json_object_get(v, "dtype"));
    if (!t->dtype || !size_of(t->dtype)) return fail_tensor(w, t->name, "is not F32, F16 or BF16");
    UF_TRY(read_shape(w, t, json_object_get(v, "shape")));
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return fail_tensor(w, t->name, "has no data_offsets");
    int64_t a = json_integer_value(from), b = json_integer_value(to);
    if (a < 0 || b < a || (uint64_t)b > w->size - w->data) return fail_tensor(w, t->name, "lies outside the file");
    t->from = (size_t)a;
    t->to = (size_t)b;
    if (t->to - t->from != t->count * size_of(t->dtype))
        return fail_tensor(w, t->name, "has another size than its shape says");
    return UF_OK;
}

static int by_offset(const void *a, const void *b) {
    const tensor *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* The tensors must cover the data area without overlap or hole. */
static int check_cover(uf_weights *w) {
    qsort(w->at, (size_t)w->n, sizeof *w->at, by_offset);
    size_t end = 0;
    for (int i = 0; i < w->n; i++) {
        if (w->at[i].from != end)
            return fail_tensor(w, w->at[i].name, w->at[i].from < end ? "overlaps another" : "leaves a hole before it");
        end = w->at[i].to;
    }
    return end == w->size - w->data ? UF_OK : bad(w, "its size is not what its header says (cut short?)");
}

static int read_header(uf_weights *w) {
    json_error_t je;
    w->header = json_loadb((const char *)w->bytes + 8, w->data - 8, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(w->header)) return bad(w, w->header ? "its header is not an object" : je.text);
    w->at = uf_alloc(w->ctx, json_object_size(w->header) + 1, sizeof *w->at);
    if (!w->at) return UF_ENOMEM;
    const char *key;
    json_t *v;
    json_object_foreach(w->header, key, v) {
        if (!strcmp(key, "__metadata__")) {
            const char *k;
            json_t *s;
            if (!json_is_object(v)) return bad(w, "its metadata is not an object");
            json_object_foreach(v, k, s) if (!json_is_string(s)) return bad(w, "its metadata holds more than strings");
            continue;
        }
        if (!json_is_object(v)) return bad(w, "its header holds something that is not a tensor");
        tensor *t = &w->at[w->n++];
        t->name = key;
        UF_TRY(read_tensor(w, t, v));
    }
    return check_cover(w);
}

static int check_sum(uf_weights *w) {
    const char *want = uf_weights_meta(w, "sha256");
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    if (!want) return UF_OK;
    if (!EVP_Digest(w->bytes + w->data, w->size - w->data, sum, &n, EVP_sha256(), NULL))
        return uf_fail(w->ctx, UF_EUNSUPPORTED, "this system's OpenSSL has no SHA-256");
    for (unsigned i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    return strcmp(hex, want) ? bad(w, "its sha256 does not match its content (damaged)") : UF_OK;
}

int uf_weights_open(uf_weights **out, uf_ctx *ctx, const char *path) {
    uf_weights *w = uf_alloc(ctx, 1, sizeof *w);
    if (!w) return UF_ENOMEM;
    w->ctx = ctx;
    w->path = uf_strdup(ctx, path);
    int err = w->path ? read_file(w) : UF_ENOMEM;
    if (err == UF_OK) err = read_header(w);
    if (err == UF_OK) err = check_sum(w);
    if (err < 0) {
        uf_weights_close(&w);
        return err;
    }
    *out = w;
    return UF_OK;
}

void uf_weights_close(uf_weights **pw) {
    uf_weights *w = *pw;
    if (!w) return;
    free(w->bytes);
    json_decref(w->header);
    free(w->at);
    free(w->path);
    free(w);
    *pw = NULL;
}

int uf_weights_n(const uf_weights *w) { return w->n; }

const char *uf_weights_tensor(const uf_weights *w, int i, uf_shape *shape, const char **dtype) {
    if (shape) *shape = w->at[i].shape;
    if (dtype) *dtype = w->at[i].dtype;
    return w->at[i].name;
}

const char *uf_weights_meta(const uf_weights *w, const char *key) {
    return json_string_value(json_object_get(json_object_get(w->header, "__metadata__"), key));
}

int uf_weights_n_meta(const uf_weights *w) { return (int)json_object_size(json_object_get(w->header, "__metadata__")); }

const char *uf_weights_meta_at(const uf_weights *w, int i, const char **value) {
    json_t *m = json_object_get(w->header, "__metadata__");
    void *it = json_object_iter(m);
    while (i-- > 0 && it) it = json_object_iter_next(m, it);
    if (!it) return NULL;
    *value = json_string_value(json_object_iter_value(it));
    return json_object_iter_key(it);
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u, u;
    float f;
    if (e == 0) { /* zero and subnormals: m * 2^-24 */
        f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    u = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void copy_values(const uf_weights *w, const tensor *t, float *to) {
    const unsigned char *p = w->bytes + w->data + t->from; /* not aligned in general */
    if (!strcmp(t->dtype, "F32")) {
        memcpy(to, p, t->count * sizeof *to);
        return;
    }
    bool half = t->dtype[0] == 'F';
    for (size_t i = 0; i < t->count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        uint32_t u = (uint32_t)h << 16;
        if (half) to[i] = half_to_float(h);
        else memcpy(&to[i], &u, sizeof u);
    }
}

static const tensor *find(const uf_weights *w, const char *name, const char *suffix) {
    for (int i = 0; i < w->n; i++) {
        size_t n = strlen(name);
        if (!strncmp(w->at[i].name, name, n) && !strcmp(w->at[i].name + n, suffix)) return &w->at[i];
    }
    return NULL;
}

static bool fits(const tensor *t, uf_shape s) {
    if (t->rank == 1) return t->count == uf_count(s); /* a vector, whichever axis it lies on */
    return uf_same(t->shape, s);
}

static int load_state(const uf_weights *w, uf_param *p) {
    struct {
        const char *suffix;
        float **at;
    } part[] = {{".m", &p->m}, {".v", &p->v}, {".average", &p->average}};
    for (int i = 0; i < UF_LEN(part); i++) {
        const tensor *t = find(w, p->name, part[i].suffix);
        if (!t || !fits(t, p->shape)) continue;
        if (!*part[i].at && !(*part[i].at = uf_alloc(w->ctx, uf_count(p->shape), sizeof(float)))) return UF_ENOMEM;
        copy_values(w, t, *part[i].at);
    }
    return UF_OK;
}

int uf_weights_load(const uf_weights *w, uf_params *set, bool strict, int *n_loaded) {
    int n = 0;
    for (int i = 0; strict && i < uf_params_n(set); i++) { /* refuse before anything is changed */
        const uf_param *p = uf_params_at(set, i);
        const tensor *t = find(w, p->name, "");
        uf_shape a = t ? t->shape : (uf_shape){0}, b = p->shape;
        if (!t)
            return uf_fail(w->ctx, UF_EDATA, "weights '%s' have no tensor '%s'; they are for another model", w->path,
                           p->name);
        if (!fits(t, p->shape))
            return uf_fail(w->ctx, UF_EDATA, "tensor '%s' of '%s' is %dx%dx%dx%d, the model needs %dx%dx%dx%d; use "
                           "weights of this version, or train again", p->name, w->path, a.n, a.c, a.h, a.w, b.n, b.c,
                           b.h, b.w);
    }
    for (int i = 0; i < uf_params_n(set); i++) {
        uf_param *p = uf_params_at(set, i);
        const tensor *t = find(w, p->name, "");
        if (!t || !fits(t, p->shape)) continue;
        copy_values(w, t, p->value);
        if (strict) UF_TRY(load_state(w, p)); /* another network's moments would mislead */
        n++;
    }
    if (n_loaded) *n_loaded = n;
    return UF_OK;
}

/* features' stem sees luma (4 channels) and chroma (2): a colorizer sees luma alone, which is the same as chroma zero. */
int uf_weights_load_cut(const uf_weights *w, uf_param *p) {
    const tensor *t = find(w, p->name, "");
    if (!t || t->rank != 4 || t->shape.n != p->shape.n || t->shape.c < p->shape.c || t->shape.h != p->shape.h ||
        t->shape.w != p->shape.w)
        return uf_fail(w->ctx, UF_EDATA, "'%s' has no encoder stem '%s' to start from; give weights of `features`",
                       w->path, p->name);
    float *all = uf_alloc(w->ctx, t->count, sizeof *all);
    if (!all) return UF_ENOMEM;
    copy_values(w, t, all);
    size_t from = t->count / (size_t)t->shape.n, to = uf_count(p->shape) / (size_t)p->shape.n;
    for (int o = 0; o < p->shape.n; o++) memcpy(p->value + (size_t)o * to, all + (size_t)o * from, to * sizeof *all);
    free(all);
    return UF_OK;
}

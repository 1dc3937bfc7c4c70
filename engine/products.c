#include "products.h"
#include "onednn.h"
#include "winograd.h"

#include <stdlib.h>
#include <string.h>

enum { WIDE = UF_WINO_WIDE, WAITING = 64 }; /* WAITING: rows, an even number */

bool uf_packed_fits(uf_dtype dtype, int k) { return dtype != UF_BF16 || (uf_cpu_has_bf16() && k % 2 == 0); }

static size_t size_of(const struct uf_wino_kernels *k) { return k ? k->size : sizeof(float); }
static size_t group_of(const struct uf_wino_kernels *k) { return k ? (size_t)k->group : 1; }

static int filled_up(int columns) { return (columns + 15) / 16 * 16; }
static int width_of(int wide, int first) { return wide - first < WIDE ? wide - first : WIDE; }

int uf_packed_open(uf_packed *p, uf_ctx *ctx, uf_dtype dtype, int k, int n) {
    *p = (uf_packed){.k = k, .n = n, .wide = filled_up(n), .dtype = dtype, .kernels = uf_product_kernels_of(dtype)};
    p->u = uf_alloc(ctx, (size_t)k * (size_t)p->wide, size_of(p->kernels));
    return p->u ? UF_OK : UF_ENOMEM;
}

void uf_packed_close(uf_packed *p) {
    free(p->u);
    p->u = NULL;
}

void uf_packed_set(uf_packed *p, const float *w, bool turned) {
    size_t next_n = turned ? 1 : (size_t)p->k, next_k = turned ? (size_t)p->n : 1;
    size_t size = size_of(p->kernels), per = group_of(p->kernels);
    for (int first = 0; first < p->wide; first += WIDE) {
        size_t width = (size_t)width_of(p->wide, first);
        char *to = (char *)p->u + (size_t)first * (size_t)p->k * size;
        for (size_t k = 0; k < (size_t)p->k; k++) {
            float row[WIDE] = {0};
            for (size_t i = 0; i < width && (size_t)first + i < (size_t)p->n; i++) row[i] = w[((size_t)first + i) * next_n + k * next_k];
            void *at = to + (k / per * per * width + k % per) * size;
            if (p->kernels) p->kernels->store((int)width, row, at);
            else memcpy(at, row, width * sizeof *row);
        }
    }
}

static void multiply_plainly(const uf_product *a) {
    const float *v = a->v, *u = a->u;
    for (int r = 0; r < a->rows; r++) {
        float *m = a->m + (size_t)r * a->ldm;
        memset(m, 0, (size_t)(16 * a->n_vectors) * sizeof *m);
        for (size_t k = 0; k < (size_t)a->k; k++)
            for (size_t i = 0; i < (size_t)(16 * a->n_vectors); i++) m[i] += v[(size_t)r * a->next_row + k] * u[k * a->ldu + i];
    }
}

void uf_packed_multiply(const uf_packed *p, int rows, const void *v, size_t ldv, float *m) {
    size_t size = size_of(p->kernels), per = group_of(p->kernels);
    for (int first = 0; first < p->wide; first += WIDE) {
        int width = width_of(p->wide, first);
        uf_product a = {.rows = rows, .n_vectors = width / 16, .k = p->k, .v = v, .next_row = ldv, .ldv = ldv,
                        .u = (char *)p->u + (size_t)first * (size_t)p->k * size, .ldu = (size_t)width * per, .m = m + first, .ldm = (size_t)p->wide};
        if (p->kernels) p->kernels->product(&a);
        else multiply_plainly(&a);
    }
}

/* ---- sums of outer products --------------------------------------------------------------------------------------------- */

int uf_outer_open(uf_outer *o, uf_ctx *ctx, uf_dtype dtype, int n, int k) {
    *o = (uf_outer){.n = n, .k = k, .wide = filled_up(k), .kernels = uf_product_kernels_of(dtype)};
    size_t size = size_of(o->kernels);
    o->v = uf_alloc(ctx, WAITING * (size_t)n, size);
    o->u = uf_alloc(ctx, WAITING * (size_t)o->wide, size);
    o->zeros = uf_alloc(ctx, (size_t)n, size);
    o->sum = uf_alloc(ctx, (size_t)n * (size_t)o->wide, sizeof *o->sum);
    return o->v && o->u && o->zeros && o->sum ? UF_OK : UF_ENOMEM;
}

void uf_outer_close(uf_outer *o) {
    free(o->v);
    free(o->u);
    free(o->zeros);
    free(o->sum);
    *o = (uf_outer){0};
}

UF_KERNEL static void interleave(size_t n, const uint16_t *restrict a, const uint16_t *restrict b, uint16_t *restrict to) {
    for (size_t i = 0; i < n; i++) {
        to[2 * i] = a[i];
        to[2 * i + 1] = b[i];
    }
}

/* Row number `at` of those that wait, or, in pairs, it and the next one, `other`. */
static void put(bool pairs, size_t n, size_t wide, const void *row, const void *other, int at, void *to) {
    if (pairs) interleave(n, row, other, (uint16_t *)to + (size_t)at * wide);
    else memcpy((float *)to + (size_t)at * wide, row, n * sizeof(float));
}

static void sum_plainly(const uf_outer *o) {
    const float *v = o->v, *u = o->u;
    for (size_t r = 0; r < (size_t)o->rows; r++)
        for (size_t i = 0; i < (size_t)o->n; i++)
            for (size_t j = 0; j < (size_t)o->wide; j++) o->sum[i * (size_t)o->wide + j] += v[r * (size_t)o->n + i] * u[r * (size_t)o->wide + j];
}

static void sum_up(uf_outer *o) {
    size_t size = size_of(o->kernels), per = group_of(o->kernels);
    if (!o->kernels) sum_plainly(o);
    for (int first = 0; o->kernels && first < o->wide; first += WIDE) {
        int width = width_of(o->wide, first);
        o->kernels->product_t(&(uf_product){.rows = o->n, .n_vectors = width / 16, .k = o->rows, .v = o->v, .next_row = per, .ldv = (size_t)o->n,
                                            .u = (const char *)o->u + (size_t)first * per * size, .ldu = (size_t)o->wide * per,
                                            .m = o->sum + first, .ldm = (size_t)o->wide, .add = true});
    }
    o->rows = 0;
}

void uf_outer_add(uf_outer *o, int rows, const void *v, size_t ldv, const void *u, size_t ldu) {
    size_t size = size_of(o->kernels);
    int per = (int)group_of(o->kernels);
    const char *a = v, *b = u;
    for (int r = 0; r < rows; r += per, a += (size_t)per * ldv * size, b += (size_t)per * ldu * size) {
        bool last = r + per > rows; /* half a pair: the other half is a row of zeros, of which one factor will do */
        if (o->rows == WAITING) sum_up(o);
        put(per == 2, (size_t)o->n, (size_t)o->n, a, last ? o->zeros : a + ldv * size, o->rows, o->v);
        put(per == 2, (size_t)o->k, (size_t)o->wide, b, last ? b : b + ldu * size, o->rows, o->u);
        o->rows += per;
    }
}

void uf_outer_take(uf_outer *o, float *w) {
    if (o->rows) sum_up(o);
    for (size_t i = 0; i < (size_t)o->n; i++)
        for (size_t j = 0; j < (size_t)o->k; j++) w[i * (size_t)o->k + j] += o->sum[i * (size_t)o->wide + j];
    memset(o->sum, 0, (size_t)o->n * (size_t)o->wide * sizeof *o->sum);
}

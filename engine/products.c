#include "products.h"
#include "onednn.h"
#include "winograd.h"

#include <stdlib.h>
#include <string.h>

enum { WIDE = UF_WINO_WIDE };

bool uf_packed_fits(uf_dtype dtype, int k) { return dtype != UF_BF16 || (uf_cpu_has_bf16() && k % 2 == 0); }

static size_t size_of(const uf_packed *p) { return p->kernels ? p->kernels->size : sizeof(float); }
static size_t group_of(const uf_packed *p) { return p->kernels ? (size_t)p->kernels->group : 1; }

int uf_packed_open(uf_packed *p, uf_ctx *ctx, uf_dtype dtype, int k, int n) {
    *p = (uf_packed){.k = k, .n = n, .wide = (n + 15) / 16 * 16, .dtype = dtype, .kernels = uf_product_kernels_of(dtype)};
    p->u = uf_alloc(ctx, (size_t)k * (size_t)p->wide, size_of(p));
    return p->u ? UF_OK : UF_ENOMEM;
}

void uf_packed_close(uf_packed *p) {
    free(p->u);
    p->u = NULL;
}

static int width_of(const uf_packed *p, int first) { return p->wide - first < WIDE ? p->wide - first : WIDE; }

void uf_packed_set(uf_packed *p, const float *w) {
    size_t size = size_of(p), per = group_of(p);
    for (int first = 0; first < p->wide; first += WIDE) {
        size_t width = (size_t)width_of(p, first);
        char *to = (char *)p->u + (size_t)first * (size_t)p->k * size;
        for (size_t k = 0; k < (size_t)p->k; k++) {
            float row[WIDE] = {0};
            for (size_t i = 0; i < width && (size_t)first + i < (size_t)p->n; i++) row[i] = w[((size_t)first + i) * (size_t)p->k + k];
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
    size_t size = size_of(p), per = group_of(p);
    for (int first = 0; first < p->wide; first += WIDE) {
        int width = width_of(p, first);
        uf_product a = {.rows = rows, .n_vectors = width / 16, .k = p->k, .v = v, .next_row = ldv, .ldv = ldv,
                        .u = (char *)p->u + (size_t)first * (size_t)p->k * size, .ldu = (size_t)width * per, .m = m + first, .ldm = (size_t)p->wide};
        if (p->kernels) p->kernels->product(&a);
        else multiply_plainly(&a);
    }
}

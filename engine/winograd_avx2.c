/* Winograd's inner loops in AVX2, for the many processors that have nothing wider: float32 alone. */
#include "winograd.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define ALWAYS inline __attribute__((always_inline))
#define LANES 8
#define V __m256
#define MAX _mm256_max_ps
#include "winograd_tile.inc"

enum { ROW = 6 };

/* 16 columns of m for `rows` rows, = or += the sums over k of v by u, in registers: 12 of 16, two more for u and one for v. at: from one row of v
 * to the next; along: from one k to the next. */
static ALWAYS TARGET void product_rows(const int rows, const uf_product *a, const float *v, size_t at, size_t along, const float *u, float *m) {
    V sum[ROW][2];
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < 2; n++) sum[r][n] = a->add ? load(m + (size_t)r * a->ldm + LANES * n) : _mm256_setzero_ps();
    for (int k = 0; k < a->k; k++, u += a->ldu, v += along) {
        V w[2] = {load(u), load(u + LANES)};
        for (int r = 0; r < rows; r++) {
            V one = _mm256_broadcast_ss(v + (size_t)r * at);
            for (int n = 0; n < 2; n++) sum[r][n] = _mm256_fmadd_ps(one, w[n], sum[r][n]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < 2; n++) store(m + (size_t)r * a->ldm + LANES * n, sum[r][n]);
}

static ALWAYS TARGET void product(const uf_product *a, size_t at, size_t along) {
    for (int column = 0; column < 16 * a->n_vectors; column += 16) {
        const float *v = a->v, *u = (const float *)a->u + column;
        float *m = a->m + column;
        int left = a->rows;
        for (; left >= ROW; left -= ROW, v += ROW * at, m += ROW * a->ldm) product_rows(ROW, a, v, at, along, u, m);
        switch (left) {
        case 1: product_rows(1, a, v, at, along, u, m); break;
        case 2: product_rows(2, a, v, at, along, u, m); break;
        case 3: product_rows(3, a, v, at, along, u, m); break;
        case 4: product_rows(4, a, v, at, along, u, m); break;
        case 5: product_rows(5, a, v, at, along, u, m); break;
        }
    }
}

static TARGET void product_f32(const uf_product *a) { product(a, a->next_row, 1); }
static TARGET void product_t_f32(const uf_product *a) { product(a, a->next_row, a->ldv); }

const uf_wino_kernels uf_wino_f32_avx2 = {
    .size = sizeof(float), .group = 1, .channel = channel_f32, .store = store_f32, .in = in_f32,
    .product = product_f32, .out = out_f32, .points = point_rows_f32, .product_t = product_t_f32};
#else
const uf_wino_kernels uf_wino_f32_avx2;
#endif

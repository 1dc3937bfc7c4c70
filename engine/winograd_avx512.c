/* Winograd's inner loops in AVX-512: transforms of a tile, and the products of one point for many tiles. */
#include "winograd.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define ALWAYS inline __attribute__((always_inline))

enum { P = UF_WINO_POINTS, WIDE = UF_WINO_WIDE, ROW = 6 };

#define LANES 16
#define TARGET AVX512
#define V __m512
#define MAX _mm512_max_ps
#include "winograd_tile.inc"

/* m (rows, vectors x 16) = or += the sums over k of v by u, in registers: 24 of 32 at the most. */
#define PRODUCT(NAME, TO, ELEMENT, STEP, LOAD, SPREAD, MULTIPLY)                                                  \
    static ALWAYS TO void NAME##_rows(const int rows, const int vectors, int k_end, const ELEMENT *v, size_t ldv, \
                                          const ELEMENT *u, size_t ldu, float *m, size_t ldm, bool add) {             \
        __m512 sum[ROW][4];                                                                                           \
        for (int r = 0; r < rows; r++)                                                                                \
            for (int n = 0; n < vectors; n++)                                                                         \
                sum[r][n] = add ? _mm512_load_ps(m + (size_t)r * ldm + 16 * n) : _mm512_setzero_ps();                 \
        for (int k = 0; k < k_end; k += STEP, u += ldu) {                                                             \
            LOAD                                                                                                      \
            for (int r = 0; r < rows; r++) {                                                                          \
                SPREAD                                                                                                \
                for (int n = 0; n < vectors; n++) sum[r][n] = MULTIPLY;                                               \
            }                                                                                                         \
        }                                                                                                             \
        for (int r = 0; r < rows; r++)                                                                                \
            for (int n = 0; n < vectors; n++) _mm512_store_ps(m + (size_t)r * ldm + 16 * n, sum[r][n]);               \
    }                                                                                                                 \
    static ALWAYS TO void NAME##_wide(const int vectors, const uf_product *a) {                                       \
        const ELEMENT *v = a->v;                                                                                      \
        float *m = a->m;                                                                                              \
        int left = a->rows;                                                                                           \
        for (; left >= ROW; left -= ROW, v += ROW * a->next_row, m += ROW * a->ldm)                                   \
            NAME##_rows(ROW, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add);                              \
        switch (left) {                                                                                               \
        case 1: NAME##_rows(1, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add); break;                     \
        case 2: NAME##_rows(2, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add); break;                     \
        case 3: NAME##_rows(3, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add); break;                     \
        case 4: NAME##_rows(4, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add); break;                     \
        case 5: NAME##_rows(5, vectors, a->k, v, a->ldv, a->u, a->ldu, m, a->ldm, a->add); break;                     \
        }                                                                                                             \
    }                                                                                                                 \
    static TO void NAME(const uf_product *a) {                                                                        \
        switch (a->n_vectors) {                                                                                       \
        case 1: NAME##_wide(1, a); break;                                                                             \
        case 2: NAME##_wide(2, a); break;                                                                             \
        case 3: NAME##_wide(3, a); break;                                                                             \
        case 4: NAME##_wide(4, a); break;                                                                             \
        }                                                                                                             \
    }

/* ---- float32 --------------------------------------------------------------------------------------------------- */

#define LOAD_F32 __m512 w[4]; for (int n = 0; n < vectors; n++) w[n] = _mm512_load_ps(u + 16 * n);
PRODUCT(product_f32, AVX512, float, 1, LOAD_F32, __m512 a = _mm512_set1_ps(v[(size_t)r * ldv + (size_t)k]);,
        _mm512_fmadd_ps(a, w[n], sum[r][n]))
PRODUCT(product_t_f32, AVX512, float, 1, LOAD_F32, __m512 a = _mm512_set1_ps(v[(size_t)k * ldv + (size_t)r]);,
        _mm512_fmadd_ps(a, w[n], sum[r][n]))

/* ---- bf16 ------------------------------------------------------------------------------------------------------ */

/* Of 32 neighbouring channels the even ones come first, then the odd ones: a shift and a mask widen them. 16 that are left keep their order. */
static int channel_bf16(int position, int c) {
    int lane = position % 32;
    if (position - lane + 32 > c) return position;
    return position - lane + (lane < 16 ? 2 * lane : 2 * (lane - 16) + 1);
}

static BF16 void store_bf16(int n, const float *u, void *to) {
    uint16_t *out = to, one[16];
    for (int i = 0; i < n; i += 16) {
        __m256bh b = _mm512_cvtneps_pbh(_mm512_loadu_ps(u + i));
        memcpy(one, &b, sizeof one);
        for (int k = 0; k < 16; k++) out[2 * (i + k)] = one[k];
    }
}

static ALWAYS BF16 __m512 widen(const void *x) {
    __m256i h;
    memcpy(&h, x, sizeof h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static BF16 void in_bf16(const void *const x[P], int c, void *v, size_t step) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    for (int k = 0; k < c; k += 16) {
        __m512 d[P];
        for (int i = 0; i < P; i++) {
            const uint16_t *from = (const uint16_t *)x[i] + (k & ~31);
            if ((k & ~31) + 32 > c) d[i] = widen(from);
            else if (k & 16) d[i] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from), high));
            else d[i] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(from), 16));
        }
        input_transform(d);
        for (int i = 0; i < P; i++) {
            __m256bh b = _mm512_cvtneps_pbh(d[i]);
            memcpy((uint16_t *)v + (size_t)i * step + k, &b, sizeof b);
        }
    }
}

static BF16 void out_bf16(const float *m, size_t step, int n_vectors, const float *bias, bool relu,
                          const void *const residual[4], void *const y[4]) {
    for (int k = 0; k < 16 * n_vectors; k += 16) {
        __m512 t[4], b = bias ? _mm512_loadu_ps(bias + k) : _mm512_setzero_ps();
        output_transform(m + k, step, t);
        for (int i = 0; i < 4; i++) {
            if (!y[i]) continue;
            t[i] = _mm512_add_ps(t[i], b);
            if (residual[i]) t[i] = _mm512_add_ps(t[i], widen((const uint16_t *)residual[i] + k));
            if (relu) t[i] = _mm512_max_ps(t[i], _mm512_setzero_ps());
            __m256bh h = _mm512_cvtneps_pbh(t[i]);
            memcpy((uint16_t *)y[i] + k, &h, sizeof h);
        }
    }
}

static ALWAYS BF16 __m512bh bh(__m512i x) {
    __m512bh y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/* Points of two tiles, side by side channel by channel. */
static BF16 void point_rows_bf16(const void *const x[2][P], int n_pixels, int c, void *v, size_t step) {
    uint16_t order[32];
    for (int i = 0; i < 32; i++) order[i] = (uint16_t)(i / 2 + 16 * (i % 2));
    __m512i interleave = _mm512_loadu_si512(order);
    for (int k = 0; k < c; k += 16) {
        __m512 d[P], q[2][P];
        for (int t = 0; t < 2; t++) {
            for (int i = 0; i < n_pixels; i++) d[i] = widen((const uint16_t *)x[t][i] + k);
            if (n_pixels == P) {
                input_transform(d);
                memcpy(q[t], d, sizeof d);
            } else {
                gradient_transform(d, q[t]);
            }
        }
        for (int i = 0; i < P; i++) {
            __m512bh both = _mm512_cvtne2ps_pbh(q[1][i], q[0][i]);
            __m512i b;
            memcpy(&b, &both, sizeof b);
            _mm512_store_si512((uint16_t *)v + (size_t)i * step + 2 * k, _mm512_permutexvar_epi16(interleave, b));
        }
    }
}

#define LOAD_BF16 __m512bh w[4]; for (int n = 0; n < vectors; n++) w[n] = bh(_mm512_load_si512(u + 32 * n));
PRODUCT(product_bf16, BF16, uint16_t, 2, LOAD_BF16,
        int pair; memcpy(&pair, v + (size_t)r * ldv + (size_t)k, sizeof pair); __m512bh a = bh(_mm512_set1_epi32(pair));,
        _mm512_dpbf16_ps(sum[r][n], a, w[n]))
PRODUCT(product_t_bf16, BF16, uint16_t, 2, LOAD_BF16,
        int pair; memcpy(&pair, v + (size_t)k * ldv + (size_t)(2 * r), sizeof pair); __m512bh a = bh(_mm512_set1_epi32(pair));,
        _mm512_dpbf16_ps(sum[r][n], a, w[n]))

const uf_wino_kernels uf_wino_f32_avx512 = {
    .size = sizeof(float), .group = 1, .channel = channel_f32, .store = store_f32, .in = in_f32,
    .product = product_f32, .out = out_f32, .points = point_rows_f32, .product_t = product_t_f32};
const uf_wino_kernels uf_wino_bf16 = {
    .size = 2, .group = 2, .channel = channel_bf16, .store = store_bf16, .in = in_bf16,
    .product = product_bf16, .out = out_bf16, .points = point_rows_bf16, .product_t = product_t_bf16};

#else
const uf_wino_kernels uf_wino_f32_avx512, uf_wino_bf16;
#endif

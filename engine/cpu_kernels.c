#include "cpu_kernels.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL UF_KERNEL

enum { POOL_AT_ONCE = 256 }; /* channels */

static size_t piece(size_t n, int i) { return n * (size_t)i / UF_PIECES; }

typedef uint16_t bf16;

static inline float bf16_to_float(bf16 x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest even; NaN keeps a payload bit so that it stays one. */
static inline bf16 bf16_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t nan = (u & 0x7fffffffu) > 0x7f800000u;
    uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (bf16)(nan ? (u >> 16) | 0x40u : r);
}

/* As a comparison, which the compiler turns into vector code; fmaxf it calls. A NaN gives b. */
static inline float larger(float a, float b) { return a > b ? a : b; }

static inline float plain_ld(float x) { return x; }

#define T float
#define LD(x) plain_ld(x)
#define ST(x) (x)
#define NAME(x) x##_f32
#include "cpu_kernels.inc"
#undef T
#undef LD
#undef ST
#undef NAME

#define T bf16
#define LD(x) bf16_to_float(x)
#define ST(x) bf16_from_float(x)
#define NAME(x) x##_bf16
#include "cpu_kernels.inc"

/* e^x for x <= 0 in plain arithmetic, so that loops of it become vector code: 2^n (1 + r + ...), with the polynomial of
 * Cephes' expf (Moshier), within 2 units in the last place. */
static inline float exp_negative(float x) {
    x = larger(x, -87.f);
    float n = rintf(x * 1.44269504f), r = x - n * .693359375f + n * 2.12194440e-4f;
    float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r +
               1.6666665459e-1f) * r + 5.0000001201e-1f;
    uint32_t bits = (uint32_t)((int)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1.f) * power;
}

KERNEL static void softmax_row(size_t n, float *restrict x) {
    float top = x[0], sum = 0;
#pragma omp simd reduction(max : top)
    for (size_t j = 0; j < n; j++) top = x[j] > top ? x[j] : top;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) sum += x[j] = exp_negative(x[j] - top);
    float f = 1.f / sum;
    for (size_t j = 0; j < n; j++) x[j] *= f;
}

void uf_softmax_rows(size_t rows, size_t n, float *x) {
#pragma omp parallel for
    for (size_t i = 0; i < rows; i++) softmax_row(n, x + i * n);
}

/* x^(e + rest) for x > 0, in plain arithmetic too, e of so few bits that its product with a whole number is exact: the logarithm by the series of the
 * inverse hyperbolic tangent, which ends below half a unit in the last place; whole powers of two go around the polynomials, so that large exponents cost
 * no digits. */
static inline float power(float x, float e, float rest) {
    uint32_t bits, scale;
    memcpy(&bits, &x, sizeof bits);
    int twos = (int)(bits - 0x3f3504f3u) >> 23; /* the mantissa from the root of 1/2 on */
    bits -= (uint32_t)twos << 23;
    float m, whole, s;
    memcpy(&m, &bits, sizeof m);
    float t = (m - 1.f) / (m + 1.f), q = t * t;
    float log2_m = 2.88539008f * t * (1.f + q * (1.f / 3 + q * (1.f / 5 + q * (1.f / 7 + q * (1.f / 9)))));
    float n = rintf(e * (float)twos), r = e * (float)twos - n + (rest * (float)twos + (e + rest) * log2_m), k = rintf(r);
    whole = n + k < -126.f ? -126.f : n + k > 127.f ? 127.f : n + k;
    float f = (r - k) * .693147181f;
    s = 1.f + f * (1.f + f * (1.f / 2 + f * (1.f / 6 + f * (1.f / 24 + f * (1.f / 120 + f * (1.f / 720 + f * (1.f / 5040)))))));
    scale = (uint32_t)((int)whole + 127) << 23;
    memcpy(&x, &scale, sizeof x);
    return s * x;
}

KERNEL void uf_powers(size_t n, const float *restrict re, const float *restrict im, float eps, float e, float *restrict y) {
    uint32_t bits;
    memcpy(&bits, &e, sizeof bits);
    bits &= 0xffff0000u;
    float most;
    memcpy(&most, &bits, sizeof most);
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = power(re[i] * re[i] + im[i] * im[i] + eps, most, e - most);
}

/* Both by e^-|x|, which cannot overflow. */
static inline float logistic(float x) {
    float e = exp_negative(-fabsf(x)), f = 1.f / (1.f + e);
    return x > 0.f ? f : e * f;
}

static inline float hyperbolic(float x) {
    float e = exp_negative(-2.f * fabsf(x));
    return copysignf((1.f - e) / (1.f + e), x);
}

KERNEL void uf_gru_step(size_t o, const float *restrict gx, const float *restrict gh, const float *restrict bx,
                        const float *restrict bh, float *restrict h, float *restrict aux) {
    float unused[4 * 64];
    for (size_t from = 0; from < o; from += 64) { /* by pieces, so that what is not kept needs no memory and the loop no question */
        size_t n_at = o - from < 64 ? o - from : 64, stride = aux ? o : 64;
        float *restrict keep = aux ? aux + from : unused;
        const float *restrict x = gx + from, *restrict y = gh + from, *restrict p = bx + from, *restrict q = bh + from;
        float *restrict s = h + from;
#pragma omp simd
        for (size_t j = 0; j < n_at; j++) {
            float r = logistic(x[j] + p[j] + y[j] + q[j]), z = logistic(x[o + j] + p[o + j] + y[o + j] + q[o + j]);
            float hid = y[2 * o + j] + q[2 * o + j], n = hyperbolic(x[2 * o + j] + p[2 * o + j] + r * hid);
            keep[j] = r;
            keep[stride + j] = z;
            keep[2 * stride + j] = n;
            keep[3 * stride + j] = hid;
            s[j] = (1.f - z) * n + z * s[j];
        }
    }
}

KERNEL void uf_gru_step_back(size_t o, const float *restrict aux, const float *restrict before, const float *restrict dy,
                             float *restrict carry, float *restrict da, float *restrict dg) {
    for (size_t j = 0; j < o; j++) {
        float r = aux[j], z = aux[o + j], n = aux[2 * o + j], dh = dy[j] + carry[j];
        float dn = dh * (1.f - z) * (1.f - n * n), dr = dn * aux[3 * o + j] * r * (1.f - r);
        float dz = dh * (before[j] - n) * z * (1.f - z);
        da[j] = dg[j] = dr;
        da[o + j] = dg[o + j] = dz;
        da[2 * o + j] = dn;
        dg[2 * o + j] = dn * r;
        carry[j] = dh * z;
    }
}

#include "cpu_kernels.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Each inner loop is compiled for several instruction sets and chosen when the program starts. The sanitizers cannot
 * run the chooser, which comes before them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERNEL
#endif

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

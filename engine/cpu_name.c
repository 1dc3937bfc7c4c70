/* What processor this is, in words. */
#include "engine.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

const char *uf_cpu_name(char *buf, size_t n) {
    unsigned r[12] = {0};
    for (unsigned i = 0; i < 3; i++) __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    char brand[49] = "";
    memcpy(brand, r, 48);
    const char *start = brand + strspn(brand, " ");
    const char *what = __builtin_cpu_supports("avx512f") ? "AVX-512" : __builtin_cpu_supports("avx2") ? "AVX2" : "SSE";
    unsigned a = 0, b = 0, c = 0, d = 0;
    bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1); /* AMX-BF16 */
    snprintf(buf, n, "%s, %s%s", *start ? start : "x86-64", what, amx ? ", bf16 matrix units (AMX)"
             : uf_cpu_has_bf16() ? ", bf16 dot products" : "");
    return buf;
}
#else
const char *uf_cpu_name(char *buf, size_t n) {
    snprintf(buf, n, "not x86-64%s", uf_cpu_has_bf16() ? ", bf16" : "");
    return buf;
}
#endif

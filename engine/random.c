/* Counter-based random numbers, Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011): the key is the seed, the counter holds stream and index. */
#include "base.h"

#include <math.h>
#include <xxhash.h>

void uf_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

static float unit(uint32_t u) { return (float)(u >> 8) * 0x1p-24f; }

float uf_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t r[4];
    uf_philox(seed, stream, index / 4, r);
    return unit(r[index % 4]);
}

/* Box-Muller; 1 - u keeps the logarithm finite. */
float uf_gaussian(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t r[4];
    uf_philox(seed, stream, index / 2, r);
    float radius = sqrtf(-2.f * logf(1.f - unit(r[0]))), angle = 6.2831853f * unit(r[1]);
    return radius * (index % 2 ? sinf(angle) : cosf(angle));
}

uint64_t uf_hash(const void *data, size_t n) { return XXH3_64bits(data, n); }

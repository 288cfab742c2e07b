// SPDX-License-Identifier: MIT
#include "base/rng.h"

#include <math.h>

void fm__philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < FM__PHILOX_ROUNDS; i++, k0 += FM__PHILOX_W0, k1 += FM__PHILOX_W1) {
        uint64_t a = (uint64_t)FM__PHILOX_M0 * c0, b = (uint64_t)FM__PHILOX_M1 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint32_t fm__rng_u32(struct fm__rng *rng)
{
    uint64_t block = rng->next >> 2;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)rng->stream,
                           (uint32_t)(rng->stream >> 32)};
    uint32_t key[2] = {(uint32_t)rng->seed, (uint32_t)(rng->seed >> 32)}, out[4];
    fm__philox4x32(counter, key, out);
    return out[rng->next++ & 3];
}

uint64_t fm__rng_u64(struct fm__rng *rng)
{
    rng->next += rng->next & 1;
    uint64_t low = fm__rng_u32(rng);
    return low | (uint64_t)fm__rng_u32(rng) << 32;
}

double fm__rng_uniform(struct fm__rng *rng)
{
    return (double)(fm__rng_u64(rng) >> 11) * 0x1p-53;
}

uint64_t fm__rng_below(struct fm__rng *rng, uint64_t n)
{
    // numbers at the top that would make the last turn incomplete are drawn again
    uint64_t limit = UINT64_MAX - (UINT64_MAX % n + 1) % n, x;
    do x = fm__rng_u64(rng);
    while (x > limit);
    return x % n;
}

double fm__rng_normal(struct fm__rng *rng)
{
    double u = 1 - fm__rng_uniform(rng), v = fm__rng_uniform(rng); // u in (0, 1]: its logarithm is finite
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

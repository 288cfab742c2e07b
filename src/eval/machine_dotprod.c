// SPDX-License-Identifier: MIT
// Peak loop of NEON's byte dot products: 12 chains of 16 products.
#include <arm_neon.h>

#include "eval/machine.h"

float fm__machine_int8_dotprod(int64_t iterations)
{
    int32x4_t sums[12];
    volatile int8_t seen = 3;
    int8x16_t x = vdupq_n_s8(seen), y = vdupq_n_s8(seen);
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = vdupq_n_s32(j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = vdotq_s32(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = veorq_s32(sums[0], sums[j]);
    return (float)vaddvq_s32(sums[0]);
}

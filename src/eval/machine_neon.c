// SPDX-License-Identifier: MIT
// Peak loop of NEON in f32: 12 chains of 4 lanes.
#include <arm_neon.h>

#include "eval/machine.h"

float fm__machine_f32_neon(int64_t iterations)
{
    float32x4_t sums[12];
    volatile float seen = 0.001F;
    float32x4_t x = vdupq_n_f32(seen), y = vdupq_n_f32(seen);
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = vdupq_n_f32((float)j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = vfmaq_f32(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = vaddq_f32(sums[0], sums[j]);
    return vaddvq_f32(sums[0]);
}

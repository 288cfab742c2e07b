// SPDX-License-Identifier: MIT
// Peak loop of AVX-512 in f32: 12 chains of 16 lanes.
#include <immintrin.h>

#include "eval/machine.h"

float fm__machine_f32_avx512(int64_t iterations)
{
    __m512 sums[12];
    volatile float seen = 0.999F;
    __m512 x = _mm512_set1_ps(seen), y = _mm512_set1_ps(seen * 0.001F);
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = _mm512_fmadd_ps(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = _mm512_add_ps(sums[0], sums[j]);
    return _mm512_cvtss_f32(sums[0]);
}

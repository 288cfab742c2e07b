// SPDX-License-Identifier: MIT
// Peak loop of AVX-512's bf16 dot products: 12 chains of 32 products.
#include <immintrin.h>

#include "eval/machine.h"

float fm__machine_bf16_bf16(int64_t iterations)
{
    __m512 sums[12];
    volatile float seen = 0.001F;
    __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(seen), _mm512_set1_ps(seen)), y = x;
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = _mm512_dpbf16_ps(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = _mm512_add_ps(sums[0], sums[j]);
    return _mm512_cvtss_f32(sums[0]);
}

// SPDX-License-Identifier: MIT
// Peak loop of VNNI: 12 chains of 64 byte products.
#include <immintrin.h>

#include "eval/machine.h"

float fm__machine_int8_vnni(int64_t iterations)
{
    __m512i sums[12];
    volatile char seen = 3;
    __m512i x = _mm512_set1_epi8(seen), y = _mm512_set1_epi8(seen);
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = _mm512_set1_epi32(j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = _mm512_dpbusd_epi32(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = _mm512_xor_si512(sums[0], sums[j]);
    return (float)_mm512_cvtsi512_si32(sums[0]);
}

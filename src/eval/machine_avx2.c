// SPDX-License-Identifier: MIT
// Peak loops of AVX2: 12 chains hide 4 to 5 cycles of latency on two ports, in 16 registers.
#include <immintrin.h>

#include "eval/machine.h"

float fm__machine_f32_avx2(int64_t iterations)
{
    __m256 sums[12];
    volatile float seen = 0.999F;
    __m256 x = _mm256_set1_ps(seen), y = _mm256_set1_ps(seen * 0.001F);
#pragma GCC unroll 12
    for (int j = 0; j < 12; j++) sums[j] = _mm256_set1_ps((float)j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) sums[j] = _mm256_fmadd_ps(sums[j], x, y);
    }
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) sums[0] = _mm256_add_ps(sums[0], sums[j]);
    return _mm256_cvtss_f32(sums[0]);
}

// The integer product without VNNI: bytes to 16-bit pairs, pairs to 32, add.
float fm__machine_int8_avx2(int64_t iterations)
{
    __m256i sums[8], ones = _mm256_set1_epi16(1);
    volatile char seen = 3;
    __m256i x = _mm256_set1_epi8(seen), y = _mm256_set1_epi8(seen);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) sums[j] = _mm256_set1_epi32(j);
    for (int64_t i = 0; i < iterations; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __asm__ volatile("" : "+x"(y)); // else the product is the same for all j and taken out of the loop
            __m256i pairs = _mm256_maddubs_epi16(x, y);
            sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(pairs, ones));
        }
    }
#pragma GCC unroll 8
    for (int j = 1; j < 8; j++) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
    return (float)_mm256_cvtsi256_si32(sums[0]);
}

// SPDX-License-Identifier: MIT
// The load loop in 64-byte registers: 8 lines in flight an iteration.
#include <immintrin.h>

#include "eval/stream.h"

uint64_t fm__stream_avx512(const void *p, size_t n)
{
    const char *at = p;
    __m512i sums[8];
    for (int j = 0; j < 8; j++) sums[j] = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 512 <= n; i += 512) {
        for (int j = 0; j < 8; j++) sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(at + i + 64 * j));
    }
    for (; i + 64 <= n; i += 64) sums[0] = _mm512_xor_si512(sums[0], _mm512_loadu_si512(at + i));
    for (int j = 1; j < 8; j++) sums[0] = _mm512_xor_si512(sums[0], sums[j]);
    uint64_t words[8], all = 0;
    _mm512_storeu_si512(words, sums[0]);
    for (int j = 0; j < 8; j++) all ^= words[j];
    return all;
}

// SPDX-License-Identifier: MIT
// The load loop in 32-byte registers: 4 lines in flight an iteration.
#include <immintrin.h>

#include "eval/stream.h"

static inline __m256i load(const char *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

uint64_t fm__stream_avx2(const void *p, size_t n)
{
    const char *at = p;
    __m256i sums[8];
    for (int j = 0; j < 8; j++) sums[j] = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 256 <= n; i += 256) {
        for (int j = 0; j < 8; j++) sums[j] = _mm256_xor_si256(sums[j], load(at + i + 32 * j));
    }
    for (; i + 64 <= n; i += 64) {
        sums[0] = _mm256_xor_si256(sums[0], load(at + i));
        sums[1] = _mm256_xor_si256(sums[1], load(at + i + 32));
    }
    for (int j = 1; j < 8; j++) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
    uint64_t words[4];
    _mm256_storeu_si256((__m256i *)words, sums[0]);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

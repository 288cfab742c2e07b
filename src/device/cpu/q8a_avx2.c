// SPDX-License-Identifier: MIT
// Rows to q8a and q8r in 256 bits: the bytes of the plain forms. A maximum is exact in any order, and so are sums of
// integers.
#include <immintrin.h>
#include <string.h>

#include "device/cpu/linear.h"

static float largest(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static int sum_of(__m128i v)
{
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}

void fm__q8a_quantise_row_avx2(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    float *d = (float *)fm__q8a_d(dst, K), *s = (float *)fm__q8a_s(dst, K);
    int16_t *h = (int16_t *)fm__q8a_h(dst, K);
    const __m256 sign = _mm256_set1_ps(-0.f);
    for (int64_t b = 0; b < K / 32; b++, x += 32, q += 32) {
        __m256 v[4], peaks = _mm256_setzero_ps();
        __m256i c[4];
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            peaks = _mm256_max_ps(peaks, _mm256_andnot_ps(sign, v[i]));
        }
        const float peak = largest(peaks);
        const bool zero = peak < 0x1p-100f;
        const __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / peak);
        for (int i = 0; i < 4; i++) c[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)); // rounds to even
        // the two packs interleave 128-bit lanes; the permutation puts the 4-byte groups in order
        const __m256i words0 = _mm256_packs_epi32(c[0], c[1]), words1 = _mm256_packs_epi32(c[2], c[3]);
        const __m256i bytes =
            _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)q, bytes);
        const __m256i ones = _mm256_set1_epi16(1), t0 = _mm256_madd_epi16(words0, ones),
                      t1 = _mm256_madd_epi16(words1, ones);
        const int h0 = sum_of(_mm_add_epi32(_mm256_castsi256_si128(t0), _mm256_extracti128_si256(t0, 1)));
        const int h1 = sum_of(_mm_add_epi32(_mm256_castsi256_si128(t1), _mm256_extracti128_si256(t1, 1)));
        d[b] = zero ? 0 : peak / 127;
        s[b] = d[b] * (float)(h0 + h1);
        h[2 * b] = (int16_t)h0;
        h[2 * b + 1] = (int16_t)h1;
    }
}

void fm__q8r_quantise_row_avx2(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    const __m256 sign = _mm256_set1_ps(-0.f);
    __m256 peaks = _mm256_setzero_ps();
    for (int64_t i = 0; i < K; i += 8) peaks = _mm256_max_ps(peaks, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)));
    const float peak = largest(peaks);
    const bool zero = peak < 0x1p-100f;
    const float d = zero ? 0 : peak / 127;
    const __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / peak);
    for (int64_t i = 0; i < K; i += 32) {
        __m256i c[4];
        for (int j = 0; j < 4; j++) c[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), inverse));
        const __m256i words0 = _mm256_packs_epi32(c[0], c[1]), words1 = _mm256_packs_epi32(c[2], c[3]);
        _mm256_storeu_si256((__m256i *)(q + i), _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1),
                                                                            _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
    memset(q + K, 0, (size_t)K / 8);
    memcpy(q + K, &d, sizeof d);
}

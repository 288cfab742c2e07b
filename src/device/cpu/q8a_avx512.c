// SPDX-License-Identifier: MIT
// Rows to q8a in 512 bits: see q8a_avx2.c.
#include <immintrin.h>

#include "device/cpu/linear.h"

void fm__q8a_quantise_row_avx512(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    float *d = (float *)fm__q8a_d(dst, K), *s = (float *)fm__q8a_s(dst, K);
    int16_t *h = (int16_t *)fm__q8a_h(dst, K);
    for (int64_t b = 0; b < K / 32; b++, x += 32, q += 32) {
        const __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
        const float peak = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
        const bool zero = peak < 0x1p-100f;
        const __m512 inverse = _mm512_set1_ps(zero ? 0 : 127 / peak);
        const __m512i c0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, inverse));
        const __m512i c1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, inverse));
        _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(c0));
        _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(c1));
        const int h0 = _mm512_reduce_add_epi32(c0), h1 = _mm512_reduce_add_epi32(c1);
        d[b] = zero ? 0 : peak / 127;
        s[b] = d[b] * (float)(h0 + h1);
        h[2 * b] = (int16_t)h0;
        h[2 * b + 1] = (int16_t)h1;
    }
}

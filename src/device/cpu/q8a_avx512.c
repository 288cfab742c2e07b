// SPDX-License-Identifier: MIT
// Rows to q8a in 512 bits, the bytes of fm__q8a_quantise_row. Sixteen blocks at a time, because what a block has one of
// (largest, factor, scale, sums) is then a register: one division for all, and reductions of 16 cost as much as three.
#include <immintrin.h>
#include <string.h>

#include "device/cpu/linear.h"

#define INLINE static inline __attribute__((always_inline))

// Lane b: the largest of row b's 16 lanes.
INLINE __m512 largest_of_rows(const __m512 *row)
{
    __m512 four[4];
    for (int p = 0; p < 4; p++) {
        const __m512 x = _mm512_max_ps(_mm512_shuffle_f32x4(row[p], row[4 + p], 0x44),
                                       _mm512_shuffle_f32x4(row[p], row[4 + p], 0xee));
        const __m512 y = _mm512_max_ps(_mm512_shuffle_f32x4(row[8 + p], row[12 + p], 0x44),
                                       _mm512_shuffle_f32x4(row[8 + p], row[12 + p], 0xee));
        four[p] = _mm512_max_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    }
    const __m512 x =
        _mm512_max_ps(_mm512_shuffle_ps(four[0], four[1], 0x44), _mm512_shuffle_ps(four[0], four[1], 0xee));
    const __m512 y =
        _mm512_max_ps(_mm512_shuffle_ps(four[2], four[3], 0x44), _mm512_shuffle_ps(four[2], four[3], 0xee));
    return _mm512_max_ps(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xdd));
}

// dword 4 L + k to place 4 k + L
INLINE __m512i transpose_4x4(__m512i v)
{
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}

// Two blocks of codes from their 64 products.
INLINE __m512i codes_of(const float *x, __m512 inverse0, __m512 inverse1)
{
    const __m512i c0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse0));
    const __m512i c1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), inverse0));
    const __m512i c2 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 32), inverse1));
    const __m512i c3 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 48), inverse1));
    return transpose_4x4(_mm512_packs_epi16(_mm512_packs_epi32(c0, c1), _mm512_packs_epi32(c2, c3)));
}

// Sums of the 16 halves of eight blocks, in order, from sums of four codes.
INLINE __m512i sums_of_halves(const __m512i *quads)
{
    const __m512i x =
        _mm512_add_epi32(_mm512_unpacklo_epi32(quads[0], quads[1]), _mm512_unpackhi_epi32(quads[0], quads[1]));
    const __m512i y =
        _mm512_add_epi32(_mm512_unpacklo_epi32(quads[2], quads[3]), _mm512_unpackhi_epi32(quads[2], quads[3]));
    return transpose_4x4(_mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y)));
}

struct arrays {
    int8_t *q;
    float *d, *s;
    int16_t *h;
};

INLINE void sixteen_blocks(const float *x, struct arrays to)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 rows[16];
    __m512i quads[8];
    for (int b = 0; b < 16; b++)
        rows[b] =
            _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + 32 * b)), _mm512_abs_ps(_mm512_loadu_ps(x + 32 * b + 16)));
    const __m512 peak = largest_of_rows(rows), top = _mm512_set1_ps(127);
    const __mmask16 there = _mm512_cmp_ps_mask(peak, _mm512_set1_ps(0x1p-100f), _CMP_NLT_UQ);
    const __m512 d = _mm512_maskz_div_ps(there, peak, top);
    float inverse[16];
    _mm512_storeu_ps(inverse, _mm512_maskz_div_ps(there, top, peak));
    for (int b = 0; b < 16; b += 2) {
        const __m512i codes = codes_of(x + 32 * b, _mm512_set1_ps(inverse[b]), _mm512_set1_ps(inverse[b + 1]));
        _mm512_storeu_si512(to.q + 32 * b, codes);
        quads[b / 2] = _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi8(1), codes), _mm512_set1_epi16(1));
    }
    const __m512i h0 = sums_of_halves(quads), h1 = sums_of_halves(quads + 4);
    _mm256_storeu_si256((__m256i *)to.h, _mm512_cvtepi32_epi16(h0));
    _mm256_storeu_si256((__m256i *)(to.h + 16), _mm512_cvtepi32_epi16(h1));
    const __m512i sum =
        _mm512_add_epi32(_mm512_permutex2var_epi32(h0, even, h1), _mm512_permutex2var_epi32(h0, odd, h1));
    _mm512_storeu_ps(to.d, d);
    _mm512_storeu_ps(to.s, _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum)));
}

INLINE void one_block(const float *x, struct arrays to)
{
    const __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
    const float peak = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
    const bool zero = peak < 0x1p-100f;
    const __m512 inverse = _mm512_set1_ps(zero ? 0 : 127 / peak);
    const __m512i c0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, inverse));
    const __m512i c1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, inverse));
    _mm_storeu_si128((__m128i *)to.q, _mm512_cvtepi32_epi8(c0));
    _mm_storeu_si128((__m128i *)(to.q + 16), _mm512_cvtepi32_epi8(c1));
    const int h0 = _mm512_reduce_add_epi32(c0), h1 = _mm512_reduce_add_epi32(c1);
    *to.d = zero ? 0 : peak / 127;
    *to.s = *to.d * (float)(h0 + h1);
    to.h[0] = (int16_t)h0;
    to.h[1] = (int16_t)h1;
}

void fm__q8a_quantise_row_avx512(const float *x, int64_t K, void *dst)
{
    struct arrays to = {dst, (float *)fm__q8a_d(dst, K), (float *)fm__q8a_s(dst, K), (int16_t *)fm__q8a_h(dst, K)};
    int64_t b = 0;
    for (; b + 16 <= K / 32; b += 16)
        sixteen_blocks(x + 32 * b, (struct arrays){to.q + 32 * b, to.d + b, to.s + b, to.h + 2 * b});
    for (; b < K / 32; b++) one_block(x + 32 * b, (struct arrays){to.q + 32 * b, to.d + b, to.s + b, to.h + 2 * b});
}

// Rows to q8r.
void fm__q8r_quantise_row_avx512(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    __m512 peaks = _mm512_setzero_ps();
    for (int64_t i = 0; i < K; i += 16) peaks = _mm512_max_ps(peaks, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    const float peak = _mm512_reduce_max_ps(peaks);
    const bool zero = peak < 0x1p-100f;
    const float d = zero ? 0 : peak / 127;
    const __m512 inverse = _mm512_set1_ps(zero ? 0 : 127 / peak);
    for (int64_t i = 0; i < K; i += 16) {
        const __m512i c = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
        _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtepi32_epi8(c));
    }
    memset(q + K, 0, (size_t)K / 8);
    memcpy(q + K, &d, sizeof d);
}

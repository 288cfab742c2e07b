// SPDX-License-Identifier: MIT
// The vector vocabulary of the linear kernels in 256 bits: see vec_avx512.h.
#ifndef FM_DEVICE_CPU_VEC_AVX2_H
#define FM_DEVICE_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "device/cpu/vec_common.h"

enum { VL = 8, GEMM_ROWS = 4, F32_ROWS = 6 };
#define F32_PANELS 1 // of 16 outputs, that the f32 kernel holds in registers for F32_ROWS rows
typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vb;

INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}
INLINE vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf vf_from_i32(vi v)
{
    return _mm256_cvtepi32_ps(v);
}
INLINE vf vf_from_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE vf vf_neg(vf v)
{
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.f));
}
INLINE vf vf_from_bf16_pair(const void *p, int odd)
{
    const vi v = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000))
                                   : _mm256_slli_epi32(v, 16));
}
INLINE vi vi_bf16_of(vf v)
{
    const vi bits = _mm256_castps_si256(v), quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const vi odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const vi rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const vi nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_and_si256(_mm256_blendv_epi8(rounded, quiet, nan), _mm256_set1_epi32((int)0xffff0000));
}

INLINE vf vf_bits(vi v)
{
    return _mm256_castsi256_ps(v);
}

// VL / 4 quads of f32, of rows `stride` bytes apart; pairs of elements of a and b, pairs of pairs, within each quad
INLINE vf vf_quads(const void *p, size_t stride)
{
    const vf v = _mm256_castps128_ps256(_mm_loadu_ps(p));
    return _mm256_insertf128_ps(v, _mm_loadu_ps((const float *)((const char *)p + stride)), 1);
}
INLINE vf vf_low(vf a, vf b)
{
    return _mm256_unpacklo_ps(a, b);
}
INLINE vf vf_high(vf a, vf b)
{
    return _mm256_unpackhi_ps(a, b);
}
INLINE vf vf_low_pairs(vf a, vf b)
{
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
INLINE vf vf_high_pairs(vf a, vf b)
{
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}
INLINE vi vi_set1(int x)
{
    return _mm256_set1_epi32(x);
}
INLINE vi vi_shr(vi v, int n)
{
    return _mm256_srli_epi32(v, n);
}
INLINE vi vi_shl(vi v, int n)
{
    return _mm256_slli_epi32(v, n);
}
INLINE vi vi_sar(vi v, int n)
{
    return _mm256_srai_epi32(v, n);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
INLINE vi vi_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
INLINE vi vi_from_u16(const void *p)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE vb vb_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE void vb_store(void *p, vb v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}
INLINE vb vb_or(vb a, vb b)
{
    return _mm256_or_si256(a, b);
}
INLINE vb vb_right(vb v, int n, int mask)
{
    return _mm256_and_si256(n ? _mm256_srli_epi16(v, n) : v, _mm256_set1_epi8((char)mask));
}
INLINE vb vb_left(vb v, int n, int mask)
{
    return _mm256_and_si256(n ? _mm256_slli_epi16(v, n) : v, _mm256_set1_epi8((char)mask));
}
INLINE vb vb_lookup(const int8_t table[16], vb index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), index);
}

enum { NARROW_SIGNED = 0, WIDE_SIGNED = 1 };
INLINE vb vb_narrow(vb v, int offset)
{
    (void)offset;
    return v;
}
INLINE vb vb_wide(vb v)
{
    return v;
}

INLINE vi vi_offset(const int16_t *h, vi pair)
{
    return _mm256_madd_epi16(_mm256_set1_epi32(load_word(h)), pair);
}

// Sums of 16 bits may not saturate: pairs of products are at most 2 * 127 * code, so that `group` of them fit.
INLINE vi dot(int n, const vb *w, const int8_t *a, vi t, int bits)
{
    const vi ones = _mm256_set1_epi16(1);
    const int fit = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1, group = fit < n ? fit : n;
#pragma GCC unroll 8
    for (int i = 0; i < n; i += group) {
        vi sum = vi_zero();
#pragma GCC unroll 8
        for (int j = i; j < i + group; j++) {
            vi x = _mm256_set1_epi32(load_word(a + 4 * j)), codes = w[j];
            if (bits == 8) { // |w| * (sign(w) x): 2 * 128 * 127 fits
                x = _mm256_sign_epi8(x, codes);
                codes = _mm256_abs_epi8(codes);
            }
            const vi products = _mm256_maddubs_epi16(codes, x);
            sum = j == i ? products : _mm256_add_epi16(sum, products);
        }
        t = _mm256_add_epi32(t, _mm256_madd_epi16(sum, ones));
    }
    return t;
}
INLINE void dot_rows(int n_rows, int n, const uint8_t *w, struct row_codes a, vi *t, int bits)
{
    vb codes[8];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) codes[i] = vb_load(w + 64 * i);
#pragma GCC unroll 16
    for (int r = 0; r < n_rows; r++) t[r] = dot(n, codes, a.at + (size_t)r * a.stride, t[r], bits);
}

#endif

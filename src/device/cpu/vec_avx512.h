// SPDX-License-Identifier: MIT
// The vector vocabulary of the linear kernels in 512 bits (vec_avx2.h, vec_neon.h say the same words narrower): VL
// lanes of f32 or i32, or 4 VL codes of a byte. Included by kernel files only; everything is static.
//
// Codes as the dot product wants them: unsigned with the offset taken out afterwards (VNNI, and maddubs for codes below
// 64), or signed. FM__RAW_CODES asks for wide ones signed, narrow ones unsigned (AMX).
#ifndef FM_DEVICE_CPU_VEC_AVX512_H
#define FM_DEVICE_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "device/cpu/vec_common.h"

enum { VL = 16, GEMM_ROWS = 8, F32_ROWS = 8 };
#define F32_PANELS 3 // of 16 outputs, that the f32 kernel holds in registers for F32_ROWS rows
typedef __m512 vf;
typedef __m512i vi;
typedef __m512i vb;

INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_from_i32(vi v)
{
    return _mm512_cvtepi32_ps(v);
}
INLINE vf vf_from_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf vf_neg(vf v)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32((int)0x80000000)));
}
// element 0 or 1 of VL pairs of bf16
INLINE vf vf_from_bf16_pair(const void *p, int odd)
{
    const vi v = _mm512_loadu_si512(p);
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000))
                                   : _mm512_slli_epi32(v, 16));
}
// rounded to bf16 (nearest even, NaNs quiet), in the upper halves of the lanes
INLINE vi vi_bf16_of(vf v)
{
    const vi bits = _mm512_castps_si512(v);
    const vi odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const vi rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_and_si512(_mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000)),
                            _mm512_set1_epi32((int)0xffff0000));
}

INLINE vf vf_bits(vi v)
{
    return _mm512_castsi512_ps(v);
}

// VL / 4 quads of f32, of rows `stride` bytes apart; pairs of elements of a and b, pairs of pairs, within each quad
INLINE vf vf_quads(const void *p, size_t stride)
{
    const char *at = p;
    vf v = _mm512_castps128_ps512(_mm_loadu_ps((const float *)at));
    v = _mm512_insertf32x4(v, _mm_loadu_ps((const float *)(at + stride)), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps((const float *)(at + 2 * stride)), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps((const float *)(at + 3 * stride)), 3);
}
INLINE vf vf_low(vf a, vf b)
{
    return _mm512_unpacklo_ps(a, b);
}
INLINE vf vf_high(vf a, vf b)
{
    return _mm512_unpackhi_ps(a, b);
}
INLINE vf vf_low_pairs(vf a, vf b)
{
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
INLINE vf vf_high_pairs(vf a, vf b)
{
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
INLINE vi vi_set1(int x)
{
    return _mm512_set1_epi32(x);
}
INLINE vi vi_shr(vi v, int n)
{
    return _mm512_srli_epi32(v, (unsigned)n);
}
INLINE vi vi_shl(vi v, int n)
{
    return _mm512_slli_epi32(v, (unsigned)n);
}
INLINE vi vi_sar(vi v, int n)
{
    return _mm512_srai_epi32(v, (unsigned)n);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
// VL halves, zero-extended
INLINE vi vi_from_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

INLINE vb vb_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void vb_store(void *p, vb v)
{
    _mm512_storeu_si512(p, v);
}
INLINE vb vb_or(vb a, vb b)
{
    return _mm512_or_si512(a, b);
}
// (v >> n) & mask, (v << n) & mask in every byte
INLINE vb vb_right(vb v, int n, int mask)
{
    return _mm512_and_si512(n ? _mm512_srli_epi16(v, (unsigned)n) : v, _mm512_set1_epi8((char)mask));
}
INLINE vb vb_left(vb v, int n, int mask)
{
    return _mm512_and_si512(n ? _mm512_slli_epi16(v, (unsigned)n) : v, _mm512_set1_epi8((char)mask));
}
INLINE vb vb_lookup(const int8_t table[16], vb index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), index);
}

#if defined(FM__RAW_CODES)
enum { NARROW_SIGNED = 0, WIDE_SIGNED = 1 };
#elif defined(__AVX512VNNI__)
enum { NARROW_SIGNED = 0, WIDE_SIGNED = 0 };
#else
enum { NARROW_SIGNED = 0, WIDE_SIGNED = 1 };
#endif
// codes 0 … 63 that stand for code - offset; signed codes of 8 bits
INLINE vb vb_narrow(vb v, int offset)
{
    return NARROW_SIGNED && offset ? _mm512_sub_epi8(v, _mm512_set1_epi8((char)offset)) : v;
}
INLINE vb vb_wide(vb v)
{
    return WIDE_SIGNED ? v : _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80));
}

// -offset * (h0 + h1) for a pair of (-offset, -offset): what unsigned codes counted too much
INLINE vi vi_offset(const int16_t *h, vi pair)
{
    return _mm512_madd_epi16(_mm512_set1_epi32(load_word(h)), pair);
}

#if defined(__AVX512VNNI__)
// t += n quads of codes (64 bytes apart at w) times each row's 4 n codes
INLINE void dot_rows(int n_rows, int n, const uint8_t *w, struct row_codes a, vi *t, int bits)
{
    (void)bits;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        const vb codes = vb_load(w + 64 * i);
#pragma GCC unroll 16
        for (int r = 0; r < n_rows; r++)
            t[r] = _mm512_dpbusd_epi32(t[r], codes, _mm512_set1_epi32(load_word(a.at + (size_t)r * a.stride + 4 * i)));
    }
}
INLINE vi dot(int n, const vb *w, const int8_t *a, vi t, int bits)
{
    (void)bits;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) t = _mm512_dpbusd_epi32(t, w[i], _mm512_set1_epi32(load_word(a + 4 * i)));
    return t;
}
#else
// Sums of 16 bits may not saturate: pairs of products are at most 2 * 127 * code, so that `group` of them fit.
INLINE vi dot(int n, const vb *w, const int8_t *a, vi t, int bits)
{
    const vi ones = _mm512_set1_epi16(1);
    const int fit = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1, group = fit < n ? fit : n;
#pragma GCC unroll 8
    for (int i = 0; i < n; i += group) {
        vi sum = vi_zero();
#pragma GCC unroll 8
        for (int j = i; j < i + group; j++) {
            vi x = _mm512_set1_epi32(load_word(a + 4 * j)), codes = w[j];
            if (bits == 8) { // |w| * (sign(w) x): 2 * 128 * 127 fits
                x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(codes), vi_zero(), x);
                codes = _mm512_abs_epi8(codes);
            }
            const vi products = _mm512_maddubs_epi16(codes, x);
            sum = j == i ? products : _mm512_add_epi16(sum, products);
        }
        t = _mm512_add_epi32(t, _mm512_madd_epi16(sum, ones));
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

#endif

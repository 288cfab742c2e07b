// SPDX-License-Identifier: MIT
// Sixteen lanes in 512 bits: the vocabulary of the small kernels. vmath_avx2.h says the same words with two registers,
// so that one source gives the same bytes at every level. Included by kernel files only; everything is static.
#ifndef FM_DEVICE_CPU_VMATH_AVX512_H
#define FM_DEVICE_CPU_VMATH_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define V16 static inline __attribute__((always_inline, unused))

typedef __m512 v16;
typedef __mmask16 m16; // a truth a lane
typedef struct {
    __m512d a, b; // lanes 0-7, 8-15
} d16;

V16 m16 first_lanes(int n) // n in 1 … 16
{
    return (m16)((1u << n) - 1);
}
V16 v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}
V16 v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V16 v16 v16_load_n(const float *p, int n)
{
    return n == 16 ? v16_load(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    if (n == 16)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
V16 v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
V16 v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
V16 v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
V16 v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
V16 v16 v16_sqrt(v16 v)
{
    return _mm512_sqrt_ps(v);
}
V16 v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V16 v16 v16_round(v16 v)
{
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
V16 v16 v16_and(v16 a, v16 b)
{
    return _mm512_and_ps(a, b);
}
V16 v16 v16_or(v16 a, v16 b)
{
    return _mm512_or_ps(a, b);
}
V16 v16 v16_xor(v16 a, v16 b)
{
    return _mm512_xor_ps(a, b);
}
V16 m16 v16_ge(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
V16 m16 v16_gt(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
V16 m16 v16_is_nan(v16 a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
V16 v16 v16_select(m16 m, v16 yes, v16 no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}
V16 v16 v16_keep(m16 m, v16 v)
{
    return _mm512_maskz_mov_ps(m, v);
}
// 2^n for whole n in [-126, 127]
V16 v16 v16_power(v16 n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
// p[0] p[0] p[1] p[1] … p[7] p[7]
V16 v16 v16_load_twice(const float *p)
{
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
// lanes 1 0 3 2 …
V16 v16 v16_swap_pairs(v16 v)
{
    return _mm512_permute_ps(v, 0xb1);
}
// Lane i of r[j] becomes lane j of r[i].
V16 void v16_turn(v16 r[16])
{
    v16 t[16], u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) { // of rows 4g … 4g + 3: u[4g + c] holds columns c, 4 + c, 8 + c, 12 + c
        const int from = i / 4 * 4 + i / 2 % 2;
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[from]), _mm512_castps_pd(t[from + 2])));
        u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[from]), _mm512_castps_pd(t[from + 2])));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const v16 even0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88), odd0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
        const v16 even1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
        const v16 odd1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
        r[c] = _mm512_shuffle_f32x4(even0, even1, 0x88);
        r[4 + c] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
        r[12 + c] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}

V16 d16 d16_set1(double x)
{
    return (d16){_mm512_set1_pd(x), _mm512_set1_pd(x)};
}
V16 d16 d16_from(v16 v)
{
    return (d16){_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
}
V16 d16 d16_add(d16 x, d16 y)
{
    return (d16){_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)};
}
V16 d16 d16_sub(d16 x, d16 y)
{
    return (d16){_mm512_sub_pd(x.a, y.a), _mm512_sub_pd(x.b, y.b)};
}
V16 d16 d16_mul(d16 x, d16 y)
{
    return (d16){_mm512_mul_pd(x.a, y.a), _mm512_mul_pd(x.b, y.b)};
}
V16 v16 d16_to_f32(d16 x)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.a)), _mm512_cvtpd_ps(x.b), 1);
}
V16 d16 d16_keep_n(d16 x, int n) // lanes from n on become 0
{
    m16 m = first_lanes(n);
    return (d16){_mm512_maskz_mov_pd((__mmask8)m, x.a), _mm512_maskz_mov_pd((__mmask8)(m >> 8), x.b)};
}
V16 double d16_sum(d16 x) // the order of fm__fn_sum16
{
    __m512d s = _mm512_add_pd(x.a, x.b);
    __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(s), _mm512_extractf64x4_pd(s, 1));
    __m128d p = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(p) + _mm_cvtsd_f64(_mm_unpackhi_pd(p, p));
}

// 16 halves; NaN stays NaN, quiet
V16 void v16_store_f16(uint16_t *p, v16 v, int n)
{
    __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, first_lanes(n), h);
}
V16 void v16_store_bf16(uint16_t *p, v16 v, int n)
{
    const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i h = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
    h = _mm512_mask_or_epi32(h, v16_is_nan(v), high, _mm512_set1_epi32(0x40));
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(h));
}

// Sixteen words of 32 bits.
typedef __m512i w16;
V16 w16 w16_set1(uint32_t x)
{
    return _mm512_set1_epi32((int32_t)x);
}
V16 w16 w16_count(uint32_t first) // first, first + 1, …
{
    return _mm512_add_epi32(w16_set1(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
V16 w16 w16_xor(w16 x, w16 y)
{
    return _mm512_xor_si512(x, y);
}
V16 w16 w16_multiply(w16 x, uint32_t m, w16 *high) // the low words of the products
{
    const w16 factor = w16_set1(m), even = _mm512_mul_epu32(x, factor);
    const w16 odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
V16 m16 w16_ge(w16 x, w16 y)
{
    return _mm512_cmpge_epu32_mask(x, y);
}

#include "device/cpu/vmath.h"

#endif

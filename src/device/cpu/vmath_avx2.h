// SPDX-License-Identifier: MIT
// Sixteen lanes in two registers of 256 bits: see vmath_avx512.h.
#ifndef FM_DEVICE_CPU_VMATH_AVX2_H
#define FM_DEVICE_CPU_VMATH_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define V16 static inline __attribute__((always_inline, unused))

typedef struct {
    __m256 a, b; // lanes 0-7, 8-15
} v16;
typedef v16 m16; // a truth a lane: all bits or none
typedef struct {
    __m256d a, b, c, d; // four lanes each
} d16;

V16 __m256i first_lanes(int n) // the first n of eight; all for n > 7, none for n < 1
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V16 v16 v16_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
V16 v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V16 v16 v16_load_n(const float *p, int n)
{
    if (n == 16) return v16_load(p);
    return (v16){_mm256_maskload_ps(p, first_lanes(n)), _mm256_maskload_ps(p + 8, first_lanes(n - 8))};
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    if (n == 16) {
        _mm256_storeu_ps(p, v.a);
        _mm256_storeu_ps(p + 8, v.b);
    } else {
        _mm256_maskstore_ps(p, first_lanes(n), v.a);
        _mm256_maskstore_ps(p + 8, first_lanes(n - 8), v.b);
    }
}
V16 v16 v16_add(v16 x, v16 y)
{
    return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
V16 v16 v16_sub(v16 x, v16 y)
{
    return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
V16 v16 v16_mul(v16 x, v16 y)
{
    return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
V16 v16 v16_div(v16 x, v16 y)
{
    return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
V16 v16 v16_sqrt(v16 v)
{
    return (v16){_mm256_sqrt_ps(v.a), _mm256_sqrt_ps(v.b)};
}
V16 v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
V16 v16 v16_round(v16 v)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (v16){_mm256_round_ps(v.a, NEAREST), _mm256_round_ps(v.b, NEAREST)};
}
V16 v16 v16_and(v16 x, v16 y)
{
    return (v16){_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)};
}
V16 v16 v16_or(v16 x, v16 y)
{
    return (v16){_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)};
}
V16 v16 v16_xor(v16 x, v16 y)
{
    return (v16){_mm256_xor_ps(x.a, y.a), _mm256_xor_ps(x.b, y.b)};
}
V16 m16 v16_ge(v16 x, v16 y)
{
    return (m16){_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
}
V16 m16 v16_gt(v16 x, v16 y)
{
    return (m16){_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)};
}
V16 m16 v16_is_nan(v16 x)
{
    return (m16){_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
V16 v16 v16_select(m16 m, v16 yes, v16 no)
{
    return (v16){_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}
V16 v16 v16_keep(m16 m, v16 v)
{
    return v16_and(m, v);
}
V16 __m256 power8(__m256 n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
V16 v16 v16_power(v16 n)
{
    return (v16){power8(n.a), power8(n.b)};
}
V16 v16 v16_load_twice(const float *p)
{
    const __m256 v = _mm256_loadu_ps(p);
    return (v16){_mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
                 _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
V16 v16 v16_swap_pairs(v16 v)
{
    return (v16){_mm256_permute_ps(v.a, 0xb1), _mm256_permute_ps(v.b, 0xb1)};
}
// Lane i of r[j] becomes lane j of r[i], eight of eight.
V16 void turn8(__m256 r[8])
{
    __m256 t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) { // of rows 4g … 4g + 3: u[4g + c] holds columns c and 4 + c
        const int from = i / 4 * 4 + i / 2 % 2;
        u[i] = _mm256_shuffle_ps(t[from], t[from + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[from], t[from + 2], 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        r[c] = _mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
        r[4 + c] = _mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
    }
}
V16 void v16_turn(v16 r[16])
{
    __m256 q[4][8]; // quarters: rows below 8 and from 8 on, of lanes below 8; the same of lanes from 8 on
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) q[0][i] = r[i].a, q[1][i] = r[8 + i].a, q[2][i] = r[i].b, q[3][i] = r[8 + i].b;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) turn8(q[i]);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) r[i] = (v16){q[0][i], q[1][i]}, r[8 + i] = (v16){q[2][i], q[3][i]};
}

V16 __m256d low_pd(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}
V16 __m256d high_pd(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}
V16 d16 d16_set1(double x)
{
    const __m256d v = _mm256_set1_pd(x);
    return (d16){v, v, v, v};
}
V16 d16 d16_from(v16 v)
{
    return (d16){low_pd(v.a), high_pd(v.a), low_pd(v.b), high_pd(v.b)};
}
V16 d16 d16_add(d16 x, d16 y)
{
    return (d16){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b), _mm256_add_pd(x.c, y.c), _mm256_add_pd(x.d, y.d)};
}
V16 d16 d16_sub(d16 x, d16 y)
{
    return (d16){_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b), _mm256_sub_pd(x.c, y.c), _mm256_sub_pd(x.d, y.d)};
}
V16 d16 d16_mul(d16 x, d16 y)
{
    return (d16){_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b), _mm256_mul_pd(x.c, y.c), _mm256_mul_pd(x.d, y.d)};
}
V16 v16 d16_to_f32(d16 x)
{
    return (v16){_mm256_set_m128(_mm256_cvtpd_ps(x.b), _mm256_cvtpd_ps(x.a)),
                 _mm256_set_m128(_mm256_cvtpd_ps(x.d), _mm256_cvtpd_ps(x.c))};
}
V16 __m256d keep4(__m256d v, int n)
{
    const __m256i m = _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
    return _mm256_and_pd(v, _mm256_castsi256_pd(m));
}
V16 d16 d16_keep_n(d16 x, int n)
{
    return (d16){keep4(x.a, n), keep4(x.b, n - 4), keep4(x.c, n - 8), keep4(x.d, n - 12)};
}
V16 double d16_sum(d16 x) // the order of fm__fn_sum16
{
    const __m256d q = _mm256_add_pd(_mm256_add_pd(x.a, x.c), _mm256_add_pd(x.b, x.d));
    const __m128d p = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(p) + _mm_cvtsd_f64(_mm_unpackhi_pd(p, p));
}

V16 void store_halves(uint16_t *p, __m128i a, __m128i b, int n)
{
    if (n == 16) {
        _mm_storeu_si128((__m128i *)p, a);
        _mm_storeu_si128((__m128i *)(p + 8), b);
        return;
    }
    uint16_t h[16];
    _mm_storeu_si128((__m128i *)h, a);
    _mm_storeu_si128((__m128i *)(h + 8), b);
    for (int i = 0; i < n; i++) p[i] = h[i];
}
V16 void v16_store_f16(uint16_t *p, v16 v, int n)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    store_halves(p, _mm256_cvtps_ph(v.a, NEAREST), _mm256_cvtps_ph(v.b, NEAREST), n);
}
V16 __m128i bf16_of(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i h = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    h = _mm256_blendv_epi8(h, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}
V16 void v16_store_bf16(uint16_t *p, v16 v, int n)
{
    store_halves(p, bf16_of(v.a), bf16_of(v.b), n);
}

typedef struct {
    __m256i a, b;
} w16;
V16 w16 w16_set1(uint32_t x)
{
    return (w16){_mm256_set1_epi32((int32_t)x), _mm256_set1_epi32((int32_t)x)};
}
V16 w16 w16_count(uint32_t first)
{
    const __m256i v = _mm256_add_epi32(_mm256_set1_epi32((int32_t)first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return (w16){v, _mm256_add_epi32(v, _mm256_set1_epi32(8))};
}
V16 w16 w16_xor(w16 x, w16 y)
{
    return (w16){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
V16 __m256i multiply8(__m256i x, __m256i factor, __m256i *high)
{
    const __m256i even = _mm256_mul_epu32(x, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
V16 w16 w16_multiply(w16 x, uint32_t m, w16 *high)
{
    const __m256i factor = _mm256_set1_epi32((int32_t)m);
    w16 low;
    low.a = multiply8(x.a, factor, &high->a);
    low.b = multiply8(x.b, factor, &high->b);
    return low;
}
V16 __m256 ge8(__m256i x, __m256i y)
{
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(x, y), x));
}
V16 m16 w16_ge(w16 x, w16 y)
{
    return (m16){ge8(x.a, y.a), ge8(x.b, y.b)};
}

#include "device/cpu/vmath.h"

#endif

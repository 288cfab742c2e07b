// SPDX-License-Identifier: MIT
// The vector vocabulary of the linear kernels in 128 bits, for neon, dotprod and i8mm: see vec_avx512.h. Codes are
// signed at all three: their products take two signed operands.
#ifndef FM_DEVICE_CPU_VEC_NEON_H
#define FM_DEVICE_CPU_VEC_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "device/cpu/vec_common.h"

enum { VL = 4, GEMM_ROWS = 8, F32_ROWS = 6 };
#define F32_PANELS 1 // of 16 outputs: 24 of the 32 registers for F32_ROWS rows
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef int32x4_t vb;

INLINE vf vf_zero(void)
{
    return vdupq_n_f32(0);
}
INLINE vf vf_set1(float x)
{
    return vdupq_n_f32(x);
}
INLINE vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
INLINE void vf_store(float *p, vf v)
{
    vst1q_f32(p, v);
}
INLINE vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
INLINE vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
INLINE vf vf_from_i32(vi v)
{
    return vcvtq_f32_s32(v);
}
INLINE vf vf_from_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
INLINE vf vf_neg(vf v)
{
    return vnegq_f32(v);
}

// VL / 4 quads of f32, of rows `stride` bytes apart; pairs of elements of a and b, pairs of pairs, within each quad
INLINE vf vf_quads(const void *p, size_t stride)
{
    (void)stride;
    return vld1q_f32(p);
}
INLINE vf vf_low(vf a, vf b)
{
    return vzip1q_f32(a, b);
}
INLINE vf vf_high(vf a, vf b)
{
    return vzip2q_f32(a, b);
}
INLINE vf vf_low_pairs(vf a, vf b)
{
    return vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
INLINE vf vf_high_pairs(vf a, vf b)
{
    return vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}

INLINE vi vi_zero(void)
{
    return vdupq_n_s32(0);
}
INLINE vi vi_set1(int x)
{
    return vdupq_n_s32(x);
}
// GNU C's shifts become immediate ones where n is known; the intrinsics want that from everybody, always
INLINE uint32x4_t as_words(vi v)
{
    return vreinterpretq_u32_s32(v);
}
INLINE vi vi_shr(vi v, int n)
{
    return vreinterpretq_s32_u32(as_words(v) >> (unsigned)n);
}
INLINE vi vi_shl(vi v, int n)
{
    return v << n;
}
INLINE vi vi_sar(vi v, int n)
{
    return v >> n;
}
INLINE vi vi_and(vi a, vi b)
{
    return vandq_s32(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return vorrq_s32(a, b);
}
INLINE vi vi_sub(vi a, vi b)
{
    return vsubq_s32(a, b);
}
INLINE vi vi_from_u16(const void *p)
{
    return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))));
}

INLINE int8x16_t as_bytes(vb v)
{
    return vreinterpretq_s8_s32(v);
}
INLINE vb vb_load(const void *p)
{
    return vreinterpretq_s32_u8(vld1q_u8(p));
}
INLINE void vb_store(void *p, vb v)
{
    vst1q_u8(p, vreinterpretq_u8_s32(v));
}
INLINE vb vb_or(vb a, vb b)
{
    return vorrq_s32(a, b);
}
INLINE vb vb_right(vb v, int n, int mask) // what comes from the byte beside is masked out
{
    return vandq_s32(vi_shr(v, n), vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)mask)));
}
INLINE vb vb_left(vb v, int n, int mask)
{
    return vandq_s32(vi_shl(v, n), vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)mask)));
}
INLINE vb vb_lookup(const int8_t table[16], vb index)
{
    return vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_s32(index)));
}
INLINE vf vf_bits(vi v)
{
    return vreinterpretq_f32_s32(v);
}
INLINE vf vf_from_bf16_pair(const void *p, int odd)
{
    const vi v = vb_load(p);
    return vreinterpretq_f32_s32(odd ? vandq_s32(v, vdupq_n_s32((int)0xffff0000)) : vshlq_n_s32(v, 16));
}

enum { NARROW_SIGNED = 1, WIDE_SIGNED = 1 };
INLINE vb vb_narrow(vb v, int offset)
{
    return offset ? vreinterpretq_s32_s8(vsubq_s8(as_bytes(v), vdupq_n_s8((int8_t)offset))) : v;
}
INLINE vb vb_wide(vb v)
{
    return v;
}

// Signed codes stand for themselves: the offset is 0 for every type.
INLINE vi vi_offset(const int16_t *h, vi pair)
{
    (void)h, (void)pair;
    return vi_zero();
}

#if defined(__ARM_FEATURE_DOTPROD)

// t += n quads of codes (4 outputs each) times the row's 4 n codes at a; n is 4 or 8
INLINE vi dot(int n, const vb *w, const int8_t *a, vi t, int bits)
{
    (void)bits;
#pragma GCC unroll 2
    for (int i = 0; i < n; i += 4) {
        const int8x16_t x = vld1q_s8(a + 4 * i);
        t = vdotq_laneq_s32(t, as_bytes(w[i]), x, 0);
        t = vdotq_laneq_s32(t, as_bytes(w[i + 1]), x, 1);
        t = vdotq_laneq_s32(t, as_bytes(w[i + 2]), x, 2);
        t = vdotq_laneq_s32(t, as_bytes(w[i + 3]), x, 3);
    }
    return t;
}

#else

// Products of bytes in 16 bits: |code| <= 128, |x| <= 127, so that two of 8 bits fit, and eight of 6 bits (at most 32
// from zero) or of 5 (at most 31).
INLINE vi dot(int n, const vb *w, const int8_t *a, vi t, int bits)
{
    const int group = bits == 8 ? 2 : n;
#pragma GCC unroll 4
    for (int i = 0; i < n; i += group) {
        int16x8_t low = vdupq_n_s16(0), high = low; // outputs 0, 1 and 2, 3: four products each
#pragma GCC unroll 8
        for (int j = i; j < i + group; j++) {
            int32_t four;
            memcpy(&four, a + 4 * j, 4);
            const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four)), codes = as_bytes(w[j]);
            low = vmlal_s8(low, vget_low_s8(codes), vget_low_s8(x));
            high = vmlal_high_s8(high, codes, x);
        }
        t = vaddq_s32(t, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
    }
    return t;
}

#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)

INLINE int8x16_t two_rows(const int8_t *a, const int8_t *b)
{
    return vcombine_s8(vld1_s8(a), vld1_s8(b));
}

// A product of 2x8 codes (two outputs) with 2x8 activations (two rows) at a time: t01 is [output][row] of outputs 0 and
// 1, t23 of 2 and 3.
INLINE void dot_rows(int n_rows, int n, const uint8_t *w, struct row_codes a, vi *t, int bits)
{
    if (n_rows == 1) {
        vb codes[8];
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) codes[i] = vb_load(w + 64 * i);
        t[0] = dot(n, codes, a.at, t[0], bits);
        return;
    }
    vi t01[4], t23[4];
#pragma GCC unroll 4
    for (int r = 0; r < n_rows / 2; r++) t01[r] = t23[r] = vi_zero();
#pragma GCC unroll 4
    for (int i = 0; i < n; i += 2) {
        const vb k0 = vb_load(w + 64 * i), k4 = vb_load(w + 64 * i + 64);
        const int8x16_t w01 = as_bytes(vzip1q_s32(k0, k4)), w23 = as_bytes(vzip2q_s32(k0, k4));
#pragma GCC unroll 4
        for (int r = 0; r < n_rows / 2; r++) {
            const int8_t *row = a.at + (size_t)(2 * r) * a.stride + 4 * i;
            const int8x16_t x = two_rows(row, row + a.stride);
            t01[r] = vmmlaq_s32(t01[r], w01, x);
            t23[r] = vmmlaq_s32(t23[r], w23, x);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rows / 2; r++) {
        t[2 * r] = vaddq_s32(t[2 * r], vuzp1q_s32(t01[r], t23[r]));
        t[2 * r + 1] = vaddq_s32(t[2 * r + 1], vuzp2q_s32(t01[r], t23[r]));
    }
}

#else

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

// SPDX-License-Identifier: MIT
// Sixteen lanes in four registers of 128 bits: see vmath_avx512.h.
#ifndef FM_DEVICE_CPU_VMATH_NEON_H
#define FM_DEVICE_CPU_VMATH_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define V16 static inline __attribute__((always_inline, unused))

typedef struct {
    float32x4_t a, b, c, d; // lanes 0-3, 4-7, 8-11, 12-15
} v16;
typedef struct {
    uint32x4_t a, b, c, d;
} m16; // a truth a lane: all bits or none
typedef struct {
    float64x2_t v[8]; // two lanes each
} d16;

// one register's function on all four
#define EACH_4_OF_1(f, x) f((x).a), f((x).b), f((x).c), f((x).d)
#define EACH_4_OF_2(f, x, y) f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)
#define EACH_4_OF_3(f, x, y, z) \
    f((x).a, (y).a, (z).a), f((x).b, (y).b, (z).b), f((x).c, (y).c, (z).c), f((x).d, (y).d, (z).d)

V16 v16 v16_set1(float x)
{
    const float32x4_t v = vdupq_n_f32(x);
    return (v16){v, v, v, v};
}
V16 v16 v16_load(const float *p)
{
    return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
V16 v16 v16_load_n(const float *p, int n)
{
    if (n == 16) return v16_load(p);
    float last[16] = {0};
    memcpy(last, p, (size_t)n * sizeof *p);
    return v16_load(last);
}
V16 void v16_store(float *p, v16 v)
{
    vst1q_f32(p, v.a), vst1q_f32(p + 4, v.b), vst1q_f32(p + 8, v.c), vst1q_f32(p + 12, v.d);
}
V16 void v16_store_n(float *p, v16 v, int n)
{
    if (n == 16) {
        v16_store(p, v);
        return;
    }
    float last[16];
    v16_store(last, v);
    memcpy(p, last, (size_t)n * sizeof *p);
}
V16 v16 v16_add(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(vaddq_f32, x, y)};
}
V16 v16 v16_sub(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(vsubq_f32, x, y)};
}
V16 v16 v16_mul(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(vmulq_f32, x, y)};
}
V16 v16 v16_div(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(vdivq_f32, x, y)};
}
V16 v16 v16_sqrt(v16 v)
{
    return (v16){EACH_4_OF_1(vsqrtq_f32, v)};
}
V16 v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){EACH_4_OF_3(vfmaq_f32, z, x, y)};
}
V16 v16 v16_round(v16 v)
{
    return (v16){EACH_4_OF_1(vrndnq_f32, v)};
}

V16 float32x4_t and4(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
V16 float32x4_t or4(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
V16 float32x4_t xor4(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
V16 uint32x4_t nan4(float32x4_t x)
{
    return vmvnq_u32(vceqq_f32(x, x));
}
V16 float32x4_t keep4(uint32x4_t m, float32x4_t x)
{
    return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(x)));
}
V16 float32x4_t power4(float32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
V16 v16 v16_and(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(and4, x, y)};
}
V16 v16 v16_or(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(or4, x, y)};
}
V16 v16 v16_xor(v16 x, v16 y)
{
    return (v16){EACH_4_OF_2(xor4, x, y)};
}
V16 m16 v16_ge(v16 x, v16 y)
{
    return (m16){EACH_4_OF_2(vcgeq_f32, x, y)};
}
V16 m16 v16_gt(v16 x, v16 y)
{
    return (m16){EACH_4_OF_2(vcgtq_f32, x, y)};
}
V16 m16 v16_is_nan(v16 x)
{
    return (m16){EACH_4_OF_1(nan4, x)};
}
V16 v16 v16_select(m16 m, v16 yes, v16 no)
{
    return (v16){EACH_4_OF_3(vbslq_f32, m, yes, no)};
}
V16 v16 v16_keep(m16 m, v16 v)
{
    return (v16){EACH_4_OF_2(keep4, m, v)};
}
V16 v16 v16_power(v16 n)
{
    return (v16){EACH_4_OF_1(power4, n)};
}
V16 v16 v16_load_twice(const float *p)
{
    const float32x4_t x = vld1q_f32(p), y = vld1q_f32(p + 4);
    return (v16){vzip1q_f32(x, x), vzip2q_f32(x, x), vzip1q_f32(y, y), vzip2q_f32(y, y)};
}
V16 v16 v16_swap_pairs(v16 v)
{
    return (v16){EACH_4_OF_1(vrev64q_f32, v)};
}
// Lane i of r[j] becomes lane j of r[i], four of four.
V16 void turn4(float32x4_t *r0, float32x4_t *r1, float32x4_t *r2, float32x4_t *r3)
{
    const float64x2_t t0 = vreinterpretq_f64_f32(vtrn1q_f32(*r0, *r1)),
                      t1 = vreinterpretq_f64_f32(vtrn2q_f32(*r0, *r1));
    const float64x2_t t2 = vreinterpretq_f64_f32(vtrn1q_f32(*r2, *r3)),
                      t3 = vreinterpretq_f64_f32(vtrn2q_f32(*r2, *r3));
    *r0 = vreinterpretq_f32_f64(vtrn1q_f64(t0, t2)), *r1 = vreinterpretq_f32_f64(vtrn1q_f64(t1, t3));
    *r2 = vreinterpretq_f32_f64(vtrn2q_f64(t0, t2)), *r3 = vreinterpretq_f32_f64(vtrn2q_f64(t1, t3));
}
V16 void v16_turn(v16 r[16])
{
    v16 x[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { // blocks of rows i … i + 3, each in its place
        turn4(&r[i].a, &r[i + 1].a, &r[i + 2].a, &r[i + 3].a);
        turn4(&r[i].b, &r[i + 1].b, &r[i + 2].b, &r[i + 3].b);
        turn4(&r[i].c, &r[i + 1].c, &r[i + 2].c, &r[i + 3].c);
        turn4(&r[i].d, &r[i + 1].d, &r[i + 2].d, &r[i + 3].d);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { // then the blocks change places
        x[i] = (v16){r[i].a, r[4 + i].a, r[8 + i].a, r[12 + i].a};
        x[4 + i] = (v16){r[i].b, r[4 + i].b, r[8 + i].b, r[12 + i].b};
        x[8 + i] = (v16){r[i].c, r[4 + i].c, r[8 + i].c, r[12 + i].c};
        x[12 + i] = (v16){r[i].d, r[4 + i].d, r[8 + i].d, r[12 + i].d};
    }
    for (int i = 0; i < 16; i++) r[i] = x[i];
}

V16 d16 d16_set1(double x)
{
    const float64x2_t v = vdupq_n_f64(x);
    return (d16){{v, v, v, v, v, v, v, v}};
}
V16 d16 d16_from(v16 v)
{
    return (d16){{vcvt_f64_f32(vget_low_f32(v.a)), vcvt_high_f64_f32(v.a), vcvt_f64_f32(vget_low_f32(v.b)),
                  vcvt_high_f64_f32(v.b), vcvt_f64_f32(vget_low_f32(v.c)), vcvt_high_f64_f32(v.c),
                  vcvt_f64_f32(vget_low_f32(v.d)), vcvt_high_f64_f32(v.d)}};
}
V16 d16 d16_add(d16 x, d16 y)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) x.v[i] = vaddq_f64(x.v[i], y.v[i]);
    return x;
}
V16 d16 d16_sub(d16 x, d16 y)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) x.v[i] = vsubq_f64(x.v[i], y.v[i]);
    return x;
}
V16 d16 d16_mul(d16 x, d16 y)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) x.v[i] = vmulq_f64(x.v[i], y.v[i]);
    return x;
}
V16 v16 d16_to_f32(d16 x)
{
    return (v16){vcvt_high_f32_f64(vcvt_f32_f64(x.v[0]), x.v[1]), vcvt_high_f32_f64(vcvt_f32_f64(x.v[2]), x.v[3]),
                 vcvt_high_f32_f64(vcvt_f32_f64(x.v[4]), x.v[5]), vcvt_high_f32_f64(vcvt_f32_f64(x.v[6]), x.v[7])};
}
V16 d16 d16_keep_n(d16 x, int n)
{
    double lanes[16];
    for (int i = 0; i < 8; i++) vst1q_f64(lanes + 2 * i, x.v[i]);
    for (int i = n; i < 16; i++) lanes[i] = 0;
    for (int i = 0; i < 8; i++) x.v[i] = vld1q_f64(lanes + 2 * i);
    return x;
}
V16 double d16_sum(d16 x) // the order of fm__fn_sum16
{
    float64x2_t s[4];
    for (int i = 0; i < 4; i++) s[i] = vaddq_f64(x.v[i], x.v[i + 4]);
    const float64x2_t p = vaddq_f64(vaddq_f64(s[0], s[2]), vaddq_f64(s[1], s[3]));
    return vgetq_lane_f64(p, 0) + vgetq_lane_f64(p, 1);
}

V16 void store_halves(uint16_t *p, const uint16x4_t h[4], int n)
{
    if (n == 16) {
        for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, h[i]);
        return;
    }
    uint16_t last[16] = {0};
    for (int i = 0; i < 4; i++) vst1_u16(last + 4 * i, h[i]);
    memcpy(p, last, (size_t)n * sizeof *p);
}
V16 uint16x4_t f16_of(float32x4_t v)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(v));
}
V16 uint16x4_t bf16_of(float32x4_t v)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(v), high = vshrq_n_u32(bits, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t near = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, odd), vdupq_n_u32(0x7fff)), 16);
    return vmovn_u32(vbslq_u32(nan4(v), vorrq_u32(high, vdupq_n_u32(0x40)), near));
}
V16 void v16_store_f16(uint16_t *p, v16 v, int n)
{
    store_halves(p, (uint16x4_t[]){EACH_4_OF_1(f16_of, v)}, n);
}
V16 void v16_store_bf16(uint16_t *p, v16 v, int n)
{
    store_halves(p, (uint16x4_t[]){EACH_4_OF_1(bf16_of, v)}, n);
}

typedef struct {
    uint32x4_t a, b, c, d;
} w16;
V16 w16 w16_set1(uint32_t x)
{
    const uint32x4_t v = vdupq_n_u32(x);
    return (w16){v, v, v, v};
}
V16 w16 w16_count(uint32_t first)
{
    static const uint32_t steps[] = {0, 1, 2, 3};
    const uint32x4_t v = vaddq_u32(vdupq_n_u32(first), vld1q_u32(steps)), four = vdupq_n_u32(4);
    const uint32x4_t b = vaddq_u32(v, four), c = vaddq_u32(b, four);
    return (w16){v, b, c, vaddq_u32(c, four)};
}
V16 w16 w16_xor(w16 x, w16 y)
{
    return (w16){EACH_4_OF_2(veorq_u32, x, y)};
}
V16 uint32x4_t multiply4(uint32x4_t x, uint32_t m, uint32x4_t *high)
{
    const uint32x4_t low_pair = vreinterpretq_u32_u64(vmull_n_u32(vget_low_u32(x), m));
    const uint32x4_t high_pair = vreinterpretq_u32_u64(vmull_n_u32(vget_high_u32(x), m));
    *high = vuzp2q_u32(low_pair, high_pair);
    return vuzp1q_u32(low_pair, high_pair);
}
V16 w16 w16_multiply(w16 x, uint32_t m, w16 *high)
{
    w16 low;
    low.a = multiply4(x.a, m, &high->a), low.b = multiply4(x.b, m, &high->b);
    low.c = multiply4(x.c, m, &high->c), low.d = multiply4(x.d, m, &high->d);
    return low;
}
V16 m16 w16_ge(w16 x, w16 y)
{
    return (m16){EACH_4_OF_2(vcgeq_u32, x, y)};
}

#include "device/cpu/vmath.h"

#endif

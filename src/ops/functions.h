// SPDX-License-Identifier: MIT
// exp, sigmoid, tanh and the normal tail in f32: the one arithmetic that references and every vector kernel follow to
// the bit, so that a kernel is tested with memcmp. device/cpu/vmath.h says the same formulas in 16 lanes.
// How far each is from the true function is tested by tests/test_functions.c.
#ifndef FM_OPS_FUNCTIONS_H
#define FM_OPS_FUNCTIONS_H

#include <math.h>
#include <stdint.h>

#include "ops/attention.h" // fm__exp2's coefficients
#include "tensor/half.h"

#define FM__LOG2E_LOW 1.925963033500011079e-08f // log2(e) - FM__LOG2E

// exp(x) - 1 = scale - 1 + scale * part: 2^n with n = round(x log2 e), and f times the polynomial of fm__exp2.
// For x <= 0. log2(e) in two parts: one f32 would lose 2^-24 |x| of the result. 0 below 2^-126 and for NaN.
static inline void fm__fn_exp_parts(float x, float *scale, float *part)
{
    float n = rintf(x * FM__LOG2E), f = fmaf(x, FM__LOG2E_LOW, fmaf(x, FM__LOG2E, -n));
    float p = fmaf(FM__EXP2_C5, f, FM__EXP2_C4);
    p = fmaf(p, f, FM__EXP2_C3);
    p = fmaf(p, f, FM__EXP2_C2);
    p = fmaf(p, f, FM__EXP2_C1);
    *part = n >= -126.0f ? p * f : 0.0f;
    uint32_t bits = n >= -126.0f ? (uint32_t)((int32_t)n + 127) << 23 : 0;
    memcpy(scale, &bits, sizeof *scale);
}

static inline float fm__fn_exp(float x) // x <= 0
{
    float scale, part;
    fm__fn_exp_parts(x, &scale, &part);
    return fmaf(scale, part, scale);
}

// 1 / (1 + exp(-x)) by the exponential that cannot overflow.
static inline float fm__fn_sigmoid(float x)
{
    float e = fm__fn_exp(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

// -m / (2 + m) with m = exp(-2|x|) - 1, and the sign: no digits cancel near 0.
static inline float fm__fn_tanh(float x)
{
    float scale, part;
    fm__fn_exp_parts(-2.0f * fabsf(x), &scale, &part);
    float m = fmaf(scale, part, scale - 1.0f);
    return x != x ? x : copysignf(m / (2.0f + m), x);
}

// Phi(x), the normal distribution function: its tail at z = |x| is exp(-z^2 / 2) t P(t), t = 1 / (1 + 0.21 z); P is a
// weighted minimax fit of degree 8, relative error 1.4e-8.
#define FM__TAIL_T 0.21f
#define FM__TAIL_C0 0x1.56dde4p-4f
#define FM__TAIL_C1 0x1.5cb0a4p-4f
#define FM__TAIL_C2 0x1.19c3acp-4f
#define FM__TAIL_C3 0x1.02c65ep-3f
#define FM__TAIL_C4 -0x1.8e5116p-4f
#define FM__TAIL_C5 0x1.6a87aap-2f
#define FM__TAIL_C6 -0x1.5635b2p-2f
#define FM__TAIL_C7 0x1.244dd6p-2f
#define FM__TAIL_C8 -0x1.270d0ap-4f
static inline float fm__fn_normal(float x)
{
    float z = fabsf(x), t = 1.0f / fmaf(FM__TAIL_T, z, 1.0f);
    float p = fmaf(FM__TAIL_C8, t, FM__TAIL_C7);
    p = fmaf(p, t, FM__TAIL_C6);
    p = fmaf(p, t, FM__TAIL_C5);
    p = fmaf(p, t, FM__TAIL_C4);
    p = fmaf(p, t, FM__TAIL_C3);
    p = fmaf(p, t, FM__TAIL_C2);
    p = fmaf(p, t, FM__TAIL_C1);
    p = fmaf(p, t, FM__TAIL_C0);
    float tail = fm__fn_exp(-0.5f * z * z) * (t * p);
    return x >= 0.0f ? 1.0f - tail : tail;
}

// GELU's tanh form is x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (GELU paper, section 2).
#define FM__TWICE_SQRT_2_OVER_PI 1.59576912160573071176f
#define FM__GELU_CUBIC 0.044715f
#define FM__INV_SQRT_2_PI 0.39894228040143267794f // the normal density at 0

// The sum of 16 lanes in double, as a register would: i + (i+8), then +4, +2, +1. Lane i holds elements i, i+16, …
static inline double fm__fn_sum16(const double *x)
{
    double s[8];
    for (int i = 0; i < 8; i++) s[i] = x[i] + x[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    for (int i = 0; i < 2; i++) s[i] += s[i + 2];
    return s[0] + s[1];
}

#endif

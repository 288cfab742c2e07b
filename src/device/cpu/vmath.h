// SPDX-License-Identifier: MIT
// ops/functions.h in 16 lanes, to the bit. Included at the end of vmath_avx512.h and vmath_avx2.h.
#ifndef FM_DEVICE_CPU_VMATH_H
#define FM_DEVICE_CPU_VMATH_H

#include "ops/attrs.h"
#include "ops/functions.h"

// Runs the statements with i and k for pieces of at most 16 of n elements; k is the constant 16 in all but the last.
#define EACH_16(n, ...)                  \
    do {                                 \
        int64_t i = 0;                   \
        for (; i + 16 <= (n); i += 16) { \
            enum { k = 16 };             \
            __VA_ARGS__;                 \
        }                                \
        if (i < (n)) {                   \
            const int k = (int)((n)-i);  \
            __VA_ARGS__;                 \
        }                                \
    } while (0)

V16 v16 v16_abs(v16 x)
{
    return v16_and(x, v16_set1(fm__bits_f32(0x7fffffff)));
}
V16 v16 v16_sign(v16 x)
{
    return v16_and(x, v16_set1(-0.0f));
}
V16 v16 v16_neg(v16 x)
{
    return v16_xor(x, v16_set1(-0.0f));
}

V16 void v16_exp_parts(v16 x, v16 *scale, v16 *part)
{
    v16 n = v16_round(v16_mul(x, v16_set1(FM__LOG2E)));
    v16 f = v16_fma(x, v16_set1(FM__LOG2E_LOW), v16_fma(x, v16_set1(FM__LOG2E), v16_neg(n)));
    v16 p = v16_fma(v16_set1(FM__EXP2_C5), f, v16_set1(FM__EXP2_C4));
    p = v16_fma(p, f, v16_set1(FM__EXP2_C3));
    p = v16_fma(p, f, v16_set1(FM__EXP2_C2));
    p = v16_fma(p, f, v16_set1(FM__EXP2_C1));
    m16 there = v16_ge(n, v16_set1(-126.0f));
    *part = v16_keep(there, v16_mul(p, f));
    *scale = v16_keep(there, v16_power(n));
}

V16 v16 v16_exp(v16 x) // x <= 0
{
    v16 scale, part;
    v16_exp_parts(x, &scale, &part);
    return v16_fma(scale, part, scale);
}

V16 v16 v16_sigmoid(v16 x)
{
    const v16 one = v16_set1(1.0f), e = v16_exp(v16_or(x, v16_set1(-0.0f)));
    return v16_div(v16_select(v16_ge(x, v16_set1(0.0f)), one, e), v16_add(one, e));
}

V16 v16 v16_tanh(v16 x)
{
    v16 scale, part;
    v16_exp_parts(v16_mul(v16_set1(-2.0f), v16_abs(x)), &scale, &part);
    v16 m = v16_fma(scale, part, v16_sub(scale, v16_set1(1.0f)));
    v16 t = v16_or(v16_abs(v16_div(m, v16_add(v16_set1(2.0f), m))), v16_sign(x));
    return v16_select(v16_is_nan(x), x, t);
}

V16 v16 v16_normal(v16 x)
{
    static const float c[] = {FM__TAIL_C7, FM__TAIL_C6, FM__TAIL_C5, FM__TAIL_C4,
                              FM__TAIL_C3, FM__TAIL_C2, FM__TAIL_C1, FM__TAIL_C0};
    const v16 one = v16_set1(1.0f), z = v16_abs(x), t = v16_div(one, v16_fma(v16_set1(FM__TAIL_T), z, one));
    v16 p = v16_set1(FM__TAIL_C8);
    for (int i = 0; i < 8; i++) p = v16_fma(p, t, v16_set1(c[i]));
    v16 tail = v16_mul(v16_exp(v16_mul(v16_mul(v16_set1(-0.5f), z), z)), v16_mul(t, p));
    return v16_select(v16_ge(x, v16_set1(0.0f)), v16_sub(one, tail), tail);
}

// 2u of GELU's tanh form
V16 v16 v16_gelu_argument(v16 x)
{
    v16 inner = v16_fma(v16_mul(v16_set1(FM__GELU_CUBIC), x), x, v16_set1(1.0f));
    return v16_mul(v16_mul(v16_set1(FM__TWICE_SQRT_2_OVER_PI), x), inner);
}

V16 v16 v16_act(int act, v16 x)
{
    switch (act) {
    case FM__ACT_SILU:
        return v16_mul(x, v16_sigmoid(x));
    case FM__ACT_GELU_TANH:
        return v16_mul(x, v16_sigmoid(v16_gelu_argument(x)));
    case FM__ACT_GELU_ERF:
        return v16_mul(x, v16_normal(x));
    case FM__ACT_RELU:
        return v16_keep(v16_gt(x, v16_set1(0.0f)), x);
    default:
        return x;
    }
}

V16 v16 v16_act_derivative(int act, v16 x)
{
    const v16 one = v16_set1(1.0f);
    switch (act) {
    case FM__ACT_SILU: {
        v16 s = v16_sigmoid(x);
        return v16_mul(s, v16_fma(x, v16_sub(one, s), one));
    }
    case FM__ACT_GELU_TANH: {
        v16 s = v16_sigmoid(v16_gelu_argument(x));
        v16 du =
            v16_mul(v16_set1(FM__TWICE_SQRT_2_OVER_PI), v16_fma(v16_mul(v16_set1(3.0f * FM__GELU_CUBIC), x), x, one));
        return v16_fma(v16_mul(v16_mul(x, s), v16_sub(one, s)), du, s);
    }
    case FM__ACT_GELU_ERF: {
        v16 density = v16_exp(v16_mul(v16_mul(v16_set1(-0.5f), x), x));
        return v16_fma(v16_mul(x, v16_set1(FM__INV_SQRT_2_PI)), density, v16_normal(x));
    }
    case FM__ACT_RELU:
        return v16_keep(v16_gt(x, v16_set1(0.0f)), one);
    default:
        return one;
    }
}

#endif

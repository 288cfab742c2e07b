// SPDX-License-Identifier: MIT
// Products of bf16 rows at level bf16: the text is linear_bf16.inc's, with AVX-512's bf16 dot product as the step.
#include "device/cpu/vec_avx512.h"

#include "base/clock.h"
#include "device/cpu/linear.h"
#include "device/cpu/linear_codes.inc"

#include "device/cpu/linear_bf16.inc"

void fm__linear_bf16_bf16(const struct fm__call *call, struct fm__worker *worker)
{
    linear_bf16(call, worker);
}

void fm__linear_dw_bf16_bf16(const struct fm__call *call, struct fm__worker *worker)
{
    linear_dw_bf16(call, worker);
}

// Sums of 12 chains, so that latency hides; returns the best of a few runs in seconds.
#define BEST_SECONDS(STEP)                                                                     \
    double best = 1;                                                                           \
    for (int run = 0; run < 8; run++) {                                                        \
        vf sum[12];                                                                            \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) sum[i] = vf_zero();              \
        const double before = fm__seconds();                                                   \
        for (int k = 0; k < 64; k++) {                                                         \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++)                              \
            {                                                                                  \
                STEP;                                                                          \
            }                                                                                  \
            __asm__ volatile("" ::: "memory");                                                 \
        }                                                                                      \
        const double seconds = fm__seconds() - before;                                         \
        _Pragma("GCC unroll 12") for (int i = 1; i < 12; i++) sum[0] = vf_add(sum[0], sum[i]); \
        __asm__ volatile("" ::"v"(sum[0]));                                                    \
        if (seconds < best) best = seconds;                                                    \
    }                                                                                          \
    return best

static double seconds_of_dot(const vi *w)
{
    BEST_SECONDS(sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)*w, (__m512bh)*w));
}

static double seconds_of_fma(const vi *w) // two, for as many products
{
    BEST_SECONDS(sum[i] = vf_fma(vf_bits(*w), vf_bits(*w), vf_fma(vf_bits(*w), vf_bits(*w), sum[i])));
}

bool fm__linear_bf16_pays(void)
{
    const vi w = vi_set1(0x3f803f80);
    return seconds_of_dot(&w) < 0.8 * seconds_of_fma(&w);
}

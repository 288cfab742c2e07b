// SPDX-License-Identifier: MIT
// Dynamic 8-bit codes of optimiser states (arXiv 2110.02861, section 2 and figure 2): blocks of 256 elements share a
// scale, the largest magnitude; a code holds |x| / scale in (0, 1].
//
//   signed    s 0…0 1 f…f     unsigned    0…0 1 f…f     E zeros, r bits of f, E + r = 6 or 7
//   value = 10^-E (0.1 + 0.9 (f + 1) / 2^r), 0 for no bit at all
// The paper's fractions stand in the middle of their steps; here they stand at the end, so that 1 has a code (the
// largest of a block comes back exactly) and decades join: code u and u + 1 are neighbours everywhere.
#ifndef FM_OPS_CODES8_H
#define FM_OPS_CODES8_H

#include <math.h>
#include <stdint.h>

enum { FM__CODES8_BLOCK = 256 };

// 10^E and 10^-E, rounded
#define FM__CODES8_UP                                  \
    {                                                  \
        1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f, 1e6f, 1e7f \
    }
#define FM__CODES8_DOWN                                       \
    {                                                         \
        1e0f, 1e-1f, 1e-2f, 1e-3f, 1e-4f, 1e-5f, 1e-6f, 1e-7f \
    }
#define FM__CODES8_STEPS (1 / 0.9f) // of 2^-r in a decade

// Magnitudes of codes [0, 2^bits), bits 7 (signed) or 8; the signed table has its negatives behind.
static inline void fm__codes8_table(int bits, float table[256])
{
    static const float down[] = FM__CODES8_DOWN;
    table[0] = 0;
    for (int e = 0; e < bits; e++) {
        const int n = 1 << (bits - 1 - e);
        for (int f = 0; f < n; f++) table[n + f] = down[e] * fmaf(0.9f, (float)(f + 1) / (float)n, 0.1f);
    }
    for (int u = 0; bits == 7 && u < 128; u++) table[128 + u] = -table[u];
}

// The code of a in [0, 1] (NaN: 1) as a whole number in f32; nearest, ties to even steps.
static inline float fm__codes8_code(int bits, float a)
{
    static const float up[] = FM__CODES8_UP, down[] = FM__CODES8_DOWN;
    float decade = 1, width = bits == 7 ? 64.0f : 128.0f;
    a = 1.0f >= a ? a : 1.0f;
    for (int e = 1; e < bits; e++)
        if (down[e] >= a) decade = up[e], width = (float)(1 << (bits - 1 - e));
    const float f = rintf((a * decade - 0.1f) * FM__CODES8_STEPS * width);
    return width - 1.0f + f;
}

// Codes of one block, n <= 256 elements; returns its scale. Signed: m. Unsigned: v, where nothing above 0 becomes 0: a
// second moment that vanished would make the step explode, one that is too large only shortens it.
static inline float fm__codes8_encode(int is_signed, const float *x, int n, uint8_t *codes)
{
    float largest = 0;
    for (int i = 0; i < n; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const float scale = largest >= 0x1p-126f ? largest : 0.0f, inv = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i++) {
        const float a = fabsf(x[i]) * inv;
        float code = fm__codes8_code(is_signed ? 7 : 8, a);
        if (!is_signed && a > 0.0f && !(code >= 1.0f)) code = 1.0f;
        if (is_signed && 0.0f > x[i]) code += 128.0f;
        codes[i] = (uint8_t)code;
    }
    return scale;
}

#endif

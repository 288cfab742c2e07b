// SPDX-License-Identifier: MIT
// 16-bit floats: conversions that round to nearest, ties to even, the same on every machine.
#ifndef FM_TENSOR_HALF_H
#define FM_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

static inline float fm__bits_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t fm__f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

// IEEE binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. Exact.
static inline float fm__f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return fm__bits_f32(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent) return fm__bits_f32(sign | (exponent + 112) << 23 | fraction << 13);
    const float small = (float)fraction * 0x1p-24f; // subnormal: fraction * 2^-24, exact
    return sign ? -small : small;
}

static inline uint16_t fm__f32_to_f16(float f)
{
    const uint32_t bits = fm__f32_bits(f), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff)); // NaN stays NaN, quiet
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                    // 65520 and up round to infinity
    if (a < 0x38800000) { // below 2^-14: adding 0.5 leaves the fraction in units of 2^-24, rounded by the addition
        const float shifted = fm__bits_f32(a) + 0.5f;
        return (uint16_t)(sign | (fm__f32_bits(shifted) - 0x3f000000));
    }
    const uint32_t odd = a >> 13 & 1;
    return (uint16_t)(sign | ((a + 0xc8000000 + 0xfff + odd) >> 13));
}

// bfloat16: the upper half of a binary32.
static inline float fm__bf16_to_f32(uint16_t h)
{
    return fm__bits_f32((uint32_t)h << 16);
}

static inline uint16_t fm__f32_to_bf16(float f)
{
    const uint32_t bits = fm__f32_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif

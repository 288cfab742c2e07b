// SPDX-License-Identifier: MIT
// Block formats of weights: each one's bits, and the plain C that turns rows into f32 and back.
//
// A row of K elements is K / block_elements blocks, one after another. Little endian; a block may lie at any byte.
// "d" and "m" are binary16. A nibble plane "lo|hi" keeps element i in the low and element i + n/2 in the high four bits
// of byte i. Source of the formats: github.com/ggml-org/ggml (their numbers are part of the GGUF file format).
//
// Every format's value is  w = dw * c + mw  with an integer code c, a scale dw and a minimum mw that are constant over
// a sub-block of 32 (or 16) elements: the integer products of device/cpu/linear.h rest on that.
#ifndef FM_TENSOR_BLOCKS_H
#define FM_TENSOR_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/tensor.h"
#include "tensor/half.h"

// Q4_0, 32 elements:  |d 16|qs lo|hi 32x4|                      w = d * (q - 8)
struct fm__block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
// Q4_1, 32 elements:  |d 16|m 16|qs lo|hi 32x4|                 w = d * q + m
struct fm__block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
// Q5_0, 32 elements:  |d 16|qh 32x1|qs lo|hi 32x4|              w = d * ((qs | qh << 4) - 16);  qh: bit i is element i
struct fm__block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
// Q5_1, 32 elements:  |d 16|m 16|qh 32x1|qs lo|hi 32x4|         w = d * (qs | qh << 4) + m
struct fm__block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
// Q8_0, 32 elements:  |d 16|qs 32x8 signed|                     w = d * q
struct fm__block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
// The K formats hold 256 elements: sub-block s has elements [32 s, 32 s + 32), or [16 s, 16 s + 16) with 16 scales.
// Q2_K:  |scales 16x(4 scale, 4 min)|qs 256x2|d 16|dmin 16|     w = d * sc * q - dmin * mn
//        qs: half h (128 elements), byte l of its 32: bits 2j, 2j+1 are element 128 h + 32 j + l
struct fm__block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};
// Q3_K:  |hmask 256x1|qs 256x2|scales 16x6|d 16|                w = d * (sc - 32) * ((q | h << 2) - 4)
//        qs as in Q2_K; hmask byte l, bit 4h + j: element 128 h + 32 j + l
//        scales: low nibbles of bytes 0..7 are the low four bits of sc 0..7, high nibbles those of 8..15;
//        byte 8 + i holds bits 4, 5 of sc i (bits 0, 1), i + 4 (2, 3), i + 8 (4, 5), i + 12 (6, 7)
struct fm__block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
// Q4_K:  |d 16|dmin 16|scales 8x(6 scale, 6 min)|qs 256x4|      w = d * sc * q - dmin * mn
//        qs: chunk c (64 elements), byte l of its 32: low nibble element 64 c + l, high nibble 64 c + 32 + l
//        scales: bytes 0..3 sc 0..3 (6 bits), bytes 4..7 mn 0..3; byte 8 + i: low nibble of sc i + 4, low nibble of
//        mn i + 4 above it; their upper two bits are the upper two bits of bytes i and 4 + i
struct fm__block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};
// Q5_K:  |d 16|dmin 16|scales as Q4_K|qh 256x1|qs 256x4|        w = d * sc * (qs | qh << 4) - dmin * mn
//        qh byte l, bit s: element 32 s + l
struct fm__block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
// Q6_K:  |ql 256x4|qh 256x2|scales 16x8 signed|d 16|            w = d * sc * ((ql | qh << 4) - 32)
//        half h, l < 32: element 128 h + l      is low  nibble of ql[64 h + l],      bits 0, 1 of qh[32 h + l]
//                        element 128 h + 32 + l is low  nibble of ql[64 h + 32 + l], bits 2, 3
//                        element 128 h + 64 + l is high nibble of ql[64 h + l],      bits 4, 5
//                        element 128 h + 96 + l is high nibble of ql[64 h + 32 + l], bits 6, 7
struct fm__block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};
// IQ4_NL, 32 elements:  |d 16|qs lo|hi 32x4|                    w = d * fm__iq4_values[q]
struct fm__block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};
// IQ4_XS, 256 elements: |d 16|scales_h 8x2|scales_l 8x4|qs|     w = d * (sc - 32) * fm__iq4_values[q]
//        sub-block s: qs[16 s ...] lo|hi; sc = nibble s of scales_l | (scales_h >> 2 s & 3) << 4
struct fm__block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};

// The 16 levels of the non-linear 4-bit codes.
extern const int8_t fm__iq4_values[16];

// Scale and minimum s (0..7) of Q4_K and Q5_K.
static inline void fm__k4_scale(const uint8_t scales[12], int s, int *sc, int *mn)
{
    int j = s & 3;
    if (s < 4) {
        *sc = scales[j] & 63;
        *mn = scales[4 + j] & 63;
    } else {
        *sc = (scales[8 + j] & 15) | (scales[j] >> 6) << 4;
        *mn = (scales[8 + j] >> 4) | (scales[4 + j] >> 6) << 4;
    }
}

// Types that fm__dequantise_row and fm__quantise_row know: F32, F16, BF16 and every block format of files.
bool fm__is_weight_type(fm_dtype dtype);

// dst[n] = the values of n elements at src (any alignment); n is a multiple of the type's block. The results are those
// of the file format's definition in f32 without fused operations, bit for bit those of the `gguf` Python package.
// FM_Q8A and FM_Q8R (tensor/q8a.h, q8r.h) are known too: there n is the whole row. False, dst untouched, for any other
// type.
bool fm__dequantise_row(fm_dtype dtype, const void *src, int64_t n, float *dst);

// The nearest codes for src[n], block by block, without any knowledge of how the weights are used. n is a multiple of
// the type's block. Values are expected finite. False for a type that is not a weight type.
bool fm__quantise_row(fm_dtype dtype, const float *src, int64_t n, void *dst);

#endif

// SPDX-License-Identifier: MIT
// Q8R, the activation format of plain int8 products: a row of 8-bit integers with one scale. K is a multiple of 32:
//   | q int8 x K | d f32 | nothing, up to 36 bytes a block of 32 |
//   d = max|x| / 127;   q = round_half_even(x * (127 / max|x|));   all 0 where max|x| < 2^-100
//
// Its weights are I8 [O, K] with a scale f32 an output. The product, the same bytes at every level:
//   y = (float)(sum of q * w in int32) * (d * scale), each rounded;   |sum| < 2^31 up to FM__Q8R_MAX_K columns
#ifndef FM_TENSOR_Q8R_H
#define FM_TENSOR_Q8R_H

#include <stdint.h>
#include <string.h>

enum { FM__Q8R_MAX_K = 1 << 17 };

static inline float fm__q8r_d(const void *row, int64_t K)
{
    float d;
    memcpy(&d, (const char *)row + K, sizeof d);
    return d;
}

// dst: fm_dtype_row_bytes(FM_Q8R, K) bytes; x finite. Plain C; device/cpu/linear.h offers faster ones, same bytes.
typedef void fm__q8r_quantise_fn(const float *x, int64_t K, void *dst);
void fm__q8r_quantise_row(const float *x, int64_t K, void *dst);
// x[K] = q * d
void fm__q8r_dequantise_row(const void *row, int64_t K, float *x);

#endif

// SPDX-License-Identifier: MIT
// Q8A, the activation format of integer products, and the one arithmetic that every kernel of such a product performs.
//
// A row of K elements (K a multiple of 32) in blocks of 32, each array of the whole row together:
//   | q int8 x K | d f32 x K/32 | s f32 x K/32 | h (int16, int16) x K/32 |      44 bytes a block
// of block b with elements x:
//   d = max|x| / 127;   q = round_half_even(x * (127 / max|x|));   all 0 where max|x| < 2^-100
//   h = (sum of q[0..15], sum of q[16..31]);   s = d * (float)(h[0] + h[1])
//
// The product of a row with a row of block-format weights w = dw * c + mw (blocks.h), c an integer: two chains,
//   acc = low = 0; for each 32-block ascending, for each sub-block of it (one of 32, or two of 16 elements) ascending:
//       acc = fma(dw * d, (float)(sum of c * q), acc)      the sum in int32: exact in any order; dw * d rounded to f32
//       low = fma(mw, s, low)                              types with a minimum; s = d * (float)h[i] for 16 elements
// and acc + low at the end (acc where the type has no minimum). Every level (plain C, AVX2, …, AMX, NEON) yields these
// bytes, whatever the batch or thread.
#ifndef FM_TENSOR_Q8A_H
#define FM_TENSOR_Q8A_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/tensor.h"

enum { FM__Q8A_BLOCK = 32, FM__Q8A_BLOCK_BYTES = 44 };

static inline size_t fm__q8a_row_bytes(int64_t K)
{
    return (size_t)(K / FM__Q8A_BLOCK) * FM__Q8A_BLOCK_BYTES;
}

// The arrays of a row. Rows start at multiples of 4 bytes.
static inline const float *fm__q8a_d(const void *row, int64_t K)
{
    return (const float *)((const char *)row + K);
}
static inline const float *fm__q8a_s(const void *row, int64_t K)
{
    return (const float *)((const char *)row + K + K / 8);
}
static inline const int16_t *fm__q8a_h(const void *row, int64_t K)
{
    return (const int16_t *)((const char *)row + K + K / 4);
}

// dst: fm__q8a_row_bytes(K), 4-byte aligned. x finite. The plain C form; device/cpu/linear.h offers faster ones with
// the same bytes.
typedef void fm__q8a_quantise_fn(const float *x, int64_t K, void *dst);
void fm__q8a_quantise_row(const float *x, int64_t K, void *dst);
// x[K] = q * d
void fm__q8a_dequantise_row(const void *row, int64_t K, float *x);

// One 32-block of weights as integers: w = dw[i / n] * c + mw[i / n], n elements a sub-block.
struct fm__codes {
    int c[32];
    int n; // 32 or 16
    bool has_min;
    float dw[2], mw[2];
};
// Codes of the 32-block number `i` of a block (i is 0 where blocks have 32 elements). False for types without codes.
bool fm__block_codes(fm_dtype dtype, const void *block, int i, struct fm__codes *out);

// The product above, for a row of weights in file order. K is a multiple of the type's block.
float fm__q8a_dot(fm_dtype dtype, const void *weights, const void *q8a, int64_t K);

#endif

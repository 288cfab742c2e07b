// SPDX-License-Identifier: MIT
// The reference of linear, and the arithmetic that every kernel of it reproduces to the bit.
#ifndef FM_OPS_LINEAR_REF_H
#define FM_OPS_LINEAR_REF_H

#include "ops/call.h"

// x f32: one fused multiply-add chain over ascending k, weights dequantised to f32. x q8a: integer products in the
// order of tensor/q8a.h. x q8r: W I8 with scales in[4], tensor/q8r.h. x bf16: weights rounded to bf16 (nearest even),
// then what Intel's manual writes for a tile product (SDM, TDPBF16PS): in each 32 columns, ascending, the last filled
// up with zeros,
//   even = fma(x[2i], w[2i], even), odd = fma(x[2i + 1], w[2i + 1], odd) for i = 0 … 15 from 0;  sum += even + odd
// where subnormal operands count as zeros and subnormal results become zeros. With transpose_w, y = x W: the same over
// ascending rows of W, x f32 or bf16. Then bias, then residual, each rounded. W in rows order; y may lie where the
// residual lies. One thread.
void fm__ref_linear(const struct fm__call *call);

// dW = dy^T x: the same over ascending rows, in slabs (ops/slabs.h), each from 0; bf16's blocks of 32 start with the
// slab, whose last one is filled up with zeros. The slabs are added in order to 0, each addition rounded and nothing
// flushed.
void fm__ref_linear_dw(const struct fm__call *call);

#endif

// SPDX-License-Identifier: MIT
// The reference of linear, and the arithmetic that every kernel of it reproduces to the bit.
#ifndef FM_OPS_LINEAR_REF_H
#define FM_OPS_LINEAR_REF_H

#include "ops/call.h"

// x f32: one fused multiply-add chain over ascending k, weights dequantised to f32. x q8a: integer products in the
// order of tensor/q8a.h. x bf16: as f32, weights rounded to bf16 (kernels may sum in another order: the one case
// without equal bytes). With transpose_w, y = x W: the same chain over ascending rows of W, x f32. Then bias, then
// residual, each rounded. W in rows order; y may lie where the residual lies. One thread.
void fm__ref_linear(const struct fm__call *call);

#endif

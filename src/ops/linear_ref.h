// SPDX-License-Identifier: MIT
// The reference of linear, and the arithmetic that every kernel of it reproduces to the bit.
#ifndef FM_OPS_LINEAR_REF_H
#define FM_OPS_LINEAR_REF_H

#include "ops/call.h"

// x f32: one fused multiply-add chain over ascending k, weights dequantised to f32; then bias, then residual.
// W in rows order. One thread.
void fm__ref_linear(const struct fm__call *call);

#endif

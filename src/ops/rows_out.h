// SPDX-License-Identifier: MIT
// Ops whose output may be f32 or an activation format (a fused cast): the shape rule and the store they share.
#ifndef FM_OPS_ROWS_OUT_H
#define FM_OPS_ROWS_OUT_H

#include "ops/op.h"

// Output 0 has the dims of input `in` and type `dtype` (f32, f16, bf16 or q8a).
fm_status fm__shape_rows_out(struct fm__shape *s, int in, int dtype);

// Writes one f32 row of n elements as row `i` of `out`, converting to its type.
void fm__store_row(const float *row, int64_t n, const struct fm_tensor *out, int64_t i);

// " out=q8a", or nothing for f32
void fm__print_out_dtype(int dtype, FILE *to);

#endif

// SPDX-License-Identifier: MIT
// Products of bf16 rows at level avx512: the text is linear_bf16.inc's.
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_codes.inc"

#include "device/cpu/linear_bf16.inc"

void fm__linear_bf16_avx512(const struct fm__call *call, struct fm__worker *worker)
{
    linear_bf16(call, worker);
}

void fm__linear_dw_bf16_avx512(const struct fm__call *call, struct fm__worker *worker)
{
    linear_dw_bf16(call, worker);
}

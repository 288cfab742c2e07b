// SPDX-License-Identifier: MIT
// Products of bf16 rows at level avx2: the text is linear_bf16.inc's.
#include "device/cpu/vec_avx2.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_codes.inc"

#include "device/cpu/linear_bf16.inc"

void fm__linear_bf16_avx2(const struct fm__call *call, struct fm__worker *worker)
{
    linear_bf16(call, worker);
}

void fm__linear_dw_bf16_avx2(const struct fm__call *call, struct fm__worker *worker)
{
    linear_dw_bf16(call, worker);
}

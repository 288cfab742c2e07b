// SPDX-License-Identifier: MIT
// Products of f32 rows at level neon: the text is linear_f32.inc's.
#include "device/cpu/vec_neon.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_codes.inc"
#include "device/cpu/linear_f32.inc"

void fm__linear_f32_neon(const struct fm__call *call, struct fm__worker *worker)
{
    linear_f32(call, worker);
}

void fm__linear_dw_f32_neon(const struct fm__call *call, struct fm__worker *worker)
{
    linear_dw_f32(call, worker);
}

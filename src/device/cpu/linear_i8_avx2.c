// SPDX-License-Identifier: MIT
// Plain int8 products at level avx2: the text is linear_i8.inc's.
#include "device/cpu/vec_avx2.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_i8.inc"

void fm__linear_i8_avx2(const struct fm__call *call, struct fm__worker *worker)
{
    linear_i8(call, worker);
}

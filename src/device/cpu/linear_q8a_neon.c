// SPDX-License-Identifier: MIT
// Integer products at level neon: the text is linear_q8a.inc's.
#include "device/cpu/vec_neon.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_codes.inc"
#include "device/cpu/linear_q8a.inc"

void fm__linear_q8a_neon(const struct fm__call *call, struct fm__worker *worker)
{
    linear_q8a(call, worker);
}

// SPDX-License-Identifier: MIT
// Adapters at level avx2: the text is adapt.inc's.
#include <math.h>
#include <stdbool.h>

#include "device/cpu/vec_avx2.h"

#include "device/cpu/adapt.inc"

void fm__adapt_avx2(const struct fm__call *call, struct fm__worker *worker)
{
    adapt(call, worker);
}

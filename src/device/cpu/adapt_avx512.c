// SPDX-License-Identifier: MIT
// Adapters at level avx512: the text is adapt.inc's.
#include <math.h>
#include <stdbool.h>

#include "device/cpu/vec_avx512.h"

#include "device/cpu/adapt.inc"

void fm__adapt_avx512(const struct fm__call *call, struct fm__worker *worker)
{
    adapt(call, worker);
}

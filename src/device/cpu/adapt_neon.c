// SPDX-License-Identifier: MIT
// Adapters at level neon: the text is adapt.inc's.
#include <math.h>
#include <stdbool.h>

#include "device/cpu/vec_neon.h"

#include "device/cpu/adapt.inc"

void fm__adapt_neon(const struct fm__call *call, struct fm__worker *worker)
{
    adapt(call, worker);
}

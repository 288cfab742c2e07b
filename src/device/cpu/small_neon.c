// SPDX-License-Identifier: MIT
// The streaming kernels of level neon.
#include <math.h>
#include <string.h>

#include "device/cpu/linear.h"
#include "device/cpu/small.h"
#include "device/cpu/vmath_neon.h"
#include "ops/dropout.h"
#include "ops/rope.h"
#include "ops/slabs.h"

#define SMALL_TABLE fm__small_neon
#define SMALL_QUANTISE fm__q8a_quantise_row_neon
#define SMALL_QUANTISE_Q8R fm__q8r_quantise_row
#include "device/cpu/small.inc"

// SPDX-License-Identifier: MIT
// The streaming kernels of level avx512.
#include <math.h>
#include <string.h>

#include "device/cpu/linear.h"
#include "device/cpu/small.h"
#include "device/cpu/vmath_avx512.h"
#include "ops/dropout.h"
#include "ops/rope.h"
#include "ops/slabs.h"

#define SMALL_TABLE fm__small_avx512
#define SMALL_QUANTISE fm__q8a_quantise_row_avx512
#define SMALL_QUANTISE_Q8R fm__q8r_quantise_row_avx512
#include "device/cpu/small.inc"

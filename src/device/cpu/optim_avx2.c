// SPDX-License-Identifier: MIT
// The kernels of optimisers, level avx2.
#include <string.h>

#include "device/cpu/small.h"
#include "device/cpu/vmath_avx2.h"

#define OPTIM_TABLE fm__optim_avx2
#include "device/cpu/optim.inc"

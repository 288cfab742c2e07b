// SPDX-License-Identifier: MIT
// The kernels of optimisers, level avx512.
#include <string.h>

#include "device/cpu/small.h"
#include "device/cpu/vmath_avx512.h"

#define OPTIM_TABLE fm__optim_avx512
#include "device/cpu/optim.inc"

// SPDX-License-Identifier: MIT
// The kernels of optimisers, level neon.
#include <string.h>

#include "device/cpu/small.h"
#include "device/cpu/vmath_neon.h"

#define OPTIM_TABLE fm__optim_neon
#include "device/cpu/optim.inc"

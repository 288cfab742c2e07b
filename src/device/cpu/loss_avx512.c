// SPDX-License-Identifier: MIT
// Rows of logits at level avx512.
#include <math.h>
#include <string.h>

#include "device/cpu/loss.h"
#include "device/cpu/vmath_avx512.h"

#define LOSS_ROWS fm__loss_rows_avx512
#include "device/cpu/loss.inc"

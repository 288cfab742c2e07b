// SPDX-License-Identifier: MIT
// Rows of logits at level avx2.
#include <math.h>
#include <string.h>

#include "device/cpu/loss.h"
#include "device/cpu/vmath_avx2.h"

#define LOSS_ROWS fm__loss_rows_avx2
#include "device/cpu/loss.inc"

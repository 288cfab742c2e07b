// SPDX-License-Identifier: MIT
// Rows of logits at level neon.
#include <math.h>
#include <string.h>

#include "device/cpu/loss.h"
#include "device/cpu/vmath_neon.h"

#define LOSS_ROWS fm__loss_rows_neon
#include "device/cpu/loss.inc"

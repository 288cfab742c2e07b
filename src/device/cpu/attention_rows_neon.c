// SPDX-License-Identifier: MIT
// attention_rows and its gradient at level neon.
#include <math.h>
#include <string.h>

#include "device/cpu/attention_rows_cpu.h"
#include "device/cpu/vmath_neon.h"
#include "ops/attention_rows.h"

#define ROWS_KERNELS fm__rows_neon
#define ROWS_HIGH 6
#define ROWS_WIDE 1
#include "device/cpu/attention_rows.inc"

// SPDX-License-Identifier: MIT
// attention_rows and its gradient at level avx2.
#include <math.h>
#include <string.h>

#include "device/cpu/attention_rows_cpu.h"
#include "device/cpu/vmath_avx2.h"
#include "ops/attention_rows.h"

#define ROWS_KERNELS fm__rows_avx2
#define ROWS_HIGH 6
#define ROWS_WIDE 1
#include "device/cpu/attention_rows.inc"

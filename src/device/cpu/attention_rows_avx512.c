// SPDX-License-Identifier: MIT
// attention_rows and its gradient at level avx512.
#include <math.h>
#include <string.h>

#include "device/cpu/attention_rows_cpu.h"
#include "device/cpu/vmath_avx512.h"
#include "ops/attention_rows.h"

#define ROWS_KERNELS fm__rows_avx512
#define ROWS_HIGH 6
#define ROWS_WIDE 4
#include "device/cpu/attention_rows.inc"

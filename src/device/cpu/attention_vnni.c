// SPDX-License-Identifier: MIT
// Attention over int8 blocks with VNNI products.
#include <immintrin.h>

#define DOT4(acc, u, s) _mm512_dpbusd_epi32(acc, u, s)
#include "device/cpu/attention_int8_zmm.h"

#include "base/cpuinfo.h"

const struct fm__attend_level fm__attend_vnni = {
    .cpu_level = FM__CPU_VNNI,
    .formats[FM__KV_INT8] = {.attend = attend_int8},
};

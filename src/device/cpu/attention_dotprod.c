// SPDX-License-Identifier: MIT
// Attention over int8 blocks with products of four bytes a lane.
#include "device/cpu/attention_neon.h"

#include "base/cpuinfo.h"

static void attend_int8(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend_int8_neon(f, t);
}

const struct fm__attend_level fm__attend_dotprod = {
    .cpu_level = FM__CPU_DOTPROD,
    .formats[FM__KV_INT8] = {.attend = attend_int8},
};

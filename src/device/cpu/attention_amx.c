// SPDX-License-Identifier: MIT
#include "base/cpuinfo.h"
#include "device/cpu/attention_cpu.h"
const struct fm__attend_level fm__attend_amx = {.cpu_level = FM__CPU_AMX};

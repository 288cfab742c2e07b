// SPDX-License-Identifier: MIT
#ifndef FM_DEVICE_CPU_EMBED_CPU_H
#define FM_DEVICE_CPU_EMBED_CPU_H

#include "device/cpu/worker.h"

// embed of ops/embed.c for both layouts, in plain C.
fm__kernel_fn fm__embed_cpu;

#endif

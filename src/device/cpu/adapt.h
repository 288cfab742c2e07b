// SPDX-License-Identifier: MIT
// The kernels of adapt: one source, adapt.inc, for every level of vector units; the bytes are those of the reference.
#ifndef FM_DEVICE_CPU_ADAPT_H
#define FM_DEVICE_CPU_ADAPT_H

#include "device/cpu/worker.h"

enum { FM__ADAPT_MOST = 256 }; // adapters of one call

// Whether the kernels take this call: packed matrices, few enough adapters, ranks that fit a worker's scratch.
int fm__adapt_fits(const struct fm__call *largest);

#if defined(__x86_64__)
fm__kernel_fn fm__adapt_avx2, fm__adapt_avx512;
#elif defined(__aarch64__)
fm__kernel_fn fm__adapt_neon;
#endif

#endif

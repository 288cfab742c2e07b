// SPDX-License-Identifier: MIT
// bench --kernels: matrix products alone, every kind of weight, beside the machine's measured peak.
#ifndef FM_APP_BENCH_KERNELS_H
#define FM_APP_BENCH_KERNELS_H

#include "bench_out.h"

// A line a type and size. threads 0: the default. The level is what the CPU and FATHOM_CPU allow; a line without a
// kernel at that level says so and has no value.
fm_status fm__bench_kernels(struct fm_bench_out *out, int threads, int reps, struct fm_error *err);

#endif

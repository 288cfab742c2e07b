// SPDX-License-Identifier: MIT
// The CPU's kernels: one table, an op a row, filled from ref upwards by what the machine has.
#ifndef FM_DEVICE_CPU_KERNELS_H
#define FM_DEVICE_CPU_KERNELS_H

#include "base/cpuinfo.h"
#include "device/cpu/worker.h"
#include "graph/graph.h"

struct fm__kernel {
    const char *name; // "q4_1/amx"; for the plan's text
    fm__kernel_fn *run;
    size_t (*workspace)(const struct fm__call *largest, int n_workers); // shared scratch; NULL: none
};

// The kernel for a call of this op, given the highest level allowed. `largest` has the bucket's full row count, dtypes
// and layouts. A kernel without a fast form runs the op's reference on worker 0: then `run` is NULL.
struct fm__kernel fm__kernel_select(enum fm__op_id op, const struct fm__call *largest, int level);

#endif

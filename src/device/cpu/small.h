// SPDX-License-Identifier: MIT
// Kernels of the ops that only stream: norms, activations, elementwise, rope, copies, casts, and their gradients. One
// source, small.inc with small_grad.inc, in 16 lanes at every level (vmath_*.h); the bytes are those of the op's
// reference whatever the level, the number of workers or the rows beside.
//
// Work is shared by runs of whole rows (or of elements), FM__SMALL_CHUNK elements at a time: below that one worker does
// all and the others pass at once.
#ifndef FM_DEVICE_CPU_SMALL_H
#define FM_DEVICE_CPU_SMALL_H

#include "device/cpu/worker.h"
#include "graph/graph.h"

enum { FM__SMALL_CHUNK = 8192 }; // elements: about 2 us of work, ten times what taking it costs

// Kernels by op; NULL: none here. `plain` needs no instruction set: copies, and angles in double.
extern fm__kernel_fn *const fm__small_plain[FM__OP_COUNT];
#if defined(__x86_64__)
extern fm__kernel_fn *const fm__small_avx2[FM__OP_COUNT];
extern fm__kernel_fn *const fm__small_avx512[FM__OP_COUNT];
extern fm__kernel_fn *const fm__optim_avx2[FM__OP_COUNT]; // optim.inc: accumulation and optimisers
extern fm__kernel_fn *const fm__optim_avx512[FM__OP_COUNT];
#elif defined(__aarch64__)
extern fm__kernel_fn *const fm__small_neon[FM__OP_COUNT];
extern fm__kernel_fn *const fm__optim_neon[FM__OP_COUNT];
#endif

// Workspace by op, for those whose workers meet on the way; NULL: none.
typedef size_t fm__workspace_fn(const struct fm__call *largest, int n_workers);
extern fm__workspace_fn *const fm__small_workspace[FM__OP_COUNT];

// Whether the small kernels take this call: rows that are converted, and angles, pass through a worker's scratch.
int fm__small_fits(enum fm__op_id op, const struct fm__call *largest);

// The next run of rows for this worker: [*begin, *end); 0: nothing is left.
static inline int fm__take_rows(const struct fm__call *call, int64_t n_rows, int64_t row_elements, int64_t *begin,
                                int64_t *end)
{
    int64_t chunk = row_elements < FM__SMALL_CHUNK ? FM__SMALL_CHUNK / (row_elements ? row_elements : 1) : 1;
    *begin = fm__take(call, chunk);
    *end = *begin + chunk < n_rows ? *begin + chunk : n_rows;
    return *begin < n_rows;
}

#endif

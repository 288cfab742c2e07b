// SPDX-License-Identifier: MIT
// attention_rows and its gradient on CPU workers: one source (attention_rows.inc) in 16 lanes at every level, the bytes
// of the references. Heads of 16, 32, … 256 elements; others are left to the references.
//
// A lane is a row: scores stand as [key][row], so that maxima, exponentials and sums need no look across a register.
// Both ops are products of tiles of at most 64 x 64 with a pass over the scores between them; every product is one
// chain of fused multiply-adds an element, whoever computes it and in which tile.
#ifndef FM_DEVICE_CPU_ATTENTION_ROWS_CPU_H
#define FM_DEVICE_CPU_ATTENTION_ROWS_CPU_H

#include "device/cpu/worker.h"

enum { FM__ROWS_MAX_HEAD = 256 };

struct fm__rows_kernels {
    fm__kernel_fn *attend, *gradient;
};

#if defined(__x86_64__)
extern const struct fm__rows_kernels fm__rows_avx2, fm__rows_avx512;
#elif defined(__aarch64__)
extern const struct fm__rows_kernels fm__rows_neon;
#endif

// What the level's kernels are for a call of these heads; both NULL: the references.
struct fm__rows_kernels fm__rows_kernels(const struct fm__call *largest, int level);

// Workspace of the gradient: each worker's packed rows of a document, and each head's dk and dv where heads share keys.
size_t fm__rows_gradient_workspace(const struct fm__call *largest, int n_workers);

#endif

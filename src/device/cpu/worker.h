// SPDX-License-Identifier: MIT
// One thread of a running program, as CPU kernels see it. All workers of a pool enter each kernel together; they share
// the work through call->next, may meet at fm__worker_barrier, and leave when they like (the executor puts barriers
// between stages).
#ifndef FM_DEVICE_CPU_WORKER_H
#define FM_DEVICE_CPU_WORKER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "ops/call.h"

struct fm__pool;

struct fm__worker {
    int index, count;
    struct fm__pool *pool;
    unsigned char *scratch; // this worker's own, 64-byte aligned, FM__WORKER_SCRATCH bytes
};

enum { FM__WORKER_SCRATCH = 1 << 20 };

typedef void fm__kernel_fn(const struct fm__call *call, struct fm__worker *worker);

// Takes the next `chunk` work items; returns the first one's index (may be >= the total: then nothing is left).
static inline int64_t fm__take(const struct fm__call *call, int64_t chunk)
{
    return atomic_fetch_add_explicit(call->next, chunk, memory_order_relaxed);
}

// All workers of the pool wait for each other. Spins a little, then sleeps (futex).
void fm__worker_barrier(struct fm__worker *worker);

#endif

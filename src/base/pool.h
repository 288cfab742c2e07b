// SPDX-License-Identifier: MIT
// A small thread pool: all workers run one function together, the caller is worker 0. One wake a run; barriers inside
// a run spin briefly and then sleep. Workers are pinned to the CPUs of the creator's affinity mask, in order, because
// an unpinned spin barrier costs a whole scheduler tick when two workers land on one core. The creator is worker 0 and
// pinned too, until it frees the pool: threads and pools that it makes meanwhile inherit that one CPU.
#ifndef FM_BASE_POOL_H
#define FM_BASE_POOL_H

#include "fathom/status.h"

struct fm__pool;

// Threads the process may really use: the smaller of its affinity mask and its cgroup CPU quota, at least 1.
int fm__pool_default_threads(void);

// n_threads 0: the default. Lifetime: model. One run at a time; the caller of run may change between runs.
fm_status fm__pool_new(int n_threads, struct fm__pool **out, struct fm_error *err);
void fm__pool_free(struct fm__pool *pool); // NULL is fine; joins the threads
int fm__pool_size(const struct fm__pool *pool);

typedef void fm__pool_fn(void *context, int index, int count);
void fm__pool_run(struct fm__pool *pool, fm__pool_fn *fn, void *context); // returns when all workers have returned

// Called by every worker of a run: nobody leaves before all have come. What was written before is visible after.
void fm__pool_barrier(struct fm__pool *pool);

#endif

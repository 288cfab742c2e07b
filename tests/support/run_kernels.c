// SPDX-License-Identifier: MIT
#include "support/run_kernels.h"

#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "base/pool.h"
#include "ops/op.h"
#include "support/support.h"

static struct fm__pool *pools[TEST_MAX_THREADS + 1];

int test_kernels_setup(void **state)
{
    (void)state;
    struct fm_error err;
    for (int n = 1; n <= TEST_MAX_THREADS; n++) assert_ok(fm__pool_new(n, &pools[n], &err), err);
    return 0;
}

int test_kernels_teardown(void **state)
{
    (void)state;
    for (int n = TEST_MAX_THREADS; n >= 1; n--) fm__pool_free(pools[n]);
    return 0;
}

static void *allocate(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes / 64 + 1) * 64);
    assert_non_null(p);
    memset(p, 0x5a, (bytes / 64 + 1) * 64); // no kernel may count on zeros
    return p;
}

struct job {
    const struct fm__kernel *kernel;
    const struct fm__call *call;
    struct fm__pool *pool;
    unsigned char *scratch;
};

static void work(void *context, int index, int count)
{
    const struct job *job = context;
    struct fm__worker worker = {.index = index,
                                .count = count,
                                .pool = job->pool,
                                .scratch = job->scratch + (size_t)index * FM__WORKER_SCRATCH};
    job->kernel->run(job->call, &worker);
}

static void run(const struct fm__kernel *kernel, const struct fm__call *fast, int threads)
{
    struct fm__call call = *fast;
    atomic_int_fast64_t next = 0;
    call.next = &next;
    call.workspace_bytes = kernel->workspace ? kernel->workspace(&call, threads) : 0;
    call.workspace = kernel->workspace ? allocate(call.workspace_bytes) : NULL;
    unsigned char *scratch = allocate((size_t)threads * FM__WORKER_SCRATCH);
    for (int i = 0; i < call.n_out; i++) memset(call.out[i].data, 0x5a, fm_tensor_bytes(&call.out[i]));
    fm__pool_run(pools[threads], work, &(struct job){kernel, &call, pools[threads], scratch});
    free(call.workspace);
    free(scratch);
}

static void expect(const struct fm__call *call, void *const *want, const char *what, const char *where)
{
    for (int i = 0; i < call->n_out; i++)
        for (size_t at = 0; at < fm_tensor_bytes(&call->out[i]); at += 4) {
            float g, w;
            memcpy(&g, (char *)call->out[i].data + at, 4);
            memcpy(&w, (char *)want[i] + at, 4);
            if (memcmp(&g, &w, 4))
                fail_msg("%s, output %d, %s: element %zu is %a, want %a", what, i, where, at / 4, (double)g, (double)w);
        }
}

int test_compare_kernels(enum fm__op_id op_id, const struct fm__call *plain, const struct fm__call *fast,
                         const char *what)
{
    const struct fm__op *op = fm__op(op_id);
    struct fm__call call = *plain;
    void *want[FM__MAX_OUT];
    int n_runs = 0;
    call.workspace = op->workspace ? allocate(op->workspace(&call)) : NULL;
    op->reference(&call);
    free(call.workspace);
    if (!fast) fast = plain;
    for (int i = 0; i < call.n_out; i++) {
        want[i] = allocate(fm_tensor_bytes(&call.out[i]));
        memcpy(want[i], call.out[i].data, fm_tensor_bytes(&call.out[i]));
    }
    for (int level = FM__CPU_AVX2; level < FM__CPU_LEVELS; level++) {
        if (!fm__cpu_has(level)) continue;
        const struct fm__kernel kernel = fm__kernel_select(op_id, fast, level);
        if (!kernel.run) fail_msg("%s: no kernel of %s at %s", what, op->name, fm__cpu_level_name(level));
        for (int threads = 1; threads <= TEST_MAX_THREADS; threads++, n_runs++) {
            run(&kernel, fast, threads);
            expect(fast, want, what, fm__cpu_level_name(level));
        }
    }
    for (int i = 0; i < call.n_out; i++) {
        memcpy(call.out[i].data, want[i], fm_tensor_bytes(&call.out[i]));
        free(want[i]);
    }
    return n_runs;
}

// SPDX-License-Identifier: MIT
// The pool: a generation counter that workers wait on, a counting barrier with a generation. Both spin first: a step of
// a small model has some 300 barriers in 3 ms, and a futex round trip each would cost a third of that.
#include "base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

// A pause is 40 to 140 cycles. Waking through the futex costs up to 300 µs on a virtual machine, so a worker is
// patient: some 0.2 ms inside a run, some 2 ms between runs, which is longer than sampling a token takes.
enum { BARRIER_SPINS = 4000, RUN_SPINS = 40000, CACHE_LINE = 64 };

struct waitable { // a number to wait on; on its own line: waiters must not slow its neighbours
    _Alignas(CACHE_LINE) atomic_int value;
    atomic_int sleepers;
};

struct fm__pool {
    struct waitable run;     // generation of the current run; workers wait for it to change
    struct waitable barrier; // generation of the barrier
    _Alignas(CACHE_LINE) atomic_int arrived;
    _Alignas(CACHE_LINE) int n_threads;
    int n_started; // workers 1…n_started-1 exist
    int stop;
    int pinned_creator; // `creator` had the mask `before`, and gets it back
    pthread_t creator;
    cpu_set_t before;
    fm__pool_fn *fn;
    void *context;
    struct start {
        struct fm__pool *pool;
        pthread_t thread;
        int index, cpu;
    } * starts;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Returns once w->value != seen.
static void wait_change(struct waitable *w, int seen, int spins)
{
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&w->value, memory_order_acquire) != seen) return;
        cpu_relax();
    }
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->value) == seen) syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&w->sleepers, 1);
}

static void change(struct waitable *w)
{
    atomic_fetch_add(&w->value, 1);
    if (atomic_load(&w->sleepers)) syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void fm__pool_barrier(struct fm__pool *pool)
{
    if (pool->n_threads == 1) return;
    int generation = atomic_load_explicit(&pool->barrier.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->n_threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        change(&pool->barrier);
    } else {
        wait_change(&pool->barrier, generation, BARRIER_SPINS);
    }
}

static void pin(pthread_t thread, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(thread, sizeof set, &set); // a refusal only costs speed
}

static void *worker_main(void *argument)
{
    struct start *start = argument;
    struct fm__pool *pool = start->pool;
    int seen = 0;
    for (;;) {
        wait_change(&pool->run, seen, RUN_SPINS);
        seen++;
        if (pool->stop) return NULL;
        pool->fn(pool->context, start->index, pool->n_threads);
        fm__pool_barrier(pool);
    }
}

void fm__pool_run(struct fm__pool *pool, fm__pool_fn *fn, void *context)
{
    pool->fn = fn;
    pool->context = context;
    if (pool->n_threads > 1) change(&pool->run);
    fn(context, 0, pool->n_threads);
    fm__pool_barrier(pool);
}

// The cgroup's quota in whole CPUs, rounded up; INT_MAX where there is none.
static int cgroup_cpus(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return INT_MAX;
    long quota = 0, period = 0;
    int n = fscanf(f, "%ld %ld", &quota, &period); // "max 100000" when unlimited: n is 0
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : INT_MAX;
}

int fm__pool_default_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set), quota = cgroup_cpus();
    if (quota < n) n = quota;
    return n < 1 ? 1 : n;
}

static int nth_cpu(const cpu_set_t *set, int n)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set) && n-- == 0) return cpu;
    return -1;
}

static fm_status start_workers(struct fm__pool *pool, struct fm_error *err)
{
    cpu_set_t set;
    // pinning more threads than CPUs would stack them on one: then leave it to the scheduler
    int may_pin = !sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) >= pool->n_threads;
    for (int i = 1; i < pool->n_threads; i++) {
        struct start *start = &pool->starts[i];
        *start = (struct start){.pool = pool, .index = i};
        int failed = pthread_create(&start->thread, NULL, worker_main, start);
        if (failed)
            return fm__fail(err, FM_E_NOMEM, "thread pool: cannot start thread %d of %d", i + 1, pool->n_threads);
        pool->n_started = i + 1;
        if (may_pin) pin(start->thread, nth_cpu(&set, i));
    }
    // worker 0 is the caller: it gets the first CPU, else the scheduler may put it onto a worker's
    if (may_pin && pool->n_threads > 1) {
        pool->pinned_creator = 1;
        pool->creator = pthread_self();
        pool->before = set;
        pin(pool->creator, nth_cpu(&set, 0));
    }
    return FM_OK;
}

fm_status fm__pool_new(int n_threads, struct fm__pool **out, struct fm_error *err)
{
    *out = NULL;
    if (n_threads == 0) n_threads = fm__pool_default_threads();
    if (n_threads < 1 || n_threads > 1024)
        return fm__fail(err, FM_E_ARG, "thread pool: %d threads, want 1 to 1024", n_threads);
    struct fm__pool *pool = fm__aligned(CACHE_LINE, sizeof *pool);
    if (!pool) return fm__fail_nomem(err, "thread pool", sizeof *pool);
    *pool = (struct fm__pool){.n_threads = n_threads, .n_started = 1};
    pool->starts = fm__calloc((size_t)n_threads, sizeof *pool->starts);
    fm_status status =
        pool->starts ? start_workers(pool, err) : fm__fail_nomem(err, "thread pool", sizeof *pool->starts);
    if (status != FM_OK) {
        fm__pool_free(pool);
        return status;
    }
    *out = pool;
    return FM_OK;
}

void fm__pool_free(struct fm__pool *pool)
{
    if (!pool) return;
    pool->stop = 1;
    change(&pool->run);
    for (int i = 1; i < pool->n_started; i++) pthread_join(pool->starts[i].thread, NULL);
    if (pool->pinned_creator && pthread_equal(pool->creator, pthread_self()))
        pthread_setaffinity_np(pool->creator, sizeof pool->before, &pool->before);
    fm__free(pool->starts);
    fm__free(pool);
}

int fm__pool_size(const struct fm__pool *pool)
{
    return pool->n_threads;
}

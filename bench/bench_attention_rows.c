// SPDX-License-Identifier: MIT
// Speed of attention among the rows of a batch, forward and gradient: one layer's calls at the shapes of GPT-2 124M and
// SmolLM2-135M, on one level of this CPU. A line a case: milliseconds of the fastest of five, GFLOP/s (2 and 5 products
// of E multiply-adds a visible pair, diagonal included, nothing else) and the share of what two or more chains of
// fused multiply-adds a register reach on the same threads.
// Usage: bench_attention_rows [threads [level]]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpuinfo.h"
#include "base/pool.h"
#include "device/cpu/kernels.h"
#include "eval/machine.h"

static const struct shape {
    const char *name;
    int n_heads, n_kv, head, documents, length;
} shapes[] = {
    {"gpt2 1024", 12, 12, 64, 1, 1024}, {"gpt2 4 x 1024", 12, 12, 64, 4, 1024}, {"gpt2 4 x 64", 12, 12, 64, 4, 64},
    {"smollm2 512", 9, 3, 64, 1, 512},  {"smollm2 25 x 20", 9, 3, 64, 25, 20},  {"gemma3 1024", 4, 1, 256, 1, 1024},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct task {
    struct fm__kernel kernel;
    struct fm__call *call;
    struct fm__pool *pool;
    unsigned char *scratch;
};
static void run_worker(void *context, int index, int count)
{
    struct task *t = context;
    t->kernel.run(t->call,
                  &(struct fm__worker){index, count, t->pool, t->scratch + (size_t)index * FM__WORKER_SCRATCH});
}

static struct fm_tensor noise(int64_t rows, int64_t columns)
{
    struct fm_tensor t = {.dtype = FM_F32, .rank = 2, .dims = {rows, columns}};
    fm_tensor_set_contiguous(&t);
    float *x = t.data = aligned_alloc(64, (fm_tensor_bytes(&t) + 63) / 64 * 64);
    if (!x) exit(1);
    uint32_t s = 1;
    for (int64_t i = 0; i < rows * columns; i++) s = s * 1664525u + 1013904223u, x[i] = (float)(s >> 8) * 0x1p-23f - 1;
    return t;
}

// Fastest of five.
static double seconds_of(enum fm__op_id op, struct fm__call *call, int level, struct fm__pool *pool)
{
    struct task task = {fm__kernel_select(op, call, level), call, pool, NULL};
    if (!task.kernel.run) {
        fprintf(stderr, "no kernel at this level\n");
        exit(1);
    }
    const size_t bytes = task.kernel.workspace ? task.kernel.workspace(call, fm__pool_size(pool)) : 0;
    atomic_int_fast64_t next;
    call->next = &next;
    call->workspace = aligned_alloc(64, bytes / 64 * 64 + 64);
    task.scratch = aligned_alloc(64, (size_t)fm__pool_size(pool) * FM__WORKER_SCRATCH);
    double best = 1e9;
    for (int turn = 0; turn < 5; turn++) {
        double t = now();
        next = 0;
        fm__pool_run(pool, run_worker, &task);
        t = now() - t;
        if (t < best) best = t;
    }
    free(call->workspace), free(task.scratch);
    return best;
}

static void bench(const struct shape *s, int level, struct fm__pool *pool, double peak)
{
    const union fm__attrs attrs = {
        .attention = {.scale = 0.125f, .n_kv = s->n_kv, .head_k = s->head, .head_v = s->head}};
    const int64_t n = (int64_t)s->documents * s->length, q = (int64_t)s->n_heads * s->head,
                  k = (int64_t)s->n_kv * s->head;
    struct fm_tensor t[10] = {noise(n, q),          noise(n, k), noise(n, k), noise(n, 4), noise(n, q),
                              noise(n, s->n_heads), noise(n, q), noise(n, q), noise(n, k), noise(n, k)};
    for (int64_t i = 0; i < n; i++)
        memcpy((int32_t *)t[3].data + 4 * i, (int32_t[]){(int)(i / s->length), (int)(i % s->length), -1, (int)i}, 16);
    struct fm__call forward = {.n_in = 4, .n_out = 2, .attrs = &attrs, .rows = n};
    memcpy(forward.in, t, 4 * sizeof *t), memcpy(forward.out, t + 4, 2 * sizeof *t);
    struct fm__call back = {.n_in = 7, .n_out = 3, .attrs = &attrs, .rows = n};
    memcpy(back.in, t, 7 * sizeof *t), memcpy(back.out, t + 7, 3 * sizeof *t);
    const double one = seconds_of(FM__OP_ATTENTION_ROWS, &forward, level, pool);
    const double two = seconds_of(FM__OP_ATTENTION_ROWS_GRAD, &back, level, pool);
    const double pair = 0.5 * s->documents * s->length * (s->length + 1.0) * s->n_heads * 2e-9 * s->head; // GFLOP
    printf(
        "%-16s %-6s forward %8.3f ms %6.1f GFLOP/s %3.0f %%  gradient %8.3f ms %6.1f GFLOP/s %3.0f %%  both %3.0f %%\n",
        s->name, fm__cpu_level_name(level), one * 1e3, 2 * pair / one, 200 * pair / one / peak, two * 1e3,
        5 * pair / two, 500 * pair / two / peak, 700 * pair / (one + two) / peak);
    for (int i = 0; i < 10; i++) free(t[i].data);
}

int main(int argc, char **argv)
{
    struct fm__pool *pool;
    struct fm_error err;
    int level = FM__CPU_REF;
    for (int l = 0; l < FM__CPU_LEVELS; l++)
        if (fm__cpu_has(l)) level = l;
    for (int l = 0; l < FM__CPU_LEVELS; l++)
        if (argc > 2 && !strcmp(argv[2], fm__cpu_level_name(l)) && fm__cpu_has(l)) level = l;
    if (fm__pool_new(argc > 1 ? atoi(argv[1]) : 0, &pool, &err) != FM_OK) return 1;
    int n_loops;
    double peak = 0; // GFLOP/s
    const struct fm__machine_loop *loops = fm__machine_loops(&n_loops);
    for (int i = 0; i < n_loops; i++) {
        if (loops[i].kind != FM__MACHINE_F32 || loops[i].level > level || !fm__cpu_has(loops[i].level)) continue;
        const double found = fm__machine_measure(pool, &loops[i], 5) * 1e-9;
        if (found > peak) peak = found;
    }
    printf("%d threads, %.0f GFLOP/s of fused multiply-adds\n", fm__pool_size(pool), peak);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) bench(&shapes[i], level, pool, peak);
    fm__pool_free(pool);
    return 0;
}

// SPDX-License-Identifier: MIT
// Speed of attention alone: one layer's calls at the shapes of SmolLM2-135M and Gemma 3 270M, by depth and rows, on one
// level of this CPU. A line a case: microseconds of the fastest of five, products (2 * E * 2 a visible pair) in GOP/s,
// and for decode the cache's bytes in GB/s beside a load-only loop over the same memory.
// Usage: bench_attention [threads [level [format [rows]]]]   (rows: 512, 1 or another number; 0 is 512 and 1)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cpuinfo.h"
#include "base/pool.h"
#include "device/cpu/attention_cpu.h"

struct shape {
    const char *name;
    int n_heads, n_kv, head, window, layers;
};
static const struct shape shapes[] = {
    {"smollm2", 9, 3, 64, 0, 30}, {"gemma3", 4, 1, 256, 0, 3}, {"gemma3-window", 4, 1, 256, 512, 15}};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct task {
    struct fm__call *call;
    fm__kernel_fn *kernel;
    struct fm__pool *pool;
    unsigned char *scratch;
    const unsigned char *bytes; // the load-only loop's
    size_t n_bytes;
    uint64_t sink[64];
};

static void run_worker(void *context, int index, int count)
{
    struct task *t = context;
    t->kernel(t->call, &(struct fm__worker){index, count, t->pool, t->scratch + (size_t)index * FM__WORKER_SCRATCH});
}

// One load a cache line, four streams.
static void read_worker(void *context, int index, int count)
{
    struct task *t = context;
    size_t part = t->n_bytes / 256 / (size_t)count * 32;
    const uint64_t *p = (const uint64_t *)t->bytes + part * (size_t)index;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < part; i += 32) a += p[i], b += p[i + 8], c += p[i + 16], d += p[i + 24];
    t->sink[index] = a + b + c + d;
}

static struct fm_tensor matrix(fm_dtype dtype, int64_t rows, int64_t cols, int64_t element, void *data)
{
    return (struct fm_tensor){
        .dtype = dtype, .rank = 2, .dims = {rows, cols}, .strides = {cols * element, element}, .data = data};
}

static void *bytes_of(size_t n)
{
    size_t align = n > 1 << 21 ? 1 << 21 : 64, size = (n + align) / align * align;
    void *p = aligned_alloc(align, size);
    if (!p) exit(1);
    madvise(p, align > 64 ? size : 0, MADV_HUGEPAGE); // as buffers of the library are
    return p;
}

static float *noise(size_t n)
{
    float *x = bytes_of(n * sizeof *x);
    uint32_t s = 1;
    for (size_t i = 0; i < n; i++) s = s * 1664525u + 1013904223u, x[i] = (float)(s >> 8) * 0x1p-23f - 1.0f;
    return x;
}

// Eight pages of noise, repeated.
static unsigned char *new_cache(const struct shape *s, int format, size_t page_bytes, size_t n_pages)
{
    const struct fm__kv_format *f = fm__kv_format(format);
    const struct fm__kv_dims d = {s->head, s->head};
    unsigned char *cache = bytes_of(page_bytes * n_pages);
    float *kv = noise((size_t)s->head * 64);
    for (size_t p = 0; p < n_pages; p++)
        if (p >= 8)
            memcpy(cache + p * page_bytes, cache + p % 8 * page_bytes, page_bytes);
        else
            for (int h = 0; h < s->n_kv * 64; h++)
                f->encode(&d, cache + p * page_bytes + (size_t)(h / 64) * f->block_bytes(&d), h % 64, kv + h % 64 * 3,
                          kv + h % 64 * 5);
    free(kv);
    return cache;
}

// Fastest of five of fn on every layer's part of the cache, in turn, as a model does: decode reads memory, not a cache.
static double fastest(struct task *task, fm__pool_fn *fn, unsigned char *cache, int layers)
{
    double best = 1e9;
    for (int turn = 0; turn < 5; turn++) {
        double t = now();
        for (int c = 0; c < layers; c++) {
            *task->call->next = 0;
            task->bytes = task->call->in[1].data = cache + (size_t)c * task->n_bytes;
            fm__pool_run(task->pool, fn, task);
        }
        t = (now() - t) / layers;
        if (t < best) best = t;
    }
    return best;
}

struct machine {
    int format, level;
    struct fm__pool *pool;
};

// `rows` rows after `depth` keys.
static void bench(const struct shape *s, int rows, int depth, const struct machine *m)
{
    union fm__attrs attrs = {.attention = {.scale = 0.1f,
                                           .kv_format = m->format,
                                           .n_kv = s->n_kv,
                                           .head_k = s->head,
                                           .head_v = s->head,
                                           .window = s->window}};
    int n_pages = (depth + rows + 63) / 64, width = s->n_heads * s->head, threads = fm__pool_size(m->pool);
    int layers = rows == 1 ? s->layers : 1;
    size_t page_bytes = fm__kv_page_bytes(m->format, s->n_kv, s->head, s->head), floats = (size_t)rows * (size_t)width;
    unsigned char *cache = new_cache(s, m->format, page_bytes, (size_t)n_pages * (size_t)layers);
    float *q = noise(floats), *o = noise(floats);
    int32_t *pages = bytes_of(sizeof *pages * (size_t)n_pages), *places = bytes_of(sizeof *places * 4 * (size_t)rows);
    for (int i = 0; i < n_pages; i++) pages[i] = i;
    for (int i = 0; i < rows; i++) memcpy(places + 4 * i, (int32_t[]){0, depth + i, -1, depth + i}, 16);
    atomic_int_fast64_t next;
    struct fm__call call = {.n_in = 4,
                            .n_out = 1,
                            .in = {matrix(FM_F32, rows, width, 4, q),
                                   matrix(FM_I8, n_pages, (int64_t)page_bytes, 1, cache),
                                   matrix(FM_I32, rows, 4, 4, places), matrix(FM_I32, 1, n_pages, 4, pages)},
                            .out = {matrix(FM_F32, rows, width, 4, o)},
                            .attrs = &attrs,
                            .rows = rows,
                            .next = &next};
    call.workspace_bytes = fm__cpu_attention_workspace(&call, threads);
    call.workspace = bytes_of(call.workspace_bytes);
    struct task task = {&call, fm__cpu_attention(m->level),  m->pool, bytes_of((size_t)threads * FM__WORKER_SCRATCH),
                        cache, page_bytes * (size_t)n_pages, {0}};
    double best = fastest(&task, run_worker, cache, layers), read = fastest(&task, read_worker, cache, layers),
           pairs = 0;
    for (int i = depth; i < depth + rows; i++) pairs += s->window && i + 1 > s->window ? s->window : i + 1;
    pairs *= s->n_heads;
    printf("%-13s %-5s %-6s rows %4d depth %6d: %9.1f us  %7.1f GOP/s  %6.2f ns/16 scores  %d layers %7.2f ms", s->name,
           fm__kv_format(m->format)->name, fm__cpu_level_name(m->level), rows, depth, best * 1e6,
           pairs * 4e-9 * s->head / best, best * 16e9 * threads / pairs, s->layers, best * 1e3 * s->layers);
    double gb = (double)task.n_bytes * 1e-9;
    if (rows == 1 && !s->window) printf("  %.1f GB/s of %.1f (%.0f %%)", gb / best, gb / read, 100 * read / best);
    printf("\n");
    free(cache), free(q), free(o), free(pages), free(places), free(call.workspace), free(task.scratch);
}

int main(int argc, char **argv)
{
    struct machine m = {FM__KV_INT8, FM__CPU_REF, NULL};
    struct fm_error err;
    for (int l = 0; l < FM__CPU_LEVELS; l++)
        if (fm__cpu_has(l)) m.level = l;
    for (int l = 0; l < FM__CPU_LEVELS; l++)
        if (argc > 2 && !strcmp(argv[2], fm__cpu_level_name(l)) && fm__cpu_has(l)) m.level = l;
    if (argc > 3) m.format = fm__kv_format_by_name(argv[3]);
    if (m.format < 0 || fm__pool_new(argc > 1 ? atoi(argv[1]) : 0, &m.pool, &err) != FM_OK) return 1;
    static const int depths[] = {0, 4096, 8192, 14000};
    int rows = argc > 4 ? atoi(argv[4]) : 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int d = 0; d < (shapes[i].window ? 2 : 4); d++) {
            if (rows != 1) bench(&shapes[i], rows ? rows : 512, depths[d], &m);
            if (d && rows < 2) bench(&shapes[i], 1, depths[d], &m);
        }
    fm__pool_free(m.pool);
    return 0;
}

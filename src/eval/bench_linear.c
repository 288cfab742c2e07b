// SPDX-License-Identifier: MIT
// The bench of linear kernels. Weights are random codes under sensible scales; every repeat runs the whole product with
// all workers of the pool, as a plan would.
#include "eval/bench_linear.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/pool.h"
#include "device/cpu/linear.h"
#include "device/cpu/pack.h"
#include "eval/sorted.h"
#include "eval/stream.h"
#include "tensor/blocks.h"
#include "tensor/buffer.h"

enum { MAX_REPS = 101 };

struct bench {
    const struct fm__bench_linear_args *args;
    fm__kernel_fn *run;
    struct fm__call call;
    atomic_int_fast64_t next;
    struct fm_buffer *pages; // of weights: huge ones where a device's would be
    unsigned char *weights, *x, *y, *scratch, *workspace;
    float *scales; // of I8 weights
    struct fm__pool *pool;
    size_t weight_bytes; // of one copy, rounded up to whole lines
};

static float random_value(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static fm_status make_operands(struct bench *b, int n_workers, struct fm_error *err)
{
    const struct fm__bench_linear_args *a = b->args;
    const size_t row = fm_dtype_row_bytes(a->dtype, a->K), x_row = fm_dtype_row_bytes(a->act, a->K);
    const int64_t n_copies = a->copies > 1 ? a->copies : 1;
    b->weight_bytes = fm__align_up(fm__pack_bytes(a->dtype, a->O, a->K), 64);
    FM_TRY(fm__buffer_pages(b->weight_bytes * (size_t)n_copies, &b->pages, err));
    b->weights = b->pages->host;
    b->x = fm__aligned(64, x_row * (size_t)a->N);
    b->y = fm__aligned(64, (size_t)(a->N * a->O) * 4);
    b->scales = fm__aligned(64, (size_t)a->O * 4);
    b->scratch = fm__aligned(64, (size_t)n_workers * FM__WORKER_SCRATCH);
    float *values = fm__malloc((size_t)a->K * 4);
    unsigned char *rows = fm__malloc(row * 16);
    if (!b->x || !b->y || !b->scales || !b->scratch || !values || !rows) {
        fm__free(values);
        fm__free(rows);
        return fm__fail_nomem(err, "bench", b->weight_bytes * (size_t)n_copies);
    }
    uint32_t seed = 1;
    for (int64_t o = 0; o < a->O; o++) b->scales[o] = 0.01F;
    for (int64_t o = 0; o < a->O; o += 16) {
        const int64_t n = a->O - o < 16 ? a->O - o : 16;
        for (int64_t r = 0; r < n; r++) {
            for (int64_t k = 0; k < a->K; k++) values[k] = random_value(&seed);
            if (a->dtype == FM_I8)
                for (int64_t k = 0; k < a->K; k++)
                    rows[(size_t)r * row + (size_t)k] = (unsigned char)(int)(127 * values[k]);
            else
                fm__quantise_row(a->dtype, values, a->K, rows + (size_t)r * row);
        }
        fm__pack_rows(a->dtype, a->K, o, n, rows, b->weights);
    }
    for (int64_t i = 1; i < n_copies; i++)
        memcpy(b->weights + b->weight_bytes * (size_t)i, b->weights, b->weight_bytes);
    for (int64_t n = 0; n < a->N; n++) {
        for (int64_t k = 0; k < a->K; k++) values[k] = random_value(&seed);
        fm__quantise_row(a->act, values, a->K, b->x + (size_t)n * x_row);
    }
    fm__free(values);
    fm__free(rows);
    return FM_OK;
}

static void enter(void *context, int index, int count)
{
    struct bench *b = context;
    struct fm__worker worker = {
        .index = index, .count = count, .pool = b->pool, .scratch = b->scratch + (size_t)index * FM__WORKER_SCRATCH};
    b->run(&b->call, &worker);
}

static struct fm_tensor matrix(fm_dtype dtype, int64_t rows, int64_t columns, void *data)
{
    struct fm_tensor t = {.dtype = dtype, .rank = 2, .dims = {rows, columns}, .data = data};
    fm_tensor_set_contiguous(&t);
    return t;
}

static void make_call(struct bench *b)
{
    const struct fm__bench_linear_args *a = b->args;
    b->call = (struct fm__call){.n_in = 2, .n_out = 1, .rows = a->N, .next = &b->next};
    b->call.in[0] = matrix(a->act, a->N, a->K, b->x);
    b->call.in[1] = matrix(a->dtype, a->O, a->K, b->weights);
    b->call.in[1].layout = FM__LAYOUT_PACK16;
    if (a->dtype == FM_I8) {
        b->call.n_in = 5;
        b->call.in[2].dtype = b->call.in[3].dtype = FM_DTYPE_COUNT;
        b->call.in[4] = (struct fm_tensor){.dtype = FM_F32, .rank = 1, .dims = {a->O}, .data = b->scales};
    }
    b->call.out[0] = matrix(FM_F32, a->N, a->O, b->y);
}

// Each product works on the next copy of the weights; with more than one, streaming the copy that is farthest away
// stands between the products, for it finds the caches in the same state.
static void measure(struct bench *b, struct fm__bench_linear *out)
{
    const struct fm__bench_linear_args *a = b->args;
    const int reps = a->reps < 1 ? 1 : a->reps > MAX_REPS ? MAX_REPS : a->reps;
    const size_t n_copies = a->copies > 1 ? (size_t)a->copies : 1;
    double seconds[MAX_REPS] = {0}, streams[MAX_REPS] = {0};
    for (int r = -2; r < reps; r++) { // two to warm up
        const size_t i = (size_t)(r + 2);
        b->call.in[1].data = b->weights + b->weight_bytes * (i % n_copies);
        atomic_store(&b->next, 0);
        const double before = fm__seconds();
        fm__pool_run(b->pool, enter, b);
        const double took = fm__seconds() - before;
        const struct fm__stream_part far = {b->weights + b->weight_bytes * ((i + n_copies / 2) % n_copies),
                                            b->weight_bytes};
        const double streamed = n_copies > 1 ? fm__stream_read(b->pool, &far, 1) : 0;
        if (r < 0) continue;
        seconds[r] = took;
        streams[r] = streamed;
    }
    fm__sort(seconds, reps);
    fm__sort(streams, reps);
    // quartiles: of products of some 20 µs there is always one that the system interrupted
    out->seconds = seconds[reps / 2];
    out->spread = (seconds[reps - 1 - reps / 4] - seconds[reps / 4]) / out->seconds;
    out->stream_seconds = streams[reps / 4]; // a bound: not slower than it can be
}

fm_status fm__bench_linear(struct fm__pool *pool, const struct fm__bench_linear_args *args,
                           struct fm__bench_linear *out, struct fm_error *err)
{
    struct bench b = {.args = args, .pool = pool};
    const struct fm__linear_kernel kernel = fm__linear_kernel(args->dtype, args->act, args->level, args->N);
    memset(out, 0, sizeof *out);
    if (!kernel.run) return FM_OK;
    if (args->N < 1 || !fm__pack_bytes(args->dtype, args->O, args->K) || !fm_dtype_row_bytes(args->act, args->K))
        return fm__fail(err, FM_E_ARG, "bench: %s [%lld, %lld] is no matrix of whole blocks",
                        fm_dtype_info(args->dtype)->name, (long long)args->O, (long long)args->K);
    b.run = kernel.run;
    fm_status status = make_operands(&b, fm__pool_size(pool), err);
    if (status == FM_OK) {
        make_call(&b);
        b.call.workspace_bytes = kernel.workspace ? kernel.workspace(&b.call, fm__pool_size(pool)) : 0;
        b.workspace = b.call.workspace = fm__aligned(64, b.call.workspace_bytes + 1);
        if (!b.workspace) status = fm__fail_nomem(err, "bench workspace", b.call.workspace_bytes);
    }
    if (status == FM_OK) {
        out->kernel = kernel.name;
        measure(&b, out);
        out->gops = 2e-9 * (double)args->N * (double)args->O * (double)args->K / out->seconds;
        out->gb_per_s = 1e-9 * (double)fm__pack_bytes(args->dtype, args->O, args->K) / out->seconds;
    }
    fm_buffer_unref(b.pages);
    fm__free(b.x);
    fm__free(b.y);
    fm__free(b.scales);
    fm__free(b.scratch);
    fm__free(b.workspace);
    return status;
}

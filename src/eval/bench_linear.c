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
    float *values; // of a row
    uint32_t seed;
    struct fm__pool *pool;
    size_t weight_bytes; // of one copy, rounded up to whole lines
};

static float random_value(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (float)(int32_t)*seed * 0x1p-31f;
}

// Rows and columns of the operands: in[0] is x or dy, in[1] W, or dy for its gradient.
struct shapes {
    int64_t in0[2], in1[2], out[2];
};

static struct shapes shapes_of(const struct fm__bench_linear_args *a)
{
    switch (a->form) {
    case FM__BENCH_DX:
        return (struct shapes){{a->N, a->O}, {a->O, a->K}, {a->N, a->K}};
    case FM__BENCH_DW:
        return (struct shapes){{a->N, a->K}, {a->N, a->O}, {a->O, a->K}};
    default:
        return (struct shapes){{a->N, a->K}, {a->O, a->K}, {a->N, a->O}};
    }
}

static bool in_rows(const struct fm__bench_linear_args *a)
{
    return a->rows || a->form == FM__BENCH_DW;
}

static size_t bytes_of(const struct fm__bench_linear_args *a, const int64_t in1[2])
{
    return in_rows(a) ? fm_dtype_row_bytes(a->dtype, in1[1]) * (size_t)in1[0]
                      : fm__pack_bytes(a->dtype, in1[0], in1[1]);
}

static void random_rows(struct bench *b, fm_dtype dtype, int64_t n, int64_t n_columns, uint8_t *to)
{
    float *values = b->values;
    for (int64_t r = 0; r < n; r++, to += fm_dtype_row_bytes(dtype, n_columns)) {
        for (int64_t k = 0; k < n_columns; k++) values[k] = random_value(&b->seed);
        if (dtype == FM_I8)
            for (int64_t k = 0; k < n_columns; k++) to[k] = (uint8_t)(int)(127 * values[k]);
        else
            fm__quantise_row(dtype, values, n_columns, to);
    }
}

static void fill_operands(struct bench *b, const struct shapes *s, uint8_t *rows)
{
    const struct fm__bench_linear_args *a = b->args;
    const int64_t n = s->in1[0], n_columns = s->in1[1];
    for (int64_t o = 0; o < a->O; o++) b->scales[o] = 0.01F;
    random_rows(b, a->act, s->in0[0], s->in0[1], b->x);
    for (int64_t r = 0; r < n; r += 16) {
        const int64_t step = n - r < 16 ? n - r : 16;
        random_rows(b, a->dtype, step, n_columns, rows);
        if (in_rows(a))
            memcpy(b->weights + fm_dtype_row_bytes(a->dtype, n_columns) * (size_t)r, rows,
                   fm_dtype_row_bytes(a->dtype, n_columns) * (size_t)step);
        else
            fm__pack_rows(a->dtype, n_columns, r, step, rows, b->weights);
    }
    for (int64_t i = 1; i < a->copies; i++)
        memcpy(b->weights + b->weight_bytes * (size_t)i, b->weights, b->weight_bytes);
}

static fm_status make_operands(struct bench *b, int n_workers, struct fm_error *err)
{
    const struct fm__bench_linear_args *a = b->args;
    const struct shapes s = shapes_of(a);
    const int64_t n_copies = a->copies > 1 ? a->copies : 1, longest = a->K > a->O ? a->K : a->O;
    b->weight_bytes = fm__align_up(bytes_of(a, s.in1), 64);
    FM_TRY(fm__buffer_pages(b->weight_bytes * (size_t)n_copies, &b->pages, err));
    b->weights = b->pages->host;
    b->x = fm__aligned(64, fm_dtype_row_bytes(a->act, s.in0[1]) * (size_t)s.in0[0]);
    b->y = fm__aligned(64, (size_t)(s.out[0] * s.out[1]) * 4);
    b->scales = fm__aligned(64, (size_t)a->O * 4);
    b->scratch = fm__aligned(64, (size_t)n_workers * FM__WORKER_SCRATCH);
    b->values = fm__malloc((size_t)longest * 4);
    uint8_t *rows = fm__malloc(fm_dtype_row_bytes(a->dtype, s.in1[1]) * 16);
    const bool complete = b->x && b->y && b->scales && b->scratch && b->values && rows;
    if (complete) fill_operands(b, &s, rows);
    fm__free(rows);
    return complete ? FM_OK : fm__fail_nomem(err, "bench", b->weight_bytes * (size_t)n_copies);
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
    static const union fm__attrs turned = {.linear = {.transpose_w = 1}};
    const struct fm__bench_linear_args *a = b->args;
    const struct shapes s = shapes_of(a);
    b->call = (struct fm__call){.n_in = 2, .n_out = 1, .rows = a->N, .next = &b->next};
    if (a->form == FM__BENCH_DX) b->call.attrs = &turned;
    b->call.in[0] = matrix(a->act, s.in0[0], s.in0[1], b->x);
    b->call.in[1] = matrix(a->dtype, s.in1[0], s.in1[1], b->weights);
    b->call.in[1].layout = in_rows(a) ? FM_LAYOUT_ROWS : FM__LAYOUT_PACK16;
    if (a->dtype == FM_I8) {
        b->call.n_in = 5;
        b->call.in[2].dtype = b->call.in[3].dtype = FM_DTYPE_COUNT;
        b->call.in[4] = (struct fm_tensor){.dtype = FM_F32, .rank = 1, .dims = {a->O}, .data = b->scales};
    }
    b->call.out[0] = matrix(FM_F32, s.out[0], s.out[1], b->y);
}

// Each product works on the next copy of the weights; with more than one, streaming the copy that is farthest away
// stands between the products, for it finds the caches in the same state.
static void measure(struct bench *b, struct fm__bench_linear *out)
{
    const struct fm__bench_linear_args *a = b->args;
    const int reps = a->reps < 1 ? 1 : a->reps > MAX_REPS ? MAX_REPS : a->reps;
    const size_t n_copies = a->copies > 1 ? (size_t)a->copies : 1;
    double seconds[MAX_REPS] = {0}, streams[MAX_REPS] = {0};
    for (size_t i = 0; i < (size_t)reps + 2; i++) { // two to warm up
        b->call.in[1].data = b->weights + b->weight_bytes * (i % n_copies);
        atomic_store(&b->next, 0);
        const double before = fm__seconds();
        fm__pool_run(b->pool, enter, b);
        const double took = fm__seconds() - before;
        const struct fm__stream_part far = {b->weights + b->weight_bytes * ((i + n_copies / 2) % n_copies),
                                            b->weight_bytes};
        const double streamed = n_copies > 1 ? fm__stream_read(b->pool, &far, 1) : 0;
        if (i < 2) continue;
        seconds[i - 2] = took;
        streams[i - 2] = streamed;
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
    const struct fm__linear_kernel kernel = args->form == FM__BENCH_DW
                                                ? fm__linear_dw_kernel(args->act, args->level)
                                                : fm__linear_kernel(args->dtype, args->act, args->level, args->N);
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
        out->gb_per_s = 1e-9 * (double)b.weight_bytes / out->seconds;
    }
    fm_buffer_unref(b.pages);
    fm__free(b.x);
    fm__free(b.y);
    fm__free(b.scales);
    fm__free(b.values);
    fm__free(b.scratch);
    fm__free(b.workspace);
    return status;
}

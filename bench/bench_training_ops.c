// SPDX-License-Identifier: MIT
// Speed of ops of training, from plans: a step of a small MNIST CNN (microseconds a kind of op, seconds an epoch of
// 60,000 images), linear_cross_entropy with its gradient at the sizes of GPT-2's and SmolLM2's heads (GFLOP/s), and
// dropout (GB/s).
// Usage: bench_training_ops [threads [level [part]]]   (defaults: all the process may use, the highest, all; part:
// 0 MNIST, 1 … 4 a head, 5 dropout)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/device.h"
#include "device/plan.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "tensor/blocks.h"
#include "tensor/buffer.h"

enum { MAX_LEAVES = 32, REPEATS = 3 };
struct bench {
    struct fm_device *device;
    struct fm__graph *g;
    struct {
        const char *name;
        struct fm_tensor tensor;
    } leaves[MAX_LEAVES];
    int n_leaves;
};

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// With one thread, its own time: other loads of the machine count less.
static double now(const struct bench *b)
{
    struct fm_device_props props;
    fm_device_get_props(b->device, &props);
    return seconds_of(props.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

static void need(fm_status status, const struct fm_error *err)
{
    if (status == FM_OK) return;
    fprintf(stderr, "bench_training_ops: %s\n", err->text);
    exit(1);
}

static float noise(void)
{
    static uint32_t s = 1;
    s = s * 1664525u + 1013904223u;
    return (float)(s >> 8) * 0x1p-23f - 1.0f;
}

// A weight or state of small noise; block formats are quantised from it.
static fm__val leaf(struct bench *b, const char *name, fm_dtype dtype, int64_t d0, int64_t d1)
{
    struct fm_error err;
    const int64_t dims[] = {d0, d1}, n = d0 * (d1 ? d1 : 1);
    struct fm_tensor *t = &b->leaves[b->n_leaves].tensor;
    b->leaves[b->n_leaves++].name = name;
    *t = (struct fm_tensor){.dtype = dtype, .rank = d1 ? 2 : 1, .dims = {d0, d1}};
    fm_tensor_set_contiguous(t);
    if (dtype != FM_F32) t->layout = b->device->v->weight_layout(b->device, t);
    need(b->device->v->alloc(b->device, b->device->v->weight_bytes(b->device, t), &t->buffer, &err), &err);
    t->data = t->buffer->host;
    float *values = malloc((size_t)n * sizeof *values);
    void *rows = malloc(fm_tensor_bytes(t));
    for (int64_t i = 0; i < n; i++) values[i] = 0.1f * noise();
    if (!fm__quantise_row(dtype, values, n, rows)) exit(1);
    need(b->device->v->weight_write(b->device, t, 0, d0, rows, &err), &err);
    free(values);
    free(rows);
    return fm__graph_leaf(b->g, dtype == FM_F32 ? FM__STATE : FM__WEIGHT, name, dtype, t->rank, dims);
}

static fm_status bind(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    const struct bench *b = context;
    for (int i = 0; i < b->n_leaves; i++)
        if (!strcmp(b->leaves[i].name, name)) {
            *out = b->leaves[i].tensor;
            return FM_OK;
        }
    snprintf(err->text, sizeof err->text, "no leaf %s", name);
    return err->code = FM_E_NOT_FOUND;
}

static fm__val add(struct bench *b, enum fm__op_id op, int n_in, const fm__val *in, const union fm__attrs *attrs)
{
    return fm__graph_add(b->g, op, n_in, in, attrs);
}

// The fastest of some runs; prints microseconds a kind of op.
static double run(struct bench *b, int64_t rows, const void *const *inputs, int verbose)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {
        .device = b->device, .rows = rows, .bind = bind, .bind_context = b, .exact_activations = 1};
    double best = 1e9;
    need(fm__graph_check(b->g, &err), &err);
    need(fm__plan_new(b->g, &opts, &plan, &err), &err);
    for (int i = 0; i < REPEATS; i++) {
        const double start = now(b);
        need(fm__plan_run(plan, rows, inputs, &err), &err);
        best = now(b) - start < best ? now(b) - start : best;
    }
    if (verbose) {
        double *seconds = calloc((size_t)plan->n_steps, sizeof *seconds), by_op[FM__OP_COUNT] = {0};
        b->device->v->profile(b->device, plan->program, 1, NULL);
        need(fm__plan_run(plan, rows, inputs, &err), &err);
        b->device->v->profile(b->device, plan->program, 0, seconds);
        for (int i = 0; i < plan->n_steps; i++) by_op[fm__plan_node(plan, i)->op] += seconds[i];
        for (int i = 0; i < FM__OP_COUNT; i++)
            if (by_op[i] > 0) printf("    %-24s %8.0f us\n", fm__op((enum fm__op_id)i)->name, 1e6 * by_op[i]);
        printf("    arena %.1f MB\n", (double)plan->arena_bytes / (1 << 20));
        free(seconds);
    }
    fm__plan_free(plan);
    return best;
}

static void begin(struct bench *b)
{
    b->g = fm__graph_new();
    b->n_leaves = 0;
}

static void end(struct bench *b)
{
    for (int i = 0; i < b->n_leaves; i++) fm_buffer_unref(b->leaves[i].tensor.buffer);
    fm__graph_free(b->g);
}

// conv 32 · pool · conv 64 · pool · 128 · 10
static void mnist(struct bench *b)
{
    enum { BATCH = 128 };
    static float images[BATCH * 784];
    static int32_t targets[BATCH];
    for (int i = 0; i < BATCH * 784; i++) images[i] = noise();
    for (int i = 0; i < BATCH; i++) targets[i] = i % 10;
    begin(b);
    const union fm__attrs first = {.conv = {1, 28, 28, 3, 3, 1, 1, 0}}, second = {.conv = {32, 14, 14, 3, 3, 1, 1, 0}};
    const union fm__attrs half = {.conv = {32, 28, 28, 2, 2, 2, 0, FM__POOL_MAX}};
    const union fm__attrs quarter = {.conv = {64, 14, 14, 2, 2, 2, 0, FM__POOL_MAX}};
    const union fm__attrs relu = {.act = {.act = FM__ACT_RELU}};
    fm__val w[8], d[8];
    static const char *const names[] = {"w1", "b1", "w2", "b2", "w3", "b3", "w4"};
    static const int64_t dims[][2] = {{32, 9}, {32, 0}, {64, 288}, {64, 0}, {128, 3136}, {128, 0}, {10, 128}};
    for (int i = 0; i < 7; i++) w[i] = leaf(b, names[i], FM_F32, dims[i][0], dims[i][1]);
    fm__val x = fm__graph_leaf(b->g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, 784});
    const fm__val t = fm__graph_leaf(b->g, FM__INPUT, "t", FM_I32, 1, (int64_t[]){FM__ROWS});
    x = add(b, FM__OP_CONV2D, 3, (fm__val[]){x, w[0], w[1]}, &first);
    x = add(b, FM__OP_ACT, 1, &x, &relu);
    x = add(b, FM__OP_POOL2D, 1, &x, &half);
    x = add(b, FM__OP_CONV2D, 3, (fm__val[]){x, w[2], w[3]}, &second);
    x = add(b, FM__OP_ACT, 1, &x, &relu);
    x = add(b, FM__OP_POOL2D, 1, &x, &quarter);
    x = add(b, FM__OP_LINEAR, 3, (fm__val[]){x, w[4], w[5]}, NULL);
    x = add(b, FM__OP_ACT, 1, &x, &relu);
    fm__val loss = add(b, FM__OP_LINEAR_CROSS_ENTROPY, 3, (fm__val[]){x, w[6], t}, NULL);
    loss = add(b, FM__OP_SUM, 1, &loss, NULL);
    fm__graph_output(b->g, loss, "loss");
    fm__graph_gradient(b->g, loss, 7, w, d);
    for (int i = 0; i < 7; i++) fm__graph_output(b->g, d[i], "d");
    printf("MNIST CNN, batch %d, forward and gradients\n", BATCH);
    const double seconds = run(b, BATCH, (const void *[]){images, targets}, 1);
    printf("    step %.2f ms, %.1f s an epoch\n", 1e3 * seconds, seconds * 60000 / BATCH);
    end(b);
}

struct head {
    const char *name;
    int64_t N, D, V;
    fm_dtype type;
    int every; // one row in so many has a target
};

static void head(struct bench *b, const struct head *h)
{
    begin(b);
    float *x = malloc((size_t)(h->N * h->D) * sizeof *x);
    int32_t *targets = malloc((size_t)h->N * sizeof *targets), n_rows = 0;
    for (int64_t i = 0; i < h->N * h->D; i++) x[i] = noise();
    for (int64_t i = 0; i < h->N; i++)
        n_rows += i % h->every == 0, targets[i] = i % h->every ? -1 : (int32_t)(i % h->V);
    fm__val of[2], d[2];
    of[0] = fm__graph_leaf(b->g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, h->D});
    of[1] = leaf(b, "w", h->type, h->V, h->D);
    const fm__val t = fm__graph_leaf(b->g, FM__INPUT, "t", FM_I32, 1, (int64_t[]){FM__ROWS});
    fm__val loss = add(b, FM__OP_LINEAR_CROSS_ENTROPY, 3, (fm__val[]){of[0], of[1], t}, NULL);
    loss = add(b, FM__OP_SUM, 1, &loss, NULL);
    fm__graph_output(b->g, loss, "loss");
    const int n = h->type == FM_F32 ? 2 : 1;
    fm__graph_gradient(b->g, loss, n, of, d);
    for (int i = 0; i < n; i++) fm__graph_output(b->g, d[i], "d");
    printf("%s: N %lld, %d with a target, D %lld, V %lld, %s\n", h->name, (long long)h->N, n_rows, (long long)h->D,
           (long long)h->V, fm_dtype_info(h->type)->name);
    const double seconds = run(b, h->N, (const void *[]){x, targets}, 1);
    const double products = (n == 2 ? 4 : 3) * 2.0 * n_rows * (double)h->D * (double)h->V; // logits twice
    printf("    %.1f ms, %.0f GFLOP/s\n", 1e3 * seconds, 1e-9 * products / seconds);
    free(x);
    free(targets);
    end(b);
}

static void drop(struct bench *b)
{
    enum { N = 4096, D = 768 };
    static float x[N * D];
    begin(b);
    const fm__val in[] = {fm__graph_leaf(b->g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, D}),
                          fm__graph_leaf(b->g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4})};
    fm__graph_output(b->g, add(b, FM__OP_DROPOUT, 2, in, &(union fm__attrs){.dropout = {.p = 0.1f}}), "y");
    const double seconds = run(b, N, (const void *[]){x, (int32_t[]){1, 2, 3, 4}}, 0);
    printf("dropout of %d x %d: %.2f ms, %.1f GB/s\n", N, D, 1e3 * seconds, 8e-9 * N * D / seconds);
    end(b);
}

int main(int argc, char **argv)
{
    static const struct head heads[] = {{"GPT-2", 1024, 768, 50257, FM_F32, 1},
                                        {"GPT-2, 4 x 64", 256, 768, 50257, FM_F32, 1},
                                        {"SmolLM2", 512, 576, 49152, FM_Q4_1, 1},
                                        {"SmolLM2, labels", 512, 576, 49152, FM_Q4_1, 64}};
    struct bench b = {0};
    struct fm_error err;
    const struct fm_device_opts opts = {.threads = argc > 1 ? atoi(argv[1]) : 0,
                                        .level = argc > 2 && *argv[2] ? argv[2] : NULL};
    need(fm_device_open("cpu", &opts, &b.device, &err), &err);
    const int part = argc > 3 ? atoi(argv[3]) : -1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (part < 0 || part == 0) mnist(&b);
    for (int i = 0; i < 4; i++)
        if (part < 0 || part == i + 1) head(&b, &heads[i]);
    if (part < 0 || part == 5) drop(&b);
    fm_device_close(b.device);
    return 0;
}

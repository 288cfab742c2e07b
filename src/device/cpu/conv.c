// SPDX-License-Identifier: MIT
// conv2d and its gradients: a worker takes an image (dw: a slab of images), lays its taps out as the operand of a
// linear kernel and runs that alone. y[O, places] = w[O, taps] P with P packed (pack.h) place by place, so that 16
// places are a vector; dP[taps, places] = w^T dy likewise, then taps are added to their pixels; dw += dy P^T.
// Shared workspace: first what all share (dx: w^T; dw: the slabs' sums), then a part of each worker.
#include "device/cpu/conv.h"

#include <string.h>

#include "device/cpu/levels.h"
#include "device/cpu/pack.h"
#include "ops/conv.h"

enum { LANES = FM__PACK_ROWS, ALIGN = 64 };

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int64_t n_panels(const struct fm__conv *g)
{
    return (g->places + LANES - 1) / LANES;
}

static struct fm_tensor matrix(const void *data, int64_t n_rows, int64_t n_columns)
{
    struct fm_tensor t = {.dtype = FM_F32, .rank = 2, .dims = {n_rows, n_columns}, .data = (void *)(uintptr_t)data};
    fm_tensor_set_contiguous(&t);
    return t;
}

static struct fm_tensor packed(const float *panels, int64_t n_rows, int64_t n_columns)
{
    struct fm_tensor t = matrix(panels, n_rows, n_columns);
    t.layout = FM__LAYOUT_PACK16;
    return t;
}

// y[x's rows, w's rows] = x w^T (+ y where `add`), by this worker alone.
struct product {
    struct fm_tensor x, w, y;
    int level, add;
};

static struct fm__kernel choose(const struct product *p, struct fm__call *call)
{
    *call = (struct fm__call){.n_in = p->add ? 4 : 2, .n_out = 1, .rows = p->x.dims[0]};
    call->in[0] = p->x, call->in[1] = p->w, call->out[0] = p->y;
    call->in[2].dtype = FM_DTYPE_COUNT;
    if (p->add) call->in[3] = p->y;
    return fm__kernel_select(FM__OP_LINEAR, call, p->level);
}

static void multiply(const struct product *p, const struct fm__worker *worker)
{
    struct fm__call call;
    atomic_int_fast64_t next = 0;
    const struct fm__kernel kernel = choose(p, &call);
    struct fm__worker alone = {.count = 1, .scratch = worker->scratch};
    call.next = &next;
    kernel.run(&call, &alone);
}

// Row `k` of `n_rows` rows of places into panels [panel][n_rows][16]; the last one is filled up with zeros.
static void pack_row(const struct fm__conv *g, const float *row, int64_t k, int64_t n_rows, float *panels)
{
    for (int64_t p = 0; p < g->places; p += LANES, panels += n_rows * LANES) {
        const int64_t n = g->places - p < LANES ? g->places - p : LANES;
        if (n == LANES) {
            memcpy(panels + k * LANES, row + p, LANES * sizeof *row);
            continue;
        }
        memset(panels + k * LANES, 0, LANES * sizeof *row);
        memcpy(panels + k * LANES, row + p, (size_t)n * sizeof *row);
    }
}

// Of a worker: | panels [taps] | a row of places |
static size_t forward_part(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    return aligned((size_t)(n_panels(&g) * LANES * (g.taps + 1)) * sizeof(float));
}

static size_t forward_workspace(const struct fm__call *largest, int n_workers)
{
    return (size_t)n_workers * forward_part(largest);
}

static void run_forward(const struct fm__call *c, struct fm__worker *worker, int level)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t O = c->in[1].dims[0];
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    float *panels = (float *)(void *)((char *)c->workspace + (size_t)worker->index * forward_part(c));
    float *row = panels + n_panels(&g) * LANES * g.taps;
    for (int64_t n; (n = fm__take(c, 1)) < c->in[0].dims[0];) {
        float *y = (float *)c->out[0].data + n * O * g.places;
        for (int64_t tap = 0; tap < g.taps; tap++) {
            fm__conv_tap_row(&g, (const float *)c->in[0].data + n * g.channels * g.pixels, tap, row);
            pack_row(&g, row, tap, g.taps, panels);
        }
        const struct product product = {.x = matrix(c->in[1].data, O, g.taps),
                                        .w = packed(panels, g.places, g.taps),
                                        .y = matrix(y, O, g.places),
                                        .level = level};
        multiply(&product, worker);
        for (int64_t o = 0; o < O && bias; o++)
            for (int64_t i = 0; i < g.places; i++) y[o * g.places + i] += bias[o];
    }
}

// | w^T [taps][O] | of each worker: panels [O] of dy, dP [taps][places] |
static size_t turned_bytes(const struct fm__call *c, const struct fm__conv *g)
{
    return aligned((size_t)(g->taps * c->in[0].dims[0]) * sizeof(float));
}

static size_t dx_part(const struct fm__call *c, const struct fm__conv *g)
{
    return aligned((size_t)(n_panels(g) * LANES * c->in[0].dims[0] + g->taps * g->places) * sizeof(float));
}

static size_t dx_workspace(const struct fm__call *largest, int n_workers)
{
    const struct fm__conv g = fm__conv_of(&largest->attrs->conv);
    return turned_bytes(largest, &g) + (size_t)n_workers * dx_part(largest, &g);
}

static void run_dx(const struct fm__call *c, struct fm__worker *worker, int level)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t O = c->in[0].dims[0], X = g.channels * g.pixels, end = g.taps * (worker->index + 1) / worker->count;
    float *turned = c->workspace;
    for (int64_t tap = g.taps * worker->index / worker->count; tap < end; tap++)
        for (int64_t o = 0; o < O; o++) turned[tap * O + o] = ((const float *)c->in[0].data)[o * g.taps + tap];
    fm__worker_barrier(worker);
    const size_t part = turned_bytes(c, &g) + (size_t)worker->index * dx_part(c, &g);
    float *panels = (float *)(void *)((char *)c->workspace + part), *taps = panels + n_panels(&g) * LANES * O;
    for (int64_t n; (n = fm__take(c, 1)) < c->in[1].dims[0];) {
        const float *dy = (const float *)c->in[1].data + n * O * g.places;
        float *image = (float *)c->out[0].data + n * X;
        for (int64_t o = 0; o < O; o++) pack_row(&g, dy + o * g.places, o, O, panels);
        const struct product product = {.x = matrix(turned, g.taps, O),
                                        .w = packed(panels, g.places, O),
                                        .y = matrix(taps, g.taps, g.places),
                                        .level = level};
        multiply(&product, worker);
        memset(image, 0, (size_t)X * sizeof *image);
        for (int64_t tap = 0; tap < g.taps; tap++) fm__conv_tap_add(&g, taps + tap * g.places, tap, image);
    }
}

// | sums of each slab: dw [O][taps], db [O] | of each worker: P^T [taps][places] |
static int64_t n_slabs(const struct fm__call *c)
{
    return (c->in[0].dims[0] + FM__CONV_SLAB - 1) / FM__CONV_SLAB;
}

static int64_t slab_elements(const struct fm__call *c, const struct fm__conv *g)
{
    return (c->out[0].dims[0] * (g->taps + 1) + LANES - 1) / LANES * LANES;
}

static size_t taps_bytes(const struct fm__conv *g)
{
    return aligned((size_t)(g->taps * g->places) * sizeof(float));
}

static size_t dw_workspace(const struct fm__call *largest, int n_workers)
{
    const struct fm__conv g = fm__conv_of(&largest->attrs->conv);
    return (size_t)(n_slabs(largest) * slab_elements(largest, &g)) * sizeof(float) + (size_t)n_workers * taps_bytes(&g);
}

static void one_slab(const struct fm__call *c, struct fm__worker *worker, int level, int64_t slab)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t N = c->in[0].dims[0], O = c->out[0].dims[0], all = slab_elements(c, &g), X = g.channels * g.pixels;
    float *dw = (float *)c->workspace + slab * all, *db = dw + O * g.taps;
    float *taps = (float *)c->workspace + n_slabs(c) * all + worker->index * (int64_t)(taps_bytes(&g) / sizeof *dw);
    memset(dw, 0, (size_t)all * sizeof *dw);
    for (int64_t n = slab * FM__CONV_SLAB; n < (slab + 1) * FM__CONV_SLAB && n < N; n++) {
        const float *dy = (const float *)c->in[1].data + n * O * g.places;
        for (int64_t tap = 0; tap < g.taps; tap++)
            fm__conv_tap_row(&g, (const float *)c->in[0].data + n * X, tap, taps + tap * g.places);
        const struct product product = {.x = matrix(dy, O, g.places),
                                        .w = matrix(taps, g.taps, g.places),
                                        .y = matrix(dw, O, g.taps),
                                        .level = level,
                                        .add = 1};
        multiply(&product, worker);
        for (int64_t o = 0; o < O; o++) db[o] += fm__conv_place_sum(dy + o * g.places, g.places);
    }
}

static void run_dw(const struct fm__call *c, struct fm__worker *worker, int level)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t O = c->out[0].dims[0], n_weights = O * g.taps, n = n_weights + O, all = slab_elements(c, &g);
    const int64_t slabs = n_slabs(c);
    for (int64_t slab; (slab = fm__take(c, 1)) < slabs;) one_slab(c, worker, level, slab);
    fm__worker_barrier(worker);
    const int64_t end = n * (worker->index + 1) / worker->count;
    for (int64_t i = n * worker->index / worker->count; i < end; i++) {
        float total = 0;
        for (int64_t slab = 0; slab < slabs; slab++) total += ((const float *)c->workspace)[slab * all + i];
        *(i < n_weights ? (float *)c->out[0].data + i : (float *)c->out[1].data + i - n_weights) = total;
    }
}

#define LEVEL(level, suffix)                                                         \
    static void forward_##level(const struct fm__call *c, struct fm__worker *worker) \
    {                                                                                \
        run_forward(c, worker, FM__CPU_##level);                                     \
    }                                                                                \
    static void dx_##level(const struct fm__call *c, struct fm__worker *worker)      \
    {                                                                                \
        run_dx(c, worker, FM__CPU_##level);                                          \
    }                                                                                \
    static void dw_##level(const struct fm__call *c, struct fm__worker *worker)      \
    {                                                                                \
        run_dw(c, worker, FM__CPU_##level);                                          \
    }
FM__VECTOR_LEVELS(LEVEL)

#define FORWARD(level, suffix) [FM__CPU_##level] = {"taps", forward_##level, forward_workspace},
#define DX(level, suffix) [FM__CPU_##level] = {"taps", dx_##level, dx_workspace},
#define DW(level, suffix) [FM__CPU_##level] = {"taps", dw_##level, dw_workspace},

struct fm__kernel fm__conv2d_kernel(const struct fm__call *largest, int level)
{
    static const struct fm__kernel kernels[FM__CPU_LEVELS] = {FM__VECTOR_LEVELS(FORWARD)};
    (void)largest;
    return kernels[level];
}

struct fm__kernel fm__conv2d_dx_kernel(const struct fm__call *largest, int level)
{
    static const struct fm__kernel kernels[FM__CPU_LEVELS] = {FM__VECTOR_LEVELS(DX)};
    (void)largest;
    return kernels[level];
}

struct fm__kernel fm__conv2d_dw_kernel(const struct fm__call *largest, int level)
{
    static const struct fm__kernel kernels[FM__CPU_LEVELS] = {FM__VECTOR_LEVELS(DW)};
    (void)largest;
    return kernels[level];
}

// SPDX-License-Identifier: MIT
// linear_cross_entropy and its gradients on CPU workers: a loop over slabs of W, whose products are calls of the linear
// kernels (all workers together), and between them rows of logits, shared by rows. Shared workspace:
//   | kernels of the products | counters, one a product | numbers of the rows with a target | their sums and targets'
//   logits | logits of a slab | x of the rows with a target, where there are others | gradients of logits in bf16 (x
//   bf16) | workspace of the products |
// Worker 0 chooses the kernels: a choice may be timed, and workers that share a product must run one kernel.
// Where every row has a target x is used where it lies.
#include <string.h>

#include "base/cpuinfo.h"
#include "device/cpu/kernels.h"
#include "device/cpu/levels.h"
#include "device/cpu/loss.h"
#include "device/cpu/pack.h"

enum { ALIGN = 64 };
enum product { LOGITS, DX, DW, N_PRODUCTS };

struct row_sum {
    struct fm__lce_sum all;
    double own; // the target's logit
};

struct parts {
    struct fm__kernel *kernels; // [N_PRODUCTS]
    atomic_int_fast64_t *next;
    int32_t *index;
    struct row_sum *sums;
    float *z;
    char *x;
    uint16_t *z16;
    void *sub;
    size_t bytes; // of all but sub
};

struct lce {
    const struct fm__call *call;
    struct fm__worker *worker;
    const struct fm__loss_rows *rows;
    int level;
    bool gradient;
    int64_t N, D, V, n_rows, n_slabs;
    struct parts at;
    const void *x;
};

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static struct parts lay_out(uintptr_t base, const struct fm__call *c)
{
    const int64_t N = c->in[0].dims[0], V = c->in[1].dims[0];
    struct parts p = {.kernels = (struct fm__kernel *)(void *)base};
    const size_t n = (size_t)N, wide = V < FM__LCE_SLAB ? (size_t)V : FM__LCE_SLAB;
    const size_t n_slabs = (size_t)((V + FM__LCE_SLAB - 1) / FM__LCE_SLAB);
    size_t at = aligned(N_PRODUCTS * sizeof *p.kernels);
    p.next = (atomic_int_fast64_t *)(void *)(base + at);
    at += aligned(N_PRODUCTS * n_slabs * sizeof *p.next);
    p.index = (int32_t *)(void *)(base + at);
    at += aligned(n * sizeof *p.index);
    p.sums = (struct row_sum *)(void *)(base + at);
    at += aligned(n * sizeof *p.sums);
    p.z = (float *)(void *)(base + at);
    at += aligned(n * wide * sizeof *p.z);
    p.x = (void *)(base + at);
    at += aligned(n * (size_t)c->in[0].strides[0]);
    p.z16 = (uint16_t *)(void *)(base + at);
    if (c->in[0].dtype == FM_BF16) at += aligned(n * wide * sizeof *p.z16);
    p.sub = (void *)(base + at);
    p.bytes = at;
    return p;
}

static const union fm__attrs turned = {.linear = {.transpose_w = 1}};

// The call of one product with rows [begin, begin + n) of W, for n_rows rows.
static void sub_call(const struct lce *l, enum product which, int64_t slab, struct fm__call *sub)
{
    const struct fm__call *c = l->call;
    const int64_t begin = slab * FM__LCE_SLAB, n = l->V - begin < FM__LCE_SLAB ? l->V - begin : FM__LCE_SLAB;
    const fm_dtype type = c->in[0].dtype;
    const struct fm_tensor x = fm__lce_matrix(type, l->x, l->n_rows, l->D);
    const struct fm_tensor z = fm__lce_matrix(FM_F32, l->at.z, l->n_rows, n);
    const struct fm_tensor dz = type == FM_BF16 ? fm__lce_matrix(type, l->at.z16, l->n_rows, n) : z;
    struct fm_tensor w = c->in[1];
    const bool packed = w.layout == FM__LAYOUT_PACK16;
    if (w.data)
        w.data = (char *)w.data +
                 (packed ? begin / FM__PACK_ROWS * (int64_t)fm__pack_group_bytes(w.dtype, l->D) : begin * w.strides[0]);
    w.dims[0] = n;
    *sub = (struct fm__call){.n_in = 2, .n_out = 1, .rows = l->n_rows, .workspace = l->at.sub};
    if (c->workspace_bytes > l->at.bytes) sub->workspace_bytes = c->workspace_bytes - l->at.bytes;
    sub->next = l->at.next ? l->at.next + slab * N_PRODUCTS + which : NULL;
    sub->in[0] = which == DX ? dz : x;
    sub->in[1] = which == DW ? dz : w;
    switch (which) {
    case LOGITS:
        sub->out[0] = z;
        break;
    case DX:
        sub->attrs = &turned;
        sub->n_in = 4;
        sub->in[2].dtype = FM_DTYPE_COUNT;
        sub->in[3] = sub->out[0] = fm__lce_matrix(FM_F32, c->out[0].data, l->n_rows, l->D);
        break;
    default:
        sub->out[0] = fm__lce_matrix(FM_F32, (float *)c->out[1].data + begin * l->D, n, l->D);
    }
}

static struct fm__kernel sub_kernel(const struct lce *l, enum product which, const struct fm__call *sub)
{
    return fm__kernel_select(which == DW ? FM__OP_LINEAR_DW : FM__OP_LINEAR, sub, l->level);
}

static bool has_product(const struct lce *l, enum product which)
{
    return which == LOGITS || (l->gradient && (which == DX || l->call->n_out > 1));
}

static void multiply(const struct lce *l, enum product which, int64_t slab)
{
    struct fm__call sub;
    sub_call(l, which, slab, &sub);
    l->at.kernels[which].run(&sub, l->worker);
}

// This worker's share of n rows.
static int64_t share_begin(const struct lce *l, int64_t n, int index)
{
    return n * index / l->worker->count;
}

static void read_call(struct lce *l, const struct fm__call *c, int level)
{
    *l = (struct lce){.call = c, .level = level, .gradient = c->n_in > 4};
    l->N = c->in[0].dims[0], l->D = c->in[0].dims[1], l->V = c->in[1].dims[0];
    l->n_rows = l->N;
    l->n_slabs = (l->V + FM__LCE_SLAB - 1) / FM__LCE_SLAB;
}

// By worker 0: rows with a target are found, sums and counters set, kernels chosen.
static void prepare(struct lce *l)
{
    const struct fm__call *c = l->call;
    const int64_t n = fm__lce_rows(c->in[2].data, l->N, l->V, l->at.index);
    for (int64_t i = 0; i < N_PRODUCTS * l->n_slabs; i++) atomic_init(&l->at.next[i], 0);
    for (int64_t i = 0; i < n; i++) l->at.sums[i] = (struct row_sum){FM__LCE_NOTHING, 0};
    for (int p = LOGITS; p < N_PRODUCTS; p++) {
        struct fm__call sub;
        if (!has_product(l, (enum product)p)) continue;
        sub_call(l, (enum product)p, 0, &sub);
        l->at.kernels[p] = sub_kernel(l, (enum product)p, &sub);
    }
    atomic_store_explicit(c->next, n, memory_order_relaxed); // the call's own counter carries the number
}

// … and gathered by all.
static void begin(struct lce *l)
{
    const struct fm__call *c = l->call;
    l->at = lay_out((uintptr_t)c->workspace, c);
    if (l->worker->index == 0) prepare(l);
    fm__worker_barrier(l->worker);
    l->n_rows = atomic_load_explicit(c->next, memory_order_relaxed);
    l->x = l->n_rows == l->N ? c->in[0].data : l->at.x;
    const int64_t end = share_begin(l, l->N, l->worker->index + 1);
    for (int64_t i = share_begin(l, l->N, l->worker->index); i < end; i++) {
        const size_t bytes = (size_t)c->in[0].strides[0];
        if (l->gradient)
            memset((float *)c->out[0].data + i * l->D, 0, (size_t)l->D * sizeof(float));
        else
            ((float *)c->out[0].data)[i] = ((float *)c->out[1].data)[i] = 0;
        if (i < l->n_rows && l->n_rows < l->N)
            memcpy(l->at.x + (size_t)i * bytes, (const char *)c->in[0].data + (size_t)l->at.index[i] * bytes, bytes);
    }
    fm__worker_barrier(l->worker);
}

static void sum_rows(const struct lce *l, int64_t slab)
{
    const struct fm__call *c = l->call;
    const int64_t first = slab * FM__LCE_SLAB, n = l->V - first < FM__LCE_SLAB ? l->V - first : FM__LCE_SLAB;
    const int64_t end = share_begin(l, l->n_rows, l->worker->index + 1);
    for (int64_t i = share_begin(l, l->n_rows, l->worker->index); i < end; i++) {
        float *z = l->at.z + i * n;
        const int64_t target = ((const int32_t *)c->in[2].data)[l->at.index[i]] - first;
        l->rows->cap(z, n, c->attrs->loss.softcap);
        fm__lce_join(&l->at.sums[i].all, l->rows->slab_sum(z, n));
        if (target >= 0 && target < n) l->at.sums[i].own = z[target];
    }
}

static void run_loss(struct lce *l)
{
    const struct fm__call *c = l->call;
    const float *weights = c->n_in > 3 ? c->in[3].data : NULL;
    for (int64_t slab = 0; slab < l->n_slabs && l->n_rows > 0; slab++) {
        multiply(l, LOGITS, slab);
        fm__worker_barrier(l->worker);
        sum_rows(l, slab);
        fm__worker_barrier(l->worker);
    }
    const int64_t end = share_begin(l, l->n_rows, l->worker->index + 1);
    for (int64_t i = share_begin(l, l->n_rows, l->worker->index); i < end; i++) {
        const int32_t n = l->at.index[i];
        const struct row_sum *sum = &l->at.sums[i];
        const double lse = fm__lce_value(&sum->all);
        const double own = fm__lce_own(sum->own, sum->all.logits, l->V, c->attrs->loss.smoothing);
        ((float *)c->out[0].data)[n] = (float)((lse - own) * (weights ? weights[n] : 1.0f));
        ((float *)c->out[1].data)[n] = (float)lse;
    }
}

static void grad_rows(const struct lce *l, int64_t slab)
{
    const struct fm__call *c = l->call;
    const int64_t first = slab * FM__LCE_SLAB, n = l->V - first < FM__LCE_SLAB ? l->V - first : FM__LCE_SLAB;
    const int64_t end = share_begin(l, l->n_rows, l->worker->index + 1);
    for (int64_t i = share_begin(l, l->n_rows, l->worker->index); i < end; i++) {
        const struct fm__lce_row row = fm__lce_row(c, l->at.index[i], first);
        float *z = l->at.z + i * n;
        l->rows->cap(z, n, row.cap);
        l->rows->slab_grad(z, n, &row);
        if (c->in[0].dtype == FM_BF16) l->rows->round(z, n, l->at.z16 + i * n);
    }
}

// Rows of dx from their compact places to their own, last one first; each worker moves some columns of all rows.
static void spread_dx(const struct lce *l)
{
    const int64_t D = l->D, column = share_begin(l, D, l->worker->index);
    const size_t bytes = (size_t)(share_begin(l, D, l->worker->index + 1) - column) * sizeof(float);
    float *dx = (float *)l->call->out[0].data + column;
    for (int64_t i = l->n_rows - 1; i >= 0 && l->at.index[i] != i; i--) {
        memcpy(dx + l->at.index[i] * D, dx + i * D, bytes);
        memset(dx + i * D, 0, bytes);
    }
}

static void run_gradient(struct lce *l)
{
    if (l->n_rows == 0 && l->call->n_out == 1) return;
    for (int64_t slab = 0; slab < l->n_slabs; slab++) {
        multiply(l, LOGITS, slab);
        fm__worker_barrier(l->worker);
        grad_rows(l, slab);
        fm__worker_barrier(l->worker);
        multiply(l, DX, slab);
        fm__worker_barrier(l->worker); // products share a workspace
        if (l->call->n_out < 2) continue;
        multiply(l, DW, slab);
        fm__worker_barrier(l->worker);
    }
    spread_dx(l);
}

static void run(const struct fm__call *c, struct fm__worker *worker, int level, const struct fm__loss_rows *rows)
{
    struct lce l;
    read_call(&l, c, level);
    l.worker = worker;
    l.rows = rows;
    begin(&l);
    if (l.gradient)
        run_gradient(&l);
    else
        run_loss(&l);
}

static size_t workspace_at(const struct fm__call *largest, int n_workers, int level)
{
    struct lce l;
    size_t sub = 0;
    read_call(&l, largest, level);
    for (int p = LOGITS; p < N_PRODUCTS; p++) {
        if (!has_product(&l, (enum product)p)) continue;
        struct fm__call call;
        sub_call(&l, (enum product)p, 0, &call);
        const struct fm__kernel kernel = sub_kernel(&l, (enum product)p, &call);
        const size_t bytes = kernel.workspace ? kernel.workspace(&call, n_workers) : 0;
        sub = bytes > sub ? bytes : sub;
    }
    return lay_out(0, largest).bytes + sub;
}

// A kernel is a function of call and worker: one a level.
#define LEVEL(level, rows)                                                         \
    static void run_##level(const struct fm__call *c, struct fm__worker *worker)   \
    {                                                                              \
        run(c, worker, FM__CPU_##level, &fm__loss_rows_##rows);                    \
    }                                                                              \
    static size_t workspace_##level(const struct fm__call *largest, int n_workers) \
    {                                                                              \
        return workspace_at(largest, n_workers, FM__CPU_##level);                  \
    }
#define ENTRY(level, rows) [FM__CPU_##level] = {"slabs", run_##level, workspace_##level},
FM__VECTOR_LEVELS(LEVEL)

struct fm__kernel fm__linear_cross_entropy_kernel(const struct fm__call *largest, int level)
{
    static const struct fm__kernel kernels[FM__CPU_LEVELS] = {FM__VECTOR_LEVELS(ENTRY)};
    struct lce l;
    read_call(&l, largest, level);
    for (int p = LOGITS; p < N_PRODUCTS && kernels[level].run; p++) {
        struct fm__call call;
        if (!has_product(&l, (enum product)p)) continue;
        sub_call(&l, (enum product)p, 0, &call);
        if (!sub_kernel(&l, (enum product)p, &call).run) return (struct fm__kernel){0};
    }
    return kernels[level];
}

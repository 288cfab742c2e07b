// SPDX-License-Identifier: MIT
// linear_cross_entropy and its gradients: equal to cross_entropy of linear, the reference's bytes at every level and
// number of threads for weights of any type and layout, and no memory that grows with the vocabulary.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "device/cpu/pack.h"
#include "graph/gradient.h"
#include "ops/linear_cross_entropy.h"
#include "ops/op.h"
#include "support/leaves.h"
#include "support/run_kernels.h"
#include "tensor/blocks.h"

static uint64_t seed = 1;
static uint32_t random32(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 32);
}
static float random_unit(void)
{
    return (float)(int32_t)random32() * 0x1p-31f;
}

enum targets { SOME, ALL, NO_TARGET };
struct problem {
    int64_t N, D, V;
    fm_dtype type;
    int packed, bf16; // bf16: of x
    enum targets targets;
    float softcap, smoothing;
};

struct data {
    struct fm_tensor x, w, packed, targets, weights, lse, dloss, loss, dx, dw;
};

static struct fm_tensor tensor(fm_dtype dtype, int64_t d0, int64_t d1)
{
    struct fm_tensor t = {.dtype = dtype, .rank = d1 ? 2 : 1, .dims = {d0, d1}};
    fm_tensor_set_contiguous(&t);
    t.data = aligned_alloc(64, (fm_tensor_bytes(&t) + 64) / 64 * 64);
    return t;
}

static struct fm_tensor random_tensor(int64_t d0, int64_t d1, float scale)
{
    struct fm_tensor t = tensor(FM_F32, d0, d1);
    for (int64_t i = 0; i < fm_tensor_elements(&t); i++) ((float *)t.data)[i] = scale * random_unit();
    return t;
}

static struct data make(const struct problem *p)
{
    struct data d = {.x = random_tensor(p->N, p->D, 1)};
    if (p->bf16) {
        const struct fm_tensor x = d.x;
        d.x = tensor(FM_BF16, p->N, p->D);
        assert_true(fm__quantise_row(FM_BF16, x.data, p->N * p->D, d.x.data));
        free(x.data);
    }
    const struct fm_tensor values = random_tensor(p->V, p->D, 4 / sqrtf((float)p->D));
    d.w = tensor(p->type, p->V, p->D);
    assert_true(fm__quantise_row(p->type, values.data, p->V * p->D, d.w.data));
    free(values.data);
    d.packed = d.w;
    d.packed.layout = FM__LAYOUT_PACK16;
    d.packed.data = aligned_alloc(64, (fm__pack_bytes(p->type, p->V, p->D) + 63) / 64 * 64);
    fm__pack_rows(p->type, p->D, 0, p->V, d.w.data, d.packed.data);
    d.targets = tensor(FM_I32, p->N, 0);
    for (int64_t n = 0; n < p->N; n++) {
        const int32_t target = (int32_t)(random32() % (uint32_t)p->V);
        const bool there = p->targets == ALL || (p->targets == SOME && random32() % 3 == 0);
        ((int32_t *)d.targets.data)[n] = there ? target : random32() % 2 ? -1 : (int32_t)p->V;
    }
    d.weights = random_tensor(p->N, 0, 1), d.dloss = random_tensor(p->N, 0, 1);
    d.lse = tensor(FM_F32, p->N, 0), d.loss = tensor(FM_F32, p->N, 0);
    d.dx = tensor(FM_F32, p->N, p->D), d.dw = tensor(FM_F32, p->V, p->D);
    return d;
}

static void free_data(struct data *d)
{
    void *all[] = {d->x.data,     d->w.data,   d->packed.data, d->targets.data, d->weights.data,
                   d->dloss.data, d->lse.data, d->loss.data,   d->dx.data,      d->dw.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

enum which { LOSS, DX, GRAD };
static const enum fm__op_id ops[] = {FM__OP_LINEAR_CROSS_ENTROPY, FM__OP_LINEAR_CROSS_ENTROPY_DX,
                                     FM__OP_LINEAR_CROSS_ENTROPY_GRAD};

static struct fm__call call_of(const struct data *d, enum which which, bool packed, const union fm__attrs *attrs)
{
    const struct fm_tensor w = packed ? d->packed : d->w;
    if (which == LOSS)
        return (struct fm__call){.n_in = 4,
                                 .n_out = 2,
                                 .attrs = attrs,
                                 .rows = d->x.dims[0],
                                 .in = {d->x, w, d->targets, d->weights},
                                 .out = {d->loss, d->lse}};
    return (struct fm__call){.n_in = 6,
                             .n_out = which == GRAD ? 2 : 1,
                             .attrs = attrs,
                             .rows = d->x.dims[0],
                             .in = {d->x, w, d->targets, d->lse, d->dloss, d->weights},
                             .out = {d->dx, d->dw}};
}

static void run_reference(enum which which, struct fm__call *call)
{
    const struct fm__op *op = fm__op(ops[which]);
    call->workspace = malloc(op->workspace(call));
    op->reference(call);
    free(call->workspace);
}

static int n_compared;

static void compare_kernels(const struct problem *p, struct data *d, enum which which)
{
    const union fm__attrs attrs = {.loss = {.softcap = p->softcap, .smoothing = p->smoothing}};
    const struct fm__call plain = call_of(d, which, false, &attrs), fast = call_of(d, which, p->packed, &attrs);
    char what[96];
    snprintf(what, sizeof what, "%s: N %lld, D %lld, V %lld, %s%s%s", fm__op(ops[which])->name, (long long)p->N,
             (long long)p->D, (long long)p->V, fm_dtype_info(p->type)->name, p->packed ? " packed" : "",
             p->bf16 ? ", x bf16" : "");
    n_compared += test_compare_kernels(ops[which], &plain, &fast, what);
}

static void compare(const struct problem *p)
{
    struct data d = make(p);
    compare_kernels(p, &d, LOSS); // leaves lse for the others
    compare_kernels(p, &d, DX);
    if (p->type == FM_F32) compare_kernels(p, &d, GRAD);
    free_data(&d);
}

static void kernels_give_the_references_bytes(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 3, 70, 200}, classes[] = {1, 17, 1024, 1025, 2100};
    static const fm_dtype types[] = {FM_F32, FM_F16, FM_Q4_1, FM_Q4_K};
    int i = 0;
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
        for (size_t v = 0; v < sizeof classes / sizeof *classes; v++, i++) {
            struct problem p = {.N = rows[n], .V = classes[v], .D = 7 + i % 40, .packed = i % 2, .targets = i % 3};
            p.softcap = i % 4 == 3 ? 1.5f : 0;
            p.smoothing = i % 5 == 4 ? 0.125f : 0;
            compare(&p);
            p.targets = (p.targets + 1) % 3, p.packed = !p.packed;
            compare(&p);
        }
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int packed = 0; packed <= 1; packed++)
            compare(&(struct problem){
                .N = 33, .V = 1100, .D = types[t] == FM_Q4_K ? 256 : 64, .type = types[t], .packed = packed});
    for (int packed = 0; packed <= 1 && fm__cpu_has(FM__CPU_AVX2); packed++) // ARM has no products of bf16
        compare(&(struct problem){.N = 150, .V = 1100, .D = 64, .packed = packed, .bf16 = 1, .targets = packed});
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_compared >= 400);
}

// One slab: the bytes of cross_entropy of linear, rows without a target apart.
static void one_slab_is_cross_entropy_of_linear(void **state)
{
    (void)state;
    const struct problem p = {.N = 40, .V = FM__LCE_SLAB, .D = 19};
    const union fm__attrs attrs = {.loss = {.smoothing = 0.25f}};
    struct data d = make(&p);
    struct fm__call call = call_of(&d, LOSS, false, &attrs);
    run_reference(LOSS, &call);
    struct fm_tensor logits = tensor(FM_F32, p.N, p.V), loss = tensor(FM_F32, p.N, 0), lse = tensor(FM_F32, p.N, 0);
    struct fm__call linear = {.n_in = 2, .n_out = 1, .in = {d.x, d.w}, .out = {logits}};
    fm__op(FM__OP_LINEAR)->reference(&linear);
    struct fm__call entropy = {.n_in = 3, .n_out = 2, .in = {logits, d.targets, d.weights}, .out = {loss, lse}};
    entropy.attrs = &attrs;
    fm__op(FM__OP_CROSS_ENTROPY)->reference(&entropy);
    assert_memory_equal(loss.data, d.loss.data, (size_t)p.N * 4);
    int counted = 0;
    for (int n = 0; n < p.N; n++) {
        const int32_t target = ((int32_t *)d.targets.data)[n];
        if (target < 0 || target >= p.V) continue;
        assert_true(((float *)lse.data)[n] == ((float *)d.lse.data)[n]);
        counted++;
    }
    assert_true(counted > 5 && counted < p.N);
    free(logits.data), free(loss.data), free(lse.data);
    free_data(&d);
}

// Several slabs against double precision. A logit carries D + 1 roundings of terms that sum to at most `size`; an
// exponential of the reference 2^-23 of itself; the loss adds a rounding of its own.
static void several_slabs_are_near_double(void **state)
{
    (void)state;
    const struct problem p = {.N = 6, .V = 3000, .D = 24, .targets = ALL};
    const union fm__attrs attrs = {0};
    struct data d = make(&p);
    struct fm__call call = call_of(&d, LOSS, false, &attrs);
    run_reference(LOSS, &call);
    for (int n = 0; n < p.N; n++) {
        const float *x = (float *)d.x.data + n * p.D;
        double sum = 0, own = 0, size = 0;
        for (int v = 0; v < p.V; v++) {
            const float *w = (float *)d.w.data + v * p.D;
            double z = 0, absolute = 0;
            for (int k = 0; k < p.D; k++) z += (double)x[k] * w[k], absolute += fabs((double)x[k] * w[k]);
            sum += exp(z);
            if (v == ((int32_t *)d.targets.data)[n]) own = z;
            size = fmax(size, absolute);
        }
        const double loss = log(sum) - own, bound = 0x1p-24 * (2 * (double)(p.D + 1) * size + 4 + log(sum) + loss);
        const float weight = ((float *)d.weights.data)[n];
        assert_true(fabs(((float *)d.loss.data)[n] - loss * weight) <= bound * fabs(weight));
        assert_true(fabs(((float *)d.lse.data)[n] - log(sum)) <= bound);
    }
    free_data(&d);
}

static size_t training_bytes(const char *level, int64_t V, bool trained)
{
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__plan *plan;
    const struct fm_device_opts device = {.threads = 2, .level = level};
    test_leaves_init(&leaves, "cpu", &device);
    struct fm__graph *g = fm__graph_new();
    const fm__val tokens = fm__graph_leaf(g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    const fm__val targets = fm__graph_leaf(g, FM__INPUT, "targets", FM_I32, 1, (int64_t[]){FM__ROWS});
    const fm__val w = fm__graph_leaf(g, FM__STATE, "w", trained ? FM_F32 : FM_Q8_0, 2, (int64_t[]){V, 32});
    const fm__val table = fm__graph_leaf(g, FM__STATE, "table", FM_F32, 2, (int64_t[]){50, 32});
    const fm__val x = fm__graph_add(g, FM__OP_EMBED, 2, (fm__val[]){table, tokens}, NULL);
    fm__val loss = fm__graph_add(g, FM__OP_LINEAR_CROSS_ENTROPY, 3, (fm__val[]){x, w, targets}, NULL), d[2];
    loss = fm__graph_add(g, FM__OP_SUM, 1, &loss, NULL);
    fm__graph_gradient(g, loss, trained ? 2 : 1, (fm__val[]){table, w}, d);
    fm__graph_output(g, d[0], "d");
    if (trained) fm__graph_output(g, d[1], "dw");
    test_leaves_add(&leaves, "w", trained ? FM_F32 : FM_Q8_0, 2, (int64_t[]){V, 32}, NULL);
    test_leaves_fill(&leaves, g, 1);
    const struct fm__plan_opts opts = {.device = leaves.device,
                                       .rows = 512,
                                       .bind = test_leaves_bind,
                                       .bind_context = &leaves,
                                       .exact_activations = 1};
    assert_ok(fm__plan_new(g, &opts, &plan, &err), err);
    const size_t bytes = plan->arena_bytes - (trained ? (size_t)V * 32 * sizeof(float) : 0); // less dW itself
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
    return bytes;
}

// Logits of 512 rows would be 512 MB.
static void memory_does_not_grow_with_the_vocabulary(void **state)
{
    (void)state;
    for (int trained = 0; trained <= 1; trained++) {
        assert_true(training_bytes(NULL, 1 << 18, trained) <= training_bytes(NULL, 1024, trained) + (32 << 20));
        assert_true(training_bytes("ref", 1 << 18, trained) <= training_bytes("ref", 1024, trained) + (32 << 20));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_give_the_references_bytes),
        cmocka_unit_test(one_slab_is_cross_entropy_of_linear),
        cmocka_unit_test(several_slabs_are_near_double),
        cmocka_unit_test(memory_does_not_grow_with_the_vocabulary),
    };
    return cmocka_run_group_tests_name("linear_cross_entropy", tests, test_kernels_setup, test_kernels_teardown);
}

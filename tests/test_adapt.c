// SPDX-License-Identifier: MIT
// ops/adapt: every level's kernel gives the reference's bytes, with ranks and widths that are no whole groups, several
// adapters among the rows, guard pages around every tensor, any number of workers; rows without an adapter keep their
// bytes, and a row's bytes do not depend on the rows beside it. The reference is held against sums in double.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "device/cpu/kernels.h"
#include "device/cpu/pack.h"
#include "ops/adapt.h"
#include "ops/op.h"
#include "support/guarded.h"

enum { MOST_ADAPTERS = 3 };

static uint64_t random_state = 88172645463325252u;
static uint32_t random_u32(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}
static float random_f32(void)
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

struct test_case {
    int64_t N, O, K, R;
    int32_t ranks[MOST_ADAPTERS];
    int n_adapters;
    bool down, gain, bias; // down: a is given
};

struct tensors {
    struct fm__call call;
    struct test_guarded memory[9]; // inputs, then the packed b and a
    float *y;                      // as it was before
};

// One dimension where d1 is 0; indexes where they belong, else random numbers.
static void make(struct tensors *t, int i, int64_t d0, int64_t d1, enum test_guard where)
{
    struct fm_tensor *in = &t->call.in[i];
    const fm_dtype dtype = i == FM__ADAPT_ROWS || i == FM__ADAPT_SPANS ? FM_I32 : FM_F32;
    *in = (struct fm_tensor){.dtype = dtype, .rank = d1 ? 2 : 1, .dims = {d0, d1}};
    fm_tensor_set_contiguous(in);
    t->memory[i] = test_guarded_new(fm_tensor_bytes(in), where);
    in->data = t->memory[i].p;
    for (int64_t k = 0; dtype == FM_F32 && k < fm_tensor_elements(in); k++) ((float *)in->data)[k] = random_f32();
}

static struct tensors build(const struct test_case *tc, enum test_guard where)
{
    struct tensors t = {.call = {.n_in = 8, .n_out = 1, .rows = tc->N}};
    for (int i = 0; i < FM__MAX_IN; i++) t.call.in[i].dtype = FM_DTYPE_COUNT;
    make(&t, FM__ADAPT_Y, tc->N, tc->O, where);
    make(&t, FM__ADAPT_X, tc->N, tc->down ? tc->K : tc->R, where);
    make(&t, FM__ADAPT_ROWS, tc->N, FM__ROW_FIELDS, where);
    make(&t, FM__ADAPT_SPANS, tc->n_adapters, 2, where);
    make(&t, FM__ADAPT_B, tc->O, tc->R, where);
    if (tc->down) make(&t, FM__ADAPT_A, tc->R, tc->K, where);
    if (tc->gain) make(&t, FM__ADAPT_GAIN, tc->n_adapters, tc->O, where);
    if (tc->bias) make(&t, FM__ADAPT_BIAS, tc->O, 0, where);
    int32_t *rows = t.call.in[FM__ADAPT_ROWS].data, *spans = t.call.in[FM__ADAPT_SPANS].data, at = 0;
    for (int64_t n = 0; n < tc->N; n++)
        rows[n * FM__ROW_FIELDS + FM__ROW_ADAPTER] = (int32_t)(random_u32() % (uint32_t)(tc->n_adapters + 1)) - 1;
    for (int i = 0; i < tc->n_adapters; i++) {
        spans[2 * i] = at, spans[2 * i + 1] = at + tc->ranks[i];
        at += (tc->ranks[i] + 15) / 16 * 16;
    }
    t.call.out[0] = t.call.in[FM__ADAPT_Y];
    t.y = malloc(t.memory[FM__ADAPT_Y].bytes);
    memcpy(t.y, t.call.out[0].data, t.memory[FM__ADAPT_Y].bytes);
    return t;
}

static void drop(struct tensors *t)
{
    for (int i = 0; i < 9; i++)
        if (t->memory[i].map) test_guarded_free(&t->memory[i]);
    free(t->y);
}

static void reset_y(const struct tensors *t)
{
    memcpy(t->call.out[0].data, t->y, t->memory[FM__ADAPT_Y].bytes);
}

static void run_reference(const struct tensors *t)
{
    struct fm__call call = t->call;
    call.workspace_bytes = fm__op(FM__OP_ADAPT)->workspace(&call);
    call.workspace = malloc(call.workspace_bytes);
    reset_y(t);
    fm__op(FM__OP_ADAPT)->reference(&call);
    free(call.workspace);
}

// The same matrices, in the layout that kernels want.
static void pack(struct tensors *t, int i, enum test_guard where)
{
    struct fm_tensor *in = &t->call.in[i];
    struct test_guarded packed = test_guarded_new(fm__pack_bytes(FM_F32, in->dims[0], in->dims[1]), where);
    fm__pack_rows(FM_F32, in->dims[1], 0, in->dims[0], in->data, packed.p);
    test_guarded_free(&t->memory[i]);
    t->memory[i] = packed;
    in->data = packed.p;
    in->layout = FM__LAYOUT_PACK16;
}

static void check_levels(struct tensors *t, const void *want, enum test_guard where, int *n_run)
{
    static const int levels[] = {FM__CPU_AVX2, FM__CPU_AVX512, FM__CPU_NEON};
    struct test_guarded scratch = test_guarded_new(FM__WORKER_SCRATCH, where);
    pack(t, FM__ADAPT_B, where);
    if (t->call.in[FM__ADAPT_A].dtype == FM_F32) pack(t, FM__ADAPT_A, where);
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        if (!fm__cpu_has(levels[l])) continue;
        const struct fm__kernel kernel = fm__kernel_select(FM__OP_ADAPT, &t->call, levels[l]);
        assert_non_null(kernel.run);
        for (int n_workers = 1; n_workers <= 3; n_workers++) {
            reset_y(t);
            for (int i = n_workers - 1; i >= 0; i--) {
                struct fm__worker worker = {.index = i, .count = n_workers, .scratch = scratch.p};
                kernel.run(&t->call, &worker);
            }
            if (memcmp(t->call.out[0].data, want, t->memory[FM__ADAPT_Y].bytes))
                fail_msg("adapt at %s, %d workers: other bytes than the reference", kernel.name, n_workers);
        }
        ++*n_run;
    }
    test_guarded_free(&scratch);
}

static const struct test_case cases[] = {
    {1, 16, 16, 16, {16}, 1, true, false, false},         {1, 33, 17, 48, {3, 16, 1}, 3, true, false, false},
    {5, 100, 70, 32, {16, 5}, 2, true, true, true},       {40, 31, 64, 96, {33, 0, 48}, 3, true, true, false},
    {200, 65, 129, 48, {8, 8, 8}, 3, true, false, false}, {37, 48, 0, 32, {4, 9}, 2, false, false, false},
    {64, 20, 0, 16, {16}, 1, false, true, false},         {130, 576, 200, 16, {16}, 1, true, false, true},
};

static void levels_give_the_reference(void **state)
{
    (void)state;
    int n_run = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int where = TEST_GUARD_AFTER; where <= TEST_GUARD_BEFORE; where++) {
            struct tensors t = build(&cases[i], where);
            run_reference(&t);
            void *want = malloc(t.memory[FM__ADAPT_Y].bytes);
            memcpy(want, t.call.out[0].data, t.memory[FM__ADAPT_Y].bytes);
            check_levels(&t, want, where, &n_run);
            free(want);
            drop(&t);
        }
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_run >= 16);
}

static const float *at(const struct tensors *t, int i, int64_t row)
{
    const struct fm_tensor *in = &t->call.in[i];
    if (in->dtype == FM_DTYPE_COUNT) return NULL;
    return (const float *)in->data + row * in->dims[in->rank - 1];
}

// One element in double, without the order of the sums; *size: what all magnitudes add up to.
static double element(const struct tensors *t, int64_t n, int64_t o, int adapter, double *size)
{
    const int32_t *span = (const int32_t *)t->call.in[FM__ADAPT_SPANS].data + (ptrdiff_t)2 * adapter;
    const float *x = at(t, FM__ADAPT_X, n), *gain = at(t, FM__ADAPT_GAIN, adapter), *bias = at(t, FM__ADAPT_BIAS, 0);
    const double y = (double)t->y[n * t->call.out[0].dims[1] + o];
    double sum = y;
    *size = fabs(y);
    for (int32_t j = span[0]; j < span[1]; j++) {
        const float *a = at(t, FM__ADAPT_A, j), b = at(t, FM__ADAPT_B, o)[j];
        double u = a ? 0 : (double)x[j], u_size = fabs(u);
        for (int64_t k = 0; a && k < t->call.in[FM__ADAPT_X].dims[1]; k++) {
            u += (double)x[k] * (double)a[k];
            u_size += fabs((double)x[k] * (double)a[k]);
        }
        sum += u * (double)b;
        *size += u_size * fabs((double)b);
    }
    if (!gain) return sum;
    const double less = y - (bias ? (double)bias[o] : 0);
    *size += fabs((double)gain[o]) * (fabs(y) + (bias ? fabs((double)bias[o]) : 0));
    return sum + (double)gain[o] * less;
}

static void reference_is_the_formula(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensors t = build(&cases[i], TEST_GUARD_AFTER);
        run_reference(&t);
        const int32_t *rows = t.call.in[FM__ADAPT_ROWS].data;
        const int64_t O = cases[i].O;
        // each multiply-add rounds once, by half a unit of at most what all magnitudes add up to
        const double units = 0x1p-24 * (double)(cases[i].K + 48 + 4);
        for (int64_t n = 0; n < cases[i].N; n++)
            for (int64_t o = 0; o < O; o++) {
                const int adapter = rows[n * FM__ROW_FIELDS + FM__ROW_ADAPTER];
                double size;
                const float got = ((const float *)t.call.out[0].data)[n * O + o];
                if (adapter < 0)
                    assert_memory_equal(&got, &t.y[n * O + o], sizeof got);
                else
                    assert_true(fabs((double)got - element(&t, n, o, adapter, &size)) <= units * size);
            }
        drop(&t);
    }
}

// Rows taken alone give what they gave among the others; -0 stays -0 without an adapter.
static void rows_alone(void **state)
{
    (void)state;
    struct tensors t = build(&cases[2], TEST_GUARD_AFTER);
    const int64_t O = cases[2].O, K = cases[2].K;
    int32_t *rows = t.call.in[FM__ADAPT_ROWS].data;
    rows[FM__ROW_ADAPTER] = -1;
    t.y[0] = -0.0f;
    run_reference(&t);
    assert_true(signbit(((const float *)t.call.out[0].data)[0]));
    float *want = malloc(t.memory[FM__ADAPT_Y].bytes);
    memcpy(want, t.call.out[0].data, t.memory[FM__ADAPT_Y].bytes);
    for (int64_t n = 0; n < cases[2].N; n++) {
        struct tensors one = t;
        float y[1000];
        memcpy(y, t.y + n * O, (size_t)O * sizeof *y);
        one.call.in[FM__ADAPT_X].data = (float *)t.call.in[FM__ADAPT_X].data + n * K;
        one.call.in[FM__ADAPT_ROWS].data = rows + n * FM__ROW_FIELDS;
        one.call.out[0].data = y;
        one.call.out[0].dims[0] = 1;
        float workspace[64];
        one.call.workspace = workspace;
        fm__op(FM__OP_ADAPT)->reference(&one.call);
        assert_memory_equal(y, want + n * O, (size_t)O * sizeof *y);
    }
    free(want);
    drop(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(levels_give_the_reference),
                                       cmocka_unit_test(reference_is_the_formula), cmocka_unit_test(rows_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

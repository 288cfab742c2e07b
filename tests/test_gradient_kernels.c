// SPDX-License-Identifier: MIT
// device/cpu: every streaming kernel that only training needs gives the bytes of its op's reference, at every level of
// this machine, on 1, 2 and 3 threads, with odd sizes, tails, more than one slab of rows, guard pages on either side.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "device/cpu/kernels.h"
#include "ops/op.h"
#include "support/guarded.h"
#include "tensor/half.h"

static uint64_t random_state = 88172645463325252u;
static uint32_t random_u32(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

enum values { ORDINARY, WIDE, WILD };

// ORDINARY: about one; WIDE: 2^-30 … 2^30 and zeros of both signs; WILD: any finite number, infinities and NaN.
static float random_value(enum values values)
{
    const float unit = (float)(int32_t)random_u32() * 0x1p-31f;
    if (values == ORDINARY) return 3 * unit;
    if (values == WIDE) return random_u32() % 17 ? ldexpf(unit, (int)(random_u32() % 61) - 30) : copysignf(0, unit);
    const uint32_t kind = random_u32() % 48;
    return kind == 0 ? copysignf(INFINITY, unit) : kind == 1 ? NAN : fm__bits_f32(random_u32());
}

struct test_case {
    enum fm__op_id op;
    union fm__attrs attrs;
    int n_in;
    struct fm_tensor in[3];
    enum values values;
};

static struct fm_tensor shaped(fm_dtype dtype, int64_t d0, int64_t d1) // d1 0: of rank 1
{
    struct fm_tensor t = {.dtype = dtype, .rank = d1 ? 2 : 1, .dims = {d0, d1}};
    fm_tensor_set_contiguous(&t);
    return t;
}

static void fill(const struct test_case *tc, const struct fm_tensor *t)
{
    const int64_t n = fm_tensor_elements(t);
    for (int64_t k = 0; k < n; k++)
        if (t->dtype == FM_I32)
            ((int32_t *)t->data)[k] = (int32_t)(random_u32() % (uint32_t)(t->rank == 2 ? 9000 : tc->in[0].dims[0]));
        else
            ((float *)t->data)[k] = random_value(tc->values);
}

// The outputs' shapes, by the op's own rule.
static void shape_outputs(const struct test_case *tc, struct fm__call *call)
{
    struct fm__value values[3];
    struct fm_error err;
    struct fm__shape s = {.op = "test", .n_in = tc->n_in, .attrs = &tc->attrs, .err = &err};
    memset(values, 0, sizeof values);
    for (int i = 0; i < tc->n_in; i++) {
        values[i].dtype = tc->in[i].dtype;
        values[i].rank = tc->in[i].rank;
        for (int d = 0; d < tc->in[i].rank; d++) values[i].dims[d] = tc->in[i].dims[d];
        s.in[i] = &values[i];
    }
    assert_ok(fm__op(tc->op)->shape(&s), err);
    call->n_out = fm__op(tc->op)->n_out;
    for (int i = 0; i < call->n_out; i++) {
        call->out[i] = (struct fm_tensor){.dtype = s.out[i].dtype, .rank = s.out[i].rank};
        memcpy(call->out[i].dims, s.out[i].dims, sizeof s.out[i].dims);
        fm_tensor_set_contiguous(&call->out[i]);
    }
}

// Equal bytes, but that one NaN is as good as another.
static void compare(const struct test_case *tc, const char *level, const struct fm_tensor *got, const float *want)
{
    const float *y = got->data;
    if (!memcmp(y, want, fm_tensor_bytes(got))) return;
    for (int64_t k = 0; k < fm_tensor_elements(got); k++)
        if (memcmp(&y[k], &want[k], 4) && !(isnan(y[k]) && isnan(want[k])))
            fail_msg("%s at %s, x [%lld, %lld], element %lld of %lld: %a, want %a", fm__op(tc->op)->name, level,
                     (long long)tc->in[0].dims[0], (long long)tc->in[0].dims[1], (long long)k,
                     (long long)fm_tensor_elements(got), y[k], want[k]);
}

static struct test_guarded scratch[3];
static struct fm__pool *pools[4];

struct task {
    const struct fm__kernel *kernel;
    const struct fm__call *call;
    struct fm__pool *pool;
};
static void worker_main(void *context, int index, int count)
{
    const struct task *t = context;
    t->kernel->run(t->call, &(struct fm__worker){index, count, t->pool, scratch[index].p});
}

static int n_kernels_run;

// One level, on 1 … max_threads threads.
static void run_level(const struct test_case *tc, struct fm__call *call, int level, int max_threads, float *const *want)
{
    const struct fm__kernel kernel = fm__kernel_select(tc->op, call, level);
    if (!kernel.run) return;
    for (int threads = 1; threads <= max_threads; threads++) {
        const size_t bytes = kernel.workspace ? kernel.workspace(call, threads) : 0;
        struct test_guarded space = test_guarded_new(bytes, TEST_GUARD_AFTER);
        atomic_int_fast64_t next = 0;
        call->next = &next;
        call->workspace = bytes ? space.p : NULL;
        for (int i = 0; i < call->n_out; i++) memset(call->out[i].data, 0x5a, fm_tensor_bytes(&call->out[i]));
        fm__pool_run(pools[threads], worker_main, &(struct task){&kernel, call, pools[threads]});
        for (int i = 0; i < call->n_out; i++) compare(tc, kernel.name, &call->out[i], want[i]);
        test_guarded_free(&space);
    }
    n_kernels_run++;
}

static void run_case(const struct test_case *tc)
{
    static const int levels[] = {FM__CPU_REF, FM__CPU_AVX2, FM__CPU_AVX512, FM__CPU_NEON};
    for (int where = TEST_GUARD_AFTER; where <= TEST_GUARD_BEFORE; where++) {
        struct fm__call call = {.n_in = tc->n_in, .attrs = &tc->attrs, .rows = tc->in[0].dims[0]};
        struct test_guarded in[3], out[FM__MAX_OUT];
        float *want[FM__MAX_OUT];
        shape_outputs(tc, &call);
        for (int i = 0; i < tc->n_in; i++) {
            call.in[i] = tc->in[i];
            in[i] = test_guarded_new(fm_tensor_bytes(&tc->in[i]), where);
            call.in[i].data = in[i].p;
            fill(tc, &call.in[i]);
        }
        for (int i = 0; i < call.n_out; i++) {
            out[i] = test_guarded_new(fm_tensor_bytes(&call.out[i]), where);
            call.out[i].data = out[i].p;
        }
        const struct fm__op *op = fm__op(tc->op);
        call.workspace = malloc((op->workspace ? op->workspace(&call) : 0) + 1);
        op->reference(&call);
        free(call.workspace);
        for (int i = 0; i < call.n_out; i++) {
            want[i] = malloc(out[i].bytes + 1);
            memcpy(want[i], out[i].p, out[i].bytes);
        }
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
            if (fm__cpu_has(levels[l]))
                run_level(tc, &call, levels[l], where == TEST_GUARD_AFTER && tc->values == ORDINARY ? 3 : 1, want);
        for (int i = 0; i < tc->n_in; i++) test_guarded_free(&in[i]);
        for (int i = 0; i < call.n_out; i++) test_guarded_free(&out[i]), free(want[i]);
    }
}

// Every op that has an entry must have been run at this machine's vector levels.
static void expect_runs(int before, int at_least)
{
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_kernels_run - before >= at_least);
}

static const int64_t widths[] = {1, 7, 16, 63, 576, 3001}; // the last: more columns than stand in scratch
static const int64_t counts[] = {1, 3, 30, 256, 523};      // the last: two whole slabs and a part
enum { N_WIDTHS = sizeof widths / sizeof *widths, N_COUNTS = sizeof counts / sizeof *counts };

// Calls `run` for sizes of at most 60,000 elements and every kind of value.
static void each_size(void (*run)(int64_t n, int64_t x, enum values values))
{
    for (int n = 0; n < N_COUNTS; n++)
        for (int x = 0; x < N_WIDTHS; x++)
            for (enum values values = ORDINARY; values <= WILD; values++)
                if (counts[n] * widths[x] <= 60000) run(counts[n], widths[x], values);
}

static void norms_case(int64_t n, int64_t x, enum values values)
{
    struct test_case tc = {.op = FM__OP_LAYERNORM_GRAD, .attrs.norm.eps = 1e-5f, .n_in = 3, .values = values};
    tc.in[0] = tc.in[2] = shaped(FM_F32, n, x), tc.in[1] = shaped(FM_F32, x, 0);
    run_case(&tc);
    tc.op = FM__OP_RMSNORM_GRAD;
    run_case(&tc);
    if (x > 100) return;
    tc.in[0] = tc.in[2] = shaped(FM_F32, n, 3 * x); // a head a run
    run_case(&tc);
}

static void activations_case(int64_t n, int64_t x, enum values values)
{
    for (int act = FM__ACT_NONE; act <= FM__ACT_RELU; act++) {
        struct test_case tc = {.op = FM__OP_ACT_GRAD, .attrs.act.act = act, .n_in = 2, .values = values};
        tc.in[0] = tc.in[1] = tc.in[2] = shaped(FM_F32, n, x);
        run_case(&tc);
        tc.op = FM__OP_ACT_MUL_GRAD, tc.n_in = 3;
        run_case(&tc);
    }
}

static void sums_case(int64_t n, int64_t x, enum values values)
{
    struct test_case tc = {.op = FM__OP_SUM_ROWS, .n_in = 1, .values = values};
    tc.in[0] = shaped(FM_F32, n, x);
    run_case(&tc);
    for (int mean = 0; mean <= 1; mean++) {
        tc.op = FM__OP_SUM, tc.attrs.sum.mean = mean;
        tc.n_in = 1;
        run_case(&tc);
        tc.op = FM__OP_BROADCAST;
        tc.n_in = 2, tc.in[1] = shaped(FM_F32, 1, 0);
        run_case(&tc);
    }
}

static void moves_case(int64_t n, int64_t x, enum values values)
{
    struct test_case tc = {.op = FM__OP_SCATTER_ROWS, .n_in = 3, .values = values};
    for (int64_t m = 1; m <= 37; m += 36) { // all to one row; to a few, some of them to none
        tc.in[0] = shaped(FM_F32, m, x), tc.in[1] = shaped(FM_I32, n, 0), tc.in[2] = shaped(FM_F32, n, x);
        run_case(&tc);
    }
    tc = (struct test_case){.op = FM__OP_PAD, .n_in = 1, .values = values};
    tc.in[0] = shaped(FM_F32, n, x);
    for (int64_t begin = 0; begin <= 5; begin += 5) {
        tc.attrs.slice.begin = begin, tc.attrs.slice.count = x, tc.attrs.slice.total = x + begin + x % 3;
        run_case(&tc);
    }
    tc = (struct test_case){.op = FM__OP_POSITIONS, .n_in = 1};
    tc.in[0] = shaped(FM_I32, n, FM__ROW_FIELDS);
    run_case(&tc);
}

#define CASES(name, at_least)             \
    static void name(void **state)        \
    {                                     \
        (void)state;                      \
        const int before = n_kernels_run; \
        each_size(name##_case);           \
        expect_runs(before, at_least);    \
    }
CASES(norms, 200)
CASES(activations, 800)
CASES(sums, 400)
CASES(moves, 400)

int main(void)
{
    struct fm_error err;
    for (int i = 0; i < 3; i++) {
        scratch[i] = test_guarded_new(FM__WORKER_SCRATCH, TEST_GUARD_AFTER);
        if (fm__pool_new(i + 1, &pools[i + 1], &err) != FM_OK) {
            fprintf(stderr, "pool of %d threads: %s\n", i + 1, err.text);
            return 1;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(activations),
        cmocka_unit_test(sums),
        cmocka_unit_test(moves),
    };
    const int failed = cmocka_run_group_tests_name("gradient_kernels", tests, NULL, NULL);
    for (int i = 1; i <= 3; i++) fm__pool_free(pools[i]);
    return failed;
}

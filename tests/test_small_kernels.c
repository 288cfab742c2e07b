// SPDX-License-Identifier: MIT
// device/cpu/small: every streaming kernel at every level of this machine gives the bytes of its op's reference, with
// odd sizes, tails, guard pages on either side of every tensor, extreme values, and any number of workers.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

// ORDINARY: about one; WIDE: 2^-30 … 2^30 and zeros of both signs; WILD: any finite number, subnormal or huge,
// infinities and NaN.
static float random_value(enum values values)
{
    const float unit = (float)(int32_t)random_u32() * 0x1p-31f;
    if (values == ORDINARY) return 3 * unit;
    if (values == WIDE) return random_u32() % 17 ? ldexpf(unit, (int)(random_u32() % 61) - 30) : copysignf(0, unit);
    const uint32_t bits = random_u32();
    switch (random_u32() % 24) {
    case 0:
        return copysignf(INFINITY, unit);
    case 1:
        return NAN;
    default:
        return fm__bits_f32(bits);
    }
}

struct test_case {
    enum fm__op_id op;
    union fm__attrs attrs;
    int n_in;
    struct fm_tensor in[FM__MAX_IN], out;
    enum values values;
};

static void set_shape(struct fm_tensor *t, fm_dtype dtype, int rank, int64_t d0, int64_t d1)
{
    *t = (struct fm_tensor){.dtype = dtype, .rank = rank, .dims = {d0, d1}};
    fm_tensor_set_contiguous(t);
}

static void fill(const struct test_case *tc, int i, const struct fm_tensor *t)
{
    const int64_t n = fm_tensor_elements(t);
    if (tc->op == FM__OP_DROPOUT && i == 1) { // the key
        for (int64_t k = 0; k < n; k++) ((uint32_t *)t->data)[k] = random_u32();
    } else if (t->dtype == FM_I32 && t->rank == 2) { // rows
        for (int64_t k = 0; k < n; k++) ((int32_t *)t->data)[k] = (int32_t)(random_u32() % 9000);
    } else if (t->dtype == FM_I32) {
        for (int64_t k = 0; k < n; k++) ((int32_t *)t->data)[k] = (int32_t)(random_u32() % (uint32_t)tc->in[0].dims[0]);
    } else if (t->dtype == FM_F32) {
        const enum values values = tc->op == FM__OP_ROPE && i == 2 ? ORDINARY : tc->values;
        for (int64_t k = 0; k < n; k++) ((float *)t->data)[k] = random_value(values);
        if (tc->op == FM__OP_ROPE && i == 2)
            for (int64_t k = 0; k < n; k++) ((float *)t->data)[k] = 1 + fabsf(((float *)t->data)[k]);
    } else { // weights of a block format: small half floats everywhere are finite scales
        for (size_t k = 0; k < fm_tensor_bytes(t); k++) ((uint8_t *)t->data)[k] = (uint8_t)(random_u32() & 0x3b);
    }
}

static float element(const struct fm_tensor *t, const void *data, size_t k)
{
    switch (t->dtype) {
    case FM_F16:
        return fm__f16_to_f32(((const uint16_t *)data)[k]);
    case FM_BF16:
        return fm__bf16_to_f32(((const uint16_t *)data)[k]);
    default:
        return ((const float *)data)[k];
    }
}

// Equal bytes, but that one NaN is as good as another.
static void compare(const struct test_case *tc, const char *level, const void *got, const void *want)
{
    const char *name = fm__op(tc->op)->name, *type = fm_dtype_info(tc->out.dtype)->name;
    if (!memcmp(got, want, fm_tensor_bytes(&tc->out))) return;
    if (tc->out.dtype == FM_Q8A)
        fail_msg("%s at %s to q8a of %lld: other bytes", name, level, (long long)tc->out.dims[1]);
    for (size_t k = 0; k < (size_t)fm_tensor_elements(&tc->out); k++) {
        const float g = element(&tc->out, got, k), w = element(&tc->out, want, k);
        if (memcmp(&g, &w, 4) && !(isnan(g) && isnan(w)))
            fail_msg("%s at %s to %s, [%lld, %lld], element %zu: %a, want %a", name, level, type,
                     (long long)tc->out.dims[0], (long long)tc->out.dims[1], k, g, w);
    }
}

static struct test_guarded scratch; // a worker's

static void run_workers(const struct fm__kernel *kernel, struct fm__call *call, int n_workers)
{
    atomic_int_fast64_t next = 0;
    call->next = &next;
    for (int i = 0; i < n_workers; i++) {
        struct fm__worker worker = {.index = i, .count = n_workers, .scratch = scratch.p};
        kernel->run(call, &worker);
    }
    call->next = NULL;
}

// A second worker comes when the first has taken one piece: emulates what threads do, without their chance.
static void run_pieces(const struct fm__kernel *kernel, const struct fm__call *call)
{
    struct fm__call half = *call;
    atomic_int_fast64_t next = 1; // row 0 is left to another worker …
    half.next = &next;
    struct fm__worker worker = {.count = 2, .scratch = scratch.p};
    kernel->run(&half, &worker);
    atomic_store(&next, 0); // … who comes later, and does all of it
    kernel->run(&half, &worker);
}

static int n_kernels_run;

static void run_case(const struct test_case *tc)
{
    static const int levels[] = {FM__CPU_REF, FM__CPU_AVX2, FM__CPU_AVX512, FM__CPU_AMX, FM__CPU_NEON};
    for (int where = TEST_GUARD_AFTER; where <= TEST_GUARD_BEFORE; where++) {
        struct fm__call call = {.n_in = tc->n_in, .n_out = 1, .attrs = &tc->attrs, .rows = tc->out.dims[0]};
        struct test_guarded in[FM__MAX_IN], out = test_guarded_new(fm_tensor_bytes(&tc->out), where);
        for (int i = 0; i < tc->n_in; i++) {
            call.in[i] = tc->in[i];
            in[i] = test_guarded_new(fm_tensor_bytes(&tc->in[i]), where);
            if (tc->in[i].rank) call.in[i].data = in[i].p;
            if (tc->in[i].rank) fill(tc, i, &call.in[i]);
        }
        call.out[0] = tc->out;
        call.out[0].data = out.p;
        const struct fm__op *op = fm__op(tc->op);
        call.workspace_bytes = op->workspace ? op->workspace(&call) : 0;
        call.workspace = malloc(call.workspace_bytes + 1);
        op->reference(&call);
        void *want = malloc(out.bytes + 1);
        memcpy(want, out.p, out.bytes);
        free(call.workspace);
        call.workspace = NULL; // the kernels asked for none
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
            if (!fm__cpu_has(levels[l])) continue;
            const struct fm__kernel kernel = fm__kernel_select(tc->op, &call, levels[l]);
            if (!kernel.run) continue;
            assert_null(kernel.workspace);
            for (int n_workers = 1; n_workers <= 2; n_workers++) {
                memset(out.p, 0x5a, out.bytes);
                run_workers(&kernel, &call, n_workers);
                compare(tc, kernel.name, out.p, want);
            }
            memset(out.p, 0x5a, out.bytes);
            run_pieces(&kernel, &call);
            compare(tc, kernel.name, out.p, want);
            n_kernels_run++;
        }
        for (int i = 0; i < tc->n_in; i++) test_guarded_free(&in[i]);
        test_guarded_free(&out);
        free(want);
    }
}

// Every op that has an entry must have been run at this machine's vector levels.
static void expect_runs(int before, int at_least)
{
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_kernels_run - before >= at_least);
}

static const int64_t widths[] = {1, 2, 7, 15, 16, 17, 33, 63, 576, 1000};
static const int64_t counts[] = {1, 3, 30};
enum { N_WIDTHS = sizeof widths / sizeof *widths, N_COUNTS = sizeof counts / sizeof *counts };

static struct test_case unary(enum fm__op_id op, int64_t n, int64_t x, fm_dtype out, enum values values)
{
    struct test_case tc = {.op = op, .n_in = 1, .values = values};
    set_shape(&tc.in[0], FM_F32, 2, n, x);
    set_shape(&tc.out, out, 2, n, x);
    return tc;
}

static const fm_dtype out_types[] = {FM_F32, FM_F16, FM_BF16, FM_Q8A};

// Calls `run` for every size, output type and kind of value. q8a wants whole blocks and finite values.
static void each_size(void (*run)(int64_t n, int64_t x, fm_dtype out, enum values values))
{
    for (int n = 0; n < N_COUNTS; n++)
        for (int x = 0; x < N_WIDTHS; x++)
            for (int t = 0; t < 4; t++)
                for (enum values values = ORDINARY; values <= WILD; values++) {
                    const int64_t width = out_types[t] == FM_Q8A ? (widths[x] + 31) / 32 * 32 : widths[x];
                    if (out_types[t] != FM_Q8A || values != WILD) run(counts[n], width, out_types[t], values);
                }
}

static void cast_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    struct test_case tc = unary(FM__OP_CAST, n, x, out, values);
    tc.attrs.cast.dtype = (int)out;
    run_case(&tc);
}

static void rmsnorm_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    for (int heads = 1; heads <= 3; heads += 2) {
        struct test_case tc = unary(FM__OP_RMSNORM, n, x * heads, out, values);
        tc.n_in = 2;
        set_shape(&tc.in[1], FM_F32, 1, x, 0);
        tc.attrs.norm.eps = 1e-5f;
        tc.attrs.norm.out_dtype = (int)out;
        run_case(&tc);
    }
}

static void layernorm_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    for (int n_in = 2; n_in <= 3; n_in++) {
        struct test_case tc = unary(FM__OP_LAYERNORM, n, x, out, values);
        tc.n_in = n_in;
        set_shape(&tc.in[1], FM_F32, 1, x, 0);
        set_shape(&tc.in[2], FM_F32, 1, x, 0);
        tc.attrs.norm.eps = 1e-5f;
        tc.attrs.norm.out_dtype = (int)out;
        run_case(&tc);
    }
}

static void act_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    for (int act = FM__ACT_NONE; act <= FM__ACT_RELU; act++) {
        struct test_case tc = unary(FM__OP_ACT, n, x, out, values);
        tc.attrs.act.act = act;
        tc.attrs.act.out_dtype = (int)out;
        run_case(&tc);
        tc.op = FM__OP_ACT_MUL;
        tc.n_in = 2;
        set_shape(&tc.in[1], FM_F32, 2, n, x);
        run_case(&tc);
    }
}

static void elementwise_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    if (out != FM_F32) return;
    struct test_case tc = unary(FM__OP_SCALE, n, x, out, values);
    tc.attrs.scale.factor = 0.7f, tc.attrs.scale.bias = -1.25f;
    run_case(&tc);
    tc.op = FM__OP_SOFTCAP;
    tc.attrs.scale.factor = 30.0f;
    run_case(&tc);
    tc.n_in = 2;
    for (int rank = 1; rank <= 2; rank++)
        for (int is_mul = 0; is_mul <= 1; is_mul++) {
            tc.op = is_mul ? FM__OP_MUL : FM__OP_ADD;
            set_shape(&tc.in[1], FM_F32, rank, rank == 1 ? x : n, x);
            run_case(&tc);
        }
}

static void dropout_case(int64_t n, int64_t x, fm_dtype out, enum values values)
{
    if (out != FM_F32) return;
    for (int p = 0; p <= 4; p++) {
        struct test_case tc = unary(FM__OP_DROPOUT, n, x, out, values);
        tc.attrs.dropout = (struct fm__attr_dropout){.p = 0.24f * (float)p, .stream = (int)x};
        tc.n_in = 2;
        set_shape(&tc.in[1], FM_I32, 1, 4, 0);
        run_case(&tc);
    }
}

static void casts(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(cast_case);
    expect_runs(before, 200);
}
static void rmsnorms(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(rmsnorm_case);
    expect_runs(before, 200);
}
static void layernorms(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(layernorm_case);
    expect_runs(before, 200);
}
static void activations(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(act_case);
    expect_runs(before, 2000);
}
static void elementwise(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(elementwise_case);
    for (int i = 0; i < 3; i++) elementwise_case(3, 8191 + i, FM_F32, WIDE); // pieces that cut rows
    expect_runs(before, 600);
}

static void dropouts(void **state)
{
    (void)state;
    const int before = n_kernels_run;
    each_size(dropout_case);
    expect_runs(before, 400);
}

// Both pairings, whole and part heads, own and given angles, forwards and back, with and without factors.
static void ropes(void **state)
{
    (void)state;
    static const int heads[][2] = {{64, 64}, {6, 4}, {34, 34}, {80, 20}, {2, 2}, {256, 64}, {18, 18}};
    const int before = n_kernels_run;
    for (size_t s = 0; s < sizeof heads / sizeof *heads; s++)
        for (int bits = 0; bits < 16; bits++)
            for (int n = 0; n < N_COUNTS; n++) {
                struct test_case tc =
                    unary(FM__OP_ROPE, counts[n], heads[s][0] * 3, FM_F32, bits & 8 ? WIDE : ORDINARY);
                tc.attrs.rope = (struct fm__attr_rope){.head_dim = heads[s][0],
                                                       .n_rot = heads[s][1],
                                                       .neox = bits & 1,
                                                       .base = 10000,
                                                       .backward = bits >> 1 & 1,
                                                       .scaling = bits & 8 ? FM__ROPE_YARN : FM__ROPE_NONE,
                                                       .factor = 4,
                                                       .beta_fast = 32,
                                                       .beta_slow = 1,
                                                       .ext_factor = 1,
                                                       .n_ctx_orig = 2048};
                set_shape(&tc.in[1], FM_I32, 2, counts[n], FM__ROW_FIELDS);
                set_shape(&tc.in[2], FM_F32, 1, heads[s][1] / 2, 0);
                set_shape(&tc.in[3], FM_F32, 2, counts[n], heads[s][1]);
                tc.n_in = bits & 4 ? 4 : 2 + (n & 1);
                run_case(&tc);
            }
    expect_runs(before, 400);
}

static void copies(void **state)
{
    (void)state;
    static const fm_dtype types[] = {FM_F32, FM_F16, FM_BF16, FM_Q4_1, FM_Q8_0, FM_Q4_K, FM_Q6_K};
    const int before = n_kernels_run;
    for (int n = 0; n < N_COUNTS; n++)
        for (int x = 0; x < N_WIDTHS; x++) {
            struct test_case tc = unary(FM__OP_GATHER_ROWS, 9, widths[x], FM_F32, ORDINARY);
            tc.n_in = 2;
            set_shape(&tc.in[1], FM_I32, 1, counts[n], 0);
            tc.out.dims[0] = counts[n];
            run_case(&tc);
            tc.op = FM__OP_EMBED;
            for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
                const int64_t block = fm_dtype_info(types[t])->block_elements;
                const int64_t width = (widths[x] + block - 1) / block * block;
                set_shape(&tc.in[0], types[t], 2, 37, width);
                set_shape(&tc.out, FM_F32, 2, counts[n], width);
                run_case(&tc);
            }
            tc = unary(FM__OP_SLICE, counts[n], widths[x], FM_F32, WIDE);
            tc.attrs.slice.begin = widths[x] / 3;
            tc.attrs.slice.count = widths[x] - widths[x] / 3 - widths[x] / 5;
            set_shape(&tc.out, FM_F32, 2, counts[n], tc.attrs.slice.count);
            run_case(&tc);
            tc = (struct test_case){.op = FM__OP_ROPE_ANGLES, .n_in = 1 + x % 2};
            tc.attrs.rope = (struct fm__attr_rope){.n_rot = (int)widths[x] * 2, .base = 1e4f};
            set_shape(&tc.in[0], FM_I32, 2, counts[n], FM__ROW_FIELDS);
            set_shape(&tc.in[1], FM_F32, 1, widths[x], 0);
            set_shape(&tc.out, FM_F32, 2, counts[n], widths[x] * 2);
            run_case(&tc);
        }
    expect_runs(before, 400);
}

// rmsnorm and layernorm against double precision: the references' own arithmetic is right. y = x inv w: three roundings
// and inv's own; layernorm rounds once before w and twice after.
static void norms_are_near_double(void **state)
{
    (void)state;
    enum { X = 577 };
    float x[X], w[X], b[X], y[X], row[X];
    double sum = 0, squares = 0, var = 0;
    for (int i = 0; i < X; i++) {
        x[i] = 100 + random_value(ORDINARY), w[i] = random_value(ORDINARY), b[i] = random_value(ORDINARY);
        sum += x[i], squares += (double)x[i] * x[i];
    }
    for (int i = 0; i < X; i++) var += (x[i] - sum / X) * (x[i] - sum / X);
    union fm__attrs attrs = {.norm = {.eps = 1e-5f}};
    struct fm__call call = {.n_in = 2, .n_out = 1, .attrs = &attrs, .rows = 1, .workspace = row};
    set_shape(&call.in[0], FM_F32, 2, 1, X), set_shape(&call.in[1], FM_F32, 1, X, 0);
    set_shape(&call.in[2], FM_F32, 1, X, 0), set_shape(&call.out[0], FM_F32, 2, 1, X);
    call.in[0].data = x, call.in[1].data = w, call.in[2].data = b, call.out[0].data = y;
    fm__op(FM__OP_RMSNORM)->reference(&call);
    for (int i = 0; i < X; i++) {
        const double want = x[i] / sqrt(squares / X + 1e-5f) * w[i];
        assert_true(fabs(y[i] - want) <= 3 * 0x1p-24 * fabs(want));
    }
    call.n_in = 3;
    fm__op(FM__OP_LAYERNORM)->reference(&call);
    for (int i = 0; i < X; i++) {
        const double scaled = (x[i] - sum / X) / sqrt(var / X + 1e-5f) * w[i];
        assert_true(fabs(y[i] - (scaled + b[i])) <= 0x1p-24 * (2.1 * fabs(scaled) + fabs(scaled + b[i])));
    }
}

int main(void)
{
    scratch = test_guarded_new(FM__WORKER_SCRATCH, TEST_GUARD_AFTER);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts),       cmocka_unit_test(rmsnorms),    cmocka_unit_test(layernorms),
        cmocka_unit_test(activations), cmocka_unit_test(elementwise), cmocka_unit_test(ropes),
        cmocka_unit_test(dropouts),    cmocka_unit_test(copies),      cmocka_unit_test(norms_are_near_double),
    };
    return cmocka_run_group_tests_name("small_kernels", tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// The ops of optimisers: each against its formula in double, and the same bytes on every device: cpu at every level
// with 1 and 3 threads, and sim. test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "graph/graph.h"
#include "ops/codes8.h"
#include "ops/op.h"
#include "support/leaves.h"
#include "tensor/half.h"

// An operand of the op under test: a state or weight (bound, read back after the runs) or an input.
struct operand {
    const char *name;
    enum fm__kind kind;
    fm_dtype dtype;
    int rank;
    int64_t dims[3];
    void *data; // before the first run; states: read back into `after`
    void *after;
};

struct problem {
    enum fm__op_id op;
    union fm__attrs attrs;
    int n_in;
    struct operand in[FM__MAX_IN];
    int n_runs;
    void *y; // what the temporary output was, if there is one
    size_t y_bytes;
};

static uint64_t random_state = 88172645463325252u;
static float random_value(void) // in (-1, 1)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31f;
}

static int64_t elements(const struct operand *o)
{
    int64_t n = 1;
    for (int d = 0; d < o->rank; d++) n *= o->dims[d];
    return n;
}

static size_t bytes_of(const struct operand *o)
{
    return (size_t)elements(o) * (o->dtype == FM_I8 ? 1 : o->dtype == FM_BF16 ? 2 : 4);
}

// An f32 operand of n random values times `scale`.
static struct operand values(const char *name, enum fm__kind kind, int64_t n, float scale)
{
    struct operand o = {.name = name, .kind = kind, .dtype = FM_F32, .rank = 1, .dims = {n}};
    o.data = malloc(bytes_of(&o));
    for (int64_t i = 0; i < n; i++) ((float *)o.data)[i] = scale * random_value();
    return o;
}

static struct operand knobs_of(int n, const float *x)
{
    struct operand o = {.name = "knobs", .kind = FM__INPUT, .dtype = FM_F32, .rank = 1, .dims = {n}};
    o.data = malloc((size_t)n * 4);
    memcpy(o.data, x, (size_t)n * 4);
    return o;
}

static void free_problem(struct problem *p)
{
    for (int i = 0; i < p->n_in; i++) {
        free(p->in[i].data);
        free(p->in[i].after);
    }
    free(p->y);
}

static void run(struct problem *p, const char *device, const struct fm_device_opts *opts)
{
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__plan *plan;
    test_leaves_init(&leaves, device, opts);
    struct fm__graph *g = fm__graph_new();
    fm__val in[FM__MAX_IN];
    const void *inputs[FM__MAX_IN];
    int n_inputs = 0;
    for (int i = 0; i < p->n_in; i++) {
        struct operand *o = &p->in[i];
        in[i] = fm__graph_leaf(g, o->kind, o->name, o->dtype, o->rank, o->dims);
        if (o->kind == FM__INPUT)
            inputs[n_inputs++] = o->data;
        else
            test_leaves_add(&leaves, o->name, o->dtype, o->rank, o->dims, o->data);
    }
    const fm__val y = fm__graph_add(g, p->op, p->n_in, in, &p->attrs);
    const fm__val last = fm__graph_out(g, y, fm__op(p->op)->n_out - 1);
    const bool has_y = last != FM__NONE && g->values[last].kind == FM__TEMP;
    if (has_y) fm__graph_output(g, last, "y");
    const struct fm__plan_opts plan_opts = {
        .device = leaves.device, .rows = 1, .bind = test_leaves_bind, .bind_context = &leaves};
    assert_ok(fm__plan_new(g, &plan_opts, &plan, &err), err);
    for (int i = 0; i < p->n_runs; i++) assert_ok(fm__plan_run(plan, 1, inputs, &err), err);
    if (has_y) {
        p->y_bytes = fm_tensor_bytes(&plan->values[plan->graph->outputs[0]].tensor);
        p->y = realloc(p->y, p->y_bytes);
        memcpy(p->y, fm__plan_output(plan, 0), p->y_bytes);
    }
    for (int i = 0; i < p->n_in; i++) {
        struct operand *o = &p->in[i];
        if (o->kind == FM__INPUT) continue;
        if (!o->after) o->after = malloc(bytes_of(o));
        test_leaves_read(&leaves, o->name, o->after);
    }
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

// Runs on the reference, leaves its results in `after`, and compares every other device with them.
static void run_everywhere(struct problem *p)
{
    if (!p->n_runs) p->n_runs = 1;
    void *want[FM__MAX_IN] = {NULL};
    run(p, "cpu", NULL);
    void *want_y = p->y;
    p->y = NULL;
    for (int i = 0; i < p->n_in; i++) {
        want[i] = p->in[i].after;
        p->in[i].after = NULL;
    }
    static const int levels[] = {FM__CPU_REF, FM__CPU_AVX2, FM__CPU_AVX512, FM__CPU_NEON, FM__CPU_LEVELS};
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
        for (int threads = 1; threads <= 3; threads += 2) {
            const bool sim = levels[l] == FM__CPU_LEVELS;
            if (sim ? threads > 1 : !fm__cpu_has(levels[l])) continue;
            struct fm_device_opts opts = {.threads = threads, .level = sim ? NULL : fm__cpu_level_name(levels[l])};
            if (sim) opts = (struct fm_device_opts){.seed = 7};
            run(p, sim ? "sim" : "cpu", &opts);
            for (int i = 0; i < p->n_in; i++)
                if (want[i]) assert_memory_equal(p->in[i].after, want[i], bytes_of(&p->in[i]));
            if (want_y) assert_memory_equal(p->y, want_y, p->y_bytes);
        }
    for (int i = 0; i < p->n_in; i++) {
        free(p->in[i].after);
        p->in[i].after = want[i];
    }
    free(p->y);
    p->y = want_y;
}

static const int64_t sizes[] = {1, 16, 257, 8193, 50003};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

// keep 0 assigns even over NaN; keep 1 adds, run after run.
static void accumulation(void **state)
{
    (void)state;
    for (int s = 0; s < N_SIZES; s++)
        for (int keep = 0; keep <= 1; keep++) {
            struct problem p = {.op = FM__OP_ACCUMULATE,
                                .n_in = 3,
                                .n_runs = 2,
                                .in = {values("acc", FM__STATE, sizes[s], 1), values("d", FM__WEIGHT, sizes[s], 1),
                                       knobs_of(1, (float[]){(float)keep})}};
            if (!keep) ((float *)p.in[0].data)[0] = NAN;
            run_everywhere(&p);
            const float *acc = p.in[0].data, *d = p.in[1].data, *got = p.in[0].after;
            for (int64_t i = 0; i < sizes[s]; i++) assert_true(got[i] == (keep ? acc[i] + d[i] + d[i] : d[i]));
            free_problem(&p);
        }
}

// Against scatter_rows' rule by hand: rows that meet are added in their order; without keep the state stays.
static void scattering(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 16, 255, 700};
    for (int s = 0; s < 4; s++)
        for (int keep = 0; keep <= 2; keep++) { // 2: left out
            enum { M = 9, N = 30 };
            const int64_t X = widths[s];
            int32_t index[N];
            struct problem p = {.op = FM__OP_SCATTER_ADD,
                                .n_in = keep == 2 ? 3 : 4,
                                .n_runs = 1,
                                .in = {values("acc", FM__STATE, M * X, 1),
                                       values("index", FM__STATE, N, 0),
                                       values("x", FM__WEIGHT, N * X, 1),
                                       {0}}};
            if (keep < 2) p.in[3] = knobs_of(1, (float[]){(float)keep});
            p.in[0].rank = p.in[2].rank = 2;
            p.in[0].dims[0] = M, p.in[0].dims[1] = X, p.in[2].dims[0] = N, p.in[2].dims[1] = X;
            p.in[1].dtype = FM_I32;
            for (int n = 0; n < N; n++) index[n] = (n * n) % M;
            memcpy(p.in[1].data, index, sizeof index);
            run_everywhere(&p);
            const float *acc = p.in[0].data, *x = p.in[2].data, *got = p.in[0].after;
            for (int64_t i = 0; i < M * X; i++) {
                float want = keep ? acc[i] : 0;
                for (int n = 0; n < N; n++)
                    if (index[n] == i / X) want += x[n * X + i % X];
                assert_true(got[i] == want);
            }
            free_problem(&p);
        }
}

static struct operand matrix(const char *name, int64_t rows, int64_t columns, fm_dtype dtype)
{
    struct operand o = values(name, FM__WEIGHT, rows * columns, 1);
    o.rank = 2, o.dims[0] = rows, o.dims[1] = columns, o.dtype = dtype;
    const float *x = o.data;
    uint16_t *half = o.data; // behind what is still to be read
    for (int64_t i = 0; i < rows * columns && dtype == FM_BF16; i++) half[i] = fm__f32_to_bf16(x[i]);
    return o;
}

// linear_dw_add is linear_dw, then one addition.
static void products_into_sums(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{5, 3, 7}, {300, 40, 70}, {64, 33, 257}};
    for (int variant = 0; variant < 12; variant++) {
        const int64_t *s = shapes[variant % 3], N = s[0], O = s[1], K = s[2];
        const int keep = variant / 3 % 2;
        const fm_dtype dtype = variant < 6 ? FM_F32 : FM_BF16;
        struct problem p = {.op = FM__OP_LINEAR_DW_ADD,
                            .n_in = 4 - keep * (variant % 2), // left out is 1
                            .in = {matrix("x", N, K, dtype), matrix("dy", N, O, dtype), matrix("acc", O, K, FM_F32),
                                   knobs_of(1, (float[]){(float)keep})}};
        struct problem q = {.op = FM__OP_LINEAR_DW, .n_in = 2, .in = {p.in[0], p.in[1]}};
        run_everywhere(&q);
        run_everywhere(&p);
        const float *dw = q.y, *acc = p.in[2].data, *got = p.in[2].after;
        for (int64_t i = 0; i < O * K; i++) assert_true(got[i] == (keep ? acc[i] + dw[i] : dw[i]));
        free(q.in[0].after), free(q.in[1].after), free(q.y);
        if (p.n_in < 4) free(p.in[3].data);
        free_problem(&p);
    }
}

static const float lr = 0.05f, beta1 = 0.9f, beta2 = 0.999f, eps = 0.03f, decay = 0.1f, gradient_scale = 0.25f;

// Knobs of step t.
static struct operand adam_knobs(int t)
{
    return knobs_of(4, (float[]){lr, (float)(1 - pow(beta1, t)), (float)(1 - pow(beta2, t)), gradient_scale});
}

static union fm__attrs adam_attrs(void)
{
    return (union fm__attrs){.adamw = {.beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = decay}};
}

// Algorithm 2 of arXiv 1711.05101 for one element, in double.
static void adam_step(double g, int t, double *p, double *m, double *v)
{
    *m = beta1 * *m + (1 - (double)beta1) * g;
    *v = beta2 * *v + (1 - (double)beta2) * g * g;
    const double root = sqrt(*v / (1 - pow(beta2, t)));
    *p = *p - (double)lr * decay * *p - lr * *m / (1 - pow(beta1, t)) / (root + eps);
}

// eps is large here, so that its place (outside the root) shows; moments begin at 0, step 1: corrections matter most.
// Values are below 1, m and v below 1/4: a dozen roundings of one half unit each, times the rate for the quotient.
static void adamw(void **state)
{
    (void)state;
    for (int s = 0; s < N_SIZES; s++) {
        const int64_t n = sizes[s];
        struct problem p = {.op = FM__OP_ADAMW,
                            .attrs = adam_attrs(),
                            .n_in = 5,
                            .in = {values("p", FM__WEIGHT, n, 1), values("g", FM__STATE, n, 1),
                                   values("m", FM__STATE, n, 0), values("v", FM__STATE, n, 0), adam_knobs(1)}};
        run_everywhere(&p);
        for (int64_t i = 0; i < n; i++) {
            double w = ((float *)p.in[0].data)[i], m = 0, v = 0;
            adam_step(((float *)p.in[1].data)[i] * (double)gradient_scale, 1, &w, &m, &v);
            assert_true(fabs(((float *)p.in[0].after)[i] - w) <= 12 * 0x1p-24);
            assert_true(fabs(((float *)p.in[2].after)[i] - m) <= 4 * 0x1p-24 * fabs(m));
            assert_true(fabs(((float *)p.in[3].after)[i] - v) <= 0x1p-24 * 8 * v + (1 - (double)beta2) * 0x1p-24 * v);
        }
        free_problem(&p);
    }
}

// Codes ascend, neighbours join across decades, each decodes to itself, and a value is never further than half a step.
static void codes(void **state)
{
    (void)state;
    for (int bits = 7; bits <= 8; bits++) {
        float table[256], block[FM__CODES8_BLOCK];
        uint8_t got[FM__CODES8_BLOCK];
        fm__codes8_table(bits, table);
        const int n = 1 << bits;
        assert_true(table[0] == 0 && table[n - 1] == 1);
        for (int u = 1; u < n; u++) assert_true(table[u] > table[u - 1]);
        for (int u = 0; u < n; u++) assert_true(fm__codes8_code(bits, table[u]) == (float)u);
        for (int i = 0; i <= 100000; i++) {
            const float a = powf(10, -8.0f * (float)i / 100000);
            const int u = (int)fm__codes8_code(bits, a);
            if (u == 0) { // 0 takes all up to the middle of a step that would begin at a tenth of the smallest
                assert_true(a <= 0.55f * table[1] * (1 + 4 * 0x1p-24f));
                continue;
            }
            const double below = u > 0 ? (table[u] - table[u - 1]) / 2.0 : 0,
                         above = u < n - 1 ? (table[u + 1] - table[u]) / 2.0 : 0;
            assert_true(a >= table[u] - below - 4 * 0x1p-24 * a && a <= table[u] + above + 4 * 0x1p-24 * a);
        }
        for (int i = 0; i < FM__CODES8_BLOCK; i++) block[i] = 3 * table[i % n] * (bits == 7 && i >= 128 ? -1.0f : 1.0f);
        assert_true(fm__codes8_encode(bits == 7, block, FM__CODES8_BLOCK, got) == 3);
        for (int i = 0; i < FM__CODES8_BLOCK; i++)
            assert_int_equal(got[i], bits == 7 && i == 128 ? 0 : bits == 7 && i > 128 ? 128 + i % 128 : i);
        memset(block, 0, sizeof block);
        assert_true(fm__codes8_encode(bits == 7, block, 7, got) == 0 && got[3] == 0);
    }
    float small[2] = {1, 1e-12f}; // a second moment stays above 0, a first may vanish
    uint8_t got[2];
    fm__codes8_encode(0, small, 2, got);
    assert_int_equal(got[1], 1);
    fm__codes8_encode(1, small, 2, got);
    assert_int_equal(got[1], 0);
}

static struct operand bytes_operand(const char *name, int64_t n)
{
    struct operand o = {.name = name, .kind = FM__STATE, .dtype = FM_I8, .rank = 1, .dims = {n}};
    o.data = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++) ((uint8_t *)o.data)[i] = (uint8_t)(random_value() * 127 + 128);
    return o;
}

// From any codes and scales: p as adamw makes it of the decoded moments, and the new moments within half a code of
// adamw's.
static void adamw8(void **state)
{
    (void)state;
    float m_of[256], v_of[256];
    fm__codes8_table(7, m_of);
    fm__codes8_table(8, v_of);
    for (int s = 0; s < N_SIZES; s++) {
        const int64_t n = sizes[s], n_blocks = (n + 255) / 256;
        struct problem p = {.op = FM__OP_ADAMW8,
                            .attrs = adam_attrs(),
                            .n_in = 6,
                            .in = {values("p", FM__WEIGHT, n, 1), values("g", FM__STATE, n, 1), bytes_operand("m", n),
                                   bytes_operand("v", n), values("scales", FM__STATE, 2 * n_blocks, 0.5f),
                                   adam_knobs(7)}};
        p.in[4].rank = 2, p.in[4].dims[0] = 2, p.in[4].dims[1] = n_blocks;
        float *scales = p.in[4].data;
        for (int64_t b = 0; b < 2 * n_blocks; b++) scales[b] = fabsf(scales[b]);
        run_everywhere(&p);
        const float *new_scales = p.in[4].after;
        for (int64_t i = 0; i < n; i++) {
            const int64_t b = i / 256;
            double w = ((float *)p.in[0].data)[i], m = m_of[((uint8_t *)p.in[2].data)[i]] * (double)scales[b];
            double v = v_of[((uint8_t *)p.in[3].data)[i]] * (double)scales[n_blocks + b];
            adam_step(((float *)p.in[1].data)[i] * (double)gradient_scale, 7, &w, &m, &v);
            assert_true(fabs(((float *)p.in[0].after)[i] - w) <= 24 * 0x1p-24);
            const double m_after = m_of[((uint8_t *)p.in[2].after)[i]] * (double)new_scales[b];
            const double v_after = v_of[((uint8_t *)p.in[3].after)[i]] * (double)new_scales[n_blocks + b];
            // half a step is 0.45 / 64 of the scale at most, or of the smallest code
            assert_true(fabs(m_after - m) <= 0.45 / 64 * new_scales[b] * (1 + 1e-5));
            assert_true(fabs(v_after - v) <= 0.45 / 128 * new_scales[n_blocks + b] * (1 + 1e-5));
            assert_true(v_after > 0 || v < 0x1p-120);
        }
        free_problem(&p);
    }
}

static void sgd(void **state)
{
    (void)state;
    for (int variant = 0; variant < 2; variant++)
        for (int s = 0; s < N_SIZES; s++) {
            const int64_t n = sizes[s];
            struct problem p = {.op = FM__OP_SGD,
                                .attrs = {.momentum = {.momentum = 0.9f, .weight_decay = decay, .nesterov = variant}},
                                .n_in = 4,
                                .n_runs = 2,
                                .in = {values("p", FM__WEIGHT, n, 1), values("g", FM__STATE, n, 1),
                                       values("m", FM__STATE, n, 1), knobs_of(4, (float[]){lr, 0, 0, gradient_scale})}};
            run_everywhere(&p);
            for (int64_t i = 0; i < n; i++) { // PyTorch's documentation of torch.optim.SGD
                double w = ((float *)p.in[0].data)[i], m = ((float *)p.in[2].data)[i];
                for (int t = 0; t < 2; t++) {
                    const double g = ((float *)p.in[1].data)[i] * (double)gradient_scale + decay * w;
                    m = 0.9f * m + g;
                    w -= lr * (variant ? g + 0.9f * m : m);
                }
                assert_true(fabs(((float *)p.in[0].after)[i] - w) <= 12 * 0x1p-24);
                assert_true(fabs(((float *)p.in[2].after)[i] - m) <= 12 * 0x1p-24);
            }
            free_problem(&p);
        }
}

static void muon_ends(void **state)
{
    (void)state;
    for (int variant = 0; variant < 2; variant++)
        for (int s = 0; s < N_SIZES; s++) {
            const int64_t n = sizes[s];
            const struct operand knobs = knobs_of(4, (float[]){lr, 0, 0, gradient_scale});
            struct problem p = {.op = FM__OP_MUON_DIRECTION,
                                .attrs = {.momentum = {.momentum = 0.95f, .nesterov = variant}},
                                .n_in = 3,
                                .in = {values("m", FM__STATE, n, 1), values("g", FM__STATE, n, 1), knobs}};
            run_everywhere(&p);
            const float *m = p.in[0].data, *g = p.in[1].data, *u = p.y;
            for (int64_t i = 0; i < n; i++) {
                const double d = (1 - (double)0.95f) * g[i] * gradient_scale, next = 0.95f * (double)m[i] + d;
                assert_true(fabs(((float *)p.in[0].after)[i] - next) <= 0x1p-23);
                assert_true(fabs(u[i] - (variant ? 0.95f * next + d : next)) <= 2 * 0x1p-23);
            }
            free_problem(&p);
            struct problem q = {.op = FM__OP_MUON,
                                .attrs = {.momentum = {.weight_decay = decay, .factor = 1.5f}},
                                .n_in = 3,
                                .in = {values("p", FM__WEIGHT, n, 1), values("o", FM__STATE, n, 1),
                                       knobs_of(4, (float[]){lr, 0, 0, gradient_scale})}};
            run_everywhere(&q);
            for (int64_t i = 0; i < n; i++) {
                const double w = ((float *)q.in[0].data)[i], o = ((float *)q.in[1].data)[i];
                const double want = w - (double)lr * decay * w - lr * 1.5 * o;
                assert_true(fabs(((float *)q.in[0].after)[i] - want) <= 4 * 0x1p-24);
            }
            free_problem(&q);
        }
}

// One rounding of a sum in double; a unit has norm 1; infinity comes through.
static void norms(void **state)
{
    (void)state;
    for (int s = 0; s < N_SIZES; s++) {
        const int64_t n = sizes[s];
        struct problem p = {.op = FM__OP_SUM_SQUARES, .n_in = 1, .in = {values("x", FM__STATE, n, 5)}};
        run_everywhere(&p);
        double want = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) want += (double)((float *)p.in[0].data)[i] * ((float *)p.in[0].data)[i];
        const float got = *(float *)p.y;
        assert_true(fabs(got - want) <= 0x1p-24 * want * (1 + 1e-6));
        struct problem q = {.op = FM__OP_UNIT, .n_in = 2, .in = {values("x", FM__STATE, n, 0), knobs_of(1, &got)}};
        memcpy(q.in[0].data, p.in[0].data, bytes_of(&p.in[0]));
        run_everywhere(&q);
        for (int64_t i = 0; i < n; i++) squares += (double)((float *)q.y)[i] * ((float *)q.y)[i];
        assert_true(fabs(sqrt(squares) - 1) <= 1e-6); // 1e-7 of the op, three roundings
        ((float *)p.in[0].data)[n / 2] = INFINITY;
        run_everywhere(&p);
        assert_true(isinf(*(float *)p.y));
        free_problem(&p);
        free_problem(&q);
    }
}

static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    struct fm_error err;
    static const enum fm__op_id ops[] = {FM__OP_ADAMW, FM__OP_ADAMW8,     FM__OP_SGD, FM__OP_MUON_DIRECTION,
                                         FM__OP_MUON,  FM__OP_ACCUMULATE, FM__OP_UNIT};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct fm__graph *g = fm__graph_new();
        fm__val in[6];
        for (int k = 0; k < 6; k++) in[k] = fm__graph_leaf(g, FM__STATE, "x", FM_F32, 1, (int64_t[]){5});
        const int n_in = ops[i] == FM__OP_ADAMW    ? 5
                         : ops[i] == FM__OP_ADAMW8 ? 6
                         : ops[i] == FM__OP_SGD    ? 4
                         : ops[i] == FM__OP_UNIT   ? 2
                                                   : 3;
        assert_int_equal(fm__graph_add(g, ops[i], n_in, in, NULL), FM__NONE);
        assert_int_equal(fm__graph_check(g, &err), FM_E_SHAPE);
        fm__graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accumulation),
        cmocka_unit_test(scattering),
        cmocka_unit_test(products_into_sums),
        cmocka_unit_test(adamw),
        cmocka_unit_test(codes),
        cmocka_unit_test(adamw8),
        cmocka_unit_test(sgd),
        cmocka_unit_test(muon_ends),
        cmocka_unit_test(norms),
        cmocka_unit_test(wrong_shapes_are_refused),
    };
    return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// One training step of a 2-layer llama on packed documents: loss, the gradient of every weight and an AdamW step equal
// a float64 computation (scripts/make_training_golden.py), in one plan, on cpu at every level and on sim.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "support/leaves.h"

enum { V = 20, D = 16, H = 4, K = 2, E = 4, F = 24, LAYERS = 2, N = 12, N_WEIGHTS = 2 + 9 * LAYERS };
static const float lr = 1e-2f, beta1 = 0.9f, beta2 = 0.999f;
enum { STEP = 3 };

// The fixture: what each weight was, its moments, its gradient, and all three after the step.
enum { W, M, M2, GRADIENT, W_NEXT, M_NEXT, M2_NEXT, N_PARTS };
static struct golden {
    int32_t tokens[N], targets[N], slots[N], positions[N];
    float weights[N];
    double loss;
    struct {
        char name[24];
        int rank;
        int64_t dims[2];
        int64_t n;
        float *parts[N_PARTS];
    } w[N_WEIGHTS];
    uint8_t *file;
} golden;

static void name_weight(int i, const char *name, int layer, int64_t rows, int64_t columns)
{
    snprintf(golden.w[i].name, sizeof golden.w[i].name, layer < 0 ? "%s" : "%s.%d", name, layer);
    golden.w[i].rank = rows ? 2 : 1;
    golden.w[i].dims[0] = rows ? rows : columns;
    golden.w[i].dims[1] = rows ? columns : 0;
    golden.w[i].n = (rows ? rows : 1) * columns;
}

static const uint8_t *take(void *to, size_t bytes, const uint8_t *from)
{
    memcpy(to, from, bytes);
    return from + bytes;
}

static int read_golden(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rows, columns;
    } layer[] = {{"attn_norm", 0, D}, {"q", H * E, D}, {"k", K * E, D}, {"v", K * E, D}, {"o", D, H * E},
                 {"ffn_norm", 0, D},  {"gate", F, D},  {"up", F, D},    {"down", D, F}};
    int n = 0;
    name_weight(n++, "embedding", -1, V, D);
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < 9; i++) name_weight(n++, layer[i].name, l, layer[i].rows, layer[i].columns);
    name_weight(n++, "output_norm", -1, 0, D);
    assert_int_equal(n, N_WEIGHTS);

    size_t size;
    golden.file = test_read_file(test_data("train_step.bin"), &size);
    const uint8_t *at = golden.file;
    at = take(golden.tokens, sizeof golden.tokens, at), at = take(golden.targets, sizeof golden.targets, at);
    at = take(golden.slots, sizeof golden.slots, at), at = take(golden.positions, sizeof golden.positions, at);
    at = take(golden.weights, sizeof golden.weights, at), at = take(&golden.loss, sizeof golden.loss, at);
    for (int i = 0; i < N_WEIGHTS; i++)
        for (int p = 0; p < N_PARTS; p++) {
            const size_t bytes = (size_t)golden.w[i].n * sizeof(float);
            golden.w[i].parts[p] = malloc(bytes);
            at = take(golden.w[i].parts[p], bytes, at);
        }
    assert_int_equal(at - golden.file, size);
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    for (int i = 0; i < N_WEIGHTS; i++)
        for (int p = 0; p < N_PARTS; p++) free(golden.w[i].parts[p]);
    free(golden.file);
    return 0;
}

struct step {
    struct fm__graph *g;
    fm__val w[N_WEIGHTS], m[N_WEIGHTS], m2[N_WEIGHTS], tokens, targets, rows, weights, knobs;
};

static fm__val add2(struct step *s, enum fm__op_id op, fm__val a, fm__val b, const union fm__attrs *attrs)
{
    return fm__graph_add(s->g, op, 2, (fm__val[]){a, b}, attrs);
}

static fm__val forward(struct step *s)
{
    const union fm__attrs norm = {.norm = {.eps = 1e-5f}}, silu = {.act = {.act = FM__ACT_SILU}};
    const union fm__attrs rope = {.rope = {.head_dim = E, .n_rot = E, .base = 10000}};
    const union fm__attrs attend = {.attention = {.scale = 0.5f, .n_kv = K, .head_k = E, .head_v = E}};
    fm__val x = add2(s, FM__OP_EMBED, s->w[0], s->tokens, NULL);
    for (int l = 0; l < LAYERS; l++) {
        const fm__val *w = s->w + 1 + 9 * l;
        fm__val a = add2(s, FM__OP_RMSNORM, x, w[0], &norm);
        const fm__val q = add2(s, FM__OP_ROPE, add2(s, FM__OP_LINEAR, a, w[1], NULL), s->rows, &rope);
        const fm__val k = add2(s, FM__OP_ROPE, add2(s, FM__OP_LINEAR, a, w[2], NULL), s->rows, &rope);
        const fm__val v = add2(s, FM__OP_LINEAR, a, w[3], NULL);
        a = fm__graph_add(s->g, FM__OP_ATTENTION_ROWS, 4, (fm__val[]){q, k, v, s->rows}, &attend);
        x = add2(s, FM__OP_ADD, x, add2(s, FM__OP_LINEAR, a, w[4], NULL), NULL);
        a = add2(s, FM__OP_RMSNORM, x, w[5], &norm);
        const fm__val gate = add2(s, FM__OP_LINEAR, a, w[6], NULL), up = add2(s, FM__OP_LINEAR, a, w[7], NULL);
        a = add2(s, FM__OP_ACT_MUL, gate, up, &silu);
        x = add2(s, FM__OP_ADD, x, add2(s, FM__OP_LINEAR, a, w[8], NULL), NULL);
    }
    x = add2(s, FM__OP_RMSNORM, x, s->w[N_WEIGHTS - 1], &norm);
    const fm__val logits = add2(s, FM__OP_LINEAR, x, s->w[0], NULL); // tied: the embedding has two readers
    const fm__val loss =
        fm__graph_add(s->g, FM__OP_CROSS_ENTROPY, 3, (fm__val[]){logits, s->targets, s->weights}, NULL);
    return fm__graph_add(s->g, FM__OP_SUM, 1, &loss, NULL);
}

// Outputs: the loss, then the gradients. Leaves: weights, and both moments of each.
static struct fm__graph *training_graph(struct test_leaves *leaves)
{
    struct step s = {.g = fm__graph_new()};
    char name[40];
    s.tokens = fm__graph_leaf(s.g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    s.targets = fm__graph_leaf(s.g, FM__INPUT, "targets", FM_I32, 1, (int64_t[]){FM__ROWS});
    s.rows = fm__graph_leaf(s.g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    s.weights = fm__graph_leaf(s.g, FM__INPUT, "weights", FM_F32, 1, (int64_t[]){FM__ROWS});
    s.knobs = fm__graph_leaf(s.g, FM__INPUT, "knobs", FM_F32, 1, (int64_t[]){4});
    for (int i = 0; i < N_WEIGHTS; i++) {
        const int rank = golden.w[i].rank;
        const int64_t *dims = golden.w[i].dims;
        s.w[i] = fm__graph_leaf(s.g, FM__WEIGHT, golden.w[i].name, FM_F32, rank, dims);
        test_leaves_add(leaves, golden.w[i].name, FM_F32, rank, dims, golden.w[i].parts[W]);
        snprintf(name, sizeof name, "%s.m", golden.w[i].name);
        s.m[i] = fm__graph_leaf(s.g, FM__STATE, name, FM_F32, rank, dims);
        test_leaves_add(leaves, name, FM_F32, rank, dims, golden.w[i].parts[M]);
        snprintf(name, sizeof name, "%s.m2", golden.w[i].name);
        s.m2[i] = fm__graph_leaf(s.g, FM__STATE, name, FM_F32, rank, dims);
        test_leaves_add(leaves, name, FM_F32, rank, dims, golden.w[i].parts[M2]);
    }
    const fm__val loss = forward(&s);
    fm__val d[N_WEIGHTS];
    fm__graph_gradient(s.g, loss, N_WEIGHTS, s.w, d);
    fm__graph_output(s.g, loss, "loss");
    const union fm__attrs adamw = {.adamw = {.beta1 = beta1, .beta2 = beta2, .eps = 1e-8f, .weight_decay = 0.1f}};
    for (int i = 0; i < N_WEIGHTS; i++) {
        snprintf(name, sizeof name, "d %s", golden.w[i].name);
        fm__graph_output(s.g, d[i], name);
        fm__graph_add(s.g, FM__OP_ADAMW, 5, (fm__val[]){s.w[i], d[i], s.m[i], s.m2[i], s.knobs}, &adamw);
    }
    return s.g;
}

static double largest(const float *x, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)x[i]));
    return top;
}

// Forward and back are a chain of about 64 roundings of values of the order of the tensor's largest; sums of N * F
// terms add their square root. Bound: 256 roundings of the largest gradient.
static double gradient_bound(int i)
{
    return 256 * 0x1p-24 * largest(golden.w[i].parts[GRADIENT], golden.w[i].n);
}

static void expect_near(const char *what, int i, const float *got, int part, double bound)
{
    for (int64_t k = 0; k < golden.w[i].n; k++) {
        const double want = golden.w[i].parts[part][k];
        if (!(fabs(got[k] - want) <= bound + 2 * 0x1p-24 * fabs(want)))
            fail_msg("%s of %s, element %lld: %.9g, want %.9g +- %g", what, golden.w[i].name, (long long)k, got[k],
                     want, bound);
    }
}

static void expect_step(const struct test_leaves *leaves, int i)
{
    float x[F * V];
    char name[40];
    const double d = gradient_bound(i), smallest_m2 = 1e-5 * beta2,
                 corrections[] = {1 - pow(beta1, STEP), 1 - pow(beta2, STEP)};
    assert_true(golden.w[i].n <= F * V);
    snprintf(name, sizeof name, "%s.m", golden.w[i].name);
    test_leaves_read(leaves, name, x);
    expect_near("m", i, x, M_NEXT, (1 - beta1) * d + 2 * 0x1p-24 * largest(golden.w[i].parts[M], golden.w[i].n));
    snprintf(name, sizeof name, "%s.m2", golden.w[i].name);
    test_leaves_read(leaves, name, x);
    const double top = largest(golden.w[i].parts[GRADIENT], golden.w[i].n), m2_bound = (1 - beta2) * 2 * top * d;
    expect_near("m2", i, x, M2_NEXT, m2_bound + 4 * 0x1p-24 * largest(golden.w[i].parts[M2_NEXT], golden.w[i].n));
    // p moves by rate * m / sqrt(m2): the error of m, and half the relative error of m2
    test_leaves_read(leaves, golden.w[i].name, x);
    const double rate = lr / corrections[0] * sqrt(corrections[1]) / sqrt(smallest_m2);
    const double top_m = largest(golden.w[i].parts[M_NEXT], golden.w[i].n);
    const double moved = rate * ((1 - beta1) * d + top_m * (m2_bound / smallest_m2 / 2 + 8 * 0x1p-24));
    expect_near("weight", i, x, W_NEXT, moved + 2 * 0x1p-24 * largest(golden.w[i].parts[W], golden.w[i].n));
}

static void train(const char *device, const struct fm_device_opts *opts, size_t budget, float *gradients)
{
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__plan *plan;
    test_leaves_init(&leaves, device, opts);
    struct fm__graph *g = training_graph(&leaves);
    const struct fm__plan_opts plan_opts = {.device = leaves.device,
                                            .rows = 16, // more than there are: a bucket
                                            .bind = test_leaves_bind,
                                            .bind_context = &leaves,
                                            .arena_budget = budget,
                                            .exact_activations = 1};
    assert_ok(fm__plan_new(g, &plan_opts, &plan, &err), err);
    int32_t rows[N][FM__ROW_FIELDS];
    for (int n = 0; n < N; n++)
        memcpy(rows[n], ((int32_t[]){golden.slots[n], golden.positions[n], -1, golden.positions[n]}), sizeof rows[n]);
    const float knobs[] = {lr, (float)(1 - pow(beta1, STEP)), (float)(1 - pow(beta2, STEP)), 1};
    const void *inputs[] = {golden.tokens, golden.targets, rows, golden.weights, knobs};
    assert_ok(fm__plan_run(plan, N, inputs, &err), err);
    const float loss = *(const float *)fm__plan_output(plan, 0);
    assert_true(fabs(loss - golden.loss) <= 64 * 0x1p-24 * golden.loss);
    for (int i = 0; i < N_WEIGHTS; i++) {
        const float *d = fm__plan_output(plan, 1 + i);
        expect_near("gradient", i, d, GRADIENT, gradient_bound(i));
        expect_step(&leaves, i);
        memcpy(gradients, d, (size_t)golden.w[i].n * sizeof *gradients);
        gradients += golden.w[i].n;
    }
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static float reference_gradients[8192], other_gradients[8192];

static void a_step_equals_float64(void **state)
{
    (void)state;
    train("cpu", NULL, 0, reference_gradients);
    assert_true(largest(reference_gradients, 4000) > 0.01);
}

// References and kernels share one arithmetic: the same bytes at every level, with any number of threads, with
// recomputation and without, and on sim.
static void every_device_gives_the_same_gradients(void **state)
{
    (void)state;
    for (int level = FM__CPU_REF; level < FM__CPU_LEVELS; level++)
        for (int threads = 1; threads <= 2 && fm__cpu_has(level); threads++) {
            const struct fm_device_opts opts = {.threads = threads, .level = fm__cpu_level_name(level)};
            train("cpu", &opts, threads == 2, other_gradients); // 1: with recomputation
            assert_memory_equal(reference_gradients, other_gradients, sizeof reference_gradients);
        }
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const struct fm_device_opts opts = {.seed = seed};
        train("sim", &opts, seed % 2, other_gradients);
        assert_memory_equal(reference_gradients, other_gradients, sizeof reference_gradients);
    }
}

// The new version lies where the old one lay, and the planner puts every reader of the old weights before it: read
// after the step, a weight would give other gradients, so the equality above would fail. Here: the graph itself
// refuses.
static void an_old_version_cannot_be_read(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__graph *g = fm__graph_new();
    const int64_t dims[] = {4};
    const fm__val p = fm__graph_leaf(g, FM__WEIGHT, "p", FM_F32, 1, dims);
    const fm__val m = fm__graph_leaf(g, FM__STATE, "m", FM_F32, 1, dims);
    const fm__val v = fm__graph_leaf(g, FM__STATE, "v", FM_F32, 1, dims);
    const fm__val knobs = fm__graph_leaf(g, FM__INPUT, "knobs", FM_F32, 1, dims);
    const fm__val next = fm__graph_add(g, FM__OP_ADAMW, 5, (fm__val[]){p, p, m, v, knobs}, NULL);
    assert_int_equal(g->values[next].alias_of, p);
    assert_int_equal(g->values[fm__graph_out(g, next, 2)].alias_of, v);
    fm__graph_add(g, FM__OP_SUM, 1, &next, NULL);
    assert_ok(fm__graph_check(g, &err), err);
    fm__graph_add(g, FM__OP_SUM, 1, &p, NULL);
    assert_int_equal(fm__graph_check(g, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "old version of p"));
    fm__graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_equals_float64),
        cmocka_unit_test(every_device_gives_the_same_gradients),
        cmocka_unit_test(an_old_version_cannot_be_read),
    };
    return cmocka_run_group_tests_name("train_step", tests, read_golden, free_golden);
}

// SPDX-License-Identifier: MIT
// Convolutions, pools, norms over channels and losses, and their gradients, equal PyTorch's in float64
// (scripts/make_ops_golden.py), at every level, with one thread and more, and on sim; all of these give the same bytes.
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

enum { N = 5, MAX_TENSORS = 16, MAX_ELEMENTS = 1024 };

// n_rows inputs are rows of the batch, weights of rows among them; n_states are states, the last inputs.
struct golden_case {
    const char *name;
    enum fm__op_id op;
    int n_in, n_out, rows_mask, n_states, trained;
    union fm__attrs attrs;
};
static const struct golden_case cases[] = {
    {"conv 3x3", FM__OP_CONV2D, 3, 1, 1, 0, 3, {.conv = {2, 6, 5, 3, 3, 1, 1, 0}}},
    {"conv 2x3 stride 2", FM__OP_CONV2D, 3, 1, 1, 0, 3, {.conv = {3, 7, 6, 2, 3, 2, 1, 0}}},
    {"conv 1x1", FM__OP_CONV2D, 3, 1, 1, 0, 3, {.conv = {4, 3, 3, 1, 1, 1, 0, 0}}},
    {"pool max 2", FM__OP_POOL2D, 1, 1, 1, 0, 1, {.conv = {2, 6, 7, 2, 2, 2, 0, FM__POOL_MAX}}},
    {"pool max 3", FM__OP_POOL2D, 1, 1, 1, 0, 1, {.conv = {2, 6, 7, 3, 3, 2, 1, FM__POOL_MAX}}},
    {"pool mean 2", FM__OP_POOL2D, 1, 1, 1, 0, 1, {.conv = {2, 6, 7, 2, 2, 2, 0, FM__POOL_MEAN}}},
    {"pool mean 3", FM__OP_POOL2D, 1, 1, 1, 0, 1, {.conv = {2, 6, 7, 3, 3, 2, 1, FM__POOL_MEAN}}},
    {"batchnorm", FM__OP_BATCHNORM, 5, 3, 1, 2, 3, {.channels = {4, 0, 1e-5f, 0.1f}}},
    {"batchnorm fixed", FM__OP_BATCHNORM_FIXED, 5, 1, 1, 0, 0, {.channels = {4, 0, 1e-5f, 0}}},
    {"groupnorm 1", FM__OP_GROUPNORM, 3, 1, 1, 0, 3, {.channels = {4, 1, 1e-5f, 0}}},
    {"groupnorm 2", FM__OP_GROUPNORM, 3, 1, 1, 0, 3, {.channels = {4, 2, 1e-5f, 0}}},
    {"groupnorm 4", FM__OP_GROUPNORM, 3, 1, 1, 0, 3, {.channels = {4, 4, 1e-5f, 0}}},
    {"mse", FM__OP_ROW_LOSS, 3, 1, 7, 0, 1, {.loss = {.kind = FM__LOSS_MSE}}},
    {"bce", FM__OP_ROW_LOSS, 3, 1, 7, 0, 1, {.loss = {.kind = FM__LOSS_BCE}}},
    {"kl 1.0", FM__OP_ROW_LOSS, 3, 1, 7, 0, 1, {.loss = {.kind = FM__LOSS_KL, .temperature = 1}}},
    {"kl 2.5", FM__OP_ROW_LOSS, 3, 1, 7, 0, 1, {.loss = {.kind = FM__LOSS_KL, .temperature = 2.5f}}},
    {"cross entropy 0.0", FM__OP_CROSS_ENTROPY, 2, 1, 3, 0, 1, {.loss = {.smoothing = 0}}},
    {"cross entropy 0.1", FM__OP_CROSS_ENTROPY, 2, 1, 3, 0, 1, {.loss = {.smoothing = 0.1f}}},
    {"contrastive", FM__OP_CONTRASTIVE, 3, 1, 7, 0, 2, {.loss = {.temperature = 0.7f}}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

struct golden {
    int n_tensors;
    struct {
        int rank;
        int64_t dims[2], n;
        float values[MAX_ELEMENTS];
    } t[MAX_TENSORS];
};
static struct golden goldens[N_CASES];

static int read_goldens(void **state)
{
    (void)state;
    size_t size;
    uint8_t *file = test_read_file(test_data("ops_golden.bin"), &size), *at = file;
    for (int i = 0; i < N_CASES; i++) {
        int32_t dims[3];
        assert_string_equal((char *)at, cases[i].name);
        memcpy(&goldens[i].n_tensors, at + 24, 4);
        at += 28;
        assert_int_equal(goldens[i].n_tensors, cases[i].n_in + cases[i].n_out + 1 + cases[i].trained);
        for (int k = 0; k < goldens[i].n_tensors; at += 4 * goldens[i].t[k].n, k++) {
            memcpy(dims, at, sizeof dims);
            at += sizeof dims;
            goldens[i].t[k].rank = dims[0];
            goldens[i].t[k].dims[0] = dims[1], goldens[i].t[k].dims[1] = dims[2];
            goldens[i].t[k].n = dims[1] * (dims[0] > 1 ? dims[2] : 1);
            assert_true(goldens[i].t[k].n <= MAX_ELEMENTS);
            memcpy(goldens[i].t[k].values, at, (size_t)goldens[i].t[k].n * 4);
        }
    }
    assert_int_equal(at - file, size);
    free(file);
    return 0;
}

// Chains of at most 200 terms of the order of the largest: their roundings grow with the root, 256 bound all of them.
static void expect_near(const struct golden_case *c, const struct golden *g, int tensor, const float *got)
{
    double top = 0;
    for (int64_t k = 0; k < g->t[tensor].n; k++) top = fmax(top, fabs((double)g->t[tensor].values[k]));
    assert_true(top > 0.001);
    for (int64_t k = 0; k < g->t[tensor].n; k++)
        if (!(fabs((double)got[k] - g->t[tensor].values[k]) <= 256 * 0x1p-24 * top))
            fail_msg("%s, tensor %d, element %lld: %.9g, want %.9g", c->name, tensor, (long long)k, (double)got[k],
                     (double)g->t[tensor].values[k]);
}

struct result {
    float values[4][MAX_ELEMENTS]; // output 0 and the gradients
};

struct built {
    struct fm__graph *graph;
    fm__val in[FM__MAX_IN];
    const void *inputs[FM__MAX_IN + 1];
    int n_inputs;
};

static fm__val build(const struct golden_case *c, const struct golden *g, struct built *b, struct test_leaves *leaves)
{
    static const int32_t targets[N] = {3, 0, 8, 8, 1}; // as make_ops_golden.py
    char name[] = "0";
    for (int i = 0; i < c->n_in; i++, name[0]++) {
        const bool is_state = i >= c->n_in - c->n_states;
        int64_t dims[] = {c->rows_mask >> i & 1 ? FM__ROWS : g->t[i].dims[0], g->t[i].dims[1]};
        b->in[i] = fm__graph_leaf(b->graph, is_state ? FM__STATE : FM__INPUT, name, FM_F32, g->t[i].rank, dims);
        if (is_state)
            test_leaves_add(leaves, name, FM_F32, g->t[i].rank, g->t[i].dims, g->t[i].values);
        else
            b->inputs[b->n_inputs++] = g->t[i].values;
    }
    if (c->op != FM__OP_CROSS_ENTROPY) return fm__graph_add(b->graph, c->op, c->n_in, b->in, &c->attrs);
    const fm__val t = fm__graph_leaf(b->graph, FM__INPUT, "targets", FM_I32, 1, (int64_t[]){FM__ROWS});
    b->inputs[b->n_inputs++] = targets;
    return fm__graph_add(b->graph, c->op, 3, (fm__val[]){b->in[0], t, b->in[1]}, &c->attrs);
}

static void check_states(const struct golden_case *c, const struct golden *g, const struct test_leaves *leaves)
{
    for (int i = 0; i < c->n_states; i++) {
        float values[MAX_ELEMENTS];
        const char name[] = {(char)('0' + c->n_in - c->n_states + i), 0};
        test_leaves_read(leaves, name, values);
        expect_near(c, g, c->n_in + 1 + i, values);
    }
}

static void run_case(int i, const char *device, const struct fm_device_opts *opts, struct result *result)
{
    const struct golden_case *c = &cases[i];
    const struct golden *g = &goldens[i];
    const int r_at = c->n_in + c->n_out;
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__plan *plan;
    struct built built = {.graph = fm__graph_new()};
    struct fm__graph *graph = built.graph;
    fm__val d[FM__MAX_IN];
    test_leaves_init(&leaves, device, opts);
    const fm__val y = build(c, g, &built, &leaves);
    fm__graph_output(graph, y, "y");
    const int64_t r_dims[] = {FM__ROWS, g->t[r_at].dims[1]};
    const fm__val r = fm__graph_leaf(graph, FM__INPUT, "r", FM_F32, g->t[r_at].rank, r_dims);
    built.inputs[built.n_inputs++] = g->t[r_at].values;
    fm__val loss = fm__graph_add(graph, FM__OP_MUL, 2, (fm__val[]){y, r}, NULL);
    loss = fm__graph_add(graph, FM__OP_SUM, 1, &loss, NULL);
    fm__graph_output(graph, loss, "loss");
    if (c->trained) fm__graph_gradient(graph, loss, c->trained, built.in, d);
    for (int k = 0; k < c->trained; k++) fm__graph_output(graph, d[k], "d");
    const struct fm__plan_opts plan_opts = {.device = leaves.device,
                                            .rows = 8, // more than there are: a bucket
                                            .bind = test_leaves_bind,
                                            .bind_context = &leaves,
                                            .exact_activations = 1};
    assert_ok(fm__plan_new(graph, &plan_opts, &plan, &err), err);
    assert_ok(fm__plan_run(plan, N, built.inputs, &err), err);
    memset(result, 0, sizeof *result);
    memcpy(result->values[0], fm__plan_output(plan, 0), (size_t)g->t[c->n_in].n * 4);
    expect_near(c, g, c->n_in, result->values[0]);
    for (int k = 0; k < c->trained; k++) {
        memcpy(result->values[1 + k], fm__plan_output(plan, 2 + k), (size_t)g->t[r_at + 1 + k].n * 4);
        expect_near(c, g, r_at + 1 + k, result->values[1 + k]);
    }
    check_states(c, g, &leaves);
    fm__plan_free(plan);
    fm__graph_free(graph);
    test_leaves_deinit(&leaves);
}

static struct result want, got;

static void every_device_gives_pytorchs_numbers(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        run_case(i, "cpu", NULL, &want);
        for (int level = FM__CPU_REF; level < FM__CPU_LEVELS; level++)
            for (int threads = 1; threads <= 3 && fm__cpu_has(level); threads++) {
                const struct fm_device_opts opts = {.threads = threads, .level = fm__cpu_level_name(level)};
                run_case(i, "cpu", &opts, &got);
                assert_memory_equal(&got, &want, sizeof got);
            }
        run_case(i, "sim", &(struct fm_device_opts){.seed = (uint64_t)i + 1}, &got);
        assert_memory_equal(&got, &want, sizeof got);
    }
}

static void refused(enum fm__op_id op, const union fm__attrs *attrs, int n_in, const int64_t (*dims)[2],
                    const char *said)
{
    struct fm_error err;
    struct fm__graph *g = fm__graph_new();
    fm__val in[FM__MAX_IN];
    for (int i = 0; i < n_in; i++) in[i] = fm__graph_leaf(g, FM__STATE, "x", FM_F32, dims[i][1] ? 2 : 1, dims[i]);
    fm__graph_add(g, op, n_in, in, attrs);
    assert_true(fm__graph_check(g, &err) != FM_OK);
    if (!strstr(err.text, said)) fail_msg("\"%s\" does not say \"%s\"", err.text, said);
    fm__graph_free(g);
}

static void bad_attributes_are_refused(void **state)
{
    (void)state;
    const int64_t conv[][2] = {{FM__ROWS, 30}, {4, 9}}, norm[][2] = {{FM__ROWS, 30}, {4, 0}, {4, 0}};
    union fm__attrs a = {.conv = {1, 6, 5, 3, 3, 0, 0, 0}};
    refused(FM__OP_CONV2D, &a, 2, conv, "stride 0");
    a.conv.stride = 1, a.conv.padding = 3;
    refused(FM__OP_CONV2D, &a, 2, conv, "padding 3");
    a.conv.padding = 0, a.conv.kernel_h = 7;
    refused(FM__OP_CONV2D, &a, 2, conv, "kernel 7 x 3");
    a.conv.kernel_h = 3, a.conv.width = 4;
    refused(FM__OP_CONV2D, &a, 2, conv, "want 24");
    a.conv.width = 5, a.conv.channels = 2;
    refused(FM__OP_CONV2D, &a, 2, conv, "want 60");
    refused(FM__OP_POOL2D, &a, 1, conv, "want 60");
    a = (union fm__attrs){.channels = {.channels = 4, .groups = 2}};
    refused(FM__OP_GROUPNORM, &a, 3, norm, "4 channels");
    a.channels.channels = 6;
    refused(FM__OP_GROUPNORM, &a, 3, norm, "want 6");
    a.channels.groups = 4;
    refused(FM__OP_GROUPNORM, &a, 3, (const int64_t[][2]){{FM__ROWS, 30}, {6, 0}, {6, 0}}, "4 groups");
    a = (union fm__attrs){.loss = {.kind = FM__LOSS_KL}};
    refused(FM__OP_ROW_LOSS, &a, 2, (const int64_t[][2]){{FM__ROWS, 3}, {FM__ROWS, 3}}, "temperature 0");
    a.loss.kind = 7;
    refused(FM__OP_ROW_LOSS, &a, 2, (const int64_t[][2]){{FM__ROWS, 3}, {FM__ROWS, 3}}, "kind 7");
    a.loss.kind = FM__LOSS_MSE;
    refused(FM__OP_ROW_LOSS, &a, 2, (const int64_t[][2]){{FM__ROWS, 3}, {FM__ROWS, 4}}, "want 3");
    refused(FM__OP_CONTRASTIVE, &a, 2, (const int64_t[][2]){{FM__ROWS, 3}, {FM__ROWS, 3}}, "temperature 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_gives_pytorchs_numbers),
        cmocka_unit_test(bad_attributes_are_refused),
    };
    return cmocka_run_group_tests_name("ops_golden", tests, read_goldens, NULL);
}

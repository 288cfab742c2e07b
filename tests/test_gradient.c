// SPDX-License-Identifier: MIT
// graph/gradient and the gradient rule of every op, against signed central differences of the op's own reference.
//
// For f = sum(y * r) with random r the derivative in every element of every float input is estimated as
//   (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h          error h^4 / 30 f'''''
// f is computed in f32: each y carries a few roundings, at most ROUNDINGS of 2^-24 |y r|, which the quotient divides by
// h.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "support/leaves.h"

enum { N = 7, V = 11, ROUNDINGS = 8, MAX_ELEMENTS = 4096 };
static const double h = 0x1p-4, fifth_derivative = 100; // of functions of order one: the steepest here is rmsnorm of 3

struct net {
    struct fm__graph *g;
    struct test_leaves leaves;
    int n_in;
    fm__val in[8];
    void *data[8];
    fm__val y;
};

static uint32_t seed = 12345;
static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

// 0.2 … 1.2 of either sign: differences do not cross the kink of ReLU
static float random_value(void)
{
    const float magnitude = 0.2f + (float)next_random() * 0x1p-24f;
    return next_random() & 1 ? magnitude : -magnitude;
}

static int64_t elements(const struct fm__graph *g, fm__val v)
{
    int64_t n = 1;
    for (int d = 0; d < g->values[v].rank; d++) n *= g->values[v].dims[d] == FM__ROWS ? N : g->values[v].dims[d];
    return n;
}

static fm__val input(struct net *net, const char *name, fm_dtype dtype, int64_t d0, int64_t d1)
{
    const fm__val v =
        fm__graph_leaf(net->g, FM__INPUT, name, dtype, d1 ? 2 : 1, d1 ? (int64_t[]){d0, d1} : (int64_t[]){d0});
    const int64_t n = elements(net->g, v);
    net->data[net->n_in] = malloc((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) {
        if (dtype == FM_F32)
            ((float *)net->data[net->n_in])[i] = random_value();
        else
            ((int32_t *)net->data[net->n_in])[i] = (int32_t)(next_random() % V);
    }
    net->in[net->n_in++] = v;
    return v;
}

// Two documents: rows 0-3 and 4-6.
static fm__val rows_input(struct net *net)
{
    const fm__val v = input(net, "rows", FM_I32, FM__ROWS, FM__ROW_FIELDS);
    int32_t(*rows)[FM__ROW_FIELDS] = net->data[net->n_in - 1];
    for (int n = 0; n < N; n++) {
        const int32_t at = n < 4 ? n : n - 4;
        memcpy(rows[n], ((int32_t[]){n >= 4, at, -1, at}), sizeof rows[n]);
    }
    return v;
}

static fm__val add(struct net *net, enum fm__op_id op, const union fm__attrs *attrs, int n_in, const fm__val *in)
{
    return fm__graph_add(net->g, op, n_in, in, attrs);
}
#define ADD(op, attrs, ...) \
    add(net, FM__OP_##op, attrs, (int)(sizeof((fm__val[]){__VA_ARGS__}) / sizeof(fm__val)), (fm__val[]){__VA_ARGS__})
#define ATTRS(...) (&(const union fm__attrs){__VA_ARGS__})

// Runs outputs of `g` (which must be f32) and copies them out.
static void run(const struct net *net, const struct fm__graph *g, float *const *out, const float *r)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {.device = net->leaves.device,
                                       .rows = N,
                                       .bind = test_leaves_bind,
                                       .bind_context = (void *)(uintptr_t)&net->leaves,
                                       .exact_activations = 1};
    const void *inputs[9];
    for (int i = 0; i < net->n_in; i++) inputs[i] = net->data[i];
    inputs[net->n_in] = r;
    assert_ok(fm__plan_new(g, &opts, &plan, &err), err);
    assert_ok(fm__plan_run(plan, N, inputs, &err), err);
    for (int i = 0; i < g->n_outputs; i++)
        memcpy(out[i], fm__plan_output(plan, i), (size_t)elements(g, g->outputs[i]) * sizeof **out);
    fm__plan_free(plan);
}

struct quotient {
    struct fm__plan *plan;
    const void *inputs[9];
};

static double value_at(const struct quotient *q, float *x, double at)
{
    struct fm_error err;
    const float before = *x;
    *x = (float)(before + at);
    assert_ok(fm__plan_run(q->plan, N, q->inputs, &err), err);
    *x = before;
    return *(const float *)fm__plan_output(q->plan, 0);
}

static void compare(const char *name, struct net *net, const float *r, int input_index, const float *gradient,
                    double tolerance)
{
    struct fm_error err;
    struct quotient q = {0};
    const struct fm__plan_opts opts = {.device = net->leaves.device,
                                       .rows = N,
                                       .bind = test_leaves_bind,
                                       .bind_context = &net->leaves,
                                       .exact_activations = 1};
    assert_ok(fm__plan_new(net->g, &opts, &q.plan, &err), err);
    for (int i = 0; i < net->n_in; i++) q.inputs[i] = net->data[i];
    q.inputs[net->n_in] = r;
    const int64_t n = elements(net->g, net->in[input_index]);
    float *x = net->data[input_index];
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double near = value_at(&q, &x[i], h) - value_at(&q, &x[i], -h);
        const double far = value_at(&q, &x[i], 2 * h) - value_at(&q, &x[i], -2 * h);
        const double want = (8 * near - far) / (12 * h);
        if (fabs(gradient[i] - want) > tolerance)
            fail_msg("%s: d input %d, element %lld: %g, want %g +- %g", name, input_index, (long long)i, gradient[i],
                     want, tolerance);
        largest = fmax(largest, fabs(want));
    }
    assert_true(largest > 20 * tolerance); // else a wrong sign could hide
    fm__plan_free(q.plan);
}

static void build_and_check(const char *name, fm__val (*build)(struct net *net, int variant), int variant)
{
    struct net net = {.g = fm__graph_new()};
    struct fm_error err;
    static float y[MAX_ELEMENTS], r[MAX_ELEMENTS], gradients[8][MAX_ELEMENTS], loss;
    test_leaves_init(&net.leaves, "cpu", NULL);
    net.y = build(&net, variant);
    assert_ok(fm__graph_check(net.g, &err), err);
    const fm__val rv =
        fm__graph_leaf(net.g, FM__INPUT, "r", FM_F32, net.g->values[net.y].rank, net.g->values[net.y].dims);
    fm__val l = fm__graph_add(net.g, FM__OP_MUL, 2, (fm__val[]){net.y, rv}, NULL);
    l = fm__graph_add(net.g, FM__OP_SUM, 1, &l, NULL);
    const int64_t n_y = elements(net.g, net.y);
    assert_true(n_y <= MAX_ELEMENTS);
    for (int64_t i = 0; i < n_y; i++) r[i] = random_value();
    test_leaves_fill(&net.leaves, net.g, 1);

    // the gradient first, on a copy: marking outputs is for good
    fm__val of[8], d[8];
    int n_of = 0, which[8];
    for (int i = 0; i < net.n_in; i++)
        if (net.g->values[net.in[i]].dtype == FM_F32) which[n_of] = i, of[n_of++] = net.in[i];
    fm__graph_output(net.g, l, "loss");
    fm__graph_output(net.g, net.y, "y");
    float *first[] = {&loss, y};
    struct fm__graph *loss_graph = net.g;
    run(&net, loss_graph, first, r);
    fm__graph_gradient(net.g, l, n_of, of, d);
    assert_ok(fm__graph_check(net.g, &err), err);
    for (int i = 0; i < n_of; i++) {
        assert_true(d[i] != FM__NONE);
        fm__graph_output(net.g, d[i], "d");
    }
    float *all[10] = {&loss, y};
    for (int i = 0; i < n_of; i++) all[2 + i] = gradients[i];
    run(&net, net.g, all, r);
    double size = fabs(loss);
    for (int64_t i = 0; i < n_y; i++) size += fabs((double)y[i] * r[i]);
    const double tolerance = ROUNDINGS * 0x1p-24 * size * 1.5 / h + h * h * h * h / 30 * fifth_derivative;
    net.g->n_outputs = 1; // from here on the loss alone: the gradient's nodes are dead
    for (int i = 0; i < n_of; i++) compare(name, &net, r, which[i], gradients[i], tolerance);
    for (int i = 0; i < net.n_in; i++) free(net.data[i]);
    fm__graph_free(net.g);
    test_leaves_deinit(&net.leaves);
}

static fm__val elementwise(struct net *net, int variant)
{
    const fm__val a = input(net, "a", FM_F32, FM__ROWS, 5);
    switch (variant) {
    case 0:
        return ADD(ADD, NULL, a, input(net, "b", FM_F32, FM__ROWS, 5));
    case 1:
        return ADD(ADD, NULL, a, input(net, "b", FM_F32, 5, 0));
    case 2:
        return ADD(MUL, NULL, a, input(net, "b", FM_F32, FM__ROWS, 5));
    case 3:
        return ADD(MUL, NULL, a, input(net, "b", FM_F32, 5, 0));
    case 4:
        return ADD(SCALE, ATTRS(.scale = {.factor = -1.5f, .bias = 3}), a);
    case 5:
        return ADD(SOFTCAP, ATTRS(.scale = {.factor = 1.25f}), a);
    case 6:
        return ADD(SUM, NULL, a);
    case 7:
        return ADD(SUM, ATTRS(.sum = {.mean = 1}), a);
    default: // three readers of one value, two of them the same node
        return ADD(ADD, NULL, ADD(MUL, NULL, a, a), ADD(SCALE, ATTRS(.scale = {.factor = 0.5f}), a));
    }
}

static fm__val moves(struct net *net, int variant)
{
    switch (variant) {
    case 0:
        return ADD(SLICE, ATTRS(.slice = {.begin = 2, .count = 3}), input(net, "x", FM_F32, FM__ROWS, 7));
    case 1:
        return ADD(PAD, ATTRS(.slice = {.begin = 2, .count = 3, .total = 6}), input(net, "x", FM_F32, FM__ROWS, 3));
    case 2:
        return ADD(GATHER_ROWS, NULL, input(net, "x", FM_F32, V, 4), input(net, "index", FM_I32, FM__ROWS, 0));
    default:
        return ADD(EMBED, NULL, input(net, "x", FM_F32, V, 4), input(net, "tokens", FM_I32, FM__ROWS, 0));
    }
}

static fm__val activations(struct net *net, int variant)
{
    const union fm__attrs *attrs = ATTRS(.act = {.act = variant / 2});
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, 5);
    return variant % 2 ? ADD(ACT_MUL, attrs, x, input(net, "up", FM_F32, FM__ROWS, 5)) : ADD(ACT, attrs, x);
}

static fm__val norms(struct net *net, int variant)
{
    const union fm__attrs *attrs = ATTRS(.norm = {.eps = 0.1f});
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, 9);
    switch (variant) {
    case 0:
        return ADD(RMSNORM, attrs, x, input(net, "w", FM_F32, 9, 0));
    case 1:
        return ADD(RMSNORM, attrs, x, input(net, "w", FM_F32, 3, 0));
    case 2:
        return ADD(LAYERNORM, attrs, x, input(net, "w", FM_F32, 9, 0));
    default: {
        const fm__val w = input(net, "w", FM_F32, 9, 0);
        return ADD(LAYERNORM, attrs, x, w, input(net, "b", FM_F32, 9, 0));
    }
    }
}

static fm__val ropes(struct net *net, int variant)
{
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, 12), rows = rows_input(net);
    return ADD(ROPE,
               ATTRS(.rope = {.head_dim = 6,
                              .n_rot = variant & 1 ? 4 : 6,
                              .neox = variant >> 1 & 1,
                              .base = 100,
                              .attn_factor = 1.25f,
                              .backward = variant >> 2 & 1}),
               x, rows);
}

static fm__val linears(struct net *net, int variant)
{
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, variant == 3 ? 32 : 6);
    switch (variant) {
    case 0:
        return ADD(LINEAR, NULL, x, input(net, "w", FM_F32, 4, 6));
    case 1: {
        const fm__val w = input(net, "w", FM_F32, 4, 6), b = input(net, "b", FM_F32, 4, 0);
        return ADD(LINEAR, NULL, x, w, b, input(net, "residual", FM_F32, FM__ROWS, 4));
    }
    case 2:
        return ADD(LINEAR, ATTRS(.linear = {.transpose_w = 1}), x, input(net, "w", FM_F32, 6, 5));
    default: // quantised weights pass the gradient on
        return ADD(LINEAR, NULL, x, fm__graph_leaf(net->g, FM__WEIGHT, "quantised", FM_Q4_1, 2, (int64_t[]){5, 32}));
    }
}

static fm__val attentions(struct net *net, int variant)
{
    const fm__val q = input(net, "q", FM_F32, FM__ROWS, 4 * 3), k = input(net, "k", FM_F32, FM__ROWS, 2 * 3);
    const fm__val v = input(net, "v", FM_F32, FM__ROWS, 2 * 2), rows = rows_input(net);
    return ADD(ATTENTION_ROWS,
               ATTRS(.attention = {.scale = 0.6f,
                                   .n_kv = 2,
                                   .head_k = 3,
                                   .head_v = 2,
                                   .window = variant == 1 ? 2 : 0,
                                   .softcap = variant == 2 ? 1.5f : 0}),
               q, k, v, rows);
}

static fm__val losses(struct net *net, int variant)
{
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, V), t = input(net, "targets", FM_I32, FM__ROWS, 0);
    ((int32_t *)net->data[1])[2] = -1; // a masked row
    if (variant == 0) return ADD(CROSS_ENTROPY, NULL, x, t);
    // weights of rows are data: made here of something that asks for no gradient
    const union fm__attrs *attrs = ATTRS(.rope = {.n_rot = 2, .base = 1});
    const fm__val angles = ADD(ROPE_ANGLES, attrs, rows_input(net));
    const fm__val w = ADD(CROSS_ENTROPY, NULL, angles, ADD(POSITIONS, NULL, net->in[2]));
    return ADD(CROSS_ENTROPY, NULL, x, t, w);
}

#define GRADIENT_TEST(name, n_variants)                                         \
    static void gradients_of_##name(void **state)                               \
    {                                                                           \
        (void)state;                                                            \
        for (int i = 0; i < (n_variants); i++) build_and_check(#name, name, i); \
    }
GRADIENT_TEST(elementwise, 9)
GRADIENT_TEST(moves, 4)
GRADIENT_TEST(activations, 10)
GRADIENT_TEST(norms, 4)
GRADIENT_TEST(ropes, 8)
GRADIENT_TEST(linears, 4)
GRADIENT_TEST(attentions, 3)
GRADIENT_TEST(losses, 2)

// Rows beyond one slab: the weight gradient of 600 rows of ones is exact in any order, and every row counts once.
static void slabs_count_every_row_once(void **state)
{
    (void)state;
    enum { ROWS = 600 };
    static float x[ROWS * 2], dy[ROWS], dw[2], sums[2];
    for (int i = 0; i < ROWS; i++) x[2 * i] = 1, x[2 * i + 1] = (float)i, dy[i] = 1;
    struct fm__call call = {.n_in = 2, .n_out = 1, .rows = ROWS};
    call.in[0] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {ROWS, 2}, .data = x};
    call.in[1] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {ROWS, 1}, .data = dy};
    call.out[0] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {1, 2}, .data = dw};
    fm__op(FM__OP_LINEAR_DW)->reference(&call);
    call.out[0].data = sums;
    fm__op(FM__OP_SUM_ROWS)->reference(&call);
    assert_true(dw[0] == ROWS && dw[1] == ROWS * (ROWS - 1) / 2);
    assert_true(sums[0] == ROWS && sums[1] == ROWS * (ROWS - 1) / 2);
}

static void failures_are_said(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__graph *g = fm__graph_new();
    fm__val d;
    const fm__val tokens = fm__graph_leaf(g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    const fm__val w = fm__graph_leaf(g, FM__WEIGHT, "w", FM_Q4_1, 2, (int64_t[]){V, 32});
    const fm__val y = fm__graph_add(g, FM__OP_EMBED, 2, (fm__val[]){w, tokens}, NULL);
    fm__graph_gradient(g, y, 1, &w, &d);
    assert_int_equal(fm__graph_check(g, &err), FM_E_SHAPE);
    assert_non_null(strstr(err.text, "q4_1"));
    assert_int_equal(d, FM__NONE);
    fm__graph_free(g);

    g = fm__graph_new(); // an op without a rule on the way; and a value that y does not depend on
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, 32});
    const fm__val other = fm__graph_leaf(g, FM__INPUT, "other", FM_F32, 1, (int64_t[]){3});
    const fm__val s = fm__graph_add(g, FM__OP_SUM, 1, &x, NULL);
    fm__graph_gradient(g, s, 1, &other, &d);
    assert_ok(fm__graph_check(g, &err), err);
    assert_int_equal(d, FM__NONE);
    const fm__val cast = fm__graph_add(g, FM__OP_CAST, 1, &x, ATTRS(.cast = {.dtype = FM_BF16}));
    const fm__val w2 = fm__graph_leaf(g, FM__WEIGHT, "w2", FM_F32, 2, (int64_t[]){4, 32});
    const fm__val z = fm__graph_add(g, FM__OP_LINEAR, 2, (fm__val[]){cast, w2}, NULL);
    fm__graph_gradient(g, z, 1, &x, &d);
    assert_int_equal(fm__graph_check(g, &err), FM_E_UNSUPPORTED);
    fm__graph_free(g);

    for (int64_t n = 0;; n++) { // no memory, at any moment
        assert_true(n < 1000);
        g = fm__graph_new();
        const fm__val a = fm__graph_leaf(g, FM__INPUT, "a", FM_F32, 2, (int64_t[]){FM__ROWS, 8});
        fm__val b = a;
        for (int i = 0; i < 60; i++) b = fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){a, b}, NULL);
        assert_ok(fm__graph_check(g, &err), err);
        fm__alloc_fail_after(n, false);
        fm__graph_gradient(g, b, 1, &a, &d);
        fm__alloc_fail_after(-1, false);
        const fm_status status = fm__graph_check(g, &err);
        fm__graph_free(g);
        if (status == FM_OK) break;
        assert_int_equal(status, FM_E_NOMEM);
        assert_int_equal(d, FM__NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_elementwise),   cmocka_unit_test(gradients_of_moves),
        cmocka_unit_test(gradients_of_activations),   cmocka_unit_test(gradients_of_norms),
        cmocka_unit_test(gradients_of_ropes),         cmocka_unit_test(gradients_of_linears),
        cmocka_unit_test(gradients_of_attentions),    cmocka_unit_test(gradients_of_losses),
        cmocka_unit_test(slabs_count_every_row_once), cmocka_unit_test(failures_are_said),
    };
    return cmocka_run_group_tests_name("gradient", tests, NULL, NULL);
}

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
#include "ops/linear_cross_entropy.h"
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
    case 3:
        return ADD(EMBED, NULL, input(net, "x", FM_F32, V, 4), input(net, "tokens", FM_I32, FM__ROWS, 0));
    default: {
        const fm__val x = input(net, "x", FM_F32, FM__ROWS, 9);
        return ADD(DROPOUT, ATTRS(.dropout = {.p = 0.4f, .stream = 3}), x, input(net, "key", FM_I32, 4, 0));
    }
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

// Weights of rows are data: made here of something that asks for no gradient.
static fm__val row_weights(struct net *net)
{
    const fm__val rows = rows_input(net);
    const fm__val angles = ADD(ROPE_ANGLES, ATTRS(.rope = {.n_rot = 2, .base = 1}), rows);
    return ADD(CROSS_ENTROPY, NULL, angles, ADD(POSITIONS, NULL, rows));
}

static fm__val losses(struct net *net, int variant)
{
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, V), t = input(net, "targets", FM_I32, FM__ROWS, 0);
    ((int32_t *)net->data[1])[2] = -1; // a masked row
    if (variant == 0) return ADD(CROSS_ENTROPY, NULL, x, t);
    const fm__val w = row_weights(net);
    return ADD(CROSS_ENTROPY, variant == 1 ? NULL : ATTRS(.loss = {.smoothing = 0.2f}), x, t, w);
}

// One slab of W and two, trained and not, with weights of rows, with a soft cap.
static fm__val linear_losses(struct net *net, int variant)
{
    const int64_t n_classes = variant == 3 ? FM__LCE_SLAB + 6 : V;
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, variant == 4 ? 32 : 3);
    const fm__val t = input(net, "targets", FM_I32, FM__ROWS, 0);
    int32_t *targets = net->data[1];
    targets[2] = -1, targets[4] = (int32_t)n_classes; // no classes
    targets[5] = (int32_t)n_classes - 1;
    if (variant == 4) {
        const fm__val frozen = fm__graph_leaf(net->g, FM__WEIGHT, "w", FM_Q4_1, 2, (int64_t[]){V, 32});
        return ADD(LINEAR_CROSS_ENTROPY, ATTRS(.loss = {.softcap = 0.75f}), x, frozen, t);
    }
    const fm__val w = input(net, "w", FM_F32, n_classes, 3);
    if (variant == 0) return ADD(LINEAR_CROSS_ENTROPY, NULL, x, w, t);
    if (variant == 1 || variant == 3) return ADD(LINEAR_CROSS_ENTROPY, NULL, x, w, t, row_weights(net));
    const union fm__attrs *attrs = ATTRS(.loss = {.softcap = 0.75f, .smoothing = variant == 5 ? 0.1f : 0});
    return ADD(LINEAR_CROSS_ENTROPY, attrs, x, w, t, row_weights(net));
}

// Columns of data in -1 … 1 that asks for no gradient, scaled.
static fm__val row_data(struct net *net, int n_columns, float factor, float bias)
{
    const fm__val rows = rows_input(net);
    const fm__val angles = ADD(ROPE_ANGLES, ATTRS(.rope = {.n_rot = n_columns, .base = 3}), rows);
    return ADD(SCALE, ATTRS(.scale = {.factor = factor, .bias = bias}), angles);
}

static fm__val row_losses(struct net *net, int variant)
{
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, variant == 4 ? 1 : 4);
    switch (variant) {
    case 0:
        return ADD(ROW_LOSS, ATTRS(.loss = {.kind = FM__LOSS_MSE}), x, row_data(net, 4, 2, 0));
    case 1:
        return ADD(ROW_LOSS, ATTRS(.loss = {.kind = FM__LOSS_BCE}), x, row_data(net, 4, 0.5f, 0.5f));
    case 2:
        return ADD(ROW_LOSS, ATTRS(.loss = {.kind = FM__LOSS_KL, .temperature = 1}), x, row_data(net, 4, 2, 1));
    case 3: {
        const fm__val y = row_data(net, 4, 2, 1), w = row_weights(net);
        return ADD(ROW_LOSS, ATTRS(.loss = {.kind = FM__LOSS_KL, .temperature = 2.5f}), x, y, w);
    }
    default: { // one column: targets may be a vector
        const fm__val y = row_weights(net), w = row_weights(net);
        return ADD(ROW_LOSS, ATTRS(.loss = {.kind = FM__LOSS_MSE}), x, y, w);
    }
    }
}

// Weights of rows_weights are 0 for some: those take no part.
static fm__val contrasts(struct net *net, int variant)
{
    const fm__val a = input(net, "a", FM_F32, FM__ROWS, 3), b = input(net, "b", FM_F32, FM__ROWS, 3);
    const union fm__attrs *attrs = ATTRS(.loss = {.temperature = 0.8f});
    return variant ? ADD(CONTRASTIVE, attrs, a, b, row_weights(net)) : ADD(CONTRASTIVE, attrs, a, b);
}

static const union fm__attrs images[] = {
    {.conv = {.channels = 2, .height = 4, .width = 3, .kernel_h = 3, .kernel_w = 2, .stride = 1}},
    {.conv = {.channels = 1, .height = 5, .width = 4, .kernel_h = 3, .kernel_w = 3, .stride = 1, .padding = 1}},
    {.conv = {.channels = 2, .height = 5, .width = 6, .kernel_h = 2, .kernel_w = 3, .stride = 2, .padding = 1}},
};

static fm__val convolutions(struct net *net, int variant)
{
    const struct fm__attr_conv *a = &images[variant].conv;
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, (int64_t)a->channels * a->height * a->width);
    const fm__val w = input(net, "w", FM_F32, 3, (int64_t)a->channels * a->kernel_h * a->kernel_w);
    if (variant == 0) return ADD(CONV2D, &images[0], x, w);
    return ADD(CONV2D, &images[variant], x, w, input(net, "bias", FM_F32, 3, 0));
}

// Values of an image stand 0.4 apart, more than differences move them: the largest stays the largest.
static fm__val pools(struct net *net, int variant)
{
    union fm__attrs attrs = images[variant % 3];
    attrs.conv.kind = variant < 3 ? FM__POOL_MAX : FM__POOL_MEAN;
    const int pixels = attrs.conv.height * attrs.conv.width;
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, (int64_t)attrs.conv.channels * pixels);
    float *values = net->data[0];
    for (int i = 0; i < N * attrs.conv.channels * pixels; i++) values[i] = 0.4f * (float)(i * 7 % pixels) - 2;
    return ADD(POOL2D, &attrs, x);
}

static fm__val channel_norms(struct net *net, int variant)
{
    const union fm__attrs *attrs =
        ATTRS(.channels = {.channels = 6, .eps = 0.1f, .groups = variant, .momentum = variant ? 0 : 0.1f});
    const fm__val x = input(net, "x", FM_F32, FM__ROWS, 18), w = input(net, "w", FM_F32, 6, 0);
    const fm__val b = input(net, "b", FM_F32, 6, 0);
    if (variant) return ADD(GROUPNORM, attrs, x, w, b); // 1, 2, 3 groups
    const fm__val mean = fm__graph_leaf(net->g, FM__STATE, "mean", FM_F32, 1, (int64_t[]){6});
    return ADD(BATCHNORM, attrs, x, w, b, mean, fm__graph_leaf(net->g, FM__STATE, "var", FM_F32, 1, (int64_t[]){6}));
}

#define GRADIENT_TEST(name, n_variants)                                         \
    static void gradients_of_##name(void **state)                               \
    {                                                                           \
        (void)state;                                                            \
        for (int i = 0; i < (n_variants); i++) build_and_check(#name, name, i); \
    }
GRADIENT_TEST(elementwise, 9)
GRADIENT_TEST(moves, 5)
GRADIENT_TEST(activations, 10)
GRADIENT_TEST(norms, 4)
GRADIENT_TEST(ropes, 8)
GRADIENT_TEST(linears, 4)
GRADIENT_TEST(attentions, 3)
GRADIENT_TEST(losses, 3)
GRADIENT_TEST(linear_losses, 6)
GRADIENT_TEST(row_losses, 5)
GRADIENT_TEST(contrasts, 2)
GRADIENT_TEST(convolutions, 3)
GRADIENT_TEST(pools, 6)
GRADIENT_TEST(channel_norms, 4)

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
    for (int i = 0; i < 2; i++) fm_tensor_set_contiguous(&call.in[i]);
    fm_tensor_set_contiguous(&call.out[0]);
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
        cmocka_unit_test(gradients_of_linear_losses), cmocka_unit_test(gradients_of_row_losses),
        cmocka_unit_test(gradients_of_contrasts),     cmocka_unit_test(gradients_of_convolutions),
        cmocka_unit_test(gradients_of_pools),         cmocka_unit_test(gradients_of_channel_norms),
        cmocka_unit_test(slabs_count_every_row_once), cmocka_unit_test(failures_are_said),
    };
    return cmocka_run_group_tests_name("gradient", tests, NULL, NULL);
}

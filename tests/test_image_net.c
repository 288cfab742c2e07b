// SPDX-License-Identifier: MIT
// model/image_net: the text of layers, what is refused; the graph learns bars of two directions from noise, and its
// form for inference, with running statistics, says the same as training's did.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/gradient.h"
#include "model/image_net.h"
#include "ops/op.h"
#include "support/leaves.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE, BATCH = 32, STEPS = 60, MAX_STATES = 16 };

static void layers_are_read(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__image_net net = {.channels = 1, .height = 28, .width = 27};
    assert_ok(fm__image_net_parse(&net,
                                  "conv 32, batchnorm,relu, max,\n conv 64 5 2 1, mean 3 1,groupnorm 4, "
                                  "dropout 0.25, linear 128, gelu",
                                  10, &err),
              err);
    assert_int_equal(net.n_layers, 11);
    assert_int_equal(net.layers[4].attrs.conv.height, 14);
    assert_int_equal(net.layers[4].attrs.conv.width, 13);
    assert_int_equal(net.layers[4].attrs.conv.channels, 32);
    assert_int_equal(net.layers[5].attrs.conv.height, 6);
    assert_int_equal(net.layers[5].attrs.conv.width, 6);
    assert_int_equal(net.layers[5].attrs.conv.stride, 1);
    assert_int_equal(net.layers[6].attrs.channels.channels, 64);
    assert_int_equal(net.layers[10].n_out, 10);
    struct fm__graph *g = fm__graph_new();
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, 28 * 27});
    const fm__val key = fm__graph_leaf(g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
    const fm__val y = fm__image_net_logits(g, &net, x, key);
    assert_ok(fm__graph_check(g, &err), err);
    assert_int_equal(g->values[y].dims[1], 10);
    fm__graph_free(g);
    assert_ok(fm__image_net_parse(&net, "", 3, &err), err); // a linear classifier
    assert_int_equal(net.n_layers, 1);
}

static void bad_layers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"cnv 3", "layer 1 (\"cnv\"): want conv, max"},
        {"relu, conv", "layer 2 (\"conv\")"},
        {"conv 0", "channels above 0"},
        {"conv 8 9 1 0", "fits the image"},
        {"conv 8 3 0", "stride above 0"},
        {"conv 8 3 1 3", "padding below the kernel"},
        {"max, max, max, max", "layer 4"},
        {"relu 3", "number of numbers"},
        {"linear x", "numbers"},
        {"linear -1", "numbers"},
        {"linear nan", "numbers"},
        {"conv 6, groupnorm 4", "divide the channels"},
        {"dropout 1", "below 1"},
        {"relu,, relu", "name of a layer"},
        {"averyveryverylongname", "name of a layer"},
        {"conv 65535 1, conv 65535 1, conv 65535 1, linear 3", "2^26"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_error err;
        struct fm__image_net net = {.channels = 2, .height = SIDE, .width = SIDE};
        if (i == sizeof cases / sizeof *cases - 1) net.height = net.width = 64;
        assert_int_equal(fm__image_net_parse(&net, cases[i].text, 10, &err), FM_E_FORMAT);
        if (!strstr(err.text, cases[i].said)) fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].said);
    }
    char many[600] = "relu";
    for (int i = 0; i < 70; i++) strcat(many, ",relu");
    struct fm_error err;
    struct fm__image_net net = {.channels = 2, .height = SIDE, .width = SIDE};
    assert_int_equal(fm__image_net_parse(&net, many, 10, &err), FM_E_FORMAT);
    net.width = 0;
    assert_int_equal(fm__image_net_parse(&net, "relu", 10, &err), FM_E_ARG);
}

// Class 0: two rows are brighter; class 1: two columns are.
static void draw(float *images, int32_t *labels, int n)
{
    static uint32_t seed = 7;
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        const int at = (int)(seed >> 20) % (SIDE - 1);
        labels[i] = (int32_t)(seed >> 31);
        for (int p = 0; p < PIXELS; p++) {
            seed = seed * 1664525u + 1013904223u;
            const int line = labels[i] ? p % SIDE : p / SIDE;
            images[i * PIXELS + p] = (float)(seed >> 8) * 0x1p-24f + (line == at || line == at + 1 ? 0.6f : 0);
        }
    }
}

static struct fm__graph *graph_of(const struct fm__image_net *net, bool train, struct test_leaves *leaves)
{
    struct fm__graph *g = fm__graph_new();
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, PIXELS});
    const fm__val t = fm__graph_leaf(g, FM__INPUT, "t", FM_I32, 1, (int64_t[]){FM__ROWS});
    fm__val key = FM__NONE, of[MAX_STATES], d[MAX_STATES];
    if (train) key = fm__graph_leaf(g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
    const fm__val logits = fm__image_net_logits(g, net, x, key);
    fm__val loss = fm__graph_add(g, FM__OP_CROSS_ENTROPY, 2, (fm__val[]){logits, t}, NULL);
    loss = fm__graph_add(g, FM__OP_SUM, 1, &loss, &(union fm__attrs){.sum = {.mean = 1}});
    fm__graph_output(g, loss, "loss");
    if (!train) return g;
    int n = 0;
    const int n_values = g->n_values;
    for (fm__val v = 0; v < n_values; v++) {
        const struct fm__value *value = &g->values[v];
        if (value->kind != FM__STATE || value->node >= 0) continue;
        float *values = malloc((size_t)(value->dims[0] * (value->rank > 1 ? value->dims[1] : 1)) * sizeof *values);
        fm__image_net_start(value, 3, (uint64_t)v, values);
        test_leaves_add(leaves, value->name, FM_F32, value->rank, value->dims, values);
        free(values);
        if (fm__image_net_trains(value->name)) of[n++] = v;
    }
    const fm__val knobs = fm__graph_leaf(g, FM__INPUT, "knobs", FM_F32, 1, (int64_t[]){4});
    fm__graph_gradient(g, loss, n, of, d);
    for (int i = 0; i < n; i++) {
        char name[2][64];
        const struct fm__value p = g->values[of[i]];
        snprintf(name[0], 64, "%s.m", p.name), snprintf(name[1], 64, "%s.v", p.name);
        const fm__val m = fm__graph_leaf(g, FM__STATE, name[0], FM_F32, p.rank, p.dims);
        const fm__val v = fm__graph_leaf(g, FM__STATE, name[1], FM_F32, p.rank, p.dims);
        test_leaves_add(leaves, name[0], FM_F32, p.rank, p.dims, NULL);
        test_leaves_add(leaves, name[1], FM_F32, p.rank, p.dims, NULL);
        fm__graph_add(g, FM__OP_ADAMW, 5, (fm__val[]){of[i], d[i], m, v, knobs},
                      &(union fm__attrs){.adamw = {.beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f}});
    }
    return g;
}

static struct fm__plan *plan_of(struct fm__graph *g, struct test_leaves *leaves)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {.device = leaves->device,
                                       .rows = BATCH,
                                       .bind = test_leaves_bind,
                                       .bind_context = leaves,
                                       .exact_activations = 1};
    assert_ok(fm__plan_new(g, &opts, &plan, &err), err);
    fm__graph_free(g);
    return plan;
}

static void it_learns(void **state)
{
    (void)state;
    static float images[BATCH * PIXELS];
    static int32_t labels[BATCH];
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__image_net net = {.channels = 1, .height = SIDE, .width = SIDE};
    assert_ok(fm__image_net_parse(&net, "conv 8, batchnorm, relu, max, dropout 0.1, linear 16, relu", 2, &err), err);
    test_leaves_init(&leaves, "cpu", &(struct fm_device_opts){.threads = 2});
    struct fm__plan *train = plan_of(graph_of(&net, true, &leaves), &leaves);
    struct fm__plan *infer = plan_of(graph_of(&net, false, &leaves), &leaves);
    float first = 0, last = 0;
    for (int step = 1; step <= STEPS; step++) {
        draw(images, labels, BATCH);
        const int32_t key[] = {1, 2, step, 0};
        const float knobs[] = {0.01f, (float)(1 - pow(0.9, step)), (float)(1 - pow(0.99, step)), 1};
        assert_ok(fm__plan_run(train, BATCH, (const void *[]){images, labels, key, knobs}, &err), err);
        last = *(const float *)fm__plan_output(train, 0);
        if (step == 1) first = last;
    }
    assert_true(first > 0.4f && last < 0.15f);
    draw(images, labels, BATCH); // unseen, by the running statistics, without dropout
    assert_ok(fm__plan_run(infer, BATCH, (const void *[]){images, labels}, &err), err);
    assert_true(*(const float *)fm__plan_output(infer, 0) < 0.15f);
    fm__plan_free(train);
    fm__plan_free(infer);
    test_leaves_deinit(&leaves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_read),
        cmocka_unit_test(bad_layers_are_refused),
        cmocka_unit_test(it_learns),
    };
    return cmocka_run_group_tests_name("image_net", tests, NULL, NULL);
}

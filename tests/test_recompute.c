// SPDX-License-Identifier: MIT
// graph/recompute and the arena of training graphs: gradients are the same bytes whatever is computed again, on cpu and
// sim; a budget is kept; what a plan prints is what it needs.
// test-labels: kernels
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cpuinfo.h"
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "support/leaves.h"

static const int32_t key[4] = {1, 2, 3, 0}; // of dropout

struct shape {
    int layers;
    int64_t V, D, H, K, E, F, rows;
};
static const struct shape small = {12, 40, 16, 4, 2, 4, 24, 12};
static const struct shape large = {12, 1000, 768, 12, 4, 64, 2048, 512};

struct net {
    struct fm__graph *g;
    const struct shape *shape;
    fm__val rows, key, weights[128];
    int n_weights;
};

static fm__val add2(struct net *n, enum fm__op_id op, fm__val a, fm__val b, const union fm__attrs *attrs)
{
    return fm__graph_add(n->g, op, 2, (fm__val[]){a, b}, attrs);
}

static fm__val weight(struct net *n, const char *name, int layer, int64_t rows, int64_t columns)
{
    char full[40];
    snprintf(full, sizeof full, "%s.%d", name, layer);
    const fm__val w = fm__graph_leaf(n->g, FM__WEIGHT, full, FM_F32, rows ? 2 : 1,
                                     rows ? (int64_t[]){rows, columns} : (int64_t[]){columns});
    return n->weights[n->n_weights++] = w;
}

static fm__val dropped(struct net *n, fm__val x, int stream)
{
    const union fm__attrs attrs = {.dropout = {.p = 0.25f, .stream = stream}};
    return add2(n, FM__OP_DROPOUT, x, n->key, &attrs);
}

static fm__val layer(struct net *n, int l, fm__val x)
{
    const struct shape *s = n->shape;
    const union fm__attrs norm = {.norm = {.eps = 1e-5f}}, silu = {.act = {.act = FM__ACT_SILU}};
    const union fm__attrs rope = {.rope = {.head_dim = (int)s->E, .n_rot = (int)s->E, .base = 10000}};
    const union fm__attrs attend = {
        .attention = {.scale = 0.3f, .n_kv = (int)s->K, .head_k = (int)s->E, .head_v = (int)s->E}};
    fm__val a = add2(n, FM__OP_RMSNORM, x, weight(n, "attn_norm", l, 0, s->D), &norm);
    fm__val q = add2(n, FM__OP_LINEAR, a, weight(n, "q", l, s->H * s->E, s->D), NULL);
    fm__val k = add2(n, FM__OP_LINEAR, a, weight(n, "k", l, s->K * s->E, s->D), NULL);
    const fm__val v = add2(n, FM__OP_LINEAR, a, weight(n, "v", l, s->K * s->E, s->D), NULL);
    q = add2(n, FM__OP_ROPE, q, n->rows, &rope);
    k = add2(n, FM__OP_ROPE, k, n->rows, &rope);
    a = fm__graph_add(n->g, FM__OP_ATTENTION_ROWS, 4, (fm__val[]){q, k, v, n->rows}, &attend);
    a = add2(n, FM__OP_LINEAR, a, weight(n, "o", l, s->D, s->H * s->E), NULL);
    x = add2(n, FM__OP_ADD, x, dropped(n, a, 3 * l), NULL);
    a = add2(n, FM__OP_RMSNORM, x, weight(n, "ffn_norm", l, 0, s->D), &norm);
    const fm__val gate = add2(n, FM__OP_LINEAR, a, weight(n, "gate", l, s->F, s->D), NULL);
    const fm__val up = add2(n, FM__OP_LINEAR, a, weight(n, "up", l, s->F, s->D), NULL);
    a = dropped(n, add2(n, FM__OP_ACT_MUL, gate, up, &silu), 3 * l + 1);
    return add2(n, FM__OP_ADD, x, add2(n, FM__OP_LINEAR, a, weight(n, "down", l, s->D, s->F), NULL), NULL);
}

// Outputs: the loss, then the gradient of every weight.
static struct net build(const struct shape *s)
{
    struct net n = {.g = fm__graph_new(), .shape = s};
    struct fm_error err;
    const union fm__attrs norm = {.norm = {.eps = 1e-5f}};
    const fm__val tokens = fm__graph_leaf(n.g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    const fm__val targets = fm__graph_leaf(n.g, FM__INPUT, "targets", FM_I32, 1, (int64_t[]){FM__ROWS});
    n.rows = fm__graph_leaf(n.g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    n.key = fm__graph_leaf(n.g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
    fm__val x = add2(&n, FM__OP_EMBED, weight(&n, "embedding", 0, s->V, s->D), tokens, NULL);
    for (int l = 0; l < s->layers; l++) x = layer(&n, l, x);
    x = add2(&n, FM__OP_RMSNORM, x, weight(&n, "output_norm", 0, 0, s->D), &norm);
    x = add2(&n, FM__OP_LINEAR, x, n.weights[0], NULL);
    const fm__val losses = add2(&n, FM__OP_CROSS_ENTROPY, x, targets, NULL);
    const fm__val loss = fm__graph_add(n.g, FM__OP_SUM, 1, &losses, NULL);
    fm__val d[128];
    fm__graph_gradient(n.g, loss, n.n_weights, n.weights, d);
    fm__graph_output(n.g, loss, "loss");
    for (int i = 0; i < n.n_weights; i++) {
        assert_true(d[i] != FM__NONE);
        fm__graph_output(n.g, d[i], "d");
    }
    assert_ok(fm__graph_check(n.g, &err), err);
    return n;
}

// Gradients are summed into states, as a trainer does: they die at once.
static void accumulate_outputs(struct net *n)
{
    char name[48];
    const fm__val keep = fm__graph_leaf(n->g, FM__INPUT, "keep", FM_F32, 1, (int64_t[]){1});
    for (int i = 0; i < n->n_weights; i++) {
        const fm__val d = n->g->outputs[1 + i];
        const struct fm__value v = n->g->values[d];
        snprintf(name, sizeof name, "grad.%d", i);
        const fm__val sum = fm__graph_leaf(n->g, FM__STATE, name, FM_F32, v.rank, v.dims);
        fm__graph_accumulate(n->g, sum, d, keep);
    }
    n->g->n_outputs = 1;
}

enum { UNFUSED = 2 }; // a budget that is none: no recomputation, no fusion

static struct fm__plan *plan_of(const struct net *n, struct test_leaves *leaves, size_t budget)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {.device = leaves->device,
                                       .rows = n->shape->rows,
                                       .bind = test_leaves_bind,
                                       .bind_context = leaves,
                                       .arena_budget = budget == UNFUSED ? 0 : budget,
                                       .no_fusion = budget == UNFUSED,
                                       .exact_activations = 1};
    assert_ok(fm__plan_new(n->g, &opts, &plan, &err), err);
    return plan;
}

static size_t gradient_floats(const struct net *n)
{
    size_t sum = 1;
    for (int i = 0; i < n->n_weights; i++) {
        const struct fm__value *v = &n->g->values[n->weights[i]];
        sum += (size_t)(v->dims[0] * (v->rank > 1 ? v->dims[1] : 1));
    }
    return sum;
}

// The loss and all gradients, one after the other. Two documents.
static float *run(const struct net *n, struct fm__plan *plan, const struct test_leaves *leaves)
{
    struct fm_error err;
    int32_t tokens[64], targets[64], rows[64][FM__ROW_FIELDS];
    const int count = (int)n->shape->rows - 1, half = count / 2; // one row less than the bucket
    for (int i = 0; i < count; i++) {
        tokens[i] = (i * 7 + 3) % (int)n->shape->V, targets[i] = i % 5 ? (i * 11 + 1) % (int)n->shape->V : -1;
        const int32_t at = i < half ? i : i - half;
        memcpy(rows[i], ((int32_t[]){i >= half, at, -1, at}), sizeof rows[i]);
    }
    const float keep = 0;
    char name[16];
    assert_ok(fm__plan_run(plan, count, (const void *[]){tokens, targets, rows, key, &keep}, &err), err);
    float *all = malloc(gradient_floats(n) * sizeof *all), *to = all;
    *to++ = *(const float *)fm__plan_output(plan, 0);
    for (int i = 0; i < n->n_weights; i++) {
        const struct fm__value *v = &n->g->values[n->weights[i]];
        snprintf(name, sizeof name, "grad.%d", i);
        test_leaves_read(leaves, name, to);
        to += v->dims[0] * (v->rank > 1 ? v->dims[1] : 1);
    }
    assert_int_equal(to - all, gradient_floats(n));
    return all;
}

static void gradients_stay_the_same_bytes(void **state)
{
    (void)state;
    struct net n = build(&small);
    accumulate_outputs(&n);
    const size_t bytes = gradient_floats(&n) * sizeof(float);
    struct test_leaves leaves;
    test_leaves_init(&leaves, "cpu", NULL);
    test_leaves_fill(&leaves, n.g, 0.5f);
    struct fm__plan *plan = plan_of(&n, &leaves, 0);
    const size_t arena = plan->arena_bytes;
    const int steps = plan->n_steps;
    float *want = run(&n, plan, &leaves);
    fm__plan_free(plan);
    plan = plan_of(&n, &leaves, UNFUSED);
    assert_true(plan->n_steps > steps); // linear_dw and accumulate are two there
    float *unfused = run(&n, plan, &leaves);
    assert_memory_equal(want, unfused, bytes);
    free(unfused);
    fm__plan_free(plan);
    test_leaves_deinit(&leaves);
    float largest = 0;
    for (size_t i = 1; i < bytes / sizeof(float); i++) largest = want[i] > largest ? want[i] : largest;
    assert_true(largest > 1e-3f);
    for (int kind = 0; kind < 4; kind++) // reference, this machine's best with 2 and 3 threads, sim
        for (size_t part = 0; part <= 9; part += part ? 1 : 5) {
            const struct fm_device_opts opts = {.threads = kind + 1, .seed = part + 1, .level = kind ? NULL : "ref"};
            test_leaves_init(&leaves, kind == 3 ? "sim" : "cpu", &opts);
            test_leaves_fill(&leaves, n.g, 0.5f);
            plan = plan_of(&n, &leaves, part ? arena * part / 10 : 1);
            assert_true(plan->n_steps > steps);
            if (part >= 7) assert_true(plan->arena_bytes <= arena * part / 10);
            float *got = run(&n, plan, &leaves);
            assert_memory_equal(got, want, bytes);
            free(got);
            fm__plan_free(plan);
            test_leaves_deinit(&leaves);
        }
    free(want);
    fm__graph_free(n.g);
}

// Two micro-batches summed in states are twice one gradient: every term of a sum is counted, none twice. The embedding
// is the head's too: its gradient is a sum of a product and of scattered rows.
static void sums_are_those_of_the_gradients(void **state)
{
    (void)state;
    struct net n = build(&small);
    struct test_leaves leaves;
    struct fm_error err;
    const struct fm_device_opts opts = {.threads = 2};
    test_leaves_init(&leaves, "cpu", &opts);
    test_leaves_fill(&leaves, n.g, 0.5f);
    const size_t count = gradient_floats(&n) - 1;
    float *plain = malloc(count * sizeof *plain), *to = plain;
    int32_t tokens[12], targets[12], rows[12][FM__ROW_FIELDS];
    for (int i = 0; i < 12; i++) {
        tokens[i] = i % 4, targets[i] = i * 3;
        memcpy(rows[i], ((int32_t[]){0, i, -1, i}), sizeof rows[i]);
    }
    struct fm__plan *plan = plan_of(&n, &leaves, 0);
    assert_ok(fm__plan_run(plan, 12, (const void *[]){tokens, targets, rows, key}, &err), err);
    for (int i = 0; i < n.n_weights; i++) {
        const size_t bytes = fm_tensor_bytes(&plan->values[plan->graph->outputs[1 + i]].tensor);
        memcpy(to, fm__plan_output(plan, 1 + i), bytes);
        to += bytes / sizeof *to;
    }
    fm__plan_free(plan);
    accumulate_outputs(&n);
    test_leaves_fill(&leaves, n.g, 0.5f); // the sums: not zeros, and assigned all the same
    plan = plan_of(&n, &leaves, 0);
    for (int i = 0; i < 2; i++) {
        const float keep = (float)i;
        assert_ok(fm__plan_run(plan, 12, (const void *[]){tokens, targets, rows, key, &keep}, &err), err);
    }
    int steps[FM__OP_COUNT] = {0};
    for (int i = 0; i < plan->n_steps; i++) steps[fm__plan_node(plan, i)->op]++;
    assert_true(steps[FM__OP_SCATTER_ADD] == 1 && steps[FM__OP_SCATTER_ROWS] == 0);
    to = plain;
    for (int i = 0; i < n.n_weights; i++) {
        const struct fm__value *v = &n.g->values[n.weights[i]];
        const int64_t m = v->dims[0] * (v->rank > 1 ? v->dims[1] : 1);
        float *sum = malloc((size_t)m * sizeof *sum), largest = 0;
        char name[16];
        snprintf(name, sizeof name, "grad.%d", i);
        test_leaves_read(&leaves, name, sum);
        for (int64_t k = 0; k < m; k++) largest = to[k] > largest ? to[k] : -to[k] > largest ? -to[k] : largest;
        assert_true(largest > 0);
        // twelve rows meet in one row of the embedding at most
        for (int64_t k = 0; k < m; k++) {
            const float off = sum[k] - 2 * to[k];
            assert_true((off < 0 ? -off : off) <= 64 * 0x1p-24f * largest);
        }
        free(sum);
        to += m;
    }
    free(plain);
    fm__plan_free(plan);
    fm__graph_free(n.g);
    test_leaves_deinit(&leaves);
}

// Weights that nobody looks at: plans of large graphs are made, not run.
static fm_status bind_nothing(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    const struct fm__graph *g = context;
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        if (v->node >= 0 || strcmp(v->name, name) != 0) continue;
        *out = (struct fm_tensor){.dtype = v->dtype, .rank = v->rank};
        memcpy(out->dims, v->dims, sizeof out->dims);
        fm_tensor_set_contiguous(out);
        return FM_OK;
    }
    return fm__fail(err, FM_E_NOT_FOUND, "%s: no such leaf", name);
}

static struct fm__plan *large_plan(const struct net *n, struct fm_device *device, size_t budget)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {.device = device,
                                       .rows = n->shape->rows,
                                       .bind = bind_nothing,
                                       .bind_context = n->g,
                                       .arena_budget = budget,
                                       .exact_activations = 1};
    assert_ok(fm__plan_new(n->g, &opts, &plan, &err), err);
    return plan;
}

static double flops(const struct fm__plan *plan)
{
    double sum = 0;
    for (int i = 0; i < plan->n_steps; i++) {
        struct fm__call call;
        fm__plan_call(plan, i, &call);
        const struct fm__op *op = fm__op(fm__plan_node(plan, i)->op);
        if (op->flops) sum += op->flops(&call);
    }
    return sum;
}

// 12 layers of 768, 512 rows. Kept at the least: the 24 values between half layers, and what a half works on.
static void arenas_of_a_large_graph(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_device *device;
    const struct fm_device_opts opts = {.threads = 2};
    assert_ok(fm_device_open("cpu", &opts, &device, &err), err);
    struct net n = build(&large);
    accumulate_outputs(&n);
    struct fm__plan *all = large_plan(&n, device, 0), *least = large_plan(&n, device, 1);
    const size_t between = all->arena_bytes / 10 * 7;
    struct fm__plan *some = large_plan(&n, device, between);
    print_message("arena of 12 layers, 512 rows: %.1f MiB (alive %.1f), at %.1f: %.1f MiB for %.1f %% more FLOPs, "
                  "least: %.1f MiB (alive %.1f) for %.1f %% more\n",
                  (double)all->arena_bytes / (1 << 20), (double)all->live_bytes / (1 << 20),
                  (double)between / (1 << 20), (double)some->arena_bytes / (1 << 20),
                  100 * flops(some) / flops(all) - 100, (double)least->arena_bytes / (1 << 20),
                  (double)least->live_bytes / (1 << 20), 100 * flops(least) / flops(all) - 100);
    assert_true(some->arena_bytes <= between && some->arena_bytes > least->arena_bytes);
    assert_true(flops(some) < 1.05 * flops(all)); // the cheap things first: a third of the arena is elementwise
    assert_true(flops(some) < flops(least) && flops(least) < 1.4 * flops(all)); // at most the forward once more
    assert_true(least->arena_bytes < all->arena_bytes / 3);
    assert_true(all->arena_bytes <= all->live_bytes / 100 * 105 && least->arena_bytes <= least->live_bytes / 100 * 110);
    char *text;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    fm__plan_dump_peak(least, 12, to);
    fclose(to);
    size_t alive, arena, lines = 0;
    int stage;
    assert_int_equal(sscanf(text, "peak stage=%d alive=%zu arena=%zu", &stage, &alive, &arena), 3);
    assert_true(alive == least->live_bytes && arena == least->arena_bytes);
    for (const char *c = text; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, 13);
    if (getenv("FATHOM_SHOW_PEAK")) print_message("%s", text);
    free(text);
    fm__plan_free(all);
    fm__plan_free(some);
    fm__plan_free(least);
    fm__graph_free(n.g);
    fm_device_close(device);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const struct shape two = {2, 20, 16, 4, 2, 4, 24, 12};
    const struct net n = build(&two);
    struct test_leaves leaves;
    struct fm_error err;
    test_leaves_init(&leaves, "cpu", NULL);
    test_leaves_fill(&leaves, n.g, 0.5f);
    const struct fm__plan_opts opts = {.device = leaves.device,
                                       .rows = 12,
                                       .bind = test_leaves_bind,
                                       .bind_context = &leaves,
                                       .arena_budget = 1,
                                       .exact_activations = 1};
    int64_t at = 0;
    for (;; at += 1 + at / 64) {
        struct fm__plan *plan = NULL;
        fm__alloc_fail_after(at, at % 2);
        const fm_status status = fm__plan_new(n.g, &opts, &plan, &err);
        fm__alloc_fail_after(-1, false);
        fm__plan_free(plan);
        if (status == FM_OK) break;
        assert_int_equal(status, FM_E_NOMEM);
        assert_null(plan);
        assert_true(at < 100000);
    }
    assert_true(at > 20);
    fm__graph_free(n.g);
    test_leaves_deinit(&leaves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_stay_the_same_bytes),
        cmocka_unit_test(sums_are_those_of_the_gradients),
        cmocka_unit_test(arenas_of_a_large_graph),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("recompute", tests, NULL, NULL);
}

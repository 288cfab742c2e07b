// SPDX-License-Identifier: MIT
// graph, passes, memory plan, plan, devices: the text of a small llama as a golden, places that never overlap while
// alive, fused against unfused, cpu against sim under 20 seeds, and every failure clean.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "graph/memory.h"
#include "graph/passes.h"
#include "ops/kv_format.h"
#include "ops/op.h"
#include "support/leaves.h"
#include "tensor/buffer.h"

enum { D = 64, H = 4, K = 2, E = 16, F = 96, V = 48, PAGES = 4, SLOTS = 2, ROWS = 8 };

static fm__val weight(struct fm__graph *g, int layer, const char *name, fm_dtype dtype, int64_t rows, int64_t columns)
{
    char full[48];
    snprintf(full, sizeof full, layer < 0 ? "%s" : "%s.%d", name, layer);
    return fm__graph_leaf(g, FM__WEIGHT, full, dtype, rows ? 2 : 1, rows ? (int64_t[]){rows, columns} : &columns);
}

static fm__val add2(struct fm__graph *g, enum fm__op_id op, fm__val a, fm__val b, const union fm__attrs *attrs)
{
    return fm__graph_add(g, op, 2, (fm__val[]){a, b}, attrs);
}

static fm__val layer(struct fm__graph *g, int i, fm__val x, fm__val rows, fm__val pages, fm_dtype dtype)
{
    const union fm__attrs norm = {.norm = {.eps = 1e-5f}}, silu = {.act = {.act = FM__ACT_SILU}};
    const union fm__attrs rope = {.rope = {.head_dim = E, .n_rot = E, .base = 10000}};
    const union fm__attrs attend = {
        .attention = {.scale = 0.25f, .kv_format = FM__KV_F16, .n_kv = K, .head_k = E, .head_v = E}};
    const int64_t cache_dims[] = {PAGES, (int64_t)fm__kv_page_bytes(FM__KV_F16, K, E, E)};
    char name[16];
    snprintf(name, sizeof name, "cache.%d", i);
    fm__val cache = fm__graph_leaf(g, FM__STATE, name, FM_I8, 2, cache_dims);
    fm__val a = add2(g, FM__OP_RMSNORM, x, weight(g, i, "attn_norm", FM_F32, 0, D), &norm);
    fm__val q = add2(g, FM__OP_LINEAR, a, weight(g, i, "q", dtype, D, D), NULL);
    fm__val k = add2(g, FM__OP_LINEAR, a, weight(g, i, "k", dtype, K * E, D), NULL);
    fm__val v = add2(g, FM__OP_LINEAR, a, weight(g, i, "v", dtype, K * E, D), NULL);
    q = add2(g, FM__OP_ROPE, q, rows, &rope);
    k = add2(g, FM__OP_ROPE, k, rows, &rope);
    cache = fm__graph_add(g, FM__OP_KV_WRITE, 5, (fm__val[]){cache, k, v, rows, pages}, &attend);
    a = fm__graph_add(g, FM__OP_ATTENTION, 4, (fm__val[]){q, cache, rows, pages}, &attend);
    a = add2(g, FM__OP_LINEAR, a, weight(g, i, "o", dtype, D, D), NULL);
    x = add2(g, FM__OP_ADD, x, a, NULL);
    a = add2(g, FM__OP_RMSNORM, x, weight(g, i, "ffn_norm", FM_F32, 0, D), &norm);
    fm__val gate = add2(g, FM__OP_LINEAR, a, weight(g, i, "gate", dtype, F, D), NULL);
    fm__val up = add2(g, FM__OP_LINEAR, a, weight(g, i, "up", dtype, F, D), NULL);
    a = add2(g, FM__OP_ACT_MUL, gate, up, &silu);
    a = add2(g, FM__OP_LINEAR, a, weight(g, i, "down", dtype, D, F), NULL);
    return add2(g, FM__OP_ADD, x, a, NULL);
}

// Two layers, and a dead node that the plan must drop.
static struct fm__graph *llama(fm_dtype dtype)
{
    struct fm__graph *g = fm__graph_new();
    const union fm__attrs norm = {.norm = {.eps = 1e-5f}};
    fm__val tokens = fm__graph_leaf(g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    fm__val rows = fm__graph_leaf(g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    fm__val pages = fm__graph_leaf(g, FM__INPUT, "pages", FM_I32, 2, (int64_t[]){SLOTS, 2});
    fm__val embedding = weight(g, -1, "embedding", dtype, V, D);
    fm__val x = add2(g, FM__OP_EMBED, embedding, tokens, NULL);
    for (int i = 0; i < 2; i++) x = layer(g, i, x, rows, pages, dtype);
    add2(g, FM__OP_ADD, x, x, NULL);
    x = add2(g, FM__OP_RMSNORM, x, weight(g, -1, "output_norm", FM_F32, 0, D), &norm);
    fm__graph_output(g, add2(g, FM__OP_LINEAR, x, embedding, NULL), "logits");
    return g;
}

static struct fm__plan *make_plan(struct test_leaves *leaves, const struct fm__graph *g, int no_fusion)
{
    struct fm_error err;
    struct fm__plan *plan;
    const struct fm__plan_opts opts = {.device = leaves->device,
                                       .rows = ROWS,
                                       .bind = test_leaves_bind,
                                       .bind_context = leaves,
                                       .no_fusion = no_fusion};
    assert_ok(fm__plan_new(g, &opts, &plan, &err), err);
    return plan;
}

// Two sessions: five rows of one and two of the other, then one more of each. logits: [9, V].
static fm_status run_steps(struct fm__plan *plan, float *logits, struct fm_error *err)
{
    static const int32_t pages[SLOTS][2] = {{1, -1}, {3, 0}};
    int32_t tokens[ROWS], rows[ROWS][FM__ROW_FIELDS];
    for (int i = 0; i < 7; i++) {
        const int slot = i >= 5, at = slot ? i - 5 : i;
        tokens[i] = (i * 11 + 3) % V;
        memcpy(rows[i], ((int32_t[]){slot, at, -1, at}), sizeof rows[i]);
    }
    FM_TRY(fm__plan_run(plan, 7, (const void *[]){tokens, rows, pages}, err));
    memcpy(logits, fm__plan_output(plan, 0), 7 * V * sizeof *logits);
    for (int i = 0; i < 2; i++) {
        tokens[i] = 5 + i;
        memcpy(rows[i], ((int32_t[]){i, i ? 2 : 5, -1, i ? 2 : 5}), sizeof rows[i]);
    }
    FM_TRY(fm__plan_run(plan, 2, (const void *[]){tokens, rows, pages}, err));
    memcpy(logits + 7 * V, fm__plan_output(plan, 0), 2 * V * sizeof *logits);
    return FM_OK;
}

static void run_llama(const char *device, const struct fm_device_opts *opts, fm_dtype dtype, int no_fusion,
                      float *logits)
{
    struct test_leaves leaves;
    struct fm_error err;
    test_leaves_init(&leaves, device, opts);
    struct fm__graph *g = llama(dtype);
    test_leaves_fill(&leaves, g, 0.5f);
    struct fm__plan *plan = make_plan(&leaves, g, no_fusion);
    assert_ok(run_steps(plan, logits, &err), err);
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static void expect_golden(const char *name, void (*dump)(const void *of, FILE *to), const void *of)
{
    char *text = NULL;
    size_t n = 0, n_golden;
    FILE *to = open_memstream(&text, &n);
    dump(of, to);
    fclose(to);
    if (getenv("FATHOM_UPDATE_GOLDENS")) {
        FILE *f = fopen(test_data(name), "w");
        assert_non_null(f);
        fwrite(text, 1, n, f);
        fclose(f);
    }
    char *golden = (char *)test_read_file(test_data(name), &n_golden);
    assert_string_equal(text, golden);
    free(golden);
    free(text);
}

static void dump_graph(const void *of, FILE *to)
{
    fm__graph_dump(of, to);
}

static void dump_plan(const void *of, FILE *to)
{
    fm__plan_dump(of, to);
}

static void texts_are_the_goldens(void **state)
{
    (void)state;
    struct test_leaves leaves;
    test_leaves_init(&leaves, "cpu", NULL);
    struct fm__graph *g = llama(FM_F32);
    test_leaves_fill(&leaves, g, 0.5f);
    expect_golden("llama_graph.txt", dump_graph, g);
    struct fm__plan *plan = make_plan(&leaves, g, 0);
    expect_golden("llama_plan.txt", dump_plan, plan);
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static void spans_alive_together_never_overlap(void **state)
{
    (void)state;
    uint32_t seed = 7;
    struct fm__span spans[200];
    struct fm_error err;
    for (int round = 0; round < 300; round++) {
        const int n = 1 + round % 200;
        size_t total, largest = 0, all = 0;
        for (int i = 0; i < n; i++) {
            uint32_t r[3];
            for (int k = 0; k < 3; k++) r[k] = (seed = seed * 1664525u + 1013904223u) >> 8;
            spans[i] = (struct fm__span){.bytes = r[0] % 5 ? r[0] % 5000 : 0, .first = (int32_t)(r[1] % 50)};
            spans[i].last = spans[i].first + (int32_t)(r[2] % 12);
            largest = spans[i].bytes > largest ? spans[i].bytes : largest;
            all += fm__align_up(spans[i].bytes, 64);
        }
        assert_ok(fm__memory_plan(spans, n, 64, &total, &err), err);
        assert_true(total >= largest && total <= all && total % 64 == 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(spans[i].offset % 64, 0);
            assert_true(spans[i].offset + spans[i].bytes <= total);
            for (int k = 0; k < i; k++)
                if (spans[i].first <= spans[k].last && spans[k].first <= spans[i].last && spans[i].bytes &&
                    spans[k].bytes)
                    assert_true(spans[i].offset >= spans[k].offset + spans[k].bytes ||
                                spans[k].offset >= spans[i].offset + spans[i].bytes);
        }
    }
}

static const fm_dtype types[] = {FM_F32, FM_Q4_1};

// Fusions change no rounding: equal bytes, on the reference and at this machine's level (where Q4_1 takes q8a rows).
static void fusion_changes_no_byte(void **state)
{
    (void)state;
    static float fused[9 * V], plain[9 * V];
    const struct fm_device_opts best = {.threads = 2};
    for (int t = 0; t < 2; t++)
        for (int level = 0; level < 2; level++) {
            run_llama("cpu", level ? &best : NULL, types[t], 0, fused);
            run_llama("cpu", level ? &best : NULL, types[t], 1, plain);
            assert_memory_equal(fused, plain, sizeof fused);
            for (int i = 0; i < 9 * V; i++) assert_true(isfinite(fused[i]));
            assert_true(fabsf(fused[0] - fused[V]) > 1e-6f); // and the rows differ: something was computed
        }
}

static void sim_gives_the_bytes_of_cpu(void **state)
{
    (void)state;
    static float cpu[9 * V], sim[9 * V];
    run_llama("cpu", NULL, FM_F32, 0, cpu);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const struct fm_device_opts opts = {.seed = seed};
        run_llama("sim", &opts, FM_F32, 0, sim);
        assert_memory_equal(cpu, sim, sizeof cpu);
    }
}

static void sim_fails_the_submission_asked_for(void **state)
{
    (void)state;
    static float logits[9 * V], again[9 * V];
    struct fm_error err;
    struct test_leaves leaves;
    const struct fm_device_opts opts = {.seed = 1, .fail_at = 2};
    test_leaves_init(&leaves, "sim", &opts);
    struct fm__graph *g = llama(FM_F32);
    test_leaves_fill(&leaves, g, 0.5f);
    struct fm__plan *plan = make_plan(&leaves, g, 0);
    assert_int_equal(run_steps(plan, logits, &err), FM_E_DEVICE);
    assert_ok(run_steps(plan, logits, &err), err); // the same positions again: written over
    run_llama("cpu", NULL, FM_F32, 0, again);
    assert_memory_equal(logits, again, sizeof logits);
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static void sim_memory_is_closed_and_limited(void **state)
{
    (void)state;
    struct fm_error err;
    struct test_leaves leaves;
    const struct fm_device_opts opts = {.memory = 1 << 20};
    test_leaves_init(&leaves, "sim", &opts);
    test_leaves_add(&leaves, "x", FM_F32, 1, (int64_t[]){16}, NULL);
    assert_null(leaves.items[0].tensor.data);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        const volatile char *p = leaves.items[0].tensor.buffer->device;
        _exit(p[0] == 1 ? 0 : 0); // not reached
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    struct fm_buffer *buffer = NULL;
    assert_int_equal(leaves.device->v->alloc(leaves.device, 1 << 20, &buffer, &err), FM_E_NOMEM);
    assert_null(buffer);
    // a plan that does not fit says so, and what was taken is given back
    struct fm__graph *g = llama(FM_F32);
    struct fm__plan *plan;
    const struct fm__plan_opts huge = {
        .device = leaves.device, .rows = 1 << 14, .bind = test_leaves_bind, .bind_context = &leaves};
    test_leaves_fill(&leaves, g, 0.5f);
    assert_int_equal(fm__plan_new(g, &huge, &plan, &err), FM_E_NOMEM);
    assert_null(plan);
    plan = make_plan(&leaves, g, 0);
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu", "sim"};
    for (int d = 0; d < 2; d++) {
        struct fm_error err;
        struct test_leaves leaves;
        test_leaves_init(&leaves, devices[d], NULL);
        struct fm__graph *g = llama(FM_F32);
        test_leaves_fill(&leaves, g, 0.5f);
        const struct fm__plan_opts opts = {
            .device = leaves.device, .rows = ROWS, .bind = test_leaves_bind, .bind_context = &leaves};
        int64_t n = 0;
        for (;; n++) {
            struct fm__plan *plan = NULL;
            fm__alloc_fail_after(n, n % 2);
            const fm_status status = fm__plan_new(g, &opts, &plan, &err);
            fm__alloc_fail_after(-1, false);
            fm__plan_free(plan);
            if (status == FM_OK) break;
            assert_int_equal(status, FM_E_NOMEM);
            assert_null(plan);
            assert_true(n < 10000);
        }
        assert_true(n > 20);
        fm__graph_free(g);
        test_leaves_deinit(&leaves);
    }
}

static void a_missing_or_misshapen_weight_is_named(void **state)
{
    (void)state;
    struct fm_error err;
    struct test_leaves leaves;
    struct fm__plan *plan;
    test_leaves_init(&leaves, "cpu", NULL);
    struct fm__graph *g = llama(FM_F32);
    const struct fm__plan_opts opts = {
        .device = leaves.device, .rows = ROWS, .bind = test_leaves_bind, .bind_context = &leaves};
    assert_int_equal(fm__plan_new(g, &opts, &plan, &err), FM_E_NOT_FOUND);
    test_leaves_add(&leaves, "down.1", FM_F32, 2, (int64_t[]){D, F + 1}, NULL);
    test_leaves_fill(&leaves, g, 0.5f);
    assert_int_equal(fm__plan_new(g, &opts, &plan, &err), FM_E_SHAPE);
    assert_non_null(strstr(err.text, "down.1"));
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_the_goldens),
        cmocka_unit_test(spans_alive_together_never_overlap),
        cmocka_unit_test(fusion_changes_no_byte),
        cmocka_unit_test(sim_gives_the_bytes_of_cpu),
        cmocka_unit_test(sim_fails_the_submission_asked_for),
        cmocka_unit_test(sim_memory_is_closed_and_limited),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_missing_or_misshapen_weight_is_named),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

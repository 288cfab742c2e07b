// SPDX-License-Identifier: MIT
// train/optimiser: who decays and who is orthogonalised, moments as states, norms, steps against double precision,
// Muon's singular values, every optimiser solving a small problem, the same bytes at any number of threads.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "train/optimiser.h"
#include "train/optimiser_graph.h"

static const struct fm__param params[] = {
    {"token_embd.weight", 2, {9, 8}}, {"blk.0.attn_norm.weight", 1, {8}},        {"blk.0.attn_q.weight", 2, {12, 8}},
    {"blk.0.attn_q.bias", 1, {12}},   {"blk.0.attn_output.weight", 2, {8, 12}},  {"conv.weight", 4, {4, 3, 5, 5}},
    {"output.weight", 2, {9, 8}},     {"blk.0.attn_q.weight.lora_a", 2, {2, 8}}, {"position_embd.weight", 2, {16, 8}},
    {"cls.output.weight", 2, {3, 8}},
};
enum { N_PARAMS = sizeof params / sizeof *params };
static const char decays[] = "0010111101", hidden[] = "0010100100";

static uint64_t random_state = 88172645463325252u;
static float random_value(void)
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (float)(int32_t)(random_state >> 32) * 0x1p-31f;
}

static struct fm_device *open_device(const char *name, int threads)
{
    struct fm_error err;
    struct fm_device *device;
    const struct fm_device_opts opts = {.threads = threads};
    assert_ok(fm_device_open(name, &opts, &device, &err), err);
    return device;
}

static void add_state(struct fm__states *states, const char *prefix, const struct fm__param *p)
{
    struct fm_error err;
    struct fm__state s = {.tensor = {.dtype = FM_F32, .rank = p->rank}, .kept = true};
    snprintf(s.name, sizeof s.name, "%s%s", prefix, p->name);
    memcpy(s.tensor.dims, p->dims, sizeof s.tensor.dims);
    assert_ok(fm__states_add(states, &s, &err), err);
}

static size_t count_of(const struct fm__state *s)
{
    return (size_t)fm_tensor_elements(&s->tensor);
}

// Parameters, then their gradients, all random.
static void make_states(struct fm__states *states, struct fm_device *device, int n, const struct fm__param *p)
{
    struct fm_error err;
    random_state = 88172645463325252u;
    *states = (struct fm__states){.device = device};
    for (int i = 0; i < n; i++) add_state(states, "", &p[i]);
    for (int i = 0; i < n; i++) add_state(states, "grad.", &p[i]);
    for (int i = 0; i < states->n; i++) {
        float *x = malloc(count_of(&states->items[i]) * sizeof *x);
        for (size_t k = 0; k < count_of(&states->items[i]); k++) x[k] = random_value();
        assert_ok(fm__states_write(states, &states->items[i], x, &err), err);
        free(x);
    }
}

static float *read_state(const struct fm__states *states, const char *prefix, const char *name)
{
    struct fm_error err;
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct fm__state *s = fm__states_find(states, full);
    if (!s) return NULL;
    float *x = malloc(count_of(s) * sizeof *x);
    assert_ok(fm__states_read(states, s, x, &err), err);
    return x;
}

static void who_decays(void **state)
{
    (void)state;
    for (int i = 0; i < N_PARAMS; i++) {
        assert_int_equal(fm__param_decays(&params[i]), decays[i] == '1');
        assert_int_equal(fm__param_is_hidden(&params[i]), hidden[i] == '1');
    }
    for (int all = 0; all <= 1; all++) { // and the nodes say so
        const struct fm__optimiser_opts opts = {.weight_decay = 0.25, .decay_all = all};
        struct fm__graph *g = fm__step_graph(&opts, N_PARAMS, params);
        struct fm_error err;
        assert_ok(fm__graph_check(g, &err), err);
        assert_int_equal(g->n_nodes, N_PARAMS);
        for (int i = 0; i < N_PARAMS; i++)
            assert_true(g->nodes[i].attrs.adamw.weight_decay == (all || decays[i] == '1' ? 0.25f : 0));
        fm__graph_free(g);
    }
}

// One AdamW step with the defaults, decay on some: as the formula in double.
static void a_step_of_adamw(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__states states;
    struct fm_device *device = open_device("cpu", 2);
    struct fm__optimiser *o;
    make_states(&states, device, N_PARAMS, params);
    float *before[N_PARAMS], *d[N_PARAMS];
    double squares = 0, norm;
    for (int i = 0; i < N_PARAMS; i++) {
        before[i] = read_state(&states, "", params[i].name), d[i] = read_state(&states, "grad.", params[i].name);
        for (size_t k = 0; k < count_of(&states.items[i]); k++) squares += (double)d[i][k] * d[i][k];
    }
    const struct fm__optimiser_opts opts = {.weight_decay = 0.5};
    assert_ok(fm__optimiser_new(&opts, &states, N_PARAMS, &o, &err), err);
    assert_int_equal(states.n, 4 * N_PARAMS);
    assert_ok(fm__optimiser_norm(o, &norm, &err), err);
    assert_true(fabs(norm - sqrt(squares)) < 1e-6 * norm);
    assert_null(fm__optimiser_bad_gradient(o));
    assert_int_equal(fm__optimiser_update(o, 0, 0.01, 1, &err), FM_E_ARG);
    assert_ok(fm__optimiser_update(o, 1, 0.01, 0.5, &err), err);
    for (int i = 0; i < N_PARAMS; i++) {
        float *after = read_state(&states, "", params[i].name), *m = read_state(&states, "m.", params[i].name);
        for (size_t k = 0; k < count_of(&states.items[i]); k++) { // the first step's m / sqrt(v) is the gradient's sign
            const double g = 0.5 * d[i][k], kept = before[i][k] * (1 - 0.01 * (decays[i] == '1' ? 0.5 : 0));
            assert_true(fabs(after[k] - (kept - 0.01 * g / (fabs(g) + 1e-8))) <= 4 * 0x1p-24);
            assert_true(fabs(m[k] - 0.1 * g) <= 1e-7 * fabs(g));
        }
        free(after), free(m), free(before[i]), free(d[i]);
    }
    float *bad = read_state(&states, "grad.", params[4].name);
    bad[7] = NAN;
    assert_ok(fm__states_write(&states, fm__states_find(&states, "grad.blk.0.attn_output.weight"), bad, &err), err);
    assert_ok(fm__optimiser_norm(o, &norm, &err), err);
    assert_false(isfinite(norm));
    assert_string_equal(fm__optimiser_bad_gradient(o), "blk.0.attn_output.weight");
    free(bad);
    fm__optimiser_free(o);
    fm__states_deinit(&states);
    fm_device_close(device);
}

enum { MAX_SIDE = 48 };

// Five steps of the quintic in double.
static void newton_schulz(int R, int C, double x[MAX_SIDE][MAX_SIDE])
{
    static double a[MAX_SIDE][MAX_SIDE], b[MAX_SIDE][MAX_SIDE], y[MAX_SIDE][MAX_SIDE];
    for (int step = 0; step < 5; step++) {
        for (int i = 0; i < R; i++)
            for (int j = 0; j < R; j++) {
                a[i][j] = 0;
                for (int k = 0; k < C; k++) a[i][j] += x[i][k] * x[j][k];
            }
        for (int i = 0; i < R; i++)
            for (int j = 0; j < R; j++) {
                b[i][j] = -4.7750 * a[i][j];
                for (int k = 0; k < R; k++) b[i][j] += 2.0315 * a[i][k] * a[k][j];
            }
        for (int i = 0; i < R; i++)
            for (int j = 0; j < C; j++) {
                y[i][j] = 3.4445 * x[i][j];
                for (int k = 0; k < R; k++) y[i][j] += b[i][k] * x[k][j];
            }
        memcpy(x, y, sizeof y);
    }
}

// Wide and tall: p moves by rate 0.2 sqrt(larger side) times the orthogonalised gradient, whose rows or columns have
// norms of 0.6 to 1.3.
static void muon_step(int bf16)
{
    static const struct fm__param shapes[] = {
        {"blk.0.wide", 2, {20, 48}}, {"blk.0.tall", 2, {48, 20}}, {"blk.0.square", 2, {33, 33}}, {"norm", 1, {20}}};
    struct fm_error err;
    struct fm__states states;
    struct fm_device *device = open_device("cpu", 2);
    struct fm__optimiser *o;
    make_states(&states, device, 4, shapes);
    const struct fm__optimiser_opts opts = {.kind = FM__OPTIMISER_MUON, .weight_decay = 0.1, .bf16 = bf16};
    float *before[4], *d[4];
    for (int i = 0; i < 4; i++)
        before[i] = read_state(&states, "", shapes[i].name), d[i] = read_state(&states, "grad.", shapes[i].name);
    assert_ok(fm__optimiser_new(&opts, &states, 4, &o, &err), err);
    assert_null(fm__states_find(&states, "v.blk.0.wide"));
    assert_non_null(fm__states_find(&states, "v.norm"));
    assert_ok(fm__optimiser_update(o, 1, 0.01, 3, &err), err);
    double worst = 0;
    for (int s = 0; s < 3; s++) {
        static double x[MAX_SIDE][MAX_SIDE];
        const int R = (int)shapes[s].dims[0], C = (int)shapes[s].dims[1];
        const bool tall = R > C;
        float *after = read_state(&states, "", shapes[s].name);
        double norm = 0;
        for (int i = 0; i < R * C; i++) norm += (double)d[s][i] * d[s][i];
        norm = sqrt(norm);
        for (int i = 0; i < R; i++)
            for (int j = 0; j < C; j++) *(tall ? &x[j][i] : &x[i][j]) = d[s][i * C + j] / norm;
        newton_schulz(tall ? C : R, tall ? R : C, x);
        for (int i = 0; i < (tall ? C : R); i++) {
            double row = 0;
            for (int j = 0; j < (tall ? R : C); j++) row += x[i][j] * x[i][j];
            assert_true(sqrt(row) > 0.5 && sqrt(row) < 1.3);
        }
        const double rate = 0.01 * 0.2 * sqrt(tall ? R : C);
        for (int i = 0; i < R; i++)
            for (int j = 0; j < C; j++) {
                const double want = before[s][i * C + j] * (1 - 0.001) - rate * (tall ? x[j][i] : x[i][j]);
                // 15 products of chains of 48: roundings grow by the quintic's slope, 3.4 a step; in bf16 elements of
                // about 1/7 lose 2^-9 of themselves each time
                const double lost = bf16 ? 0x1p-9 / 7 * sqrt(48) : 48 * pow(3.5, 5) * 0x1p-24;
                assert_true(fabs(after[i * C + j] - want) <= 2 * 0x1p-24 + rate * lost * (bf16 ? 16 : 1));
                worst = fmax(worst, fabs(after[i * C + j] - want) / rate);
            }
        free(after);
    }
    for (int i = 0; i < 4; i++) free(before[i]), free(d[i]);
    fm__optimiser_free(o);
    fm__states_deinit(&states);
    fm_device_close(device);
    print_message("muon%s: %g of a step off\n", bf16 ? " in bf16" : "", worst);
    assert_true((worst > 1e-4) == (bf16 != 0)); // it was computed as asked
}

static void a_step_of_muon(void **state)
{
    (void)state;
    muon_step(0);
    muon_step(1);
}

// The loss mean((x W^T - y)^2) of 64 samples; y comes from a W that can be found. Two micro-batches a step.
static double solve(const struct fm__optimiser_opts *opts, double rate, int threads, float *weights)
{
    enum { SAMPLES = 32, IN = 24, OUT = 16, STEPS = 150 };
    static const struct fm__param shape[] = {{"blk.0.w", 2, {OUT, IN}}};
    struct fm_error err;
    struct fm__states states;
    struct fm_device *device = open_device("cpu", threads);
    struct fm__optimiser *o;
    make_states(&states, device, 1, shape);
    struct fm__graph *g = fm__graph_new();
    const union fm__attrs minus = {.scale = {.factor = -1}}, mean = {.sum = {.mean = 1}};
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, IN});
    fm__val y = fm__graph_leaf(g, FM__INPUT, "y", FM_F32, 2, (int64_t[]){FM__ROWS, OUT});
    const fm__val keep = fm__graph_leaf(g, FM__INPUT, "keep", FM_F32, 1, (int64_t[]){1});
    const fm__val w = fm__graph_leaf(g, FM__STATE, "blk.0.w", FM_F32, 2, shape->dims);
    const fm__val sum = fm__graph_leaf(g, FM__STATE, "grad.blk.0.w", FM_F32, 2, shape->dims);
    y = fm__graph_add(g, FM__OP_SCALE, 1, &y, &minus);
    y = fm__graph_add(g, FM__OP_ADD, 2, (fm__val[]){fm__graph_add(g, FM__OP_LINEAR, 2, (fm__val[]){x, w}, NULL), y},
                      NULL);
    y = fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){y, y}, NULL);
    const fm__val loss = fm__graph_add(g, FM__OP_SUM, 1, &y, &mean);
    fm__val d;
    fm__graph_gradient(g, loss, 1, &w, &d);
    fm__graph_add(g, FM__OP_ACCUMULATE, 3, (fm__val[]){sum, d, keep}, NULL);
    fm__graph_output(g, loss, "loss");
    struct fm__plan *plan;
    const struct fm__plan_opts plan_opts = {
        .device = device, .rows = SAMPLES, .bind = fm__states_bind, .bind_context = &states, .exact_activations = 1};
    assert_ok(fm__plan_new(g, &plan_opts, &plan, &err), err);
    assert_ok(fm__optimiser_new(opts, &states, 1, &o, &err), err);
    static float xs[2][SAMPLES * IN], ys[2][SAMPLES * OUT], truth[OUT * IN];
    for (int i = 0; i < OUT * IN; i++) truth[i] = random_value();
    for (int b = 0; b < 2; b++)
        for (int n = 0; n < SAMPLES; n++) {
            for (int i = 0; i < IN; i++) xs[b][n * IN + i] = 2 * random_value();
            for (int j = 0; j < OUT; j++) {
                ys[b][n * OUT + j] = 0;
                for (int i = 0; i < IN; i++) ys[b][n * OUT + j] += truth[j * IN + i] * xs[b][n * IN + i];
            }
        }
    double first = 0, last = 0;
    for (int step = 1; step <= STEPS; step++) {
        last = 0;
        for (int b = 0; b < 2; b++) {
            const float kept = (float)b;
            assert_ok(fm__plan_run(plan, SAMPLES, (const void *[]){xs[b], ys[b], &kept}, &err), err);
            last += *(const float *)fm__plan_output(plan, 0) / 2;
        }
        if (step == 1) first = last;
        const double progress = (double)step / STEPS;
        assert_ok(fm__optimiser_update(o, step, rate * (1 - progress) + 1e-5, 0.5, &err), err);
    }
    memcpy(weights, states.items[0].tensor.data, sizeof truth);
    fm__optimiser_free(o);
    fm__plan_free(plan);
    fm__graph_free(g);
    fm__states_deinit(&states);
    fm_device_close(device);
    return last / first;
}

static void each_solves_a_problem(void **state)
{
    (void)state;
    static const struct {
        struct fm__optimiser_opts opts;
        double rate;
    } cases[] = {{{.kind = FM__OPTIMISER_ADAMW}, 0.05},
                 {{.kind = FM__OPTIMISER_ADAMW8}, 0.05},
                 {{.kind = FM__OPTIMISER_SGD}, 0.2},
                 {{.kind = FM__OPTIMISER_SGD, .plain_momentum = 1, .momentum = -1}, 2},
                 {{.kind = FM__OPTIMISER_MUON}, 0.3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static float one[16 * 24], two[16 * 24];
        const double left = solve(&cases[i].opts, cases[i].rate, 1, one);
        print_message("%s: %g of the loss left\n", fm__optimiser_name(cases[i].opts.kind), left);
        assert_true(left < 1e-3);
        assert_true(solve(&cases[i].opts, cases[i].rate, 2, two) == left);
        assert_memory_equal(one, two, sizeof one);
    }
}

static void failures_are_said(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__optimiser *o;
    enum fm__optimiser_kind kind;
    for (int i = FM__OPTIMISER_ADAMW; i <= FM__OPTIMISER_MUON; i++) {
        assert_ok(fm__optimiser_parse(fm__optimiser_name((enum fm__optimiser_kind)i), &kind, &err), err);
        assert_int_equal(kind, i);
    }
    assert_int_equal(fm__optimiser_parse("adam", &kind, &err), FM_E_ARG);
    struct fm_device *device = open_device("cpu", 1);
    struct fm__states states;
    make_states(&states, device, 2, params);
    static const struct fm__optimiser_opts bad[] = {
        {.beta1 = 1}, {.beta2 = -1}, {.momentum = 1}, {.eps = -1}, {.weight_decay = NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fm__optimiser_new(&bad[i], &states, 2, &o, &err), FM_E_ARG);
    const struct fm__optimiser_opts opts = {.kind = FM__OPTIMISER_ADAMW8};
    assert_int_equal(fm__optimiser_new(&opts, &states, 4, &o, &err), FM_E_NOT_FOUND); // the gradient of a gradient
    assert_non_null(strstr(err.text, "grad.grad."));
    fm__states_deinit(&states);
    for (int64_t n = 0;; n++) {
        make_states(&states, device, 2, params);
        fm__alloc_fail_after(n, n % 2);
        const fm_status status = fm__optimiser_new(&opts, &states, 2, &o, &err);
        fm__alloc_fail_after(-1, false);
        fm__optimiser_free(o);
        fm__states_deinit(&states);
        if (status == FM_OK) break;
        assert_int_equal(status, FM_E_NOMEM);
        assert_null(o);
        assert_true(n < 10000);
    }
    fm_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_decays),        cmocka_unit_test(a_step_of_adamw),
        cmocka_unit_test(a_step_of_muon),    cmocka_unit_test(each_solves_a_problem),
        cmocka_unit_test(failures_are_said),
    };
    return cmocka_run_group_tests_name("optimiser", tests, NULL, NULL);
}

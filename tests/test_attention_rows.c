// SPDX-License-Identifier: MIT
// attention_rows and its gradient: the references against a dense softmax in double precision; every CPU level against
// the references to the byte, on 1, 2 and 3 threads; a packed document has the bytes it has alone; what a row does not
// see is not read, beyond the tiles that it shares with what it sees.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "device/cpu/kernels.h"
#include "ops/op.h"
#include "support/guarded.h"

static uint32_t seed = 2463534242u;
static float uniform(void) // -1 … 1
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) * 0x1p-23f - 1.0f;
}

enum { Q, K, V, ROWS, Y, LSE, DY, DQ, DK, DV, N_TENSORS };
enum { REFERENCE = -1 };

// Documents of these lengths, packed into one batch; lengths end with a 0.
struct world {
    struct fm__attr_attention a;
    int n_heads, lengths[8];
    int64_t n;
    struct test_guarded memory[N_TENSORS];
    struct fm_tensor t[N_TENSORS];
};

static float *at(const struct world *w, int tensor, int64_t row)
{
    return (float *)w->t[tensor].data + row * w->t[tensor].dims[1];
}

static void world_init(struct world *w, const struct fm__attr_attention *a, int n_heads, const int *lengths)
{
    *w = (struct world){.a = *a, .n_heads = n_heads};
    for (int i = 0; lengths[i]; i++) w->lengths[i] = lengths[i], w->n += lengths[i];
    const int64_t q = (int64_t)n_heads * a->head_k, y = (int64_t)n_heads * a->head_v;
    const int64_t widths[N_TENSORS] = {
        q, (int64_t)a->n_kv * a->head_k, (int64_t)a->n_kv * a->head_v, FM__ROW_FIELDS, y, n_heads, y,
        q, (int64_t)a->n_kv * a->head_k, (int64_t)a->n_kv * a->head_v};
    for (int i = 0; i < N_TENSORS; i++) {
        w->t[i] = (struct fm_tensor){.dtype = i == ROWS ? FM_I32 : FM_F32, .rank = 2, .dims = {w->n, widths[i]}};
        fm_tensor_set_contiguous(&w->t[i]);
        w->memory[i] = test_guarded_new(fm_tensor_bytes(&w->t[i]), i % 2 ? TEST_GUARD_AFTER : TEST_GUARD_BEFORE);
        w->t[i].data = w->memory[i].p;
        for (int64_t k = 0; i != ROWS && k < fm_tensor_elements(&w->t[i]); k++)
            ((float *)w->t[i].data)[k] = (i == Q ? 3 : 1) * uniform();
    }
    int64_t n = 0;
    for (int d = 0; lengths[d]; d++)
        for (int i = 0; i < lengths[d]; i++, n++)
            memcpy((int32_t *)w->t[ROWS].data + n * FM__ROW_FIELDS, ((int32_t[]){d, i, -1, (int32_t)n}), 16);
}

static void world_deinit(struct world *w)
{
    for (int i = 0; i < N_TENSORS; i++) test_guarded_free(&w->memory[i]);
}

static struct fm__pool *pools[4];
static unsigned char *scratch[3];

struct task {
    const struct fm__kernel *kernel;
    const struct fm__call *call;
    struct fm__pool *pool;
};
static void worker_main(void *context, int index, int count)
{
    const struct task *t = context;
    t->kernel->run(t->call, &(struct fm__worker){index, count, t->pool, scratch[index]});
}

// One op at a level; false where the level has no kernel for it.
static bool run_op(const struct world *w, enum fm__op_id op, int level, int threads)
{
    static const int in[] = {Q, K, V, ROWS, Y, LSE, DY};
    const union fm__attrs attrs = {.attention = w->a};
    const bool forward = op == FM__OP_ATTENTION_ROWS;
    struct fm__call call = {.n_in = forward ? 4 : 7, .n_out = forward ? 2 : 3, .attrs = &attrs, .rows = w->n};
    for (int i = 0; i < call.n_in; i++) call.in[i] = w->t[in[i]];
    for (int i = 0; i < call.n_out; i++) {
        call.out[i] = w->t[forward ? Y + i : DQ + i];
        memset(call.out[i].data, 0x5a, fm_tensor_bytes(&call.out[i]));
    }
    const struct fm__kernel kernel = level == REFERENCE ? (struct fm__kernel){0} : fm__kernel_select(op, &call, level);
    if (level != REFERENCE && !kernel.run) return false;
    const size_t bytes = level == REFERENCE ? fm__op(op)->workspace(&call)
                         : kernel.workspace ? kernel.workspace(&call, threads)
                                            : 0;
    struct test_guarded space = test_guarded_new((bytes + 63) / 64 * 64, TEST_GUARD_AFTER);
    atomic_int_fast64_t next = 0;
    call.workspace = space.p, call.workspace_bytes = bytes, call.next = &next;
    if (level == REFERENCE)
        fm__op(op)->reference(&call);
    else
        fm__pool_run(pools[threads], worker_main, &(struct task){&kernel, &call, pools[threads]});
    test_guarded_free(&space);
    return true;
}

static bool run_both(const struct world *w, int level, int threads)
{
    return run_op(w, FM__OP_ATTENTION_ROWS, level, threads) && run_op(w, FM__OP_ATTENTION_ROWS_GRAD, level, threads);
}

// --- double precision -----------------------------------------------------------------------------------------------

static const double u = 0x1p-24;

// One head of one document: p, ds [n, n] and what an implementation may miss them by.
struct dense {
    const struct world *w;
    int64_t first, n;
    int h;
    double *p, *ds, *p_error, *ds_error;
};

// Score of a pair in natural units, its error by the roundings of ops/attention_rows.h, d capped / d s.
static double score(const struct dense *d, int64_t i, int64_t j, double *error, double *slope)
{
    const struct fm__attr_attention *a = &d->w->a;
    const float *q = at(d->w, Q, d->first + i) + d->h * a->head_k;
    const float *k = at(d->w, K, d->first + j) + d->h / (d->w->n_heads / a->n_kv) * a->head_k;
    double s = 0, size = 0;
    for (int e = 0; e < a->head_k; e++) s += (double)q[e] * k[e], size += fabs((double)q[e] * k[e]);
    s *= a->scale, *error = (a->head_k + 3) * u * size * fabs((double)a->scale), *slope = 1;
    if (!(a->softcap > 0)) return s;
    const double bent = tanh(s / a->softcap);
    *slope = 1 - bent * bent, *error += 8 * u * a->softcap;
    return a->softcap * bent;
}

// y [n, E'] of the head and how far it may be off; fills p.
static void dense_forward(struct dense *d, double *y, double *y_error)
{
    const struct fm__attr_attention *a = &d->w->a;
    const int64_t n = d->n;
    for (int64_t i = 0; i < n; i++) {
        double *p = d->p + i * n, *error = d->p_error + i * n, top = -INFINITY, sum = 0, worst = 0, slope;
        for (int64_t j = 0; j <= i; j++) {
            p[j] = score(d, i, j, &error[j], &slope);
            if (a->window && i - j >= a->window) p[j] = -INFINITY;
            if (p[j] > top) top = p[j];
            if (p[j] > -INFINITY) worst = fmax(worst, error[j] + 2 * u * fabs(p[j]));
        }
        for (int64_t j = 0; j <= i; j++) sum += exp(p[j] - top);
        const double lse = top + log(sum);
        for (int64_t j = 0; j <= i; j++) {
            p[j] = exp(p[j] - lse);
            // its score and lse are off by as much as the worst score each, lse by the sum's chain and a rounding more
            error[j] = p[j] * (2 * worst + ((double)n + 16) * u + 2 * u * fabs(lse));
        }
        for (int e = 0; e < a->head_v; e++) {
            double o = 0, size = 0;
            for (int64_t j = 0; j <= i; j++) {
                const double v = at(d->w, V, d->first + j)[d->h / (d->w->n_heads / a->n_kv) * a->head_v + e];
                o += p[j] * v, size += p[j] * fabs(v);
            }
            y[i * a->head_v + e] = o;
            y_error[i * a->head_v + e] = size * (2 * worst + (2 * (double)n + 32) * u);
        }
    }
}

static void dense_pairs(struct dense *d, const double *y, const double *y_error)
{
    const struct fm__attr_attention *a = &d->w->a;
    for (int64_t i = 0; i < d->n; i++) {
        const float *dy = at(d->w, DY, d->first + i) + d->h * a->head_v;
        double delta = 0, delta_error = 0, size, s_error, slope;
        for (int e = 0; e < a->head_v; e++) {
            delta += dy[e] * y[i * a->head_v + e];
            delta_error += fabs(dy[e]) * (y_error[i * a->head_v + e] + 20 * u * fabs(y[i * a->head_v + e]));
        }
        for (int64_t j = 0; j <= i; j++) {
            const float *v = at(d->w, V, d->first + j) + d->h / (d->w->n_heads / a->n_kv) * a->head_v;
            const double p = d->p[i * d->n + j], p_error = d->p_error[i * d->n + j];
            double dp = size = 0;
            for (int e = 0; e < a->head_v; e++) dp += (double)dy[e] * v[e], size += fabs((double)dy[e] * v[e]);
            const double inner = fabs(dp - delta), inner_error = (a->head_v + 2) * u * size + delta_error;
            score(d, i, j, &s_error, &slope);
            d->ds[i * d->n + j] = p * (dp - delta) * slope;
            d->ds_error[i * d->n + j] = p * inner_error + p_error * inner + 4 * u * p * inner;
            if (a->softcap > 0) // 1 - tanh^2 is off by twice the tanh's error
                d->ds_error[i * d->n + j] += p * inner * (2 * s_error / a->softcap + 4 * u);
        }
    }
}

static double largest_share; // of a value in its tolerance: checks must not be empty

static void near(const char *what, int64_t row, int e, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s, row %lld, element %d: %g, want %g +- %g", what, (long long)row, e, got, want, tolerance);
}

// Adds one head's part of row r's gradient: sum over the other index of weight * x.
struct part {
    double sum, error;
};
static void add(struct part *to, double weight, double error, double x, double length)
{
    to->sum += weight * x;
    to->error += (error + length * u * fabs(weight)) * fabs(x);
}

static void check_keys(const struct dense *d, struct part *dk, struct part *dv)
{
    const struct fm__attr_attention *a = &d->w->a;
    const double length = (double)d->n + 8;
    for (int64_t i = 0; i < d->n; i++)
        for (int64_t j = 0; j <= i; j++) {
            const int64_t pair = i * d->n + j;
            for (int e = 0; e < a->head_k; e++)
                add(&dk[j * a->head_k + e], a->scale * d->ds[pair], a->scale * d->ds_error[pair],
                    at(d->w, Q, d->first + i)[d->h * a->head_k + e], length);
            for (int e = 0; e < a->head_v; e++)
                add(&dv[j * a->head_v + e], d->p[pair], d->p_error[pair],
                    at(d->w, DY, d->first + i)[d->h * a->head_v + e], length);
        }
}

static void check_queries(const struct dense *d, const double *y, const double *y_error)
{
    const struct fm__attr_attention *a = &d->w->a;
    const int kv = d->h / (d->w->n_heads / a->n_kv);
    for (int64_t i = 0; i < d->n; i++) {
        for (int e = 0; e < a->head_v; e++)
            near("y", i, e, at(d->w, Y, d->first + i)[d->h * a->head_v + e], y[i * a->head_v + e],
                 y_error[i * a->head_v + e]);
        for (int e = 0; e < a->head_k; e++) {
            struct part dq = {0, 0};
            for (int64_t j = 0; j <= i; j++)
                add(&dq, a->scale * d->ds[i * d->n + j], a->scale * d->ds_error[i * d->n + j],
                    at(d->w, K, d->first + j)[kv * a->head_k + e], (double)d->n + 8);
            near("dq", i, e, at(d->w, DQ, d->first + i)[d->h * a->head_k + e], dq.sum, dq.error);
            largest_share = fmax(largest_share, fabs(dq.sum) / (dq.error + 1e-30));
        }
    }
}

// Everything that the world's tensors hold, by dense attention in double precision.
static void check_dense(const struct world *w)
{
    const int head_k = w->a.head_k, head_v = w->a.head_v, group = w->n_heads / w->a.n_kv;
    int64_t first = 0;
    largest_share = 0;
    for (int doc = 0; w->lengths[doc]; first += w->lengths[doc++]) {
        const size_t n = (size_t)w->lengths[doc];
        double *pairs[4], *y = calloc(n * (size_t)head_v, 8), *y_error = calloc(n * (size_t)head_v, 8);
        for (int i = 0; i < 4; i++) pairs[i] = calloc(n * n, 8);
        for (int kv = 0; kv < w->a.n_kv; kv++) {
            struct part *dk = calloc(n * (size_t)head_k, sizeof *dk), *dv = calloc(n * (size_t)head_v, sizeof *dv);
            for (int h = kv * group; h < (kv + 1) * group; h++) {
                struct dense d = {w, first, (int64_t)n, h, pairs[0], pairs[1], pairs[2], pairs[3]};
                dense_forward(&d, y, y_error);
                dense_pairs(&d, y, y_error);
                check_queries(&d, y, y_error);
                check_keys(&d, dk, dv);
            }
            for (size_t j = 0; j < n; j++) {
                for (int e = 0; e < head_k; e++) {
                    const struct part *p = &dk[j * (size_t)head_k + (size_t)e];
                    near("dk", (int64_t)j, e, at(w, DK, first + (int64_t)j)[kv * head_k + e], p->sum, p->error);
                }
                for (int e = 0; e < head_v; e++) {
                    const struct part *p = &dv[j * (size_t)head_v + (size_t)e];
                    near("dv", (int64_t)j, e, at(w, DV, first + (int64_t)j)[kv * head_v + e], p->sum, p->error);
                }
            }
            free(dk), free(dv);
        }
        for (int i = 0; i < 4; i++) free(pairs[i]);
        free(y), free(y_error);
    }
    assert_true(largest_share > 100 || w->a.window == 1); // of one key: p is 1, whatever the score; dq and dk are 0
}

// --- tests ----------------------------------------------------------------------------------------------------------

static const struct setting {
    const char *name;
    struct fm__attr_attention a;
    int n_heads, lengths[8];
} settings[] = {
    {"one document", {.scale = 0.125f, .n_kv = 2, .head_k = 64, .head_v = 64}, 2, {150}},
    {"packed", {.scale = 0.2f, .n_kv = 3, .head_k = 32, .head_v = 32}, 3, {5, 64, 1, 65, 130, 17, 128}},
    {"groups", {.scale = 0.25f, .n_kv = 2, .head_k = 16, .head_v = 48}, 6, {70, 3, 129}},
    {"window", {.scale = 0.25f, .n_kv = 1, .head_k = 16, .head_v = 16, .window = 70}, 3, {200, 71, 70, 40}},
    {"window of a tile", {.scale = 0.25f, .n_kv = 1, .head_k = 16, .head_v = 16, .window = 64}, 1, {260}},
    {"window of one", {.scale = 0.25f, .n_kv = 1, .head_k = 16, .head_v = 16, .window = 1}, 1, {66}},
    {"cap", {.scale = 0.5f, .n_kv = 1, .head_k = 80, .head_v = 112, .softcap = 2}, 2, {90, 20}},
    {"largest heads", {.scale = 0.06f, .n_kv = 1, .head_k = 256, .head_v = 256, .window = 33}, 2, {100, 1}},
    {"many tiles", {.scale = 0.25f, .n_kv = 1, .head_k = 16, .head_v = 16}, 1, {1100}},
    {"odd heads", {.scale = 0.4f, .n_kv = 2, .head_k = 7, .head_v = 5, .softcap = 3}, 4, {70, 9}},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

static void references_are_near_double(void **state)
{
    (void)state;
    for (int i = 0; i < N_SETTINGS; i++) {
        if (!strcmp(settings[i].name, "many tiles")) continue; // a million pairs teach nothing more
        struct world w;
        world_init(&w, &settings[i].a, settings[i].n_heads, settings[i].lengths);
        run_both(&w, REFERENCE, 1);
        check_dense(&w);
        world_deinit(&w);
    }
}

static void keep_results(const struct world *w, float **kept)
{
    for (int i = Y; i <= DV; i++) {
        kept[i] = malloc(w->memory[i].bytes);
        memcpy(kept[i], w->t[i].data, w->memory[i].bytes);
    }
}

static void every_level_gives_the_reference_s_bytes(void **state)
{
    (void)state;
    static const int levels[] = {FM__CPU_REF, FM__CPU_AVX2, FM__CPU_AVX512, FM__CPU_AMX, FM__CPU_NEON};
    static const char *const names[] = {[Y] = "y", [LSE] = "lse", [DQ] = "dq", [DK] = "dk", [DV] = "dv"};
    int n_run = 0;
    for (int s = 0; s < N_SETTINGS; s++) {
        struct world w;
        float *want[N_TENSORS];
        world_init(&w, &settings[s].a, settings[s].n_heads, settings[s].lengths);
        run_both(&w, REFERENCE, 1);
        keep_results(&w, want);
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
            for (int threads = 1; threads <= 3 && fm__cpu_has(levels[l]); threads++) {
                if (!run_both(&w, levels[l], threads)) continue;
                n_run++;
                for (int i = Y; i <= DV; i++)
                    for (size_t e = 0; e < w.memory[i].bytes / 4; e++)
                        if (memcmp((float *)w.t[i].data + e, want[i] + e, 4))
                            fail_msg("%s at %s on %d threads: %s, element %zu: %a, want %a", settings[s].name,
                                     fm__cpu_level_name(levels[l]), threads, names[i], e, ((float *)w.t[i].data)[e],
                                     want[i][e]);
            }
        for (int i = Y; i <= DV; i++) free(want[i]);
        world_deinit(&w);
    }
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_run >= 3 * (N_SETTINGS - 1));
}

static int best_level(void)
{
    return fm__cpu_has(FM__CPU_AVX512) ? FM__CPU_AVX512
           : fm__cpu_has(FM__CPU_AVX2) ? FM__CPU_AVX2
           : fm__cpu_has(FM__CPU_NEON) ? FM__CPU_NEON
                                       : REFERENCE;
}

// Every document of a batch alone: the same bytes, by the kernel and by the reference.
static void packed_is_alone(void **state)
{
    (void)state;
    for (int s = 1; s <= 3; s++)
        for (int turn = 0; turn < 2; turn++) {
            const int level = turn ? best_level() : REFERENCE;
            struct world all;
            world_init(&all, &settings[s].a, settings[s].n_heads, settings[s].lengths);
            run_both(&all, level, 2);
            int64_t first = 0;
            for (int d = 0; settings[s].lengths[d]; first += settings[s].lengths[d++]) {
                struct world one;
                world_init(&one, &settings[s].a, settings[s].n_heads, (int[]){settings[s].lengths[d], 0});
                for (int i = 0; i <= DY; i++)
                    if (i == Q || i == K || i == V || i == DY)
                        memcpy(one.t[i].data, at(&all, i, first), one.memory[i].bytes);
                run_both(&one, level, 1);
                for (int i = Y; i <= DV; i++)
                    assert_memory_equal(one.t[i].data, at(&all, i, first), one.memory[i].bytes);
                world_deinit(&one);
            }
            world_deinit(&all);
        }
}

// NaN in a document and in keys out of the window: nothing that cannot see them changes.
static void the_unseen_is_not_read(void **state)
{
    (void)state;
    const struct fm__attr_attention a = {.scale = 0.25f, .n_kv = 1, .head_k = 16, .head_v = 16, .window = 32};
    struct world w;
    float *kept[N_TENSORS];
    if (best_level() == REFERENCE) skip();
    world_init(&w, &a, 2, (int[]){70, 300, 65, 0});
    run_both(&w, best_level(), 2);
    keep_results(&w, kept);
    for (int64_t n = 0; n < 70; n++)
        for (int i = Q; i <= V; i++) at(&w, i, n)[0] = NAN; // all of the first document
    for (int i = K; i <= V; i++) at(&w, i, 70)[0] = NAN;    // key 0 of the second; rows 0 … 31 see it
    run_both(&w, best_level(), 2);
    for (int i = Y; i <= DV; i++) {
        const size_t width = (size_t)w.t[i].dims[1] * sizeof(float), skipped = (i == DY ? 0 : 70 + 128) * width;
        if (memcmp((char *)w.t[i].data + skipped, (char *)kept[i] + skipped, w.memory[i].bytes - skipped))
            fail_msg("result %d of rows that see no NaN changed", i);
        free(kept[i]);
    }
    assert_true(isnan(at(&w, Y, 71)[0]) && isnan(at(&w, DQ, 69)[0]));
    world_deinit(&w);
}

// Scores of a thousand: no overflow, p of the largest is 1.
static void large_scores(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, &settings[0].a, settings[0].n_heads, settings[0].lengths);
    for (int64_t i = 0; i < fm_tensor_elements(&w.t[Q]); i++) ((float *)w.t[Q].data)[i] *= 1e4f;
    run_both(&w, best_level(), 2);
    for (int i = Y; i <= DV; i++)
        for (size_t e = 0; e < w.memory[i].bytes / 4; e++) assert_true(isfinite(((float *)w.t[i].data)[e]));
    world_deinit(&w);
}

int main(void)
{
    struct fm_error err;
    for (int i = 0; i < 3; i++) {
        scratch[i] = aligned_alloc(64, FM__WORKER_SCRATCH);
        if (!scratch[i] || fm__pool_new(i + 1, &pools[i + 1], &err) != FM_OK) return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_near_double),
        cmocka_unit_test(every_level_gives_the_reference_s_bytes),
        cmocka_unit_test(packed_is_alone),
        cmocka_unit_test(the_unseen_is_not_read),
        cmocka_unit_test(large_scores),
    };
    const int failed = cmocka_run_group_tests_name("attention_rows", tests, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        fm__pool_free(pools[i + 1]);
        free(scratch[i]);
    }
    return failed;
}

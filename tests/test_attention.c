// SPDX-License-Identifier: MIT
// Attention and kv_write: the reference against a dense softmax in double precision; every CPU level against the
// reference to the byte; the same bytes however a prompt is cut, batched or threaded.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cpuinfo.h"
#include "base/pool.h"
#include "device/cpu/attention_cpu.h"
#include "ops/attention.h"
#include "tensor/q8a.h"

enum { MAX_SESSIONS = 8, MAX_MAPS = 64 };

static float uniform(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) * 0x1p-23f - 1.0f;
}

// Memory whose end is followed by a page that may not be touched; all of it goes back in release().
static struct {
    void *at;
    size_t bytes;
} maps[MAX_MAPS];
static int n_maps;

static void *guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (bytes + 63) / 64 * 64, all = (size / page + 2) * page;
    unsigned char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED && n_maps < MAX_MAPS);
    assert_int_equal(mprotect(p + all - page, page, PROT_NONE), 0);
    maps[n_maps].at = p, maps[n_maps++].bytes = all;
    return p + all - page - size;
}

static void release(void)
{
    while (n_maps) munmap(maps[n_maps - 1].at, maps[n_maps - 1].bytes), n_maps--;
}

// --- a little world: sessions with keys, values and queries for every position -----------------------------------

struct world {
    struct fm__attr_attention a;
    int n_heads, n_sessions, length[MAX_SESSIONS], slack; // floats between rows that are nobody's (odd strides)
    int n_pages, slot_pages;
    float *q[MAX_SESSIONS], *k[MAX_SESSIONS], *v[MAX_SESSIONS], *sinks;
    int32_t *pages; // [n_sessions, slot_pages]
    unsigned char *cache;
    size_t page_bytes;
};

static float *numbers(int n_rows, int width, float scale, uint32_t *seed)
{
    float *x = guarded(sizeof(float) * (size_t)n_rows * (size_t)width);
    for (int i = 0; i < n_rows * width; i++) x[i] = scale * uniform(seed);
    return x;
}

// Lengths end with a 0. Pages are dealt out to sessions like cards.
static void world_init(struct world *w, const struct fm__attr_attention *a, int n_heads, const int *lengths,
                       uint32_t seed)
{
    *w = (struct world){.a = *a, .n_heads = n_heads, .slack = 3};
    for (int s = 0; lengths[s]; s++) {
        int n = w->length[s] = lengths[s];
        w->n_sessions++;
        w->q[s] = numbers(n, n_heads * a->head_k + w->slack, 4.0f, &seed);
        w->k[s] = numbers(n, a->n_kv * a->head_k + w->slack, 1.0f, &seed);
        w->v[s] = numbers(n, a->n_kv * a->head_v + w->slack, 1.0f, &seed);
        if ((n + 63) / 64 > w->slot_pages) w->slot_pages = (n + 63) / 64;
    }
    w->n_pages = w->slot_pages * w->n_sessions;
    w->pages = guarded(sizeof(int32_t) * (size_t)w->n_pages);
    for (int s = 0; s < w->n_sessions; s++)
        for (int p = 0; p < w->slot_pages; p++)
            w->pages[s * w->slot_pages + p] = p * 64 < w->length[s] ? (p * w->n_sessions + s) * 7 % w->n_pages : -1;
    if (w->n_pages % 7 == 0) // no permutation then
        for (int i = 0; i < w->n_pages; i++) w->pages[i] = w->pages[i] < 0 ? -1 : w->n_pages - 1 - i;
    w->page_bytes = fm__kv_page_bytes(a->kv_format, a->n_kv, a->head_k, a->head_v);
    assert_int_not_equal(w->page_bytes, 0);
    w->cache = guarded(w->page_bytes * (size_t)w->n_pages);
}

static struct fm_tensor matrix(fm_dtype dtype, int64_t rows, int64_t cols, size_t stride, void *data)
{
    return (struct fm_tensor){.dtype = dtype,
                              .rank = 2,
                              .dims = {rows, cols},
                              .strides = {(int64_t)stride, fm_dtype_info(dtype)->block_bytes},
                              .data = data};
}

// --- running kernels on threads -------------------------------------------------------------------------------------

struct task {
    const struct fm__call *call;
    fm__kernel_fn *kernel;
    struct fm__pool *pool;
};

static struct fm__pool *pools[4]; // of 1, 2, 3 threads

static void worker_main(void *context, int index, int count)
{
    static unsigned char *scratch[4];
    const struct task *t = context;
    if (!scratch[index]) scratch[index] = aligned_alloc(64, FM__WORKER_SCRATCH);
    t->kernel(t->call, &(struct fm__worker){index, count, t->pool, scratch[index]});
}

static bool write_only;   // run_batch stops after kv_write
enum { LEVEL_NONE = -1 }; // the reference itself, one call on one thread

static void run_kernel(struct fm__call *call, fm__kernel_fn *kernel, int n_threads)
{
    struct fm_error err;
    if (!pools[n_threads]) assert_ok(fm__pool_new(n_threads, &pools[n_threads], &err), err);
    atomic_int_fast64_t next = 0;
    call->next = &next;
    fm__pool_run(pools[n_threads], worker_main, &(struct task){call, kernel, pools[n_threads]});
}

struct step {
    int session, first, n;
};

// One batch: the rows of all steps; outputs land in out[session] at their places ([T, H * Ev], dense).
static void run_batch(struct world *w, const struct step *steps, int n_steps, int level, int n_threads, float **out)
{
    int qw = w->n_heads * w->a.head_k, kw = w->a.n_kv * w->a.head_k, vw = w->a.n_kv * w->a.head_v;
    int ow = w->n_heads * w->a.head_v, n = 0;
    for (int i = 0; i < n_steps; i++) n += steps[i].n;
    size_t qs = sizeof(float) * (size_t)(qw + w->slack), ks = sizeof(float) * (size_t)(kw + w->slack);
    size_t vs = sizeof(float) * (size_t)(vw + w->slack), os = sizeof(float) * (size_t)(ow + w->slack),
           bytes = sizeof(float) * (size_t)ow;
    if (w->a.out_dtype == FM_Q8A) os = bytes = fm__q8a_row_bytes(ow); // stands in out[] as bytes
    char *q = malloc(qs * (size_t)n), *k = malloc(ks * (size_t)n), *v = malloc(vs * (size_t)n),
         *o = malloc(os * (size_t)n);
    int32_t *rows = malloc(sizeof(int32_t) * FM__ROW_FIELDS * (size_t)n);
    n = 0;
    for (int i = 0; i < n_steps; i++)
        for (int r = steps[i].first; r < steps[i].first + steps[i].n; r++, n++) {
            memcpy(q + qs * (size_t)n, w->q[steps[i].session] + r * (qw + w->slack), qs);
            memcpy(k + ks * (size_t)n, w->k[steps[i].session] + r * (kw + w->slack), ks);
            memcpy(v + vs * (size_t)n, w->v[steps[i].session] + r * (vw + w->slack), vs);
            memcpy(rows + n * FM__ROW_FIELDS, (int32_t[]){steps[i].session, r + 1000, -1, r}, 4 * sizeof(int32_t));
        }
    union fm__attrs attrs = {.attention = w->a};
    struct fm_tensor cache = matrix(FM_I8, w->n_pages, (int64_t)w->page_bytes, w->page_bytes, w->cache);
    struct fm_tensor row_t = matrix(FM_I32, n, FM__ROW_FIELDS, FM__ROW_FIELDS * 4, rows);
    struct fm_tensor page_t = matrix(FM_I32, w->n_sessions, w->slot_pages, (size_t)w->slot_pages * 4, w->pages);
    struct fm__call write = {.n_in = 5,
                             .n_out = 1,
                             .in = {cache, matrix(FM_F32, n, kw, ks, k), matrix(FM_F32, n, vw, vs, v), row_t, page_t},
                             .out = {cache},
                             .attrs = &attrs,
                             .rows = n};
    struct fm__call attend = {.n_in = 5,
                              .n_out = 1,
                              .in = {matrix(FM_F32, n, qw, qs, q),
                                     cache,
                                     row_t,
                                     page_t,
                                     {.dtype = w->sinks ? FM_F32 : FM_DTYPE_COUNT,
                                      .rank = 1,
                                      .dims = {w->n_heads},
                                      .strides = {4},
                                      .data = w->sinks}},
                              .out = {matrix((fm_dtype)w->a.out_dtype, n, ow, os, o)},
                              .attrs = &attrs,
                              .rows = n};
    attend.workspace_bytes =
        level == LEVEL_NONE ? fm__ref_attention_workspace(&attend) : fm__cpu_attention_workspace(&attend, n_threads);
    attend.workspace = aligned_alloc(64, (attend.workspace_bytes + 64) / 64 * 64);
    if (level == LEVEL_NONE) {
        fm__ref_kv_write(&write);
        fm__ref_attention(&attend);
    } else {
        run_kernel(&write, fm__cpu_kv_write(level), n_threads);
        if (!write_only) run_kernel(&attend, fm__cpu_attention(level), n_threads);
    }
    n = 0;
    for (int i = 0; i < n_steps; i++)
        for (int r = steps[i].first; r < steps[i].first + steps[i].n; r++, n++)
            memcpy(out[steps[i].session] + r * ow, o + os * (size_t)n, bytes);
    free(q), free(k), free(v), free(o), free(rows), free(attend.workspace);
}

// All rows of all sessions, `cut` rows of each session a batch (0: everything), together or session by session.
struct how {
    int level, cut, threads;
    bool alone;
};

static void run_world(struct world *w, struct how how, float **out)
{
    int ow = w->n_heads * w->a.head_v, longest = 0;
    memset(w->cache, 0xff, w->page_bytes * (size_t)w->n_pages); // NaN in every float type: nobody may look at it
    for (int s = 0; s < w->n_sessions; s++) {
        out[s] = calloc((size_t)w->length[s] * (size_t)ow, sizeof(float));
        if (w->length[s] > longest) longest = w->length[s];
    }
    int cut = how.cut ? how.cut : longest;
    for (int turn = 0; turn < (how.alone ? w->n_sessions : 1); turn++)
        for (int at = 0; at < longest; at += cut) {
            struct step steps[MAX_SESSIONS];
            int n = 0;
            for (int s = 0; s < w->n_sessions; s++) {
                if ((how.alone && s != turn) || at >= w->length[s]) continue;
                steps[n++] = (struct step){s, at, w->length[s] - at < cut ? w->length[s] - at : cut};
            }
            if (n) run_batch(w, steps, n, how.level, how.threads, out);
        }
}

static void free_out(const struct world *w, float **out)
{
    for (int s = 0; s < w->n_sessions; s++) free(out[s]);
}

static bool same_out(const struct world *w, float **a, float **b)
{
    for (int s = 0; s < w->n_sessions; s++)
        if (memcmp(a[s], b[s], sizeof(float) * (size_t)w->length[s] * (size_t)(w->n_heads * w->a.head_v))) return false;
    return true;
}

// --- dense attention in double precision ----------------------------------------------------------------------------

// Output of row i and head h of session s, from what the cache holds, and how far an implementation may be from it:
// the sum of the roundings that the header of ops/attention.h allows, each with its size.
static void dense(const struct world *w, int s, int i, int h, double *out, double *tolerance)
{
    const struct fm__attr_attention *a = &w->a;
    const struct fm__kv_format *f = fm__kv_format(a->kv_format);
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    int kv_head = h / (w->n_heads / a->n_kv), first = a->window && i >= a->window ? i - a->window + 1 : 0,
        n = i + 1 - first;
    const double u = 0x1p-24;
    double *t = malloc(sizeof(double) * (size_t)n), top = -INFINITY, sum = 0, score_error = 0;
    float *k = malloc(sizeof(float) * 512), (*v)[512] = malloc(sizeof(*v) * (size_t)n), bias[64] = {0}, inv[64];
    float *q = malloc(sizeof(float) * 512);
    double q_step = 0, *lost = calloc(512, sizeof(double)), log2_bias[64];
    memcpy(q, w->q[s] + i * (w->n_heads * a->head_k + w->slack) + h * a->head_k, sizeof(float) * (size_t)a->head_k);
    if (a->kv_format == FM__KV_INT8)
        for (int e = 0; e < a->head_k; e++) q_step = fmax(q_step, fabs((double)q[e]) / 127.0);
    if (a->kv_format == FM__KV_INT8) // rounded queries are the format's property (test_kv_format), not attention's
        for (int e = 0; e < a->head_k; e++) q[e] = (float)(rint((double)q[e] / q_step) * q_step);
    (void)log2_bias;
    for (int j = first; j <= i; j++) {
        const char *block = (const char *)w->cache + (size_t)w->pages[s * w->slot_pages + j / 64] * w->page_bytes +
                            (size_t)kv_head * f->block_bytes(&d);
        double dot = 0, size = 0;
        f->decode(&d, block, j % 64, k, v[j - first]);
        for (int e = 0; e < a->head_k; e++) dot += (double)q[e] * k[e], size += fabs((double)q[e] * k[e]);
        dot *= a->scale, size *= fabs((double)a->scale);
        double error = (a->head_k + 8) * u * size;
        if (a->softcap > 0) dot = a->softcap * tanh(dot / a->softcap), error += 8 * u * a->softcap;
        if (a->alibi_max > 0) {
            double bias_j = fm__attend_slope(a, h, w->n_heads) / (double)FM__LOG2E * (j - i);
            dot += bias_j, error += 4 * u * fabs(bias_j);
        }
        t[j - first] = dot;
        score_error = fmax(score_error, error + 4 * u * fabs(dot));
        top = fmax(top, dot);
    }
    if (w->sinks) top = fmax(top, w->sinks[h]);
    for (int j = 0; j < n; j++) sum += exp(t[j] - top);
    if (w->sinks) sum += exp(w->sinks[h] - top);
    if (f->value_scales) // every probability times its value's scale is rounded to a 510th of the block's largest
        for (int b = first / 64; b <= i / 64; b++) {
            const char *block = (const char *)w->cache + (size_t)w->pages[s * w->slot_pages + b] * w->page_bytes +
                                (size_t)kv_head * f->block_bytes(&d);
            double largest = 0;
            f->value_scales(&d, block, bias, inv);
            for (int j = b * 64 < first ? first : b * 64; j <= i && j < b * 64 + 64; j++)
                largest = fmax(largest, exp(t[j - first] - top) / sum / inv[j % 64]);
            for (int j = b * 64 < first ? first : b * 64; j <= i && j < b * 64 + 64; j++)
                for (int e = 0; e < a->head_v; e++)
                    lost[e] += fabs((double)v[j - first][e] * inv[j % 64]) * largest / 510.0 * (1 + 1e-5);
        }
    for (int e = 0; e < a->head_v; e++) {
        double o = 0, size = 0;
        for (int j = 0; j < n; j++) {
            double p = exp(t[j] - top) / sum;
            o += p * v[j][e], size += p * fabs((double)v[j][e]);
        }
        out[e] = o;
        // twice the scores' error (numerator and denominator), exp2 1.8e-7 + roundings, chains of 64 and the joins
        tolerance[e] = lost[e] + 2 * size * (2 * score_error + (64 + 2 * n / 64 + 32) * u);
    }
    free(t), free(k), free(v), free(q), free(lost);
}

// Every `step`-th row of every head against double precision.
static void check_dense(const struct world *w, float **out, int step, const char *what)
{
    double want[512], tolerance[512];
    for (int s = 0; s < w->n_sessions; s++)
        for (int i = w->length[s] - 1; i >= 0; i -= step)
            for (int h = 0; h < w->n_heads; h++) {
                dense(w, s, i, h, want, tolerance);
                const float *o = out[s] + (i * w->n_heads + h) * w->a.head_v;
                for (int e = 0; e < w->a.head_v; e++)
                    if (!(fabs(o[e] - want[e]) <= tolerance[e]))
                        fail_msg("%s: %s session %d row %d head %d element %d: %.9g, want %.9g +- %.3g", what,
                                 fm__kv_format(w->a.kv_format)->name, s, i, h, e, (double)o[e], want[e], tolerance[e]);
            }
}

// --- tests
// ------------------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    int n_heads, n_kv, head_k, head_v, window;
    float softcap, alibi;
    bool sinks;
    int lengths[MAX_SESSIONS + 1];
} worlds[] = {
    {"plain", 4, 2, 32, 32, 0, 0, 0, false, {70, 1, 131}},
    {"smollm2", 9, 3, 64, 64, 0, 0, 0, false, {600, 65}},
    {"gemma, window", 4, 1, 256, 256, 100, 0, 0, false, {333, 17}},
    {"cap, sinks", 6, 2, 80, 96, 0, 3.0f, 0, true, {129, 40, 64}},
    {"alibi, twelve heads", 12, 12, 16, 48, 0, 0, 8.0f, false, {90, 200}},
    {"all at once, odd sizes", 10, 2, 20, 36, 70, 5.0f, 4.0f, true, {150, 3, 64, 128}},
    {"wide", 2, 1, 128, 128, 512, 0, 0, false, {1100}},
    {"keys wider than values", 3, 3, 192, 128, 0, 0, 0, true, {100}},
};
enum { N_WORLDS = sizeof worlds / sizeof *worlds };

static void world_make(struct world *w, int i, int format)
{
    struct fm__attr_attention a = {.scale = 1.0f / sqrtf((float)worlds[i].head_k),
                                   .softcap = worlds[i].softcap,
                                   .alibi_max = worlds[i].alibi,
                                   .window = worlds[i].window,
                                   .kv_format = format,
                                   .n_kv = worlds[i].n_kv,
                                   .head_k = worlds[i].head_k,
                                   .head_v = worlds[i].head_v,
                                   .out_dtype = FM_F32};
    world_init(w, &a, worlds[i].n_heads, worlds[i].lengths, 17u + (uint32_t)i);
    uint32_t seed = 5;
    if (worlds[i].sinks) w->sinks = numbers(1, worlds[i].n_heads, 3.0f, &seed);
}

static void reference_is_softmax(void **state)
{
    (void)state;
    for (int i = 0; i < N_WORLDS; i++)
        for (int format = 0; format < FM__KV_BUILTIN; format++) {
            struct world w;
            float *out[MAX_SESSIONS];
            world_make(&w, i, format);
            run_world(&w, (struct how){LEVEL_NONE, 0, 1, false}, out);
            check_dense(&w, out, 13, worlds[i].name);
            free_out(&w, out), release();
        }
}

static bool level_here(int level)
{
    return fm__cpu_has(level);
}

// Whatever the level, batch, cut and number of threads: the bytes of the reference.
static void every_way_gives_the_same_bytes(void **state)
{
    (void)state;
    static const struct how ways[] = {
        {0, 0, 1, false}, {0, 0, 2, true}, {0, 40, 3, false}, {0, 7, 2, false}, {0, 1, 1, true}};
    for (int i = 0; i < N_WORLDS; i++)
        for (int format = 0; format < FM__KV_BUILTIN; format++) {
            struct world w;
            float *want[MAX_SESSIONS], *out[MAX_SESSIONS];
            world_make(&w, i, format);
            run_world(&w, (struct how){LEVEL_NONE, 0, 1, false}, want);
            for (int level = 0; level < FM__CPU_LEVELS; level++) {
                if (!level_here(level)) continue;
                for (int k = 0; k < (level ? 5 : 1); k++) {
                    struct how how = ways[k];
                    if (!level) how = (struct how){0, 100, 2, false}; // the driver over the reference's functions
                    how.level = level;
                    run_world(&w, how, out);
                    if (!same_out(&w, want, out))
                        fail_msg("%s, %s, level %s, cut %d, %d threads, %s: other bytes than the reference's",
                                 worlds[i].name, fm__kv_format(format)->name, fm__cpu_level_name(level), how.cut,
                                 how.threads, how.alone ? "alone" : "together");
                    free_out(&w, out);
                }
            }
            free_out(&w, want), release();
        }
}

// Rows for a linear to come: the reference's f32 rows quantised, whether a head is whole blocks (96) or not (48).
static void rows_may_be_q8a(void **state)
{
    (void)state;
    static const struct how ways[] = {{0, 0, 1, false}, {0, 40, 3, false}, {0, 7, 2, false}, {0, 1, 1, true}};
    for (int i = 3; i < 5; i++) {
        struct world w;
        float *want[MAX_SESSIONS], *out[MAX_SESSIONS];
        world_make(&w, i, FM__KV_INT8);
        const int ow = w.n_heads * w.a.head_v;
        run_world(&w, (struct how){LEVEL_NONE, 0, 1, false}, want);
        for (int s = 0; s < w.n_sessions; s++)
            for (int r = 0; r < w.length[s]; r++) {
                float *row = want[s] + r * ow, copy[1024];
                memcpy(copy, row, sizeof(float) * (size_t)ow);
                memset(row, 0, sizeof(float) * (size_t)ow);
                fm__q8a_quantise_row(copy, ow, row);
            }
        w.a.out_dtype = FM_Q8A;
        for (int level = LEVEL_NONE; level < FM__CPU_LEVELS; level++)
            for (int k = 0; (level < 0 || level_here(level)) && k < (level < 0 ? 1 : 4); k++) {
                struct how how = level < 0 ? (struct how){0, 0, 1, false} : ways[k];
                how.level = level;
                run_world(&w, how, out);
                if (!same_out(&w, want, out))
                    fail_msg("%s, level %d, way %d: other q8a rows", worlds[i].name, level, k);
                free_out(&w, out);
            }
        free_out(&w, want), release();
    }
}

// One key at +10 over 16K equal ones, whose values are 1 where the sink's are 0: what int8 probabilities may lose.
static void sink_over_equal_keys_keeps_its_neighbours(void **state)
{
    (void)state;
    enum { N = 16384, E = 32 };
    struct fm__attr_attention a = {.scale = 1, .kv_format = FM__KV_INT8, .n_kv = 1, .head_k = E, .head_v = E};
    struct world w;
    float *out[MAX_SESSIONS];
    world_init(&w, &a, 1, (const int[]){N, 0}, 3);
    for (int j = 0; j < N; j++)
        for (int e = 0; e < E; e++) {
            w.q[0][j * (E + w.slack) + e] = e ? 0.0f : 10.0f;
            w.k[0][j * (E + w.slack) + e] = e || j ? 0.0f : 1.0f;
            w.v[0][j * (E + w.slack) + e] = j ? 1.0f : 0.0f;
        }
    const double rest = (N - 1) * exp(-10.0), want = rest / (1 + rest);
    for (int level = 0; level < FM__CPU_LEVELS; level++) {
        if (!level_here(level)) continue;
        out[0] = calloc((size_t)N * E, sizeof(float));
        memset(w.cache, 0, w.page_bytes * (size_t)w.n_pages);
        for (int at = 0; at < N - 1; at += 4096) { // keys only: the cheap part is a row's own attention
            struct step fill = {0, at, at + 4096 < N - 1 ? 4096 : N - 1 - at};
            write_only = true;
            run_batch(&w, &fill, 1, level, 1, out);
            write_only = false;
        }
        run_batch(&w, &(struct step){0, N - 1, 1}, 1, level, 2, out);
        for (int e = 0; e < E; e++) assert_true(fabs(out[0][(N - 1) * E + e] - want) < 0.01 * want);
        free_out(&w, out);
    }
    release();
}

// A format that nobody has heard of: plain f32 keys and values, key 63 first. Only its table is new.
static size_t toy_bytes(const struct fm__kv_dims *d)
{
    return (size_t)64 * (size_t)((d->head_k + d->head_v + 15) / 16 * 16) * sizeof(float);
}
static float *toy_at(const struct fm__kv_dims *d, const void *block, int i)
{
    return (float *)(uintptr_t)block + (63 - i) * (d->head_k + d->head_v);
}
static void toy_encode(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v)
{
    memcpy(toy_at(d, block, i), k, sizeof(float) * (size_t)d->head_k);
    memcpy(toy_at(d, block, i) + d->head_k, v, sizeof(float) * (size_t)d->head_v);
}
static void toy_decode(const struct fm__kv_dims *d, const void *block, int i, float *k, float *v)
{
    memcpy(k, toy_at(d, block, i), sizeof(float) * (size_t)d->head_k);
    memcpy(v, toy_at(d, block, i) + d->head_k, sizeof(float) * (size_t)d->head_v);
}
static size_t toy_query_bytes(const struct fm__kv_dims *d)
{
    return (size_t)(d->head_k + 15) / 16 * 64;
}
static void toy_prepare(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared)
{
    for (int r = 0; r < n_rows; r++)
        memcpy((char *)prepared + (size_t)r * toy_query_bytes(d), q + r * q_stride, sizeof(float) * (size_t)d->head_k);
}
static void toy_score(const struct fm__kv_dims *d, int n_rows, const void *prepared, const void *block, float *scores)
{
    for (int r = 0; r < n_rows; r++)
        for (int j = 0; j < 64; j++) {
            const float *q = (const float *)((const char *)prepared + (size_t)r * toy_query_bytes(d));
            float s = 0;
            for (int e = 0; e < d->head_k; e++) s = fmaf(q[e], toy_at(d, block, j)[e], s);
            scores[r * 64 + j] = s;
        }
}
static void toy_mix(const struct fm__kv_dims *d, const void *block, const struct fm__kv_mix *m)
{
    for (int r = 0; r < m->n_rows; r++)
        for (int e = 0; e < d->head_v; e++) {
            float s = 0;
            for (int j = 0; j < m->n_keys; j++) s = fmaf(m->p[r * 64 + j], toy_at(d, block, j)[d->head_k + e], s);
            m->o[r * m->o_stride + e] = s;
        }
}

static void a_new_format_needs_only_its_table(void **state)
{
    (void)state;
    static const struct fm__kv_format toy = {"toy",           0,           toy_bytes, toy_encode, toy_decode,
                                             toy_query_bytes, toy_prepare, toy_score, NULL,       toy_mix};
    int format = fm__kv_format_register(&toy);
    assert_true(format >= FM__KV_BUILTIN);
    assert_int_equal(fm__kv_format_by_name("toy"), format);
    for (int i = 0; i < N_WORLDS; i += 3)
        for (int level = 0; level < FM__CPU_LEVELS; level++) {
            if (!level_here(level)) continue;
            struct world w, plain;
            float *out[MAX_SESSIONS], *want[MAX_SESSIONS];
            world_make(&w, i, format);
            world_make(&plain, i, FM__KV_F32);
            run_world(&w, (struct how){level, 50, 2, false}, out);
            run_world(&plain, (struct how){LEVEL_NONE, 0, 1, false}, want);
            assert_true(same_out(&w, want, out)); // the same sums as f32: to the byte
            free_out(&w, out), free_out(&w, want), release();
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_is_softmax),
        cmocka_unit_test(every_way_gives_the_same_bytes),
        cmocka_unit_test(rows_may_be_q8a),
        cmocka_unit_test(sink_over_equal_keys_keeps_its_neighbours),
        cmocka_unit_test(a_new_format_needs_only_its_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

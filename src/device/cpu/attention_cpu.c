// SPDX-License-Identifier: MIT
// The driver of attention: cuts a batch into work that workers take, whatever the level and the format.
//
// Rows of one session stand together (a run). The G heads of a group times the run's rows are "pairs", flat, 16 to a
// tile: a kv head's keys are read once for all of them. Two ways to share the work:
//   many rows: an item is (run, kv head, set of tiles); it walks the chunks and keeps each tile's state. Chunks are the
//     outer loop, so that a chunk stays in the second-level cache while all tiles of the set use it.
//   few rows (FM__SPLIT_ROWS): an item is (run, kv head, chunk); states go to the workspace, and after a barrier every
//     (row, head) is joined from its chunks, left to right.
// Both give the same bytes, because a chunk always starts from an empty state and joins have one order.
#include "device/cpu/attention_cpu.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cpuinfo.h"
#include "device/cpu/linear.h"
#include "ops/rows_out.h"

enum { FM__SPLIT_ROWS = 32 };

struct job {
    const struct fm__call *call;
    struct fm__attend_kernels k;
    struct fm__kv_dims dims;
    struct fm__attend_heads heads;
    const struct fm__attr_attention *a;
    int n_heads, group, v_stride;
    size_t query_bytes, block_bytes;
    fm__q8a_quantise_fn *quantise;
    int64_t cell_chunks; // chunks that a run can touch: cells a (row, head) has in the workspace
};

// One run of rows: all of one slot.
struct run {
    int64_t row0, n_rows;
    const int32_t *pages;
    int32_t chunk0, n_chunks, last; // chunks that any of its rows sees, the last key
};

// --- rows -----------------------------------------------------------------------------------------------------------

static const int32_t *row_of(const struct job *j, int64_t i)
{
    const struct fm_tensor *rows = &j->call->in[2];
    return (const int32_t *)((const char *)rows->data + i * rows->strides[0]);
}

// First key that row i sees.
static int32_t first_key(const struct job *j, int32_t kv)
{
    return j->a->window > 0 && kv >= j->a->window ? kv - j->a->window + 1 : 0;
}

static struct run run_at(const struct job *j, int64_t row0)
{
    const struct fm_tensor *pages = &j->call->in[3];
    const int32_t *row = row_of(j, row0);
    int32_t slot = row[FM__ROW_SLOT], low = row[FM__ROW_KV], high = low;
    int64_t n = 1;
    for (; row0 + n < j->call->rows; n++) {
        row = row_of(j, row0 + n);
        if (row[FM__ROW_SLOT] != slot) break;
        if (row[FM__ROW_KV] < low) low = row[FM__ROW_KV];
        if (row[FM__ROW_KV] > high) high = row[FM__ROW_KV];
    }
    int32_t chunk0 = first_key(j, low) / FM__KV_CHUNK;
    return (struct run){row0,
                        n,
                        (const int32_t *)((const char *)pages->data + slot * pages->strides[0]),
                        chunk0,
                        high / FM__KV_CHUNK + 1 - chunk0,
                        high};
}

// --- one tile against one chunk ------------------------------------------------------------------------------------

static int tile_rows(int64_t pairs, int64_t pair0)
{
    return (int)(pairs - pair0 < FM__ATTEND_ROWS ? pairs - pair0 : FM__ATTEND_ROWS);
}

// Queries of the tile from pair0 on. Pair p of a run: row p / G, head p % G of the group.
static void prepare_tile(const struct job *j, const struct run *run, int kv_head, int64_t pair0, void *prepared,
                         float *q)
{
    const int n = tile_rows(run->n_rows * j->group, pair0);
    const struct fm_tensor *in = &j->call->in[0];
    for (int r = 0; r < n; r++) {
        int64_t pair = pair0 + r, row = run->row0 + pair / j->group;
        int head = kv_head * j->group + (int)(pair % j->group);
        const float *x = (const float *)((const char *)in->data + row * in->strides[0]) + head * j->dims.head_k;
        for (int e = 0; e < j->dims.head_k; e++) q[r * j->dims.head_k + e] = x[e] * j->heads.q_scale;
    }
    j->k.twin.prepare(&j->dims, n, q, j->dims.head_k, prepared);
}

static const void *block_at(const struct job *j, const struct run *run, int kv_head, int32_t page)
{
    const struct fm_tensor *cache = &j->call->in[1];
    return (const char *)cache->data + run->pages[page] * cache->strides[0] + (size_t)kv_head * j->block_bytes;
}

// Fills what differs from chunk to chunk. False where no pair of the tile sees a key of it.
static bool aim_tile(const struct job *j, const struct run *run, int kv_head, int64_t pair0, int32_t chunk,
                     struct fm__attend *t)
{
    int32_t base = chunk * FM__KV_CHUNK, low = FM__KV_CHUNK, high = 0;
    for (int r = 0; r < t->n_rows; r++) {
        int32_t kv = row_of(j, run->row0 + (pair0 + r) / j->group)[FM__ROW_KV], first = first_key(j, kv) - base;
        t->first[r] = first > 0 ? first : 0;
        t->last[r] = kv + 1 - base < FM__KV_CHUNK ? kv + 1 - base : FM__KV_CHUNK;
        t->at[r] = kv - base;
        if (t->first[r] >= t->last[r]) continue;
        if (t->first[r] < low) low = t->first[r];
        if (t->last[r] > high) high = t->last[r];
        if (t->alibi)
            t->slope[r] = fm__attend_slope(j->a, kv_head * j->group + (int)((pair0 + r) % j->group), j->n_heads);
    }
    for (int b = 0; b < FM__ATTEND_BLOCKS; b++) {
        bool seen = b * FM__KV_BLOCK < high && (b + 1) * FM__KV_BLOCK > low;
        t->blocks[b] = seen ? block_at(j, run, kv_head, base / FM__KV_BLOCK + b) : NULL;
    }
    return high > 0;
}

static struct fm__attend new_tile(const struct job *j, int n_rows, const void *prepared, void *scratch)
{
    return (struct fm__attend){.dims = j->dims,
                               .n_rows = n_rows,
                               .prepared = prepared,
                               .cap_in = j->heads.cap_in,
                               .cap_out = j->heads.cap_out,
                               .alibi = j->a->alibi_max > 0,
                               .o_stride = j->v_stride,
                               .scratch = scratch};
}

// Floats of the states that few_rows keeps in the workspace (none for many rows).
static int64_t cell_floats(const struct job *j, int64_t rows)
{
    return rows > FM__SPLIT_ROWS ? 0 : rows * j->n_heads * j->cell_chunks * (j->v_stride + 2);
}

// --- results --------------------------------------------------------------------------------------------------------

// Whether heads are stored one by one: f32, and q8a where a head is whole blocks. Else a row's f32 is put together in
// the workspace first.
static bool by_heads(const struct fm__call *call, int head_v)
{
    fm_dtype dtype = call->out[0].dtype;
    return dtype == FM_F32 || (dtype == FM_Q8A && head_v % FM__Q8A_BLOCK == 0);
}

static float *gathered_row(const struct job *j, int64_t row)
{
    return (float *)j->call->workspace + cell_floats(j, j->call->rows) + row * j->n_heads * j->dims.head_v;
}

static void store_row(const struct job *j, int64_t row)
{
    if (!by_heads(j->call, j->dims.head_v))
        fm__store_row(gathered_row(j, row), (int64_t)j->n_heads * j->dims.head_v, &j->call->out[0], row);
}

// One head's blocks to their places in the row's arrays (tensor/q8a.h).
static void store_q8a(const struct job *j, int64_t row, int head, const float *o)
{
    const int64_t all = (int64_t)j->n_heads * j->dims.head_v, n = j->dims.head_v, at = head * n;
    char *to = (char *)j->call->out[0].data + (size_t)row * fm__q8a_row_bytes(all);
    _Alignas(4) char q8a[FM__ATTEND_MAX_HEAD / FM__Q8A_BLOCK * FM__Q8A_BLOCK_BYTES];
    j->quantise(o, n, q8a);
    memcpy(to + at, q8a, (size_t)n);
    memcpy((float *)fm__q8a_d(to, all) + at / 32, fm__q8a_d(q8a, n), (size_t)n / 8);
    memcpy((float *)fm__q8a_s(to, all) + at / 32, fm__q8a_s(q8a, n), (size_t)n / 8);
    memcpy((int16_t *)fm__q8a_h(to, all) + at / 16, fm__q8a_h(q8a, n), (size_t)n / 8);
}

static void finish_pair(const struct job *j, int64_t row, int head, const struct fm__attend_state *state)
{
    const struct fm_tensor *out = &j->call->out[0];
    bool sinks = j->call->n_in > 4 && j->call->in[4].data, direct = by_heads(j->call, j->dims.head_v);
    float sink = sinks ? ((const float *)j->call->in[4].data)[head] * FM__LOG2E : -INFINITY, o[FM__ATTEND_MAX_HEAD];
    float *to = o;
    if (out->dtype == FM_F32) to = (float *)((char *)out->data + row * out->strides[0]) + head * j->dims.head_v;
    if (!direct) to = gathered_row(j, row) + (int64_t)head * j->dims.head_v;
    j->k.finish(state, sink, to, j->dims.head_v);
    if (to == o) store_q8a(j, row, head, o);
}

// --- many rows ------------------------------------------------------------------------------------------------------

// What a worker's scratch holds: scratch of a tile, q or a chunk's state, then the tiles of a set.
static size_t state_bytes(const struct job *j)
{
    return sizeof(float) * FM__ATTEND_ROWS * (size_t)(2 + j->v_stride);
}
static size_t common_bytes(const struct job *j)
{
    size_t q = sizeof(float) * FM__ATTEND_ROWS * (size_t)j->dims.head_k;
    return FM__ATTEND_SCRATCH + (q > state_bytes(j) ? q : state_bytes(j));
}
static size_t tile_bytes(const struct job *j)
{
    return FM__ATTEND_ROWS * j->query_bytes + state_bytes(j);
}
static struct fm__attend_state state_at(const struct job *j, void *at)
{
    float *o = at, *m = o + FM__ATTEND_ROWS * j->v_stride;
    return (struct fm__attend_state){m, m + FM__ATTEND_ROWS, o};
}

// Tiles a set: enough sets that workers end together, few enough that chunks are not read over and over.
static int64_t tiles_a_set(const struct job *j, const struct fm__worker *w)
{
    int64_t all = (j->call->rows * j->n_heads + FM__ATTEND_ROWS - 1) / FM__ATTEND_ROWS;
    int64_t fit = (int64_t)((FM__WORKER_SCRATCH - common_bytes(j)) / tile_bytes(j)), n = all / (8 * w->count);
    return n < 1 ? 1 : n > fit ? fit : n;
}

static void attend_set(const struct job *j, const struct run *run, int kv_head, int64_t tile0, int64_t n_tiles,
                       struct fm__worker *w)
{
    int64_t pairs = run->n_rows * j->group;
    unsigned char *common = w->scratch + FM__ATTEND_SCRATCH, *tiles = w->scratch + common_bytes(j);
    size_t size = tile_bytes(j), query = FM__ATTEND_ROWS * j->query_bytes;
    struct fm__attend_state chunk = state_at(j, common);
    for (int64_t i = 0; i < n_tiles; i++) {
        int64_t pair0 = (tile0 + i) * FM__ATTEND_ROWS;
        struct fm__attend_state s = state_at(j, tiles + i * size + query);
        prepare_tile(j, run, kv_head, pair0, tiles + i * size, (float *)common);
        for (int r = 0; r < FM__ATTEND_ROWS; r++) s.m[r] = -INFINITY, s.l[r] = 0.0f;
        for (int k = 0; k < FM__ATTEND_ROWS * j->v_stride; k++) s.o[k] = 0.0f;
    }
    for (int32_t c = run->chunk0; c < run->chunk0 + run->n_chunks; c++)
        for (int64_t i = 0; i < n_tiles; i++) {
            int64_t pair0 = (tile0 + i) * FM__ATTEND_ROWS;
            struct fm__attend t = new_tile(j, tile_rows(pairs, pair0), tiles + i * size, w->scratch);
            if (!aim_tile(j, run, kv_head, pair0, c, &t)) continue;
            struct fm__attend_state s = state_at(j, tiles + i * size + query);
            t.m = chunk.m, t.l = chunk.l, t.o = chunk.o;
            j->k.twin.attend(j->k.format, &t);
            j->k.join(t.n_rows, j->dims.head_v, j->v_stride, &s, &chunk);
        }
    for (int64_t i = 0; i < n_tiles; i++) {
        int64_t pair0 = (tile0 + i) * FM__ATTEND_ROWS;
        struct fm__attend_state s = state_at(j, tiles + i * size + query);
        for (int r = 0; r < tile_rows(pairs, pair0); r++)
            finish_pair(j, run->row0 + (pair0 + r) / j->group, kv_head * j->group + (int)((pair0 + r) % j->group),
                        &(struct fm__attend_state){&s.m[r], &s.l[r], s.o + r * j->v_stride});
    }
}

static void many_rows(const struct job *j, struct fm__worker *w)
{
    int64_t item = fm__take(j->call, 1), begin = 0, set = tiles_a_set(j, w);
    for (int64_t row = 0; row < j->call->rows;) {
        struct run run = run_at(j, row);
        int64_t tiles = (run.n_rows * j->group + FM__ATTEND_ROWS - 1) / FM__ATTEND_ROWS, sets = (tiles + set - 1) / set;
        for (; item < begin + sets * j->a->n_kv; item = fm__take(j->call, 1)) {
            int64_t k = item - begin, tile0 = (sets - 1 - k / j->a->n_kv) * set; // the longest rows first
            attend_set(j, &run, (int)(k % j->a->n_kv), tile0, tiles - tile0 < set ? tiles - tile0 : set, w);
        }
        begin += sets * j->a->n_kv;
        row += run.n_rows;
    }
    if (by_heads(j->call, j->dims.head_v)) return;
    fm__worker_barrier(w);
    for (int64_t row = w->index; row < j->call->rows; row += w->count) store_row(j, row);
}

// --- few rows: a chunk is an item -----------------------------------------------------------------------------------

// State of pair 0 of a run, kv head and chunk (counted from the run's first) in the workspace: all o, then all m, l.
static struct fm__attend_state cells(const struct job *j, const struct run *run, int kv_head, int32_t chunk)
{
    int64_t all = j->call->rows * j->n_heads * j->cell_chunks, pairs = run->n_rows * j->group;
    int64_t at = run->row0 * j->n_heads * j->cell_chunks + (kv_head * j->cell_chunks + chunk) * pairs;
    float *o = j->call->workspace, *m = o + all * j->v_stride;
    return (struct fm__attend_state){m + at, m + all + at, o + at * j->v_stride};
}

// Blocks of the item that this worker takes next when all are equally fast: `cell` counts as items do.
static void likely_next(const struct job *j, const struct run *run, int64_t cell, struct fm__attend *t)
{
    int64_t chunk = run->chunk0 + cell / j->a->n_kv;
    for (int b = 0; b < FM__ATTEND_BLOCKS; b++) {
        int64_t page = chunk * FM__ATTEND_BLOCKS + b;
        if (page * FM__KV_BLOCK > run->last) return;
        t->then[b] = block_at(j, run, (int)(cell % j->a->n_kv), (int32_t)page);
    }
}

static void attend_chunk(const struct job *j, const struct run *run, int kv_head, int32_t chunk, struct fm__worker *w)
{
    int64_t pairs = run->n_rows * j->group;
    struct fm__attend_state to = cells(j, run, kv_head, chunk);
    unsigned char *prepared = w->scratch + common_bytes(j);
    for (int64_t pair0 = 0; pair0 < pairs; pair0 += FM__ATTEND_ROWS) {
        struct fm__attend t = new_tile(j, tile_rows(pairs, pair0), prepared, w->scratch);
        t.m = to.m + pair0, t.l = to.l + pair0, t.o = to.o + pair0 * j->v_stride;
        if (!aim_tile(j, run, kv_head, pair0, run->chunk0 + chunk, &t)) continue; // join_row does not look at it
        if (pair0 + FM__ATTEND_ROWS >= pairs) likely_next(j, run, (int64_t)chunk * j->a->n_kv + kv_head + w->count, &t);
        prepare_tile(j, run, kv_head, pair0, prepared, (float *)(w->scratch + FM__ATTEND_SCRATCH));
        j->k.twin.attend(j->k.format, &t);
    }
}

static void join_row(const struct job *j, const struct run *run, int64_t row, int head, struct fm__worker *w)
{
    struct fm__attend_state s = state_at(j, w->scratch);
    int64_t pair = (row - run->row0) * j->group + head % j->group;
    int32_t kv = row_of(j, row)[FM__ROW_KV];
    s.m[0] = -INFINITY, s.l[0] = 0.0f;
    for (int e = 0; e < j->v_stride; e++) s.o[e] = 0.0f;
    for (int32_t c = first_key(j, kv) / FM__KV_CHUNK; c <= kv / FM__KV_CHUNK; c++) {
        struct fm__attend_state from = cells(j, run, head / j->group, c - run->chunk0);
        from.m += pair, from.l += pair, from.o += pair * j->v_stride;
        j->k.join(1, j->dims.head_v, j->v_stride, &s, &from);
    }
    finish_pair(j, row, head, &s);
}

static void few_rows(const struct job *j, struct fm__worker *w)
{
    int64_t item = fm__take(j->call, 1), begin = 0;
    for (int64_t row = 0; row < j->call->rows;) {
        struct run run = run_at(j, row);
        for (; item < begin + run.n_chunks * j->a->n_kv; item = fm__take(j->call, 1))
            attend_chunk(j, &run, (int)((item - begin) % j->a->n_kv), (int32_t)((item - begin) / j->a->n_kv), w);
        begin += run.n_chunks * j->a->n_kv;
        row += run.n_rows;
    }
    fm__worker_barrier(w);
    bool whole = !by_heads(j->call, j->dims.head_v); // one worker makes a row's heads, because it stores the row
    for (int64_t row0 = 0; row0 < j->call->rows;) {
        struct run run = run_at(j, row0);
        for (int64_t row = row0; row < row0 + run.n_rows; row++) {
            for (int h = 0; h < j->n_heads; h++)
                if ((whole ? row : row * j->n_heads + h) % w->count == w->index) join_row(j, &run, row, h, w);
            if (row % w->count == w->index) store_row(j, row);
        }
        row0 += run.n_rows;
    }
}

// --- the kernels ----------------------------------------------------------------------------------------------------

static void join_ref(int n_rows, int n, int64_t stride, const struct fm__attend_state *to,
                     const struct fm__attend_state *from)
{
    for (int r = 0; r < n_rows; r++)
        fm__attend_join(&(struct fm__attend_state){&to->m[r], &to->l[r], to->o + r * stride},
                        &(struct fm__attend_state){&from->m[r], &from->l[r], from->o + r * stride}, n);
}

// Lowest first; a later one overrides what it brings.
static const struct fm__attend_level *const levels[] = {
#if defined(__x86_64__)
    &fm__attend_avx2,
    &fm__attend_avx512,
    &fm__attend_vnni,
    &fm__attend_amx,
#elif defined(__aarch64__)
    &fm__attend_neon,
    &fm__attend_dotprod,
#endif
    NULL,
};

struct fm__attend_kernels fm__attend_kernels(int format, int cpu_level)
{
    const struct fm__kv_format *f = fm__kv_format(format);
    struct fm__attend_kernels k = {f, {fm__attend_ref, f->prepare, f->encode}, join_ref, fm__attend_finish};
    for (int i = 0; levels[i]; i++) {
        if (levels[i]->cpu_level > cpu_level) continue;
        if (levels[i]->join) k.join = levels[i]->join;
        if (levels[i]->finish) k.finish = levels[i]->finish;
        if (format >= FM__KV_BUILTIN) continue;
        const struct fm__attend_twin *twin = &levels[i]->formats[format];
        if (twin->attend) k.twin.attend = twin->attend;
        if (twin->prepare) k.twin.prepare = twin->prepare;
        if (twin->encode) k.twin.encode = twin->encode;
    }
    return k;
}

static struct job new_job(const struct fm__call *call, int level)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    struct job j = {.call = call, .a = a, .dims = {a->head_k, a->head_v}, .heads = fm__attend_heads(a)};
    j.k = fm__attend_kernels(a->kv_format, level);
    j.quantise = fm__q8a_quantiser(level);
    j.n_heads = fm__attend_n_heads(call);
    j.group = j.n_heads / a->n_kv;
    j.v_stride = fm__kv_pad16(a->head_v);
    j.query_bytes = j.k.format->query_bytes(&j.dims);
    j.block_bytes = j.k.format->block_bytes(&j.dims);
    int64_t chunks = (call->in[3].dims[1] * FM__KV_BLOCK + FM__KV_CHUNK - 1) / FM__KV_CHUNK;
    int64_t windowed = ((int64_t)a->window + FM__SPLIT_ROWS) / FM__KV_CHUNK + 2;
    j.cell_chunks = a->window > 0 && windowed < chunks ? windowed : chunks;
    return j;
}

size_t fm__cpu_attention_workspace(const struct fm__call *call, int n_workers)
{
    (void)n_workers;
    struct job j = new_job(call, FM__CPU_REF);
    int64_t few = call->rows < FM__SPLIT_ROWS ? call->rows : FM__SPLIT_ROWS, row = (int64_t)j.n_heads * j.dims.head_v;
    bool direct = by_heads(call, j.dims.head_v);
    int64_t many_floats = direct ? 0 : call->rows * row, few_floats = cell_floats(&j, few) + (direct ? 0 : few * row);
    return sizeof(float) * (size_t)(few_floats > many_floats ? few_floats : many_floats);
}

static void attention(const struct fm__call *call, struct fm__worker *w, int level)
{
    struct job j = new_job(call, level);
    if (call->rows > FM__SPLIT_ROWS)
        many_rows(&j, w);
    else
        few_rows(&j, w);
}

// Items are single (row, kv head): their bytes are disjoint.
static void kv_write(const struct fm__call *call, struct fm__worker *w, int level)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    const struct fm__attend_kernels k = fm__attend_kernels(a->kv_format, level);
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    const struct fm_tensor *cache = &call->out[0], *keys = &call->in[1], *values = &call->in[2], *pages = &call->in[4];
    size_t block_bytes = k.format->block_bytes(&d);
    (void)w;
    int64_t step = 16, total = call->rows * a->n_kv;
    for (int64_t i0 = fm__take(call, step); i0 < total; i0 = fm__take(call, step))
        for (int64_t i = i0; i < i0 + step && i < total; i++) {
            int64_t h = i / call->rows, r = i % call->rows; // neighbours write to one block
            const int32_t *row = (const int32_t *)((const char *)call->in[3].data + r * call->in[3].strides[0]);
            int32_t slot = row[FM__ROW_SLOT], kv = row[FM__ROW_KV];
            int32_t page = ((const int32_t *)((const char *)pages->data + slot * pages->strides[0]))[kv / FM__KV_BLOCK];
            k.twin.encode(&d, (char *)cache->data + page * cache->strides[0] + (size_t)h * block_bytes,
                          kv % FM__KV_BLOCK,
                          (const float *)((const char *)keys->data + r * keys->strides[0]) + h * d.head_k,
                          (const float *)((const char *)values->data + r * values->strides[0]) + h * d.head_v);
        }
}

// A kernel is a plain function: one pair a level.
#define KERNELS(level)                                                               \
    static void attention_##level(const struct fm__call *call, struct fm__worker *w) \
    {                                                                                \
        attention(call, w, FM__CPU_##level);                                         \
    }                                                                                \
    static void kv_write_##level(const struct fm__call *call, struct fm__worker *w)  \
    {                                                                                \
        kv_write(call, w, FM__CPU_##level);                                          \
    }
#define ENTRY(level) [FM__CPU_##level] = {attention_##level, kv_write_##level}

KERNELS(REF)
#if defined(__x86_64__)
KERNELS(AVX2)
KERNELS(AVX512)
KERNELS(VNNI)
KERNELS(AMX)
#elif defined(__aarch64__)
KERNELS(NEON)
KERNELS(DOTPROD)
#endif

static const struct {
    fm__kernel_fn *attention, *kv_write;
} kernels[FM__CPU_LEVELS] = {
    ENTRY(REF),
#if defined(__x86_64__)
    ENTRY(AVX2), ENTRY(AVX512), ENTRY(VNNI), [FM__CPU_BF16] = {attention_VNNI, kv_write_VNNI}, ENTRY(AMX),
#elif defined(__aarch64__)
    ENTRY(NEON),
    ENTRY(DOTPROD),
    [FM__CPU_I8MM] = {attention_DOTPROD, kv_write_DOTPROD},
#endif
};

fm__kernel_fn *fm__cpu_attention(int cpu_level)
{
    fm__kernel_fn *k = cpu_level >= 0 && cpu_level < FM__CPU_LEVELS ? kernels[cpu_level].attention : NULL;
    return k ? k : attention_REF;
}

fm__kernel_fn *fm__cpu_kv_write(int cpu_level)
{
    fm__kernel_fn *k = cpu_level >= 0 && cpu_level < FM__CPU_LEVELS ? kernels[cpu_level].kv_write : NULL;
    return k ? k : kv_write_REF;
}

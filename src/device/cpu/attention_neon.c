// SPDX-License-Identifier: MIT
// Attention with NEON: the formats of floats, four rows at a time, so that a key or value is read (and made f32) once
// for all of them; int8 by products of bytes in 16 bits.
#include "device/cpu/attention_neon.h"

#include "base/cpuinfo.h"

enum { ROWS = 4 };

// probabilities of four rows, and what they mix
struct tile {
    float s[ROWS][FM__KV_BLOCK], ob[ROWS][FM__ATTEND_MAX_HEAD];
};
_Static_assert(sizeof(struct tile) <= FM__ATTEND_SCRATCH, "a tile's scratch");

typedef float32x4_t load_fn(const void *block, size_t at);
FM_ALWAYS float32x4_t load_f32(const void *block, size_t at)
{
    return vld1q_f32((const float *)block + at);
}
FM_ALWAYS float32x4_t load_f16(const void *block, size_t at)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)block + at)));
}
FM_ALWAYS float32x4_t load_bf16(const void *block, size_t at)
{
    return bf16_neon((const uint16_t *)block + at);
}

// Rows against one block.
struct work {
    const struct fm__kv_dims *d;
    const void *block;
    const float *q; // rows are q_floats apart
    size_t q_floats;
    int n_keys; // what any of the rows sees ends here
    struct tile *w;
};

// s[r] = q_r · keys; 16 keys at a time: four registers a row.
FM_ALWAYS void float_scores(load_fn *load, int n_rows, const struct work *x)
{
    for (int j = 0; j < FM__KV_BLOCK; j += 16) {
        float32x4_t acc[ROWS][4];
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) acc[r][c] = vdupq_n_f32(0);
        for (int e = 0; e < x->d->head_k; e++) {
            float32x4_t k[4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) k[c] = load(x->block, (size_t)e * FM__KV_BLOCK + (size_t)(j + 4 * c));
#pragma GCC unroll 4
            for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) acc[r][c] = vfmaq_n_f32(acc[r][c], k[c], x->q[r * x->q_floats + e]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) vst1q_f32(x->w->s[r] + j + 4 * c, acc[r][c]);
    }
}

// Columns e … e + 4 n of the mix, keys ascending.
FM_ALWAYS void mix_columns(load_fn *load, int n_rows, int n, const struct work *x, int e)
{
    float32x4_t acc[ROWS][4];
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < n; c++) acc[r][c] = vdupq_n_f32(0);
    for (int j = 0; j < x->n_keys; j++) { // a masked key's probability is 0: adding nothing changes nothing
        const size_t at = (size_t)FM__KV_BLOCK * x->d->head_k + (size_t)j * x->d->head_v + e;
        float32x4_t v[4];
#pragma GCC unroll 4
        for (int c = 0; c < n; c++) v[c] = load(x->block, at + 4 * c);
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
            for (int c = 0; c < n; c++) acc[r][c] = vfmaq_n_f32(acc[r][c], v[c], x->w->s[r][j]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < n; c++) vst1q_f32(x->w->ob[r] + e + 4 * c, acc[r][c]);
}

// Rows r0 … r0 + n_rows of the tile against block b.
FM_ALWAYS void attend_rows(load_fn *load, int n_rows, const struct fm__attend *t, int r0, int b)
{
    struct tile *w = (struct tile *)t->scratch;
    const size_t q_floats = (size_t)(t->dims.head_k + 15) / 16 * 16;
    struct work x = {.d = &t->dims,
                     .block = t->blocks[b],
                     .q = (const float *)t->prepared + (size_t)r0 * q_floats,
                     .q_floats = q_floats,
                     .w = w};
    int lo[ROWS], hi[ROWS];
    bool sees[ROWS];
    float mb[ROWS], lb[ROWS];
    for (int r = 0; r < n_rows; r++) {
        sees[r] = row_sees(t, r0 + r, b, &lo[r], &hi[r]);
        if (sees[r] && hi[r] > x.n_keys) x.n_keys = hi[r] < FM__KV_BLOCK ? hi[r] : FM__KV_BLOCK;
    }
    if (!x.n_keys) return;
    float_scores(load, n_rows, &x);
    for (int r = 0; r < n_rows; r++) {
        mb[r] = finish_scores(w->s[r], NULL, sees[r] ? lo[r] : 0, sees[r] ? hi[r] : 0);
        lb[r] = probabilities(w->s[r], mb[r], NULL);
    }
    int e = 0;
    for (; e + 16 <= t->dims.head_v; e += 16) mix_columns(load, n_rows, 4, &x, e);
    for (; e + 4 <= t->dims.head_v; e += 4) mix_columns(load, n_rows, 1, &x, e);
    for (int r = 0; r < n_rows; r++)
        if (sees[r]) join_block(t, r0 + r, mb[r], lb[r], w->ob[r]);
}

FM_ALWAYS void attend_float(load_fn *load, const struct fm__kv_format *f, const struct fm__attend *t)
{
    if (t->cap_in != 0.0f || t->alibi || t->dims.head_v % 4) {
        fm__attend_ref(f, t);
        return;
    }
    start_rows(t);
    for (int b = 0; b < FM__ATTEND_BLOCKS; b++) {
        if (!t->blocks[b]) continue;
        int r = 0;
        for (; r + ROWS <= t->n_rows; r += ROWS) attend_rows(load, ROWS, t, r, b);
        for (; r < t->n_rows; r++) attend_rows(load, 1, t, r, b);
    }
}

static void attend_f32(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend_float(load_f32, f, t);
}
static void attend_f16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend_float(load_f16, f, t);
}
static void attend_bf16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend_float(load_bf16, f, t);
}
static void attend_int8(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend_int8_neon(f, t);
}
static void join_rows(int n_rows, int n, int64_t stride, const struct fm__attend_state *to,
                      const struct fm__attend_state *from)
{
    for (int r = 0; r < n_rows; r++) join_row(n, stride, r, to, from);
}

const struct fm__attend_level fm__attend_neon = {
    .cpu_level = FM__CPU_NEON,
    .formats =
        {
            [FM__KV_F32] = {.attend = attend_f32},
            [FM__KV_F16] = {.attend = attend_f16},
            [FM__KV_BF16] = {.attend = attend_bf16},
            [FM__KV_INT8] = {.attend = attend_int8},
        },
    .join = join_rows,
};

// SPDX-License-Identifier: MIT
// Attention over int8 blocks with 512-bit registers. The including file gives the products:
//   DOT4(acc, u, s)   acc.i32 += sum of 4 u8 * s8, exact
// Layout of a block: ops/kv_format.h. Tall tiles go block by block (AMX has its own products, attention_amx.c). Up to
// four rows (a group's heads, decoding) wait for memory and for latencies, so several blocks go through the softmax
// together: (row, block) pairs take the places of rows there, and every phase asks for memory that a later one needs.
#ifndef FM_DEVICE_CPU_ATTENTION_INT8_ZMM_H
#define FM_DEVICE_CPU_ATTENTION_INT8_ZMM_H

#include "device/cpu/attention_zmm.h"

struct int8_tile {
    int k_pad, v_pad;
    size_t values_at, scales_at, query_bytes;
    float log2_top;
    bool plain; // neither cap nor slope
    struct zmm_row_state state;
};

FM_ALWAYS struct int8_tile int8_begin(const struct fm__kv_format *f, const struct fm__attend *t)
{
    int v_pad = fm__kv_pad16(t->dims.head_v);
    return (struct int8_tile){.k_pad = fm__kv_pad16(t->dims.head_k),
                              .v_pad = v_pad,
                              .values_at = fm__kv_int8_values_at(&t->dims),
                              .scales_at = fm__kv_int8_scales_at(&t->dims),
                              .query_bytes = (size_t)fm__kv_pad64(t->dims.head_k) + 64,
                              .log2_top = f->log2_top,
                              .plain = t->cap_in == 0.0f && !t->alibi,
                              .state = begin_rows(t, (struct zmm_scratch *)t->scratch, v_pad)};
}

// The row's scale, and 128 * sum of its codes, which the dots with u8 key codes are too large by.
struct query_tail {
    float scale;
    int32_t excess;
};
FM_ALWAYS struct query_tail query_tail(const struct int8_tile *g, const void *prepared, int row)
{
    struct query_tail tail;
    memcpy(&tail, (const char *)prepared + (size_t)(row + 1) * g->query_bytes - 64, sizeof tail);
    return tail;
}

// s [R, 64] i32: dots of R rows with all 64 keys. `fetch`: bytes as many as the keys' that are wanted soon.
FM_ALWAYS void scores_of_rows(const struct int8_tile *g, int n_rows, const char *q, const char *keys, int32_t *s,
                              const char *fetch)
{
    __m512i acc[4][4];
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 4; c++) acc[r][c] = _mm512_set1_epi32(-query_tail(g, q, r).excess);
    for (int e = 0; e < g->k_pad; e += 4) {
        __m512i k[4];
        for (int c = 0; c < 4; c++) {
            k[c] = _mm512_load_si512(keys + (c * g->k_pad + e) * 16);
            _mm_prefetch(fetch + (e * 4 + c * 16) * 4, _MM_HINT_T0);
        }
        for (int r = 0; r < n_rows; r++) {
            int32_t four;
            memcpy(&four, q + (size_t)r * g->query_bytes + e, 4);
            const __m512i x = _mm512_set1_epi32(four);
            for (int c = 0; c < 4; c++) acc[r][c] = DOT4(acc[r][c], k[c], x);
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 4; c++) _mm512_store_si512(s + r * FM__KV_BLOCK + c * 16, acc[r][c]);
}

// o [R, v_pad] i32: sums of u8 probabilities [R, 64] times value codes, 16 * n columns from e on.
FM_ALWAYS void mix_columns(const struct int8_tile *g, int n_rows, int n, const uint8_t *p, const char *values,
                           int32_t *o)
{
    __m512i acc[4][4];
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < n; c++) acc[r][c] = _mm512_setzero_si512();
    for (int quad = 0; quad < 16; quad++) {
        __m512i v[4];
        for (int c = 0; c < n; c++) v[c] = _mm512_load_si512(values + (quad * g->v_pad + c * 16) * 4);
        for (int r = 0; r < n_rows; r++) {
            int32_t four;
            memcpy(&four, p + r * FM__KV_BLOCK + quad * 4, 4);
            const __m512i x = _mm512_set1_epi32(four);
            for (int c = 0; c < n; c++) acc[r][c] = DOT4(acc[r][c], x, v[c]);
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < n; c++) _mm512_store_si512(o + r * g->v_pad + c * 16, acc[r][c]);
}

FM_ALWAYS void mix_of_rows(const struct int8_tile *g, int n_rows, const uint8_t *p, const char *values, int32_t *o,
                           const char *fetch)
{
    int e = 0;
    for (; e + 64 <= g->v_pad; e += 64) {
        for (int i = 0; i < 64; i++) _mm_prefetch(fetch + (e + i) * 64, _MM_HINT_T0);
        mix_columns(g, n_rows, 4, p, values + e * 4, o + e);
    }
    for (; e < g->v_pad; e += 16) {
        for (int i = 0; i < 16; i++) _mm_prefetch(fetch + (e + i) * 64, _MM_HINT_T0);
        mix_columns(g, n_rows, 1, p, values + e * 4, o + e);
    }
}

// CALL(n) for rows r .. r + n - 1, four at a time.
#define BY_ROWS(call)                                               \
    for (int r = 0; r < t->n_rows; r += 4) switch (t->n_rows - r) { \
        case 1:                                                     \
            call(1);                                                \
            break;                                                  \
        case 2:                                                     \
            call(2);                                                \
            break;                                                  \
        case 3:                                                     \
            call(3);                                                \
            break;                                                  \
        default:                                                    \
            call(4);                                                \
        }

static void block_scores(const struct fm__attend *t, const struct int8_tile *g, const void *block, int32_t *s,
                         const char *fetch)
{
#define CALL(n) \
    scores_of_rows(g, n, (const char *)t->prepared + (size_t)r * g->query_bytes, block, s + r * FM__KV_BLOCK, fetch)
    BY_ROWS(CALL)
#undef CALL
}

static void block_mix(const struct fm__attend *t, const struct int8_tile *g, const uint8_t *p, const void *block,
                      int32_t *o, const char *fetch){
#define CALL(n) mix_of_rows(g, n, p + r * FM__KV_BLOCK, (const char *)block + g->values_at, o + r * g->v_pad, fetch)
    BY_ROWS(CALL)
#undef CALL
}

// bf16 scales from `at` on.
FM_ALWAYS __m512 load_scales(const char *at)
{
    const __m512i x = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

// Block b of a tile; its rows' lanes and factors lie from row `row` on, and so do scores and probabilities from s and
// p.
struct int8_block {
    int b, row;
    float *s;
    uint8_t *p;
    struct zmm_factors *f;
};

enum { PLAIN = 1, MASKED = 2 };

// Dots to scores in place, and the 16-lane maxima of each row.
FM_ALWAYS void int8_scores(const struct fm__attend *t, const struct int8_tile *g, struct zmm_scratch *w,
                           struct int8_block at, int flags)
{
    const char *scales = (const char *)t->blocks[at.b] + g->scales_at;
    __m512 scale[4], bias[4];
    for (int c = 0; c < 4; c++) {
        scale[c] = load_scales(scales + 32 * c);
        bias[c] = _mm512_load_ps((const float *)(scales + 256) + 16 * c);
    }
    for (int r = 0; r < t->n_rows; r++) {
        float *s = at.s + (at.row + r) * FM__KV_BLOCK;
        const __m512 qs = _mm512_set1_ps(query_tail(g, t->prepared, r).scale);
        const uint64_t seen = flags & MASKED ? visible(t, r, at.b) : 0;
        __m512 x[4];
        for (int c = 0; c < 4; c++) {
            const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(s + 16 * c));
            x[c] = _mm512_mul_ps(_mm512_mul_ps(dot, scale[c]), qs);
            if (!(flags & PLAIN)) x[c] = bend(t, r, at.b * FM__KV_BLOCK + 16 * c, x[c]);
            x[c] = _mm512_add_ps(x[c], bias[c]);
            if (flags & MASKED) x[c] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(seen >> 16 * c), x[c]);
            _mm512_store_ps(s + 16 * c, x[c]);
        }
        _mm512_store_ps(w->lanes[at.row + r], _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    }
}

// Scores to u8 probabilities, and the 16-lane sums of each row.
FM_ALWAYS void int8_probabilities(const struct fm__attend *t, const struct int8_tile *g, struct zmm_scratch *w,
                                  struct int8_block at, int flags)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512 inv[4];
    for (int c = 0; c < 4; c++) inv[c] = load_scales((const char *)t->blocks[at.b] + g->scales_at + 128 + 32 * c);
    for (int r = 0; r < t->n_rows; r++) {
        const float *s = at.s + (at.row + r) * FM__KV_BLOCK;
        const __m512 ref = _mm512_set1_ps(at.f->ref[at.row + r]);
        const uint64_t seen = flags & MASKED ? visible(t, r, at.b) : 0;
        __m512 sum = _mm512_setzero_ps();
        __m512i code[4];
        for (int c = 0; c < 4; c++) {
            const __m512 p = exp2_code_zmm(_mm512_sub_ps(_mm512_load_ps(s + 16 * c), ref));
            // what lies behind a masked key may be anything, also NaN
            const __m512 f = flags & MASKED ? _mm512_maskz_mov_ps((__mmask16)(seen >> 16 * c), inv[c]) : inv[c];
            sum = _mm512_fmadd_ps(p, f, sum);
            code[c] = _mm512_cvtps_epi32(p);
        }
        _mm512_store_ps(w->lanes[at.row + r], sum);
        const __m512i low = _mm512_packs_epi32(code[0], code[1]), high = _mm512_packs_epi32(code[2], code[3]);
        _mm512_store_si512(at.p + (at.row + r) * FM__KV_BLOCK,
                           _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
    }
}

// o joined with the block's ob [.., v_pad] i32.
FM_ALWAYS void int8_join(const struct fm__attend *t, const struct int8_tile *g, const struct zmm_scratch *w,
                         struct int8_block at)
{
    for (int r = 0; r < t->n_rows; r++) {
        const __m512 a = _mm512_set1_ps(at.f->a[at.row + r]), b = _mm512_set1_ps(at.f->b[at.row + r]);
        float *o = t->o + r * t->o_stride;
        const int32_t *ob = (const int32_t *)w->ob + (at.row + r) * g->v_pad;
        for (int e = 0; e < g->v_pad; e += 16) {
            const __m512 x = _mm512_cvtepi32_ps(_mm512_load_si512(ob + e));
            _mm512_storeu_ps(o + e, _mm512_fmadd_ps(x, b, _mm512_mul_ps(_mm512_loadu_ps(o + e), a)));
        }
    }
}

// The two passes, each as straight code for the common flags.
#define WITH_FLAGS(masked, call) \
    if (!g->plain)               \
        call(MASKED);            \
    else if (masked)             \
        call(PLAIN | MASKED);    \
    else                         \
        call(PLAIN)

FM_ALWAYS void block_scores_done(const struct fm__attend *t, const struct int8_tile *g, struct zmm_scratch *w,
                                 struct int8_block at, bool masked)
{
#define CALL(flags) int8_scores(t, g, w, at, flags)
    WITH_FLAGS(masked, CALL);
#undef CALL
}

FM_ALWAYS void block_probabilities(const struct fm__attend *t, const struct int8_tile *g, struct zmm_scratch *w,
                                   struct int8_block at, bool masked)
{
#define CALL(flags) int8_probabilities(t, g, w, at, flags)
    WITH_FLAGS(masked, CALL);
#undef CALL
}

// --- one to four rows -----------------------------------------------------------------------------------------------

enum { FEW_ROWS = 4 };

// Maxima of (block, row) pairs into the state, block after block; factors for all joins.
FM_ALWAYS void few_maxima(struct zmm_scratch *w, struct int8_tile *g, int n_rows, int n_blocks)
{
    const __mmask16 rows = (__mmask16)(0xffffu >> (16 - n_rows));
    struct zmm_factors *f = &w->factors[0];
    _mm512_store_ps(f->ref, _mm512_sub_ps(max_of_rows(w->lanes), _mm512_set1_ps(g->log2_top)));
    for (int i = 0; i < n_blocks; i++) {
        const __m512 mb = _mm512_maskz_loadu_ps(rows, f->ref + i * n_rows), top = _mm512_max_ps(g->state.m, mb);
        _mm512_mask_storeu_ps(f->a + i * n_rows, rows, exp2_zmm(_mm512_sub_ps(g->state.m, top)));
        _mm512_mask_storeu_ps(f->b + i * n_rows, rows, exp2_zmm(_mm512_sub_ps(mb, top)));
        g->state.m = top;
    }
}

FM_ALWAYS void few_sums(struct zmm_scratch *w, struct int8_tile *g, int n_rows, int n_blocks)
{
    const __mmask16 rows = (__mmask16)(0xffffu >> (16 - n_rows));
    const struct zmm_factors *f = &w->factors[0];
    _Alignas(64) float sums[16];
    _mm512_store_ps(sums, sum_of_rows(w->lanes));
    for (int i = 0; i < n_blocks; i++) {
        const __m512 a = _mm512_maskz_loadu_ps(rows, f->a + i * n_rows),
                     b = _mm512_maskz_loadu_ps(rows, f->b + i * n_rows);
        g->state.l = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(rows, sums + i * n_rows), b, _mm512_mul_ps(g->state.l, a));
    }
}

// Where the keys of list entry i lie; beyond the list, of the work that follows; at last the block at hand.
FM_ALWAYS const char *keys_to_come(const struct fm__attend *t, const struct block_list *list, int i, const void *here)
{
    const void *p = i < list->n ? t->blocks[list->b[i]] : i - list->n < FM__ATTEND_BLOCKS ? t->then[i - list->n] : NULL;
    return p ? p : here;
}

static void attend_few(const struct fm__attend *t, struct int8_tile *g)
{
    struct zmm_scratch *w = (struct zmm_scratch *)t->scratch;
    const struct block_list list = blocks_to_visit(t);
    const int n_rows = t->n_rows, step = n_rows > 2 ? 4 : 8;
    for (int i0 = 0; i0 < list.n; i0 += step) {
        const int n = list.n - i0 < step ? list.n - i0 : step;
        struct int8_block at = {.s = w->s[0], .p = (uint8_t *)w->p, .f = &w->factors[0]};
        for (int i = 0; i < n; i++) {
            at.b = list.b[i0 + i], at.row = i * n_rows;
            const char *block = t->blocks[at.b];
            for (int k = 0; k < 512; k += 64) _mm_prefetch(block + g->scales_at + k, _MM_HINT_T0);
            block_scores(t, g, block, (int32_t *)at.s + at.row * FM__KV_BLOCK, block + g->values_at);
            block_scores_done(t, g, w, at, list.masked[i0 + i]);
        }
        few_maxima(w, g, n_rows, n);
        for (int i = 0; i < n; i++) {
            at.b = list.b[i0 + i], at.row = i * n_rows;
            block_probabilities(t, g, w, at, list.masked[i0 + i]);
        }
        few_sums(w, g, n_rows, n);
        for (int i = 0; i < n; i++) {
            at.b = list.b[i0 + i], at.row = i * n_rows;
            const char *block = t->blocks[at.b];
            block_mix(t, g, at.p + at.row * FM__KV_BLOCK, block, (int32_t *)w->ob + at.row * g->v_pad,
                      keys_to_come(t, &list, i0 + step + i, block));
            int8_join(t, g, w, at);
        }
    }
    end_rows(t, &g->state);
}

static void attend_int8(const struct fm__kv_format *f, const struct fm__attend *t)
{
    struct zmm_scratch *w = (struct zmm_scratch *)t->scratch;
    struct int8_tile g = int8_begin(f, t);
    if (t->n_rows <= FEW_ROWS) {
        attend_few(t, &g);
        return;
    }
    const struct block_list list = blocks_to_visit(t);
    for (int i = 0; i < list.n; i++) {
        const struct int8_block at = {list.b[i], 0, w->s[0], (uint8_t *)w->p, &w->factors[0]};
        const char *block = t->blocks[at.b];
        block_scores(t, &g, block, (int32_t *)at.s, block + g.values_at);
        block_scores_done(t, &g, w, at, list.masked[i]);
        join_maxima(w, &g.state, g.log2_top, at.f);
        block_probabilities(t, &g, w, at, list.masked[i]);
        join_sums(w, &g.state, at.f);
        block_mix(t, &g, at.p, block, (int32_t *)w->ob, block);
        int8_join(t, &g, w, at);
    }
    end_rows(t, &g.state);
}

#endif

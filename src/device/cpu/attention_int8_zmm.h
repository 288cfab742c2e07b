// SPDX-License-Identifier: MIT
// Attention over int8 blocks with 512-bit registers. The including file gives the products:
//   DOT4(acc, u, s)   acc.i32 += sum of 4 u8 * s8, exact
// and may replace block_scores and block_mix for tall tiles (AMX). Layout of a block: ops/kv_format.h.
#ifndef FM_DEVICE_CPU_ATTENTION_INT8_ZMM_H
#define FM_DEVICE_CPU_ATTENTION_INT8_ZMM_H

#include "device/cpu/attention_zmm.h"

struct int8_tile {
    int k_pad, v_pad;
    size_t values_at, scales_at, query_bytes;
    float log2_top;
    ptrdiff_t ahead; // from this block to the one to prefetch
    struct zmm_row_state state;
};

FM_ALWAYS struct int8_tile int8_begin(const struct fm__kv_format *f, const struct fm__attend *t)
{
    int v_pad = fm__kv_pad16(t->dims.head_v);
    return (struct int8_tile){fm__kv_pad16(t->dims.head_k),
                              v_pad,
                              fm__kv_int8_values_at(&t->dims),
                              fm__kv_int8_scales_at(&t->dims),
                              (size_t)fm__kv_pad64(t->dims.head_k) + 64,
                              f->log2_top,
                              0,
                              begin_rows(t, (struct zmm_scratch *)t->scratch, v_pad)};
}

// s [R, 64] i32: dots of R rows (u8 key codes, so 128 * sum of the query's codes too much) with all 64 keys.
FM_ALWAYS void scores_of_rows(const struct int8_tile *g, int n_rows, const char *q, const char *keys, int32_t *s)
{
    __m512i acc[4][4];
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 4; c++) acc[r][c] = _mm512_setzero_si512();
    for (int e = 0; e < g->k_pad; e += 4) {
        __m512i k[4];
        for (int c = 0; c < 4; c++) { // a row alone waits for memory: the next block comes while this one is used
            k[c] = _mm512_load_si512(keys + c * 16 * g->k_pad + e * 16);
            _mm_prefetch(keys + c * 16 * g->k_pad + e * 16 + g->ahead, _MM_HINT_T0);
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

// o [R, v_pad] i32: sums of u8 probabilities [R, 64] times value codes.
FM_ALWAYS void mix_of_rows(const struct int8_tile *g, int n_rows, const uint8_t *p, const char *values, int32_t *o)
{
    for (int e = 0; e < g->v_pad; e += 32) {
        const int n = g->v_pad - e > 16 ? 2 : 1;
        __m512i acc[4][2];
        for (int r = 0; r < n_rows; r++) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
        for (int quad = 0; quad < 16; quad++) {
            const char *at = values + (quad * g->v_pad + e) * 4;
            const __m512i v0 = _mm512_load_si512(at), v1 = _mm512_load_si512(n > 1 ? at + 64 : at);
            _mm_prefetch(at + g->ahead, _MM_HINT_T0);
            _mm_prefetch(at + 64 + g->ahead, _MM_HINT_T0);
            for (int r = 0; r < n_rows; r++) {
                int32_t four;
                memcpy(&four, p + r * FM__KV_BLOCK + quad * 4, 4);
                const __m512i x = _mm512_set1_epi32(four);
                acc[r][0] = DOT4(acc[r][0], x, v0);
                acc[r][1] = DOT4(acc[r][1], x, v1);
            }
        }
        for (int r = 0; r < n_rows; r++) {
            _mm512_store_si512(o + r * g->v_pad + e, acc[r][0]);
            if (n > 1) _mm512_store_si512(o + r * g->v_pad + e + 16, acc[r][1]);
        }
    }
}

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

static void block_scores(const struct fm__attend *t, const struct int8_tile *g, const void *block, int32_t *s)
{
#define CALL(n) \
    scores_of_rows(g, n, (const char *)t->prepared + (size_t)r * g->query_bytes, block, s + r * FM__KV_BLOCK)
    BY_ROWS(CALL)
#undef CALL
}

static void block_mix(const struct fm__attend *t, const struct int8_tile *g, const uint8_t *p, const void *block,
                      int32_t *o){
#define CALL(n) mix_of_rows(g, n, p + r * FM__KV_BLOCK, (const char *)block + g->values_at, o + r * g->v_pad)
    BY_ROWS(CALL)
#undef CALL
}

// bf16 scales and biases of the block to f32 in scratch.
FM_ALWAYS void load_scales(const struct int8_tile *g, const void *block, struct zmm_scratch *w)
{
    const char *at = (const char *)block + g->scales_at;
    for (int i = 0; i < 512; i += 64) _mm_prefetch(at + g->ahead + i, _MM_HINT_T0);
    for (int j = 0; j < FM__KV_BLOCK; j += 16) {
        const __m512i k = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(at + 2 * j)));
        const __m512i v = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(at + 128 + 2 * j)));
        _mm512_store_si512(w->key_scale + j, _mm512_slli_epi32(k, 16));
        _mm512_store_si512(w->inv + j, _mm512_slli_epi32(v, 16));
        _mm512_store_ps(w->bias + j, _mm512_load_ps((const float *)(at + 256) + j));
    }
}

// Dots to scores in place, and the 16-lane maxima of each row.
FM_ALWAYS void int8_scores(const struct fm__attend *t, const struct int8_tile *g, struct zmm_scratch *w, float *s,
                           int b, bool plain, bool masked)
{
    __m512 scale[4], bias[4];
    for (int c = 0; c < 4; c++)
        scale[c] = _mm512_load_ps(w->key_scale + 16 * c), bias[c] = _mm512_load_ps(w->bias + 16 * c);
    for (int r = 0; r < t->n_rows; r++) {
        const char *tail = (const char *)t->prepared + (size_t)(r + 1) * g->query_bytes - 64;
        float q_scale;
        int32_t excess;
        memcpy(&q_scale, tail, 4), memcpy(&excess, tail + 4, 4);
        const __m512 qs = _mm512_set1_ps(q_scale);
        const __m512i ex = _mm512_set1_epi32(excess);
        const uint64_t seen = masked ? visible(t, r, b) : 0;
        __m512 x[4];
        for (int c = 0; c < 4; c++) {
            float *at = s + r * FM__KV_BLOCK + 16 * c;
            const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(at), ex));
            x[c] = _mm512_mul_ps(_mm512_mul_ps(dot, scale[c]), qs);
            if (!plain) x[c] = bend(t, r, b * FM__KV_BLOCK + 16 * c, x[c]);
            x[c] = _mm512_add_ps(x[c], bias[c]);
            if (masked) x[c] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(seen >> 16 * c), x[c]);
            _mm512_store_ps(at, x[c]);
        }
        _mm512_store_ps(w->lanes[r], _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    }
}

// Scores to u8 probabilities, and the 16-lane sums of each row.
FM_ALWAYS void int8_probabilities(const struct fm__attend *t, struct zmm_scratch *w, const float *s, int b, bool masked)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512 inv[4];
    for (int c = 0; c < 4; c++) inv[c] = _mm512_load_ps(w->inv + 16 * c);
    for (int r = 0; r < t->n_rows; r++) {
        const __m512 ref = _mm512_set1_ps(w->ref[r]);
        const uint64_t seen = masked ? visible(t, r, b) : 0;
        __m512 sum = _mm512_setzero_ps();
        __m512i code[4];
        for (int c = 0; c < 4; c++) {
            const __m512 p = exp2_zmm(_mm512_sub_ps(_mm512_load_ps(s + r * FM__KV_BLOCK + 16 * c), ref));
            // what lies behind a masked key may be anything, also NaN
            const __m512 f = masked ? _mm512_maskz_mov_ps((__mmask16)(seen >> 16 * c), inv[c]) : inv[c];
            sum = _mm512_fmadd_ps(p, f, sum);
            code[c] = _mm512_cvtps_epi32(p);
        }
        _mm512_store_ps(w->lanes[r], sum);
        const __m512i low = _mm512_packs_epi32(code[0], code[1]), high = _mm512_packs_epi32(code[2], code[3]);
        _mm512_store_si512((uint8_t *)w->p + r * FM__KV_BLOCK,
                           _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
    }
}

FM_ALWAYS void int8_join(const struct fm__attend *t, const struct int8_tile *g, const struct zmm_scratch *w)
{
    for (int r = 0; r < t->n_rows; r++) {
        const __m512 a = _mm512_set1_ps(w->a[r]), b = _mm512_set1_ps(w->b[r]);
        float *o = t->o + r * t->o_stride;
        const int32_t *ob = (const int32_t *)w->ob + r * g->v_pad;
        for (int e = 0; e < g->v_pad; e += 16) {
            const __m512 x = _mm512_cvtepi32_ps(_mm512_load_si512(ob + e));
            _mm512_storeu_ps(o + e, _mm512_fmadd_ps(x, b, _mm512_mul_ps(_mm512_loadu_ps(o + e), a)));
        }
    }
}

// The softmax of one block whose dots lie in w->s[turn]: leaves u8 probabilities and join factors.
FM_ALWAYS void int8_softmax(const struct fm__attend *t, struct int8_tile *g, struct zmm_scratch *w, float *s, int b,
                            bool masked)
{
    load_scales(g, t->blocks[b], w);
    if (t->cap_in == 0.0f && !t->alibi)
        int8_scores(t, g, w, s, b, true, masked);
    else
        int8_scores(t, g, w, s, b, false, masked);
    join_maxima(w, &g->state, g->log2_top);
    int8_probabilities(t, w, s, b, masked);
    join_sums(w, &g->state);
}

// The next block from b on that any row sees; FM__ATTEND_BLOCKS when there is none.
FM_ALWAYS int next_block(const struct fm__attend *t, int b, bool *masked)
{
    for (; b < FM__ATTEND_BLOCKS; b++) {
        struct seen seen = seen_by_rows(t, b);
        *masked = ~seen.all != 0;
        if (seen.some) break;
    }
    return b;
}

static void attend_int8(const struct fm__kv_format *f, const struct fm__attend *t)
{
    struct zmm_scratch *w = (struct zmm_scratch *)t->scratch;
    struct int8_tile g = int8_begin(f, t);
    bool masked, next_masked;
    int next;
    for (int b = next_block(t, 0, &masked); b < FM__ATTEND_BLOCKS; b = next, masked = next_masked) {
        next = next_block(t, b + 1, &next_masked);
        const void *ahead = next < FM__ATTEND_BLOCKS ? t->blocks[next] : t->then;
        g.ahead = ahead ? (const char *)ahead - (const char *)t->blocks[b] : 0;
        block_scores(t, &g, t->blocks[b], (int32_t *)w->s[0]);
        if (masked)
            int8_softmax(t, &g, w, w->s[0], b, true);
        else
            int8_softmax(t, &g, w, w->s[0], b, false);
        block_mix(t, &g, (const uint8_t *)w->p, t->blocks[b], (int32_t *)w->ob);
        int8_join(t, &g, w);
    }
    end_rows(t, &g.state);
}

#endif

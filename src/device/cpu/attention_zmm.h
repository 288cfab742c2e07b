// SPDX-License-Identifier: MIT
// What attention kernels with 512-bit registers share: the softmax of 16 rows against one block of 64 keys, to the bit
// as ops/attention.h says it. Included by files compiled for AVX-512 or more, never elsewhere.
//
// A row's 64 scores are four registers. Maxima and sums of rows are kept as registers of 16 lanes and reduced 16 rows
// at a time (45 instructions instead of 16 * 8); everything a row has one of (m, l, factors) is then a register.
#ifndef FM_DEVICE_CPU_ATTENTION_ZMM_H
#define FM_DEVICE_CPU_ATTENTION_ZMM_H

#include <immintrin.h>
#include <stdbool.h>

#include "device/cpu/attention_cpu.h"

#define FM_ALWAYS static inline __attribute__((always_inline))

// What a block's softmax works on; lies in fm__attend.scratch. Sized for the largest head.
// The gaps keep what is read and what is written at the same time from being a multiple of 4096 bytes apart: a load
// would wait for such a store.
struct zmm_scratch {
    float s[2][FM__ATTEND_ROWS * FM__KV_BLOCK + 48]; // scores, f32 or i32; two so that products may run ahead
    float p[FM__ATTEND_ROWS * FM__KV_BLOCK + 48];    // probabilities, f32 or u8
    float lanes[FM__ATTEND_ROWS][16];                // maxima or sums before they are reduced
    int32_t excess[FM__ATTEND_ROWS][16];             // what the dots start from, AMX
    struct zmm_factors {
        float ref[FM__ATTEND_ROWS]; // what scores lose before exp2
        float a[FM__ATTEND_ROWS], b[FM__ATTEND_ROWS];
    } factors[2];
    float ob[FM__ATTEND_ROWS * FM__ATTEND_MAX_HEAD + 48]; // the block's o, f32 or i32
};
_Static_assert(sizeof(struct zmm_scratch) <= FM__ATTEND_SCRATCH, "scratch of a tile");

// fm__exp2 of 16 numbers.
FM_ALWAYS __m512 exp2_zmm(__m512 x)
{
    const __mmask16 in = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(FM__EXP2_C5), f, _mm512_set1_ps(FM__EXP2_C4));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(FM__EXP2_C3));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(FM__EXP2_C2));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(FM__EXP2_C1));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(in, p, n);
}

// fm__exp2_code of 16 numbers. Adding 1.5 * 2^23 rounds to whole numbers, and leaves them in the low bits.
FM_ALWAYS __m512 exp2_code_zmm(__m512 x)
{
    const __m512 whole = _mm512_set1_ps(0x1.8p23f);
    x = _mm512_max_ps(x, _mm512_set1_ps(FM__EXP2_CODE_LEAST)); // a NaN gives the second
    const __m512 n = _mm512_add_ps(x, whole), f = _mm512_sub_ps(x, _mm512_sub_ps(n, whole));
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(FM__EXP2_CODE_C3), f, _mm512_set1_ps(FM__EXP2_CODE_C2));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(FM__EXP2_CODE_C1));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}

// fm__tanh of 16 numbers.
FM_ALWAYS __m512 tanh_zmm(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f),
                 e = exp2_zmm(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-2.0f * FM__LOG2E)));
    const __m512 y = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), sign));
}

// Lane r of the result: op over the 16 lanes of row r, lanes i and i + 8 first, then 4, 2, 1 apart.
#define REDUCE16(name, op)                                                                                         \
    FM_ALWAYS __m512 name(float lanes[FM__ATTEND_ROWS][16])                                                        \
    {                                                                                                              \
        __m512 four[4];                                                                                            \
        for (int p = 0; p < 4; p++) {                                                                              \
            const __m512 r0 = _mm512_load_ps(lanes[p]), r1 = _mm512_load_ps(lanes[4 + p]);                         \
            const __m512 r2 = _mm512_load_ps(lanes[8 + p]), r3 = _mm512_load_ps(lanes[12 + p]);                    \
            const __m512 x = op(_mm512_shuffle_f32x4(r0, r1, 0x44), _mm512_shuffle_f32x4(r0, r1, 0xee));           \
            const __m512 y = op(_mm512_shuffle_f32x4(r2, r3, 0x44), _mm512_shuffle_f32x4(r2, r3, 0xee));           \
            four[p] = op(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));                      \
        }                                                                                                          \
        const __m512 x = op(_mm512_shuffle_ps(four[0], four[1], 0x44), _mm512_shuffle_ps(four[0], four[1], 0xee)); \
        const __m512 y = op(_mm512_shuffle_ps(four[2], four[3], 0x44), _mm512_shuffle_ps(four[2], four[3], 0xee)); \
        return op(_mm512_shuffle_ps(x, y, 0x88), _mm512_shuffle_ps(x, y, 0xdd));                                   \
    }
REDUCE16(max_of_rows, _mm512_max_ps)
REDUCE16(sum_of_rows, _mm512_add_ps)

// Which of a block's 64 keys row r sees, a bit a key.
FM_ALWAYS uint64_t visible(const struct fm__attend *t, int r, int block)
{
    int lo = t->first[r] - block * FM__KV_BLOCK, hi = t->last[r] - block * FM__KV_BLOCK;
    if (lo < 0) lo = 0;
    if (hi > FM__KV_BLOCK) hi = FM__KV_BLOCK;
    if (lo >= hi) return 0;
    return (~UINT64_C(0) >> (64 - hi)) & (~UINT64_C(0) << lo);
}

// The blocks that some row sees keys of; masked unless all rows see all of it. high: the last key anyone sees, plus
// one.
struct block_list {
    int n, high, b[FM__ATTEND_BLOCKS];
    bool masked[FM__ATTEND_BLOCKS];
};
FM_ALWAYS struct block_list blocks_to_visit(const struct fm__attend *t)
{
    const __mmask16 rows = (__mmask16)(0xffffu >> (16 - t->n_rows));
    const __m512i first = _mm512_maskz_loadu_epi32(rows, t->first), last = _mm512_maskz_loadu_epi32(rows, t->last);
    const __mmask16 seeing = _mm512_mask_cmplt_epi32_mask(rows, first, last);
    const int low = _mm512_mask_reduce_min_epi32(seeing, first), all_from = _mm512_mask_reduce_max_epi32(rows, first),
              all_to = _mm512_mask_reduce_min_epi32(rows, last);
    struct block_list list = {.high = _mm512_mask_reduce_max_epi32(seeing, last)};
    for (int b = low / FM__KV_BLOCK; seeing && b * FM__KV_BLOCK < list.high; b++) {
        list.masked[list.n] = all_from > b * FM__KV_BLOCK || all_to < (b + 1) * FM__KV_BLOCK;
        list.b[list.n++] = b;
    }
    return list;
}

// Cap and slope: rare, so apart from the common path.
FM_ALWAYS __m512 bend(const struct fm__attend *t, int r, int key, __m512 s)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (t->cap_in != 0.0f)
        s = _mm512_mul_ps(tanh_zmm(_mm512_mul_ps(s, _mm512_set1_ps(t->cap_in))), _mm512_set1_ps(t->cap_out));
    if (t->alibi) {
        const __m512i distance = _mm512_add_epi32(lane, _mm512_set1_epi32(key - t->at[r]));
        s = _mm512_fmadd_ps(_mm512_set1_ps(t->slope[r]), _mm512_cvtepi32_ps(distance), s);
    }
    return s;
}

struct zmm_row_state {
    __m512 m, l;
};

// Maxima of the block (w->lanes) into the state, and the factors of the block.
FM_ALWAYS void join_maxima(struct zmm_scratch *w, struct zmm_row_state *s, float log2_top, struct zmm_factors *to)
{
    const __m512 mb = _mm512_sub_ps(max_of_rows(w->lanes), _mm512_set1_ps(log2_top)), top = _mm512_max_ps(s->m, mb);
    _mm512_store_ps(to->ref, mb);
    _mm512_store_ps(to->a, exp2_zmm(_mm512_sub_ps(s->m, top)));
    _mm512_store_ps(to->b, exp2_zmm(_mm512_sub_ps(mb, top)));
    s->m = top;
}

// Sums of the block (w->lanes) into the state.
FM_ALWAYS void join_sums(struct zmm_scratch *w, struct zmm_row_state *s, const struct zmm_factors *f)
{
    s->l = _mm512_fmadd_ps(sum_of_rows(w->lanes), _mm512_load_ps(f->b), _mm512_mul_ps(s->l, _mm512_load_ps(f->a)));
}

// A tile starts from nothing.
FM_ALWAYS struct zmm_row_state begin_rows(const struct fm__attend *t, struct zmm_scratch *w, int64_t v_pad)
{
    for (int r = 0; r < t->n_rows; r++)
        for (int64_t e = 0; e < v_pad; e += 16) _mm512_storeu_ps(t->o + r * t->o_stride + e, _mm512_setzero_ps());
    for (int r = 0; r < FM__ATTEND_ROWS; r++) _mm512_store_ps(w->lanes[r], _mm512_setzero_ps());
    return (struct zmm_row_state){_mm512_set1_ps(-INFINITY), _mm512_setzero_ps()};
}

FM_ALWAYS void end_rows(const struct fm__attend *t, const struct zmm_row_state *s)
{
    const __mmask16 rows = (__mmask16)(0xffffu >> (16 - t->n_rows));
    _mm512_mask_storeu_ps(t->m, rows, s->m);
    _mm512_mask_storeu_ps(t->l, rows, s->l);
}

#endif

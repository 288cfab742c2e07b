// SPDX-License-Identifier: MIT
// Attention with AVX2 and FMA: row by row, registers of eight lanes; the order of every sum is that of ops/attention.h.
#include <immintrin.h>
#include <stdbool.h>

#include "base/cpuinfo.h"
#include "device/cpu/attention_cpu.h"

#define FM_ALWAYS static inline __attribute__((always_inline))

struct avx2_scratch {
    float s[FM__KV_BLOCK], ob[FM__ATTEND_MAX_HEAD], bias[FM__KV_BLOCK], inv[FM__KV_BLOCK];
};

FM_ALWAYS __m256 exp2_ymm(__m256 x)
{
    const __m256 in = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_GE_OQ);
    const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(FM__EXP2_C5), f, _mm256_set1_ps(FM__EXP2_C4));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(FM__EXP2_C3));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(FM__EXP2_C2));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(FM__EXP2_C1));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(in, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

// fm__exp2_code of eight numbers.
FM_ALWAYS __m256 exp2_code_ymm(__m256 x)
{
    x = _mm256_max_ps(x, _mm256_set1_ps(FM__EXP2_CODE_LEAST)); // a NaN gives the second
    const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(FM__EXP2_CODE_C3), f, _mm256_set1_ps(FM__EXP2_CODE_C2));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(FM__EXP2_CODE_C1));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
}

// fm__tanh of eight numbers.
FM_ALWAYS __m256 tanh_ymm(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    const __m256 e = exp2_ymm(_mm256_mul_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(-2.0f * FM__LOG2E)));
    return _mm256_or_ps(_mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e)), _mm256_and_ps(sign, x));
}

// --- products -----------------------------------------------------------------------------------------------------

typedef __m256 load_fn(const void *block, size_t at);
FM_ALWAYS __m256 load_f32(const void *block, size_t at)
{
    return _mm256_loadu_ps((const float *)block + at);
}
FM_ALWAYS __m256 load_f16(const void *block, size_t at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)block + at)));
}
FM_ALWAYS __m256 load_bf16(const void *block, size_t at)
{
    const __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)((const uint16_t *)block + at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}

FM_ALWAYS void float_scores(load_fn *load, int head_k, const float *q, const void *block, float *s)
{
    __m256 acc[8];
    for (int c = 0; c < 8; c++) acc[c] = _mm256_setzero_ps();
    for (int e = 0; e < head_k; e++) {
        const __m256 x = _mm256_set1_ps(q[e]);
        for (int c = 0; c < 8; c++) acc[c] = _mm256_fmadd_ps(x, load(block, (size_t)e * FM__KV_BLOCK + 8 * c), acc[c]);
    }
    for (int c = 0; c < 8; c++) _mm256_storeu_ps(s + 8 * c, acc[c]);
}

// Columns e .. e + 8 n of the mix.
FM_ALWAYS void float_mix_columns(load_fn *load, int n, const struct fm__kv_dims *d, struct avx2_scratch *w, int e,
                                 const void *block)
{
    __m256 acc[8];
    for (int c = 0; c < n; c++) acc[c] = _mm256_setzero_ps();
    for (int j = 0; j < FM__KV_BLOCK; j++) {
        if (w->s[j] == 0.0f) continue; // also keys that nobody wrote; adding nothing changes nothing
        const __m256 x = _mm256_set1_ps(w->s[j]);
        const size_t at = (size_t)FM__KV_BLOCK * d->head_k + (size_t)j * d->head_v + e;
        for (int c = 0; c < n; c++) acc[c] = _mm256_fmadd_ps(x, load(block, at + 8 * c), acc[c]);
    }
    for (int c = 0; c < n; c++) _mm256_storeu_ps(w->ob + e + 8 * c, acc[c]);
}

FM_ALWAYS void int8_scores(const struct fm__kv_dims *d, const int8_t *q, const void *block, float *s)
{
    const int k_pad = fm__kv_pad16(d->head_k);
    const char *scales = (const char *)block + fm__kv_int8_scales_at(d);
    float q_scale;
    int32_t excess;
    memcpy(&q_scale, q + fm__kv_pad64(d->head_k), 4), memcpy(&excess, q + fm__kv_pad64(d->head_k) + 4, 4);
    for (int j = 0; j < FM__KV_BLOCK; j += 8) { // a register holds four keys times (elements 0, 1 and 2, 3)
        const char *keys = (const char *)block + (j / 16 * k_pad + j % 16 / 4) * 16;
        __m256i acc[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int e = 0; e < k_pad; e += 4) {
            int32_t four;
            memcpy(&four, q + e, 4);
            const __m256i x = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
            for (int c = 0; c < 2; c++) {
                const __m128i k = _mm_loadu_si128((const __m128i *)(keys + e * 16 + c * 16));
                acc[c] = _mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_cvtepu8_epi16(k), x));
            }
        }
        __m256i dot = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[0], acc[1]), 0xd8);
        dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(excess));
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), load_bf16(scales, (size_t)j));
        _mm256_storeu_ps(s + j, _mm256_mul_ps(scaled, _mm256_set1_ps(q_scale)));
    }
}

FM_ALWAYS void int8_mix(const struct fm__kv_dims *d, struct avx2_scratch *w, const void *block)
{
    const int v_pad = fm__kv_pad16(d->head_v);
    const char *values = (const char *)block + fm__kv_int8_values_at(d);
    __m256i p[16]; // the codes of four keys, four times
    for (int quad = 0; quad < 16; quad++) {
        const __m128i x = _mm_cvtps_epi32(_mm_loadu_ps(w->s + 4 * quad));
        const __m128i words = _mm_min_epi16(_mm_packs_epi32(x, x), _mm_set1_epi16(255));
        p[quad] = _mm256_broadcastsi128_si256(words);
    }
    for (int e = 0; e < v_pad; e += 8) {
        __m256i acc[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int quad = 0; quad < 16; quad++)
            for (int c = 0; c < 2; c++) {
                const __m128i v = _mm_loadu_si128((const __m128i *)(values + (quad * v_pad + e) * 4 + c * 16));
                acc[c] = _mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_cvtepi8_epi16(v), p[quad]));
            }
        const __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[0], acc[1]), 0xd8);
        _mm256_storeu_ps(w->ob + e, _mm256_cvtepi32_ps(sum));
    }
}

// --- softmax of one row against one block -------------------------------------------------------------------------

// Cap and slope of the scores of block b.
static void bend(const struct fm__attend *t, int r, int b, float *s)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int j = 0; j < FM__KV_BLOCK; j += 8) {
        __m256 x = _mm256_loadu_ps(s + j);
        if (t->cap_in != 0.0f)
            x = _mm256_mul_ps(tanh_ymm(_mm256_mul_ps(x, _mm256_set1_ps(t->cap_in))), _mm256_set1_ps(t->cap_out));
        if (t->alibi) {
            const __m256i distance = _mm256_add_epi32(lane, _mm256_set1_epi32(b * FM__KV_BLOCK + j - t->at[r]));
            x = _mm256_fmadd_ps(_mm256_set1_ps(t->slope[r]), _mm256_cvtepi32_ps(distance), x);
        }
        _mm256_storeu_ps(s + j, x);
    }
}

// Masks and biases the scores; the maximum.
FM_ALWAYS float finish_scores(float *s, const float *bias, int lo, int hi)
{
    __m256 top = _mm256_set1_ps(-INFINITY);
    if (lo > 0 || hi < FM__KV_BLOCK)
        for (int j = 0; j < FM__KV_BLOCK; j++)
            if (j < lo || j >= hi) s[j] = -INFINITY;
    for (int j = 0; j < FM__KV_BLOCK; j += 8) {
        __m256 x = _mm256_loadu_ps(s + j);
        if (bias) { // what lies behind a masked key may be anything
            const __m256 seen = _mm256_cmp_ps(x, _mm256_set1_ps(-INFINITY), _CMP_NEQ_UQ);
            x = _mm256_blendv_ps(x, _mm256_add_ps(x, _mm256_loadu_ps(bias + j)), seen);
        }
        _mm256_storeu_ps(s + j, x);
        top = _mm256_max_ps(top, x);
    }
    float lanes[8], m = -INFINITY;
    _mm256_storeu_ps(lanes, top);
    for (int i = 0; i < 8; i++) m = fmaxf(m, lanes[i]);
    return m;
}

// inv: of the values' scales, for a format whose probabilities become codes; NULL for floats.
FM_ALWAYS float probabilities(float *s, float m, const float *inv)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int j = 0; j < FM__KV_BLOCK; j += 8) {
        const __m256 x = _mm256_loadu_ps(s + j), y = _mm256_sub_ps(x, _mm256_set1_ps(m));
        const __m256 seen = _mm256_cmp_ps(x, _mm256_set1_ps(-INFINITY), _CMP_NEQ_UQ);
        const __m256 p = inv ? _mm256_and_ps(exp2_code_ymm(y), seen) : exp2_ymm(y);
        __m256 f = inv ? _mm256_loadu_ps(inv + j) : _mm256_set1_ps(1.0f);
        f = _mm256_and_ps(f, _mm256_cmp_ps(p, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        sum[j / 8 % 2] = _mm256_fmadd_ps(p, f, sum[j / 8 % 2]);
        _mm256_storeu_ps(s + j, p);
    }
    float lanes[16];
    _mm256_storeu_ps(lanes, sum[0]), _mm256_storeu_ps(lanes + 8, sum[1]);
    return fm__sum16(lanes);
}

static void finish_row(const struct fm__attend_state *row, float sink, float *out, int n)
{
    const float inv = fm__attend_inverse(*row->m, *row->l, sink);
    int e = 0;
    for (; e + 8 <= n; e += 8)
        _mm256_storeu_ps(out + e,
                         _mm256_fmadd_ps(_mm256_loadu_ps(row->o + e), _mm256_set1_ps(inv), _mm256_setzero_ps()));
    for (; e < n; e++) out[e] = fmaf(row->o[e], inv, 0.0f);
}

static void join_row(int n, float a, float b, const float *ob, float *o)
{
    const __m256 xa = _mm256_set1_ps(a), xb = _mm256_set1_ps(b);
    int e = 0;
    for (; e + 8 <= n; e += 8) {
        const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(o + e), xa);
        _mm256_storeu_ps(o + e, _mm256_fmadd_ps(_mm256_loadu_ps(ob + e), xb, x));
    }
    for (; e < n; e++) o[e] = fmaf(ob[e], b, o[e] * a);
}

static void join_rows(int n_rows, int n, int64_t stride, const struct fm__attend_state *to,
                      const struct fm__attend_state *from)
{
    for (int r = 0; r < n_rows; r++) {
        const float top = fmaxf(to->m[r], from->m[r]), a = fm__exp2(to->m[r] - top), b = fm__exp2(from->m[r] - top);
        to->m[r] = top;
        to->l[r] = fmaf(from->l[r], b, to->l[r] * a);
        join_row(n, a, b, from->o + r * stride, to->o + r * stride);
    }
}

FM_ALWAYS void float_mix(load_fn *load, const struct fm__kv_dims *d, struct avx2_scratch *w, const void *block)
{
    int e = 0;
    for (; e + 64 <= d->head_v; e += 64) float_mix_columns(load, 8, d, w, e, block);
    for (; e + 8 <= d->head_v; e += 8) float_mix_columns(load, 1, d, w, e, block);
    if (e < d->head_v) float_mix_columns(load, 1, d, w, d->head_v - 8, block); // some of them twice
}

// Scores and mixes of the four formats behind one loop; `load` is NULL for int8.
FM_ALWAYS void attend(load_fn *load, const struct fm__kv_format *f, const struct fm__attend *t)
{
    if (load && t->dims.head_v < 8) { // no register of values would lie within the block
        fm__attend_ref(f, t);
        return;
    }
    const bool bent = t->cap_in != 0.0f || t->alibi;
    struct avx2_scratch *w = (struct avx2_scratch *)t->scratch;
    const size_t q_bytes = f->query_bytes(&t->dims);
    for (int r = 0; r < t->n_rows; r++) {
        float *o = t->o + r * t->o_stride;
        const void *q = (const char *)t->prepared + (size_t)r * q_bytes;
        struct fm__attend_state state = {&t->m[r], &t->l[r], o};
        t->m[r] = -INFINITY, t->l[r] = 0.0f;
        for (int e = 0; e < t->dims.head_v; e++) o[e] = 0.0f;
        for (int b = t->first[r] / FM__KV_BLOCK; b * FM__KV_BLOCK < t->last[r]; b++) {
            const int lo = t->first[r] - b * FM__KV_BLOCK, hi = t->last[r] - b * FM__KV_BLOCK;
            if (load) {
                float_scores(load, t->dims.head_k, q, t->blocks[b], w->s);
            } else {
                int8_scores(&t->dims, q, t->blocks[b], w->s);
                f->value_scales(&t->dims, t->blocks[b], w->bias, w->inv);
            }
            if (bent) bend(t, r, b, w->s);
            float mb = finish_scores(w->s, load ? NULL : w->bias, lo, hi) - f->log2_top;
            float lb = probabilities(w->s, mb, load ? NULL : w->inv);
            if (load)
                float_mix(load, &t->dims, w, t->blocks[b]);
            else
                int8_mix(&t->dims, w, t->blocks[b]);
            join_rows(1, t->dims.head_v, 0, &state, &(struct fm__attend_state){&mb, &lb, w->ob});
        }
    }
}

static void attend_f32(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend(load_f32, f, t);
}
static void attend_f16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend(load_f16, f, t);
}
static void attend_bf16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend(load_bf16, f, t);
}
static void attend_int8(const struct fm__kv_format *f, const struct fm__attend *t)
{
    attend(NULL, f, t);
}

const struct fm__attend_level fm__attend_avx2 = {
    .cpu_level = FM__CPU_AVX2,
    .formats =
        {
            [FM__KV_F32] = {.attend = attend_f32},
            [FM__KV_F16] = {.attend = attend_f16},
            [FM__KV_BF16] = {.attend = attend_bf16},
            [FM__KV_INT8] = {.attend = attend_int8},
        },
    .join = join_rows,
    .finish = finish_row,
};

// SPDX-License-Identifier: MIT
// Attention with AVX-512: f32, f16 and bf16 blocks (chains of fused multiply-adds in the reference's order, a lane a
// key or a value column), int8 without VNNI, and what surrounds a tile: joins, query codes, cache writes.
#include <immintrin.h>

// Four products of u8 and s8 an i32 lane by way of 16-bit halves: exact, where vpmaddubsw would saturate.
static inline __attribute__((always_inline)) __m512i dot4(__m512i acc, __m512i u, __m512i s)
{
    const __m512i byte = _mm512_set1_epi16(0xff);
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(u, byte), _mm512_srai_epi16(_mm512_slli_epi16(s, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(u, 8), _mm512_srai_epi16(s, 8));
    return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
}
#define DOT4(acc, u, s) dot4(acc, u, s)
#include "device/cpu/attention_int8_zmm.h"

#include "base/cpuinfo.h"

// --- float formats --------------------------------------------------------------------------------------------------

// Sixteen elements of a block from `at` on, those of the mask; zero elsewhere.
FM_ALWAYS __m512 load_f32(const void *block, size_t at, __mmask16 m)
{
    return _mm512_maskz_loadu_ps(m, (const float *)block + at);
}
FM_ALWAYS __m512 load_f16(const void *block, size_t at, __mmask16 m)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)block + at));
}
FM_ALWAYS __m512 load_bf16(const void *block, size_t at, __mmask16 m)
{
    const __m512i x = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, (const uint16_t *)block + at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

typedef __m512 load_fn(const void *block, size_t at, __mmask16 m);

// A row's f32 queries are q_bytes apart.
struct queries {
    const char *q;
    size_t q_bytes;
};

FM_ALWAYS void float_scores_of_rows(load_fn *load, int n_rows, int head_k, struct queries from, const void *block,
                                    float *s)
{
    __m512 acc[4][4];
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 4; c++) acc[r][c] = _mm512_setzero_ps();
    for (int e = 0; e < head_k; e++) {
        __m512 k[4];
        for (int c = 0; c < 4; c++) k[c] = load(block, (size_t)e * FM__KV_BLOCK + 16 * c, 0xffff);
        for (int r = 0; r < n_rows; r++) {
            const __m512 x = _mm512_set1_ps(((const float *)(from.q + r * from.q_bytes))[e]);
            for (int c = 0; c < 4; c++) acc[r][c] = _mm512_fmadd_ps(x, k[c], acc[r][c]);
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < 4; c++) _mm512_store_ps(s + r * FM__KV_BLOCK + 16 * c, acc[r][c]);
}

// n_rows of m's rows: 64 columns at a time, keys ascending.
FM_ALWAYS void float_mix_of_rows(load_fn *load, int n_rows, const struct fm__kv_dims *d, const void *block,
                                 struct fm__kv_mix m)
{
    for (int e = 0; e < d->head_v; e += 64) {
        const int left = d->head_v - e < 64 ? d->head_v - e : 64;
        const uint64_t columns = ~UINT64_C(0) >> (64 - left);
        __m512 acc[4][4];
        for (int r = 0; r < n_rows; r++)
            for (int c = 0; c < 4; c++) acc[r][c] = _mm512_setzero_ps();
        for (int j = 0; j < m.n_keys; j++) {
            const size_t at = (size_t)FM__KV_BLOCK * d->head_k + (size_t)j * d->head_v + e;
            __m512 v[4];
            for (int c = 0; c < 4; c++) v[c] = load(block, at + 16 * c, (__mmask16)(columns >> 16 * c));
            for (int r = 0; r < n_rows; r++) {
                const __m512 x = _mm512_set1_ps(m.p[r * FM__KV_BLOCK + j]);
                for (int c = 0; c < 4; c++) acc[r][c] = _mm512_fmadd_ps(x, v[c], acc[r][c]);
            }
        }
        for (int r = 0; r < n_rows; r++)
            for (int c = 0; c < 4 && 16 * c < left; c++) _mm512_store_ps(m.o + r * m.o_stride + e + 16 * c, acc[r][c]);
    }
}

static void float_bend(const struct fm__attend *t, struct zmm_scratch *w, int b, bool masked)
{
    const bool plain = t->cap_in == 0.0f && !t->alibi;
    for (int r = 0; r < t->n_rows; r++) {
        const uint64_t seen = masked ? visible(t, r, b) : 0;
        __m512 x[4];
        for (int c = 0; c < 4; c++) {
            float *at = w->s[0] + r * FM__KV_BLOCK + 16 * c;
            x[c] = _mm512_load_ps(at);
            if (!plain) x[c] = bend(t, r, b * FM__KV_BLOCK + 16 * c, x[c]);
            if (masked) x[c] = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(seen >> 16 * c), x[c]);
            if (masked || !plain) _mm512_store_ps(at, x[c]);
        }
        _mm512_store_ps(w->lanes[r], _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    }
}

static void float_probabilities(const struct fm__attend *t, struct zmm_scratch *w)
{
    for (int r = 0; r < t->n_rows; r++) {
        const __m512 ref = _mm512_set1_ps(w->factors[0].ref[r]);
        __m512 sum = _mm512_setzero_ps();
        for (int c = 0; c < 4; c++) {
            const __m512 p = exp2_zmm(_mm512_sub_ps(_mm512_load_ps(w->s[0] + r * FM__KV_BLOCK + 16 * c), ref));
            _mm512_store_ps(w->p + r * FM__KV_BLOCK + 16 * c, p);
            sum = _mm512_add_ps(p, sum);
        }
        _mm512_store_ps(w->lanes[r], sum);
    }
}

static void float_join(const struct fm__attend *t, int v_pad, const struct zmm_scratch *w)
{
    for (int r = 0; r < t->n_rows; r++) {
        const __m512 a = _mm512_set1_ps(w->factors[0].a[r]), b = _mm512_set1_ps(w->factors[0].b[r]);
        float *o = t->o + r * t->o_stride;
        for (int e = 0; e < v_pad; e += 16) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(o + e), a);
            _mm512_storeu_ps(o + e, _mm512_fmadd_ps(_mm512_load_ps(w->ob + r * v_pad + e), b, x));
        }
    }
}

FM_ALWAYS void attend_float(load_fn *load, const struct fm__attend *t)
{
    struct zmm_scratch *w = (struct zmm_scratch *)t->scratch;
    const int v_pad = fm__kv_pad16(t->dims.head_v);
    const size_t q_bytes = (sizeof(float) * (size_t)t->dims.head_k + 63) / 64 * 64;
    struct zmm_row_state state = begin_rows(t, w, v_pad);
    const struct block_list list = blocks_to_visit(t);
    for (int i = 0; i < list.n; i++) {
        const int b = list.b[i], left = list.high - b * FM__KV_BLOCK,
                  n_keys = left < FM__KV_BLOCK ? left : FM__KV_BLOCK;
        const void *block = t->blocks[b];
#define CALL(n)                                                                                             \
    float_scores_of_rows(load, n, t->dims.head_k,                                                           \
                         (struct queries){(const char *)t->prepared + (size_t)r * q_bytes, q_bytes}, block, \
                         w->s[0] + r * FM__KV_BLOCK)
        BY_ROWS(CALL)
#undef CALL
        float_bend(t, w, b, list.masked[i]);
        join_maxima(w, &state, 0.0f, &w->factors[0]);
        float_probabilities(t, w);
        join_sums(w, &state, &w->factors[0]);
#define CALL(n)                                 \
    float_mix_of_rows(load, n, &t->dims, block, \
                      (struct fm__kv_mix){n, n_keys, w->p + r * FM__KV_BLOCK, w->ob + r * v_pad, v_pad})
        BY_ROWS(CALL)
#undef CALL
        float_join(t, v_pad, w);
    }
    end_rows(t, &state);
}

static void attend_f32(const struct fm__kv_format *f, const struct fm__attend *t)
{
    (void)f;
    attend_float(load_f32, t);
}
static void attend_f16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    (void)f;
    attend_float(load_f16, t);
}
static void attend_bf16(const struct fm__kv_format *f, const struct fm__attend *t)
{
    (void)f;
    attend_float(load_bf16, t);
}

// --- around tiles ---------------------------------------------------------------------------------------------------

static void join_rows(int n_rows, int n, int64_t stride, const struct fm__attend_state *to,
                      const struct fm__attend_state *from)
{
    const __mmask16 rows = (__mmask16)(0xffffu >> (16 - n_rows));
    float a[16], b[16];
    const __m512 m = _mm512_maskz_loadu_ps(rows, to->m), mb = _mm512_maskz_loadu_ps(rows, from->m);
    const __m512 l = _mm512_maskz_loadu_ps(rows, to->l), lb = _mm512_maskz_loadu_ps(rows, from->l);
    const __m512 top = _mm512_max_ps(m, mb), xa = exp2_zmm(_mm512_sub_ps(m, top)),
                 xb = exp2_zmm(_mm512_sub_ps(mb, top));
    _mm512_mask_storeu_ps(to->m, rows, top);
    _mm512_mask_storeu_ps(to->l, rows, _mm512_fmadd_ps(lb, xb, _mm512_mul_ps(l, xa)));
    _mm512_storeu_ps(a, xa), _mm512_storeu_ps(b, xb);
    for (int r = 0; r < n_rows; r++) {
        const __m512 ra = _mm512_set1_ps(a[r]), rb = _mm512_set1_ps(b[r]);
        for (int e = 0; e < n; e += 16) { // strides are multiples of 16: the tail is nobody's
            float *o = to->o + r * stride + e;
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(o), ra);
            _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_loadu_ps(from->o + r * stride + e), rb, x));
        }
    }
}

static void finish_row(const struct fm__attend_state *row, float sink, float *out, int n)
{
    const __m512 inv = _mm512_set1_ps(fm__attend_inverse(*row->m, *row->l, sink));
    for (int e = 0; e < n; e += 16) {
        const __mmask16 m = (__mmask16)(n - e < 16 ? 0xffffu >> (16 - (n - e)) : 0xffffu);
        const __m512 x = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, row->o + e), inv, _mm512_setzero_ps());
        _mm512_mask_storeu_ps(out + e, m, x);
    }
}

// Codes of x * inv, as the reference rounds them.
FM_ALWAYS __m128i codes_of(const float *x, int left, float inv)
{
    const __mmask16 m = (__mmask16)(left <= 0 ? 0 : left < 16 ? 0xffffu >> (16 - left) : 0xffffu);
    __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x), _mm512_set1_ps(inv));
    y = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    y = _mm512_max_ps(_mm512_min_ps(y, _mm512_set1_ps(127.0f)), _mm512_set1_ps(-127.0f)); // a NaN gives 127
    return _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(m, y));
}

FM_ALWAYS float largest_of(const float *x, int n)
{
    __m512 top = _mm512_setzero_ps();
    for (int e = 0; e < n; e += 16) {
        const __mmask16 m = (__mmask16)(n - e < 16 ? 0xffffu >> (16 - (n - e)) : 0xffffu);
        top = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(m, x + e)), top); // a NaN gives the second
    }
    return fminf(_mm512_reduce_max_ps(top), 0x1p100f);
}

// The reference's int8_encode, 16 elements at a time.
static void encode_int8(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v)
{
    const int kp = fm__kv_pad16(d->head_k), vp = fm__kv_pad16(d->head_v);
    uint8_t *keys = (uint8_t *)block + (size_t)(i / 16) * 16 * kp + i % 16 * 4, bytes[16];
    uint8_t *values = (uint8_t *)block + fm__kv_int8_values_at(d) + (size_t)(i / 4) * 4 * vp + i % 4;
    uint16_t *scales = (uint16_t *)((char *)block + fm__kv_int8_scales_at(d));
    float inv = fm__kv_int8_key_scale(largest_of(k, d->head_k), &scales[i]);
    for (int e = 0; e < kp; e += 16) {
        const __m128i c = codes_of(k + e, d->head_k - e, inv);
        _mm_storeu_si128((__m128i *)bytes, _mm_xor_si128(c, _mm_set1_epi8((char)0x80)));
        for (int n = 0; n < 4; n++) memcpy(keys + (e / 4 + n) * 64, bytes + 4 * n, 4);
    }
    float log2_scale;
    inv = fm__kv_int8_value_inv(largest_of(v, d->head_v), &scales[FM__KV_BLOCK + i], &log2_scale);
    memcpy((char *)(scales + 2 * FM__KV_BLOCK) + 4 * i, &log2_scale, 4);
    for (int e = 0; e < vp; e += 16) {
        _mm_storeu_si128((__m128i *)bytes, codes_of(v + e, d->head_v - e, inv));
        for (int n = 0; n < 16; n++) values[(e + n) * 4] = bytes[n];
    }
}

// Query codes: the reference's formula, 16 elements at a time.
static void prepare_int8(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared)
{
    const size_t bytes = (size_t)fm__kv_pad64(d->head_k) + 64;
    for (int r = 0; r < n_rows; r++) {
        const float *x = q + r * q_stride;
        char *codes = (char *)prepared + (size_t)r * bytes;
        __m512i sum = _mm512_setzero_si512();
        const float top = fmaxf(largest_of(x, d->head_k), 0x1p-60f), inv = 127.0f / top, scale = top * (1.0f / 127.0f);
        for (int e = 0; e < fm__kv_pad64(d->head_k); e += 16) {
            const __m128i c = codes_of(x + e, d->head_k - e, inv);
            sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(c));
            _mm_storeu_si128((__m128i *)(codes + e), c);
        }
        const int32_t excess = 128 * _mm512_reduce_add_epi32(sum);
        memset(codes + bytes - 64, 0, 64);
        memcpy(codes + bytes - 64, &scale, 4);
        memcpy(codes + bytes - 60, &excess, 4);
    }
}

const struct fm__attend_level fm__attend_avx512 = {
    .cpu_level = FM__CPU_AVX512,
    .formats =
        {
            [FM__KV_F32] = {.attend = attend_f32},
            [FM__KV_F16] = {.attend = attend_f16},
            [FM__KV_BF16] = {.attend = attend_bf16},
            [FM__KV_INT8] = {.attend = attend_int8, .prepare = prepare_int8, .encode = encode_int8},
        },
    .join = join_rows,
    .finish = finish_row,
};

// SPDX-License-Identifier: MIT
// What the levels of ARM share in attention: softmax of one row against one block, joins, and the int8 format over a
// level's own products of bytes. Registers hold four lanes; the order of every sum is that of ops/attention.h. Caps and
// slopes are rare and go to the reference.
#ifndef FM_DEVICE_CPU_ATTENTION_NEON_H
#define FM_DEVICE_CPU_ATTENTION_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <string.h>

#include "device/cpu/attention_cpu.h"

#define FM_ALWAYS static inline __attribute__((always_inline, unused))

// t->scratch
struct neon_scratch {
    float s[FM__KV_BLOCK], ob[FM__ATTEND_MAX_HEAD], bias[FM__KV_BLOCK], inv[FM__KV_BLOCK];
    int32_t sums[FM__ATTEND_MAX_HEAD]; // int8: 128 times the sum of a block's values
};
_Static_assert(sizeof(struct neon_scratch) <= FM__ATTEND_SCRATCH, "a tile's scratch");

FM_ALWAYS float32x4_t exp2_neon(float32x4_t x)
{
    const uint32x4_t in = vcgeq_f32(x, vdupq_n_f32(-126.0f));
    const float32x4_t n = vrndnq_f32(x), f = vsubq_f32(x, n);
    float32x4_t p = vfmaq_f32(vdupq_n_f32(FM__EXP2_C4), vdupq_n_f32(FM__EXP2_C5), f);
    p = vfmaq_f32(vdupq_n_f32(FM__EXP2_C3), p, f);
    p = vfmaq_f32(vdupq_n_f32(FM__EXP2_C2), p, f);
    p = vfmaq_f32(vdupq_n_f32(FM__EXP2_C1), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    p = vmulq_f32(p, vreinterpretq_f32_s32(power));
    return vreinterpretq_f32_u32(vandq_u32(in, vreinterpretq_u32_f32(p)));
}

// fm__exp2_code of four numbers; a NaN gives the least, as vmaxnm does.
FM_ALWAYS float32x4_t exp2_code_neon(float32x4_t x)
{
    x = vmaxnmq_f32(x, vdupq_n_f32(FM__EXP2_CODE_LEAST));
    const float32x4_t n = vrndnq_f32(x), f = vsubq_f32(x, n);
    float32x4_t p = vfmaq_f32(vdupq_n_f32(FM__EXP2_CODE_C2), vdupq_n_f32(FM__EXP2_CODE_C3), f);
    p = vfmaq_f32(vdupq_n_f32(FM__EXP2_CODE_C1), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vcvtnq_s32_f32(n), 23)));
}

FM_ALWAYS float32x4_t bf16_neon(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

// --- softmax of one row against one block -------------------------------------------------------------------------

// Masks and biases the scores; the maximum.
FM_ALWAYS float finish_scores(float *s, const float *bias, int lo, int hi)
{
    const float32x4_t nothing = vdupq_n_f32(-INFINITY);
    float32x4_t top = nothing;
    if (lo > 0 || hi < FM__KV_BLOCK)
        for (int j = 0; j < FM__KV_BLOCK; j++)
            if (j < lo || j >= hi) s[j] = -INFINITY;
    for (int j = 0; j < FM__KV_BLOCK; j += 4) {
        float32x4_t x = vld1q_f32(s + j);
        if (bias) // what lies behind a masked key may be anything
            x = vbslq_f32(vceqq_f32(x, nothing), x, vaddq_f32(x, vld1q_f32(bias + j)));
        vst1q_f32(s + j, x);
        top = vmaxnmq_f32(top, x);
    }
    return vmaxnmvq_f32(top);
}

// inv: of the values' scales, for a format whose probabilities become codes; NULL for floats.
FM_ALWAYS float probabilities(float *s, float m, const float *inv)
{
    float32x4_t sum[4];
    for (int i = 0; i < 4; i++) sum[i] = vdupq_n_f32(0);
    for (int j = 0; j < FM__KV_BLOCK; j += 16)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const float32x4_t x = vld1q_f32(s + j + 4 * i), y = vsubq_f32(x, vdupq_n_f32(m));
            const uint32x4_t hidden = vceqq_f32(x, vdupq_n_f32(-INFINITY));
            const float32x4_t code = exp2_code_neon(y);
            const float32x4_t p =
                inv ? vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(code), hidden)) : exp2_neon(y);
            float32x4_t f = inv ? vld1q_f32(inv + j + 4 * i) : vdupq_n_f32(1.0f);
            f = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(f), vceqzq_f32(p)));
            sum[i] = vfmaq_f32(sum[i], p, f);
            vst1q_f32(s + j + 4 * i, p);
        }
    // the order of fm__sum16
    const float32x4_t a = vaddq_f32(sum[0], sum[2]), b = vaddq_f32(sum[1], sum[3]), c = vaddq_f32(a, b);
    const float32x2_t d = vadd_f32(vget_low_f32(c), vget_high_f32(c));
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}

// Row r of both: see fm__attend_join.
FM_ALWAYS void join_row(int n, int64_t stride, int r, const struct fm__attend_state *to,
                        const struct fm__attend_state *from)
{
    const float top = fmaxf(to->m[r], from->m[r]), a = fm__exp2(to->m[r] - top), b = fm__exp2(from->m[r] - top);
    const float *ob = from->o + r * stride;
    float *o = to->o + r * stride;
    int e = 0;
    to->m[r] = top;
    to->l[r] = fmaf(from->l[r], b, to->l[r] * a);
    for (; e + 4 <= n; e += 4) vst1q_f32(o + e, vfmaq_n_f32(vmulq_n_f32(vld1q_f32(o + e), a), vld1q_f32(ob + e), b));
    for (; e < n; e++) o[e] = fmaf(ob[e], b, o[e] * a);
}

FM_ALWAYS void start_rows(const struct fm__attend *t)
{
    for (int r = 0; r < t->n_rows; r++) {
        t->m[r] = -INFINITY, t->l[r] = 0.0f;
        for (int e = 0; e < t->dims.head_v; e++) t->o[r * t->o_stride + e] = 0.0f;
    }
}

// The keys of block b that row r sees: [*lo, *hi). False: none.
FM_ALWAYS bool row_sees(const struct fm__attend *t, int r, int b, int *lo, int *hi)
{
    *lo = t->first[r] - b * FM__KV_BLOCK, *hi = t->last[r] - b * FM__KV_BLOCK;
    return t->first[r] < t->last[r] && *hi > 0 && *lo < FM__KV_BLOCK;
}

// A block's maximum, sum and mix go to row r's state.
FM_ALWAYS void join_block(const struct fm__attend *t, int r, float mb, float lb, float *ob)
{
    const struct fm__attend_state state = {&t->m[r], &t->l[r], t->o + r * t->o_stride};
    join_row(t->dims.head_v, 0, 0, &state, &(struct fm__attend_state){&mb, &lb, ob});
}

// --- int8: quads of bytes of four keys (scores) or four columns (mix) times a quad of the row's ---------------------

#if defined(__ARM_FEATURE_DOTPROD)

typedef int32x4_t quad_sums;
FM_ALWAYS quad_sums quads_zero(void)
{
    return vdupq_n_s32(0);
}
// sum of four products a lane: 16 bytes with the four bytes at x
FM_ALWAYS quad_sums quads_add(quad_sums sum, int8x16_t bytes, int8x16_t x)
{
    return vdotq_s32(sum, bytes, x);
}
FM_ALWAYS int32x4_t quads_total(quad_sums sum)
{
    return sum;
}

#else

typedef struct {
    int32x4_t low, high; // of pairs
} quad_sums;
FM_ALWAYS quad_sums quads_zero(void)
{
    return (quad_sums){vdupq_n_s32(0), vdupq_n_s32(0)};
}
FM_ALWAYS quad_sums quads_add(quad_sums sum, int8x16_t bytes, int8x16_t x)
{
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(bytes), vget_low_s8(x)));
    sum.high = vpadalq_s16(sum.high, vmull_high_s8(bytes, x));
    return sum;
}
FM_ALWAYS int32x4_t quads_total(quad_sums sum)
{
    return vpaddq_s32(sum.low, sum.high);
}

#endif

FM_ALWAYS int8x16_t four_times(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// Keys are stored as code + 128; flipping that bit gives the signed code, and the products that the reference sums.
FM_ALWAYS void int8_scores(const struct fm__kv_dims *d, const int8_t *q, const void *block, float *s)
{
    const int k_pad = fm__kv_pad16(d->head_k);
    const uint16_t *scales = (const uint16_t *)((const char *)block + fm__kv_int8_scales_at(d));
    const uint8x16_t flip = vdupq_n_u8(0x80);
    float q_scale;
    memcpy(&q_scale, q + fm__kv_pad64(d->head_k), 4);
    for (int j = 0; j < FM__KV_BLOCK; j += 16) {
        const uint8_t *keys = (const uint8_t *)block + j * k_pad;
        quad_sums sum[4] = {quads_zero(), quads_zero(), quads_zero(), quads_zero()};
        for (int e = 0; e < k_pad; e += 4) {
            const int8x16_t x = four_times(q + e);
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                const uint8x16_t k = veorq_u8(vld1q_u8(keys + e * 16 + c * 16), flip);
                sum[c] = quads_add(sum[c], vreinterpretq_s8_u8(k), x);
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) {
            const float32x4_t dot = vcvtq_f32_s32(quads_total(sum[c]));
            vst1q_f32(s + j + 4 * c, vmulq_f32(vmulq_f32(dot, bf16_neon(scales + j + 4 * c)), vdupq_n_f32(q_scale)));
        }
    }
}

// 128 times the sum of all 64 values: what the mix, whose probabilities are shifted by 128 to be signed, lacks. Sums of
// integers: whatever lies behind a masked key cancels.
FM_ALWAYS void value_sums(const struct fm__kv_dims *d, const void *block, int32_t *sums)
{
    const int v_pad = fm__kv_pad16(d->head_v);
    const int8_t *values = (const int8_t *)block + fm__kv_int8_values_at(d);
    for (int e = 0; e < v_pad; e += 4) {
        quad_sums sum = quads_zero();
        for (int quad = 0; quad < 16; quad++)
            sum = quads_add(sum, vld1q_s8(values + (quad * v_pad + e) * 4), vdupq_n_s8(1));
        vst1q_s32(sums + e, vshlq_n_s32(quads_total(sum), 7));
    }
}

FM_ALWAYS void int8_mix(const struct fm__kv_dims *d, struct neon_scratch *w, const void *block)
{
    const int v_pad = fm__kv_pad16(d->head_v);
    const int8_t *values = (const int8_t *)block + fm__kv_int8_values_at(d);
    int8_t codes[FM__KV_BLOCK]; // 0 … 255, less 128
    for (int j = 0; j < FM__KV_BLOCK; j += 8) {
        int32x4_t c[2];
        for (int i = 0; i < 2; i++)
            c[i] =
                vsubq_s32(vminq_s32(vcvtnq_s32_f32(vld1q_f32(w->s + j + 4 * i)), vdupq_n_s32(255)), vdupq_n_s32(128));
        vst1_s8(codes + j, vmovn_s16(vcombine_s16(vmovn_s32(c[0]), vmovn_s32(c[1]))));
    }
    for (int e = 0; e < v_pad; e += 16) {
        quad_sums sum[4] = {quads_zero(), quads_zero(), quads_zero(), quads_zero()};
        for (int quad = 0; quad < 16; quad++) {
            const int8x16_t p = four_times(codes + 4 * quad);
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++)
                sum[c] = quads_add(sum[c], vld1q_s8(values + (quad * v_pad + e + 4 * c) * 4), p);
        }
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++)
            vst1q_f32(w->ob + e + 4 * c, vcvtq_f32_s32(vaddq_s32(quads_total(sum[c]), vld1q_s32(w->sums + e + 4 * c))));
    }
}

FM_ALWAYS void attend_int8_neon(const struct fm__kv_format *f, const struct fm__attend *t)
{
    if (t->cap_in != 0.0f || t->alibi) {
        fm__attend_ref(f, t);
        return;
    }
    struct neon_scratch *w = (struct neon_scratch *)t->scratch;
    const size_t q_bytes = f->query_bytes(&t->dims);
    start_rows(t);
    for (int b = 0; b < FM__ATTEND_BLOCKS; b++) {
        bool summed = false;
        for (int r = 0; r < t->n_rows; r++) {
            int lo, hi;
            if (!row_sees(t, r, b, &lo, &hi)) continue;
            if (!summed) {
                f->value_scales(&t->dims, t->blocks[b], w->bias, w->inv);
                value_sums(&t->dims, t->blocks[b], w->sums);
                summed = true;
            }
            int8_scores(&t->dims, (const int8_t *)t->prepared + (size_t)r * q_bytes, t->blocks[b], w->s);
            const float mb = finish_scores(w->s, w->bias, lo, hi) - f->log2_top;
            const float lb = probabilities(w->s, mb, w->inv);
            int8_mix(&t->dims, w, t->blocks[b]);
            join_block(t, r, mb, lb, w->ob);
        }
    }
}

#endif

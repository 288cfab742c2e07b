// SPDX-License-Identifier: MIT
// f32 rows to block formats: one function a format, the nearest code under the scale that spans a block's range. No
// search over scales and no importance: that is the quantiser's work, which writes the same structs.
//
// Invariant: codes are chosen against the scale as stored (rounded to binary16, or to its integer), so that what is
// decoded is the nearest level of what was stored.
#include "tensor/blocks.h"

#include <math.h>
#include <string.h>

#include "tensor/q8a.h"
#include "tensor/q8r.h"

static int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

// nearest integer of x / scale in [low, high]; 0 lies in the range of every caller's codes after its offset
static int code(float x, float scale, int low, int high)
{
    if (scale == 0) return clamp(0, low, high);
    const float q = rintf(x / scale);
    return q < (float)low ? low : q > (float)high ? high : (int)q;
}

static uint16_t half_of(float f, float *stored)
{
    const uint16_t h = fm__f32_to_f16(f);
    *stored = fm__f16_to_f32(h);
    return h;
}

// the element of largest magnitude, with its sign: mapped to the one code more that two's complement has
static float signed_peak(const float *x, int n)
{
    float peak = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(peak)) peak = x[i];
    return peak;
}

static void range(const float *x, int n, float *low, float *high)
{
    *low = *high = x[0];
    for (int i = 1; i < n; i++) {
        *low = fminf(*low, x[i]);
        *high = fmaxf(*high, x[i]);
    }
}

static void quantise_q4_0(const float *x, struct fm__block_q4_0 *b)
{
    float d;
    b->d = half_of(signed_peak(x, 32) / -8, &d);
    for (int i = 0; i < 16; i++)
        b->qs[i] = (uint8_t)(code(x[i], d, -8, 7) + 8) | (uint8_t)((code(x[i + 16], d, -8, 7) + 8) << 4);
}

static void quantise_q4_1(const float *x, struct fm__block_q4_1 *b)
{
    float low, high, d, m;
    range(x, 32, &low, &high);
    b->d = half_of((high - low) / 15, &d);
    b->m = half_of(low, &m);
    for (int i = 0; i < 16; i++)
        b->qs[i] = (uint8_t)code(x[i] - m, d, 0, 15) | (uint8_t)(code(x[i + 16] - m, d, 0, 15) << 4);
}

// spreads five-bit codes over the nibble plane and the plane of high bits
static void store_five_bits(const int q[32], uint8_t qh[4], uint8_t qs[16])
{
    memset(qh, 0, 4);
    for (int i = 0; i < 32; i++) qh[i / 8] |= (uint8_t)((q[i] >> 4) << i % 8);
    for (int i = 0; i < 16; i++) qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void quantise_q5_0(const float *x, struct fm__block_q5_0 *b)
{
    float d;
    int q[32];
    b->d = half_of(signed_peak(x, 32) / -16, &d);
    for (int i = 0; i < 32; i++) q[i] = code(x[i], d, -16, 15) + 16;
    store_five_bits(q, b->qh, b->qs);
}

static void quantise_q5_1(const float *x, struct fm__block_q5_1 *b)
{
    float low, high, d, m;
    int q[32];
    range(x, 32, &low, &high);
    b->d = half_of((high - low) / 31, &d);
    b->m = half_of(low, &m);
    for (int i = 0; i < 32; i++) q[i] = code(x[i] - m, d, 0, 31);
    store_five_bits(q, b->qh, b->qs);
}

static void quantise_q8_0(const float *x, struct fm__block_q8_0 *b)
{
    float d;
    b->d = half_of(fabsf(signed_peak(x, 32)) / 127, &d);
    for (int i = 0; i < 32; i++) b->qs[i] = (int8_t)code(x[i], d, -127, 127);
}

// Scales and minimums of n_sub sub-blocks as integers up to `top` times the block's two halves: value = dw * q - mw,
// q in 0..q_top. The minimum is not above zero, so that zero is always a level.
struct k_scales {
    uint16_t d, dmin;
    int sc[16], mn[16];
    float dw[16], mw[16];
};

static void find_k_scales(const float *x, int n_sub, int q_top, int top, struct k_scales *k)
{
    const int n = 256 / n_sub;
    float scale[16], minimum[16], largest_scale = 0, largest_minimum = 0, d, dmin;
    for (int s = 0; s < n_sub; s++) {
        float low, high;
        range(x + s * n, n, &low, &high);
        minimum[s] = fmaxf(0, -low);
        scale[s] = fmaxf(0, high + minimum[s]) / (float)q_top;
        largest_scale = fmaxf(largest_scale, scale[s]);
        largest_minimum = fmaxf(largest_minimum, minimum[s]);
    }
    k->d = half_of(largest_scale / (float)top, &d);
    k->dmin = half_of(largest_minimum / (float)top, &dmin);
    for (int s = 0; s < n_sub; s++) {
        k->sc[s] = code(scale[s], d, 0, top);
        k->mn[s] = code(minimum[s], dmin, 0, top);
        k->dw[s] = d * (float)k->sc[s];
        k->mw[s] = dmin * (float)k->mn[s];
    }
}

static void quantise_q2_k(const float *x, struct fm__block_q2_k *b)
{
    struct k_scales k;
    find_k_scales(x, 16, 3, 15, &k);
    memset(b, 0, sizeof *b);
    b->d = k.d;
    b->dmin = k.dmin;
    for (int s = 0; s < 16; s++) b->scales[s] = (uint8_t)(k.sc[s] | k.mn[s] << 4);
    for (int i = 0; i < 256; i++) {
        const int q = code(x[i] + k.mw[i / 16], k.dw[i / 16], 0, 3);
        b->qs[i / 128 * 32 + i % 32] |= (uint8_t)(q << 2 * (i / 32 % 4));
    }
}

static void store_k4_scales(const struct k_scales *k, uint8_t scales[12])
{
    for (int i = 0; i < 4; i++) {
        scales[i] = (uint8_t)(k->sc[i] | (k->sc[i + 4] >> 4) << 6);
        scales[4 + i] = (uint8_t)(k->mn[i] | (k->mn[i + 4] >> 4) << 6);
        scales[8 + i] = (uint8_t)((k->sc[i + 4] & 15) | (k->mn[i + 4] & 15) << 4);
    }
}

static void quantise_q4_k(const float *x, struct fm__block_q4_k *b)
{
    struct k_scales k;
    find_k_scales(x, 8, 15, 63, &k);
    memset(b, 0, sizeof *b);
    b->d = k.d;
    b->dmin = k.dmin;
    store_k4_scales(&k, b->scales);
    for (int i = 0; i < 256; i++) {
        const int q = code(x[i] + k.mw[i / 32], k.dw[i / 32], 0, 15);
        b->qs[i / 64 * 32 + i % 32] |= (uint8_t)(q << 4 * (i / 32 % 2));
    }
}

static void quantise_q5_k(const float *x, struct fm__block_q5_k *b)
{
    struct k_scales k;
    find_k_scales(x, 8, 31, 63, &k);
    memset(b, 0, sizeof *b);
    b->d = k.d;
    b->dmin = k.dmin;
    store_k4_scales(&k, b->scales);
    for (int i = 0; i < 256; i++) {
        const int q = code(x[i] + k.mw[i / 32], k.dw[i / 32], 0, 31);
        b->qs[i / 64 * 32 + i % 32] |= (uint8_t)((q & 15) << 4 * (i / 32 % 2));
        b->qh[i % 32] |= (uint8_t)((q >> 4) << i / 32);
    }
}

// 16 signed scales: d * sc[s] spans sub-block s with codes down to -q_low; sc within [-sc_low, sc_low - 1]
static float find_signed_scales(const float *x, int q_low, int sc_low, int sc[16], uint16_t *d_bits)
{
    float scale[16], d;
    for (int s = 0; s < 16; s++) scale[s] = signed_peak(x + 16 * s, 16) / (float)-q_low;
    *d_bits = half_of(signed_peak(scale, 16) / (float)-sc_low, &d);
    for (int s = 0; s < 16; s++) sc[s] = code(scale[s], d, -sc_low, sc_low - 1);
    return d;
}

static void quantise_q3_k(const float *x, struct fm__block_q3_k *b)
{
    int sc[16];
    memset(b, 0, sizeof *b);
    const float d = find_signed_scales(x, 4, 32, sc, &b->d);
    for (int s = 0; s < 16; s++) {
        const int u = sc[s] + 32;
        b->scales[s % 8] |= (uint8_t)((u & 15) << 4 * (s / 8));
        b->scales[8 + s % 4] |= (uint8_t)((u >> 4) << 2 * (s / 4));
    }
    for (int i = 0; i < 256; i++) {
        const int h = i / 128, j = i / 32 % 4, q = code(x[i], d * (float)sc[i / 16], -4, 3) + 4;
        b->qs[32 * h + i % 32] |= (uint8_t)((q & 3) << 2 * j);
        b->hmask[i % 32] |= (uint8_t)((q >> 2) << (4 * h + j));
    }
}

static void quantise_q6_k(const float *x, struct fm__block_q6_k *b)
{
    int sc[16];
    memset(b, 0, sizeof *b);
    const float d = find_signed_scales(x, 32, 128, sc, &b->d);
    for (int s = 0; s < 16; s++) b->scales[s] = (int8_t)sc[s];
    for (int i = 0; i < 256; i++) {
        const int h = i / 128, j = i / 32 % 4, l = i % 32, q = code(x[i], d * (float)sc[i / 16], -32, 31) + 32;
        b->ql[64 * h + 32 * (j % 2) + l] |= (uint8_t)((q & 15) << 4 * (j / 2));
        b->qh[32 * h + l] |= (uint8_t)((q >> 4) << 2 * j);
    }
}

// index of the level nearest to x / scale
static int iq4_code(float x, float scale)
{
    const float v = scale == 0 ? 0 : x / scale;
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (fabsf(v - (float)fm__iq4_values[i]) < fabsf(v - (float)fm__iq4_values[best])) best = i;
    return best;
}

static void iq4_codes(const float *x, float scale, uint8_t qs[16])
{
    for (int i = 0; i < 16; i++) qs[i] = (uint8_t)(iq4_code(x[i], scale) | iq4_code(x[i + 16], scale) << 4);
}

static void quantise_iq4_nl(const float *x, struct fm__block_iq4_nl *b)
{
    float d;
    b->d = half_of(signed_peak(x, 32) / -127, &d);
    iq4_codes(x, d, b->qs);
}

static void quantise_iq4_xs(const float *x, struct fm__block_iq4_xs *b)
{
    float scale[8], d;
    memset(b, 0, sizeof *b);
    for (int s = 0; s < 8; s++) scale[s] = signed_peak(x + 32 * s, 32) / -127;
    b->d = half_of(signed_peak(scale, 8) / -32, &d);
    for (int s = 0; s < 8; s++) {
        const int sc = code(scale[s], d, -32, 31), u = sc + 32;
        b->scales_l[s / 2] |= (uint8_t)((u & 15) << 4 * (s % 2));
        b->scales_h |= (uint16_t)((u >> 4) << 2 * s);
        iq4_codes(x + 32 * s, d * (float)sc, b->qs + 16 * s);
    }
}

#define BLOCK_TYPES(X)    \
    X(Q4_0, q4_0, 32)     \
    X(Q4_1, q4_1, 32)     \
    X(Q5_0, q5_0, 32)     \
    X(Q5_1, q5_1, 32)     \
    X(Q8_0, q8_0, 32)     \
    X(Q2_K, q2_k, 256)    \
    X(Q3_K, q3_k, 256)    \
    X(Q4_K, q4_k, 256)    \
    X(Q5_K, q5_k, 256)    \
    X(Q6_K, q6_k, 256)    \
    X(IQ4_NL, iq4_nl, 32) \
    X(IQ4_XS, iq4_xs, 256)

#define ROW(TYPE, name, elements)                                            \
    static void row_##name(const float *src, int64_t n, uint8_t *dst)        \
    {                                                                        \
        struct fm__block_##name block; /* dst may lie at an odd address */   \
        for (; n > 0; n -= elements, src += elements, dst += sizeof block) { \
            quantise_##name(src, &block);                                    \
            memcpy(dst, &block, sizeof block);                               \
        }                                                                    \
    }
BLOCK_TYPES(ROW)
#undef ROW

static void row_f32(const float *src, int64_t n, uint8_t *dst)
{
    memcpy(dst, src, (size_t)n * sizeof *src);
}

static void row_f16(const float *src, int64_t n, uint8_t *dst)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = fm__f32_to_f16(src[i]);
        memcpy(dst + 2 * i, &h, 2);
    }
}

static void row_bf16(const float *src, int64_t n, uint8_t *dst)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = fm__f32_to_bf16(src[i]);
        memcpy(dst + 2 * i, &h, 2);
    }
}

typedef void row_fn(const float *src, int64_t n, uint8_t *dst);
static row_fn *const rows[FM_DTYPE_COUNT] = {[FM_F32] = row_f32,
                                             [FM_F16] = row_f16,
                                             [FM_BF16] = row_bf16,
#define ENTRY(TYPE, name, elements) [FM_##TYPE] = row_##name,
                                             BLOCK_TYPES(ENTRY)
#undef ENTRY
};

bool fm__quantise_row(fm_dtype dtype, const float *src, int64_t n, void *dst)
{
    if (dtype == FM_Q8A) fm__q8a_quantise_row(src, n, dst);
    if (dtype == FM_Q8R) fm__q8r_quantise_row(src, n, dst);
    if ((unsigned)dtype >= FM_DTYPE_COUNT || !rows[dtype]) return dtype == FM_Q8A || dtype == FM_Q8R;
    rows[dtype](src, n, dst);
    return true;
}

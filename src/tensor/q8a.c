// SPDX-License-Identifier: MIT
// The reference of integer products: activations to blocks of 8 bits, weights to codes, and their product in the fixed
// order of q8a.h.
#include "tensor/q8a.h"

#include <math.h>
#include <string.h>

#include "tensor/blocks.h"

void fm__q8a_quantise_row(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    float *d = (float *)fm__q8a_d(dst, K), *s = (float *)fm__q8a_s(dst, K);
    int16_t *h = (int16_t *)fm__q8a_h(dst, K);
    for (int64_t b = 0; b < K / 32; b++, x += 32, q += 32) {
        float peak = 0;
        for (int i = 0; i < 32; i++) peak = fmaxf(peak, fabsf(x[i]));
        const bool zero = peak < 0x1p-100f; // 127 / peak must not overflow
        const float inverse = zero ? 0 : 127 / peak;
        int sum[2] = {0, 0};
        for (int i = 0; i < 32; i++) {
            q[i] = (int8_t)rintf(x[i] * inverse);
            sum[i / 16] += q[i];
        }
        d[b] = zero ? 0 : peak / 127;
        s[b] = d[b] * (float)(sum[0] + sum[1]);
        h[2 * b] = (int16_t)sum[0];
        h[2 * b + 1] = (int16_t)sum[1];
    }
}

void fm__q8a_dequantise_row(const void *row, int64_t K, float *x)
{
    const int8_t *q = row;
    const float *d = fm__q8a_d(row, K);
    for (int64_t i = 0; i < K; i++) x[i] = (float)q[i] * d[i / 32];
}

static void nibbles(const uint8_t *qs, int *c)
{
    for (int i = 0; i < 16; i++) {
        c[i] = qs[i] & 15;
        c[i + 16] = qs[i] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh, int *c)
{
    for (int i = 0; i < 32; i++) c[i] |= (qh[i / 8] >> i % 8 & 1) << 4;
}

static void add(int *c, int offset)
{
    for (int i = 0; i < 32; i++) c[i] += offset;
}

static void codes_q4_0(const struct fm__block_q4_0 *b, int i, struct fm__codes *o)
{
    (void)i;
    nibbles(b->qs, o->c);
    add(o->c, -8);
    o->dw[0] = fm__f16_to_f32(b->d);
}

static void codes_q4_1(const struct fm__block_q4_1 *b, int i, struct fm__codes *o)
{
    (void)i;
    nibbles(b->qs, o->c);
    o->has_min = true;
    o->dw[0] = fm__f16_to_f32(b->d);
    o->mw[0] = fm__f16_to_f32(b->m);
}

static void codes_q5_0(const struct fm__block_q5_0 *b, int i, struct fm__codes *o)
{
    (void)i;
    nibbles(b->qs, o->c);
    fifth_bits(b->qh, o->c);
    add(o->c, -16);
    o->dw[0] = fm__f16_to_f32(b->d);
}

static void codes_q5_1(const struct fm__block_q5_1 *b, int i, struct fm__codes *o)
{
    (void)i;
    nibbles(b->qs, o->c);
    fifth_bits(b->qh, o->c);
    o->has_min = true;
    o->dw[0] = fm__f16_to_f32(b->d);
    o->mw[0] = fm__f16_to_f32(b->m);
}

static void codes_q8_0(const struct fm__block_q8_0 *b, int i, struct fm__codes *o)
{
    (void)i;
    for (int l = 0; l < 32; l++) o->c[l] = b->qs[l];
    o->dw[0] = fm__f16_to_f32(b->d);
}

static void codes_q2_k(const struct fm__block_q2_k *b, int i, struct fm__codes *o)
{
    o->n = 16;
    o->has_min = true;
    for (int l = 0; l < 32; l++) o->c[l] = b->qs[32 * (i / 4) + l] >> 2 * (i % 4) & 3;
    for (int s = 0; s < 2; s++) {
        o->dw[s] = fm__f16_to_f32(b->d) * (float)(b->scales[2 * i + s] & 15);
        o->mw[s] = -(fm__f16_to_f32(b->dmin) * (float)(b->scales[2 * i + s] >> 4));
    }
}

static void codes_q3_k(const struct fm__block_q3_k *b, int i, struct fm__codes *o)
{
    o->n = 16;
    for (int l = 0; l < 32; l++)
        o->c[l] = ((b->qs[32 * (i / 4) + l] >> 2 * (i % 4) & 3) | (b->hmask[l] >> i & 1) << 2) - 4;
    for (int h = 0; h < 2; h++) {
        const int s = 2 * i + h, low = s < 8 ? b->scales[s] & 15 : b->scales[s - 8] >> 4;
        const int sc = low | (b->scales[8 + s % 4] >> 2 * (s / 4) & 3) << 4;
        o->dw[h] = fm__f16_to_f32(b->d) * (float)(sc - 32);
    }
}

static void k4_scales(uint16_t d, uint16_t dmin, const uint8_t *scales, int i, struct fm__codes *o)
{
    int sc, mn;
    fm__k4_scale(scales, i, &sc, &mn);
    o->has_min = true;
    o->dw[0] = fm__f16_to_f32(d) * (float)sc;
    o->mw[0] = -(fm__f16_to_f32(dmin) * (float)mn);
}

static void codes_q4_k(const struct fm__block_q4_k *b, int i, struct fm__codes *o)
{
    for (int l = 0; l < 32; l++) o->c[l] = b->qs[32 * (i / 2) + l] >> 4 * (i % 2) & 15;
    k4_scales(b->d, b->dmin, b->scales, i, o);
}

static void codes_q5_k(const struct fm__block_q5_k *b, int i, struct fm__codes *o)
{
    for (int l = 0; l < 32; l++) o->c[l] = (b->qs[32 * (i / 2) + l] >> 4 * (i % 2) & 15) | (b->qh[l] >> i & 1) << 4;
    k4_scales(b->d, b->dmin, b->scales, i, o);
}

static void codes_q6_k(const struct fm__block_q6_k *b, int i, struct fm__codes *o)
{
    const int h = i / 4, j = i % 4;
    o->n = 16;
    for (int l = 0; l < 32; l++) {
        const int low = b->ql[64 * h + 32 * (j % 2) + l] >> 4 * (j / 2) & 15;
        o->c[l] = (low | (b->qh[32 * h + l] >> 2 * j & 3) << 4) - 32;
    }
    for (int s = 0; s < 2; s++) o->dw[s] = fm__f16_to_f32(b->d) * (float)b->scales[2 * i + s];
}

static void codes_iq4_nl(const struct fm__block_iq4_nl *b, int i, struct fm__codes *o)
{
    (void)i;
    nibbles(b->qs, o->c);
    for (int l = 0; l < 32; l++) o->c[l] = fm__iq4_values[o->c[l]];
    o->dw[0] = fm__f16_to_f32(b->d);
}

static void codes_iq4_xs(const struct fm__block_iq4_xs *b, int i, struct fm__codes *o)
{
    nibbles(b->qs + 16 * i, o->c);
    for (int l = 0; l < 32; l++) o->c[l] = fm__iq4_values[o->c[l]];
    const int sc = (b->scales_l[i / 2] >> 4 * (i % 2) & 15) | (b->scales_h >> 2 * i & 3) << 4;
    o->dw[0] = fm__f16_to_f32(b->d) * (float)(sc - 32);
}

#define READ(name)                                                                   \
    {                                                                                \
        struct fm__block_##name b; /* a block in a file may lie at an odd address */ \
        memcpy(&b, block, sizeof b);                                                 \
        codes_##name(&b, i, out);                                                    \
        return true;                                                                 \
    }

bool fm__block_codes(fm_dtype dtype, const void *block, int i, struct fm__codes *out)
{
    memset(out, 0, sizeof *out);
    out->n = 32;
    switch (dtype) {
    case FM_Q4_0:
        READ(q4_0)
    case FM_Q4_1:
        READ(q4_1)
    case FM_Q5_0:
        READ(q5_0)
    case FM_Q5_1:
        READ(q5_1)
    case FM_Q8_0:
        READ(q8_0)
    case FM_Q2_K:
        READ(q2_k)
    case FM_Q3_K:
        READ(q3_k)
    case FM_Q4_K:
        READ(q4_k)
    case FM_Q5_K:
        READ(q5_k)
    case FM_Q6_K:
        READ(q6_k)
    case FM_IQ4_NL:
        READ(iq4_nl)
    case FM_IQ4_XS:
        READ(iq4_xs)
    default:
        return false;
    }
}

float fm__q8a_dot(fm_dtype dtype, const void *weights, const void *q8a, int64_t K)
{
    const struct fm_dtype_info *info = fm_dtype_info(dtype);
    const int per_block = info->block_elements / 32;
    const int8_t *q = q8a;
    const float *d = fm__q8a_d(q8a, K), *s = fm__q8a_s(q8a, K);
    const int16_t *h = fm__q8a_h(q8a, K);
    float acc = 0, low = 0;
    struct fm__codes w = {0};
    for (int64_t b = 0; b < K / 32; b++) {
        if (!fm__block_codes(dtype, (const char *)weights + b / per_block * info->block_bytes, (int)(b % per_block),
                             &w))
            return NAN;
        for (int sub = 0; sub < 32 / w.n; sub++) {
            int sum = 0;
            for (int i = sub * w.n; i < (sub + 1) * w.n; i++) sum += w.c[i] * q[32 * b + i];
            acc = fmaf(w.dw[sub] * d[b], (float)sum, acc);
            if (w.has_min) low = fmaf(w.mw[sub], w.n == 32 ? s[b] : d[b] * (float)h[2 * b + sub], low);
        }
    }
    return w.has_min ? acc + low : acc;
}

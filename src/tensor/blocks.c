// SPDX-License-Identifier: MIT
// Rows of block formats to f32: one plain function a format, in the order of operations that fm__dequantise_row
// promises.
#include "tensor/blocks.h"

#include <string.h>

#include "tensor/q8a.h"
#include "tensor/q8r.h"

#define SIZES_MATCH(TYPE, name) \
    _Static_assert(sizeof(struct fm__block_##name) == TYPE##_BYTES, "the drawn block has the file's size")
enum {
#define X(name, text, elements, bytes, gguf) name##_BYTES = bytes,
#include "fathom/dtype.def"
#undef X
};
SIZES_MATCH(Q4_0, q4_0);
SIZES_MATCH(Q4_1, q4_1);
SIZES_MATCH(Q5_0, q5_0);
SIZES_MATCH(Q5_1, q5_1);
SIZES_MATCH(Q8_0, q8_0);
SIZES_MATCH(Q2_K, q2_k);
SIZES_MATCH(Q3_K, q3_k);
SIZES_MATCH(Q4_K, q4_k);
SIZES_MATCH(Q5_K, q5_k);
SIZES_MATCH(Q6_K, q6_k);
SIZES_MATCH(IQ4_NL, iq4_nl);
SIZES_MATCH(IQ4_XS, iq4_xs);

const int8_t fm__iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Each function takes one block in an aligned copy.
static void dequantise_q4_0(const struct fm__block_q4_0 *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)((b->qs[i] & 15) - 8);
        dst[i + 16] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void dequantise_q4_1(const struct fm__block_q4_1 *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d), m = fm__f16_to_f32(b->m);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)(b->qs[i] & 15) + m;
        dst[i + 16] = d * (float)(b->qs[i] >> 4) + m;
    }
}

// fifth bit of element i, in place
static int high_bit(const uint8_t qh[4], int i)
{
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

static void dequantise_q5_0(const struct fm__block_q5_0 *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)(((b->qs[i] & 15) | high_bit(b->qh, i)) - 16);
        dst[i + 16] = d * (float)(((b->qs[i] >> 4) | high_bit(b->qh, i + 16)) - 16);
    }
}

static void dequantise_q5_1(const struct fm__block_q5_1 *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d), m = fm__f16_to_f32(b->m);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)((b->qs[i] & 15) | high_bit(b->qh, i)) + m;
        dst[i + 16] = d * (float)((b->qs[i] >> 4) | high_bit(b->qh, i + 16)) + m;
    }
}

static void dequantise_q8_0(const struct fm__block_q8_0 *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) dst[i] = d * (float)b->qs[i];
}

static void dequantise_q2_k(const struct fm__block_q2_k *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d), dmin = fm__f16_to_f32(b->dmin);
    for (int i = 0; i < 256; i++) {
        const int h = i / 128, j = i / 32 % 4, l = i % 32, s = i / 16;
        const float dw = d * (float)(b->scales[s] & 15), mw = dmin * (float)(b->scales[s] >> 4);
        dst[i] = dw * (float)(b->qs[32 * h + l] >> 2 * j & 3) - mw;
    }
}

static void dequantise_q3_k(const struct fm__block_q3_k *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        const int h = i / 128, j = i / 32 % 4, l = i % 32, s = i / 16;
        const int low = s < 8 ? b->scales[s] & 15 : b->scales[s - 8] >> 4;
        const int sc = low | (b->scales[8 + s % 4] >> 2 * (s / 4) & 3) << 4;
        const int q = (b->qs[32 * h + l] >> 2 * j & 3) | (b->hmask[l] >> (4 * h + j) & 1) << 2;
        dst[i] = d * (float)(sc - 32) * (float)(q - 4);
    }
}

static void dequantise_q4_k(const struct fm__block_q4_k *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d), dmin = fm__f16_to_f32(b->dmin);
    for (int s = 0; s < 8; s++) {
        int sc, mn;
        fm__k4_scale(b->scales, s, &sc, &mn);
        const float dw = d * (float)sc, mw = dmin * (float)mn;
        const uint8_t *qs = b->qs + 32 * (s / 2);
        for (int l = 0; l < 32; l++) dst[32 * s + l] = dw * (float)(qs[l] >> 4 * (s % 2) & 15) - mw;
    }
}

static void dequantise_q5_k(const struct fm__block_q5_k *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d), dmin = fm__f16_to_f32(b->dmin);
    for (int s = 0; s < 8; s++) {
        int sc, mn;
        fm__k4_scale(b->scales, s, &sc, &mn);
        const float dw = d * (float)sc, mw = dmin * (float)mn;
        const uint8_t *qs = b->qs + 32 * (s / 2);
        for (int l = 0; l < 32; l++) {
            const int q = (qs[l] >> 4 * (s % 2) & 15) | (b->qh[l] >> s & 1) << 4;
            dst[32 * s + l] = dw * (float)q - mw;
        }
    }
}

static void dequantise_q6_k(const struct fm__block_q6_k *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        const int h = i / 128, j = i / 32 % 4, l = i % 32;
        const int low = b->ql[64 * h + 32 * (j % 2) + l] >> 4 * (j / 2) & 15;
        const int q = low | (b->qh[32 * h + l] >> 2 * j & 3) << 4;
        dst[i] = d * (float)b->scales[i / 16] * (float)(q - 32);
    }
}

static void dequantise_iq4_nl(const struct fm__block_iq4_nl *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)fm__iq4_values[b->qs[i] & 15];
        dst[i + 16] = d * (float)fm__iq4_values[b->qs[i] >> 4];
    }
}

static void dequantise_iq4_xs(const struct fm__block_iq4_xs *b, float *dst)
{
    const float d = fm__f16_to_f32(b->d);
    for (int s = 0; s < 8; s++) {
        const int sc = (b->scales_l[s / 2] >> 4 * (s % 2) & 15) | (b->scales_h >> 2 * s & 3) << 4;
        const float dw = d * (float)(sc - 32);
        for (int i = 0; i < 16; i++) {
            dst[32 * s + i] = dw * (float)fm__iq4_values[b->qs[16 * s + i] & 15];
            dst[32 * s + i + 16] = dw * (float)fm__iq4_values[b->qs[16 * s + i] >> 4];
        }
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

#define ROW(TYPE, name, elements)                                                        \
    static void row_##name(const uint8_t *src, int64_t n, float *dst)                    \
    {                                                                                    \
        struct fm__block_##name block; /* a block in a file may lie at an odd address */ \
        for (; n > 0; n -= elements, src += sizeof block, dst += elements) {             \
            memcpy(&block, src, sizeof block);                                           \
            dequantise_##name(&block, dst);                                              \
        }                                                                                \
    }
BLOCK_TYPES(ROW)
#undef ROW

static void row_f32(const uint8_t *src, int64_t n, float *dst)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void row_f16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        dst[i] = fm__f16_to_f32(h);
    }
}

static void row_bf16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        dst[i] = fm__bf16_to_f32(h);
    }
}

typedef void row_fn(const uint8_t *src, int64_t n, float *dst);
static row_fn *const rows[FM_DTYPE_COUNT] = {[FM_F32] = row_f32,
                                             [FM_F16] = row_f16,
                                             [FM_BF16] = row_bf16,
#define ENTRY(TYPE, name, elements) [FM_##TYPE] = row_##name,
                                             BLOCK_TYPES(ENTRY)
#undef ENTRY
};

bool fm__is_weight_type(fm_dtype dtype)
{
    return (unsigned)dtype < FM_DTYPE_COUNT && rows[dtype];
}

bool fm__dequantise_row(fm_dtype dtype, const void *src, int64_t n, float *dst)
{
    if (dtype == FM_Q8A) fm__q8a_dequantise_row(src, n, dst);
    if (dtype == FM_Q8R) fm__q8r_dequantise_row(src, n, dst);
    if (!fm__is_weight_type(dtype)) return dtype == FM_Q8A || dtype == FM_Q8R;
    rows[dtype](src, n, dst);
    return true;
}

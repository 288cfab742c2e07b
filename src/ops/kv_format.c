// SPDX-License-Identifier: MIT
// The four formats of the cache in plain C, and the table of them. Layouts are those that vector code wants (f32, f16,
// bf16: keys [E][64] so that a lane is a key, values [64][E]; int8: drawn in the header).
#include "ops/kv_format.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "ops/attention.h"
#include "tensor/half.h"

// --- f32, f16, bf16: one shape of code, three element types -------------------------------------------------------

static size_t float_query_bytes(const struct fm__kv_dims *d)
{
    return fm__align_up(sizeof(float) * (size_t)d->head_k, 64);
}

static void float_prepare(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared)
{
    size_t bytes = float_query_bytes(d);
    for (int r = 0; r < n_rows; r++) {
        char *to = (char *)prepared + (size_t)r * bytes;
        memset(to, 0, bytes);
        memcpy(to, q + r * q_stride, sizeof(float) * (size_t)d->head_k);
    }
}

static float f16_read(uint16_t h)
{
    return fm__f16_to_f32(h);
}
// Beyond the range to the largest number, because one infinity in a cache spoils every row.
static uint16_t f16_write(float x)
{
    return fm__f32_to_f16(fmaxf(-65504.0f, fminf(65504.0f, x)));
}
static float bf16_read(uint16_t h)
{
    return fm__bf16_to_f32(h);
}
static uint16_t bf16_write(float x)
{
    return fm__f32_to_bf16(x);
}
static float f32_read(float x)
{
    return x;
}
static float f32_write(float x)
{
    return x;
}

#define FLOAT_FORMAT(T, type)                                                                                \
    static size_t T##_block_bytes(const struct fm__kv_dims *d)                                               \
    {                                                                                                        \
        return sizeof(type) * FM__KV_BLOCK * ((size_t)d->head_k + (size_t)d->head_v);                        \
    }                                                                                                        \
    static void T##_encode(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v)  \
    {                                                                                                        \
        type *keys = block, *values = keys + (size_t)FM__KV_BLOCK * d->head_k;                               \
        for (int e = 0; e < d->head_k; e++) keys[e * FM__KV_BLOCK + i] = T##_write(k[e]);                    \
        for (int e = 0; e < d->head_v; e++) values[(size_t)i * d->head_v + e] = T##_write(v[e]);             \
    }                                                                                                        \
    static void T##_decode(const struct fm__kv_dims *d, const void *block, int i, float *k, float *v)        \
    {                                                                                                        \
        const type *keys = block, *values = keys + (size_t)FM__KV_BLOCK * d->head_k;                         \
        for (int e = 0; e < d->head_k; e++) k[e] = T##_read(keys[e * FM__KV_BLOCK + i]);                     \
        for (int e = 0; e < d->head_v; e++) v[e] = T##_read(values[(size_t)i * d->head_v + e]);              \
    }                                                                                                        \
    static void T##_score(const struct fm__kv_dims *d, int n_rows, const void *prepared, const void *block,  \
                          float *scores)                                                                     \
    {                                                                                                        \
        const type *keys = block;                                                                            \
        for (int r = 0; r < n_rows; r++) {                                                                   \
            const float *q = (const float *)((const char *)prepared + (size_t)r * float_query_bytes(d));     \
            for (int j = 0; j < FM__KV_BLOCK; j++) {                                                         \
                float s = 0.0f;                                                                              \
                for (int e = 0; e < d->head_k; e++) s = fmaf(q[e], T##_read(keys[e * FM__KV_BLOCK + j]), s); \
                scores[r * FM__KV_BLOCK + j] = s;                                                            \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void T##_mix(const struct fm__kv_dims *d, const void *block, const struct fm__kv_mix *m)          \
    {                                                                                                        \
        const type *values = (const type *)block + (size_t)FM__KV_BLOCK * d->head_k;                         \
        for (int r = 0; r < m->n_rows; r++) {                                                                \
            for (int e = 0; e < d->head_v; e++) {                                                            \
                float s = 0.0f;                                                                              \
                for (int j = 0; j < m->n_keys; j++)                                                          \
                    s = fmaf(m->p[r * FM__KV_BLOCK + j], T##_read(values[(size_t)j * d->head_v + e]), s);    \
                m->o[r * m->o_stride + e] = s;                                                               \
            }                                                                                                \
        }                                                                                                    \
    }

FLOAT_FORMAT(f32, float)
FLOAT_FORMAT(f16, uint16_t)
FLOAT_FORMAT(bf16, uint16_t)

// --- int8 -------------------------------------------------------------------------------------------------------

static size_t int8_block_bytes(const struct fm__kv_dims *d)
{
    return fm__kv_int8_scales_at(d) + FM__KV_BLOCK * (2 + 2 + 4);
}

static float largest(const float *x, int n)
{
    float a = 0.0f;
    for (int i = 0; i < n; i++) a = fmaxf(a, fabsf(x[i]));
    return fminf(a, 0x1p100f);
}

static int to_code(float x)
{
    return (int)fmaxf(-127.0f, fminf(127.0f, rintf(x)));
}

float fm__kv_int8_key_scale(float top, uint16_t *field)
{
    *field = (uint16_t)((fm__f32_bits(fmaxf(top * (1.0f / 127.0f), 0x1p-60f)) + 0xffff) >> 16);
    return 1.0f / fm__bf16_to_f32(*field);
}

float fm__kv_int8_value_inv(float top, uint16_t *field, float *log2_scale)
{
    *field = (uint16_t)(fm__f32_bits(127.0f / fmaxf(top, 0x1p-60f)) >> 16);
    *log2_scale = (float)-log2((double)fm__bf16_to_f32(*field));
    return fm__bf16_to_f32(*field);
}

static void int8_encode(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v)
{
    int kp = fm__kv_pad16(d->head_k), vp = fm__kv_pad16(d->head_v);
    uint8_t *keys = (uint8_t *)block + (size_t)(i / 16) * 16 * kp + i % 16 * 4;
    int8_t *values = (int8_t *)block + fm__kv_int8_values_at(d) + (size_t)(i / 4) * 4 * vp + i % 4;
    uint16_t *scales = (uint16_t *)((char *)block + fm__kv_int8_scales_at(d));
    float inv = fm__kv_int8_key_scale(largest(k, d->head_k), &scales[i]), log2_scale;
    for (int e = 0; e < kp; e++) keys[e / 4 * 64 + e % 4] = (uint8_t)(128 + (e < d->head_k ? to_code(k[e] * inv) : 0));
    inv = fm__kv_int8_value_inv(largest(v, d->head_v), &scales[FM__KV_BLOCK + i], &log2_scale);
    for (int e = 0; e < vp; e++) values[e * 4] = (int8_t)(e < d->head_v ? to_code(v[e] * inv) : 0);
    memcpy((char *)(scales + 2 * FM__KV_BLOCK) + 4 * i, &log2_scale, 4);
}

static void int8_decode(const struct fm__kv_dims *d, const void *block, int i, float *k, float *v)
{
    int kp = fm__kv_pad16(d->head_k), vp = fm__kv_pad16(d->head_v);
    const uint8_t *keys = (const uint8_t *)block + (size_t)(i / 16) * 16 * kp + i % 16 * 4;
    const int8_t *values = (const int8_t *)block + fm__kv_int8_values_at(d) + (size_t)(i / 4) * 4 * vp + i % 4;
    const uint16_t *scales = (const uint16_t *)((const char *)block + fm__kv_int8_scales_at(d));
    for (int e = 0; e < d->head_k; e++) k[e] = bf16_read(scales[i]) * (float)(keys[e / 4 * 64 + e % 4] - 128);
    for (int e = 0; e < d->head_v; e++) v[e] = (float)values[e * 4] / bf16_read(scales[FM__KV_BLOCK + i]);
}

static size_t int8_query_bytes(const struct fm__kv_dims *d)
{
    return (size_t)fm__kv_pad64(d->head_k) + 64;
}

static void int8_prepare(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared)
{
    size_t bytes = int8_query_bytes(d);
    for (int r = 0; r < n_rows; r++) {
        const float *x = q + r * q_stride;
        int8_t *codes = (int8_t *)prepared + (size_t)r * bytes;
        memset(codes, 0, bytes);
        float top = fmaxf(largest(x, d->head_k), 0x1p-60f), inv = 127.0f / top, scale = top * (1.0f / 127.0f);
        int32_t sum = 0;
        for (int e = 0; e < d->head_k; e++) sum += codes[e] = (int8_t)to_code(x[e] * inv);
        sum *= 128;
        memcpy(codes + bytes - 64, &scale, 4);
        memcpy(codes + bytes - 60, &sum, 4);
    }
}

static void int8_score(const struct fm__kv_dims *d, int n_rows, const void *prepared, const void *block, float *scores)
{
    int kp = fm__kv_pad16(d->head_k);
    const uint16_t *scales = (const uint16_t *)((const char *)block + fm__kv_int8_scales_at(d));
    size_t bytes = int8_query_bytes(d);
    for (int r = 0; r < n_rows; r++) {
        const int8_t *q = (const int8_t *)prepared + (size_t)r * bytes;
        float q_scale;
        memcpy(&q_scale, q + bytes - 64, 4);
        for (int j = 0; j < FM__KV_BLOCK; j++) {
            const uint8_t *k = (const uint8_t *)block + (size_t)(j / 16) * 16 * kp + j % 16 * 4;
            int32_t dot = 0;
            for (int e = 0; e < d->head_k; e++) dot += q[e] * (k[e / 4 * 64 + e % 4] - 128);
            scores[r * FM__KV_BLOCK + j] = (float)dot * bf16_read(scales[j]) * q_scale;
        }
    }
}

static void int8_value_scales(const struct fm__kv_dims *d, const void *block, float *bias, float *inv)
{
    const uint16_t *scales = (const uint16_t *)((const char *)block + fm__kv_int8_scales_at(d));
    for (int j = 0; j < FM__KV_BLOCK; j++) inv[j] = bf16_read(scales[FM__KV_BLOCK + j]);
    memcpy(bias, scales + 2 * FM__KV_BLOCK, sizeof(float) * FM__KV_BLOCK);
}

static void int8_mix(const struct fm__kv_dims *d, const void *block, const struct fm__kv_mix *m)
{
    int vp = fm__kv_pad16(d->head_v);
    const int8_t *values = (const int8_t *)block + fm__kv_int8_values_at(d);
    for (int r = 0; r < m->n_rows; r++) {
        uint8_t codes[FM__KV_BLOCK];
        for (int j = 0; j < m->n_keys; j++) codes[j] = (uint8_t)fminf(255.0f, rintf(m->p[r * FM__KV_BLOCK + j]));
        for (int e = 0; e < d->head_v; e++) {
            int32_t sum = 0; // at most 64 * 255 * 127: exact as a float too
            for (int j = 0; j < m->n_keys; j++) sum += codes[j] * values[(size_t)(j / 4) * 4 * vp + e * 4 + j % 4];
            m->o[r * m->o_stride + e] = (float)sum;
        }
    }
}

// --- the table ------------------------------------------------------------------------------------------------------

#define FLOAT_ENTRY(T)                                                                                                \
    {                                                                                                                 \
#T, 0.0f, T##_block_bytes, T##_encode, T##_decode, float_query_bytes, float_prepare, T##_score, NULL, T##_mix \
    }

static const struct fm__kv_format builtin[FM__KV_BUILTIN] = {
    [FM__KV_F32] = FLOAT_ENTRY(f32),
    [FM__KV_F16] = FLOAT_ENTRY(f16),
    [FM__KV_BF16] = FLOAT_ENTRY(bf16),
    [FM__KV_INT8] = {"int8", 7.99435344f, int8_block_bytes, int8_encode, int8_decode, int8_query_bytes, int8_prepare,
                     int8_score, int8_value_scales, int8_mix},
};

// The registry: frozen once the first plan is made (style rule 10).
static const struct fm__kv_format *formats[FM__KV_MAX] = {&builtin[0], &builtin[1], &builtin[2], &builtin[3]};
static int n_formats = FM__KV_BUILTIN;

const struct fm__kv_format *fm__kv_format(int index)
{
    return index >= 0 && index < n_formats ? formats[index] : NULL;
}

int fm__kv_format_by_name(const char *name)
{
    static const char *const int8_names[] = {"q8_0", "i8", "q8"};
    if (!name) return -1;
    for (int i = 0; i < n_formats; i++)
        if (!strcasecmp(formats[i]->name, name)) return i;
    for (int i = 0; i < 3; i++)
        if (!strcasecmp(int8_names[i], name)) return FM__KV_INT8;
    return -1;
}

int fm__kv_format_register(const struct fm__kv_format *format)
{
    if (n_formats == FM__KV_MAX) return -1;
    formats[n_formats] = format;
    return n_formats++;
}

size_t fm__kv_page_bytes(int format, int n_kv, int head_k, int head_v)
{
    const struct fm__kv_format *f = fm__kv_format(format);
    size_t bytes;
    if (!f || n_kv <= 0 || head_k <= 0 || head_v <= 0 || head_k > FM__ATTEND_MAX_HEAD || head_v > FM__ATTEND_MAX_HEAD)
        return 0;
    struct fm__kv_dims d = {head_k, head_v};
    return fm__mul_size(f->block_bytes(&d), (size_t)n_kv, &bytes) ? bytes : 0;
}

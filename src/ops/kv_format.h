// SPDX-License-Identifier: MIT
// Key/value cache formats: a table. Attention (the reference and every CPU level) goes through these functions only, so
// a new format touches no attention code.
//
// The cache of a layer is an array of pages; a page holds FM__KV_BLOCK consecutive keys and values of one session, all
// K kv heads. Within a page: for each head, `block_bytes` bytes that belong to the format.
//
// A format defines numbers, not speed: whoever runs faster (a CPU level, device/cpu/kv_cpu.h) gives the same bytes as
// these functions do. Float sums are chains of fmaf in ascending order, products of integers are exact in int32.
#ifndef FM_OPS_KV_FORMAT_H
#define FM_OPS_KV_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { FM__KV_BLOCK = 64 };  // keys a page
enum { FM__KV_CHUNK = 512 }; // keys a softmax chunk: (m, l, o) of chunks are merged left to right in f32

struct fm__kv_dims {
    int head_k, head_v; // elements of one key and of one value vector
};

// Probabilities to be mixed with a block's values.
struct fm__kv_mix {
    int n_rows, n_keys; // values from n_keys on are never read
    const float *p;     // [n_rows, 64], 0 <= p <= top, exactly 0 where masked
    float *o;           // out [n_rows, o_stride]: overwritten, not added to
    int64_t o_stride;
};

struct fm__kv_format {
    const char *name; // "f32", "f16", "bf16", "int8"
    // log2 of the largest probability that mix shall see: 0 for floats; log2(255) where mix rounds them to u8.
    float log2_top;
    // Bytes of one head's 64-key block (multiple of 64).
    size_t (*block_bytes)(const struct fm__kv_dims *d);
    // Writes key and value number i (0…63) of the block, and none of the bytes of the others. k [head_k], v [head_v].
    void (*encode)(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v);
    // Reads key and value i back as f32 (audit, context shift, conversion).
    void (*decode)(const struct fm__kv_dims *d, const void *block, int i, float *k, float *v);
    // Bytes of one prepared query row (multiple of 64); prepare turns R rows q [R, head_k] (stride in floats), already
    // multiplied by the softmax scale, into the form that score wants: [R, query_bytes].
    size_t (*query_bytes)(const struct fm__kv_dims *d);
    void (*prepare)(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared);
    // scores [R, 64]: q_r · k_j for the block's 64 keys (anything where a key was never written: the caller masks).
    void (*score)(const struct fm__kv_dims *d, int n_rows, const void *prepared, const void *block, float *scores);
    // For a format with a factor per value, v_j = code_j / inv_j: fills log2 (1 / inv_j) and inv_j. Attention then adds
    // bias to the scores (so that p_j * v_j = p'_j * code_j, and a maximum of p' is one of p * v's size) and sums
    // p' * inv for the denominator. NULL where mix does all itself.
    void (*value_scales)(const struct fm__kv_dims *d, const void *block, float *bias, float *inv);
    // o = sum over the block's first n_keys of p[r, j] * v_j (or code_j).
    void (*mix)(const struct fm__kv_dims *d, const void *block, const struct fm__kv_mix *mix);
};

enum { FM__KV_F32, FM__KV_F16, FM__KV_BF16, FM__KV_INT8, FM__KV_BUILTIN, FM__KV_MAX = 16 };

// Format by index or name; NULL when there is none. The reference table: plain C, obviously right.
const struct fm__kv_format *fm__kv_format(int index);
int fm__kv_format_by_name(const char *name); // -1: none; "q8_0", "i8" and "q8" are other names of int8

// Tests (and later formats) add their own before any plan is made; returns its index, or -1 when the table is full.
// The record is copied by address: it must live as long as the process. Not thread safe.
int fm__kv_format_register(const struct fm__kv_format *format);

// Bytes of one page of one layer; 0 for an unknown format, dims out of range, or overflow.
size_t fm__kv_page_bytes(int format, int n_kv, int head_k, int head_v);

// The int8 block, drawn (Ek, Ev: head_k and head_v rounded up to 16; bytes in this order, offsets by fm__kv_int8_*):
//   u8  keys   [4 groups][Ek/4][16 keys][4 elements]   code + 128; a group is the B operand of AMX and VNNI products
//   s8  values [16 quads][Ev][4 keys]                  code
//   bf16 key_scale [64]     k = key_scale * code, key_scale >= max|k| / 127
//   bf16 value_inv [64]     v = code / value_inv, value_inv <= 127 / max|v|
//   f32  value_log2 [64]    -log2(value_inv)
// A prepared query row: s8 codes [Ek up to 64s, zero filled], f32 scale, i32 128 * sum of codes, zeros up to 64.
static inline int fm__kv_pad16(int n)
{
    return (n + 15) & ~15;
}
static inline int fm__kv_pad64(int n)
{
    return (n + 63) & ~63;
}
static inline size_t fm__kv_int8_values_at(const struct fm__kv_dims *d)
{
    return (size_t)FM__KV_BLOCK * fm__kv_pad16(d->head_k);
}
static inline size_t fm__kv_int8_scales_at(const struct fm__kv_dims *d)
{
    return fm__kv_int8_values_at(d) + (size_t)FM__KV_BLOCK * fm__kv_pad16(d->head_v);
}

// The two scale fields of a key and a value of this largest magnitude; return the factor that makes codes. Scales are
// bf16, rounded so that no code exceeds 127: a key's up, a value's inverse down. Vectors below 2^-60 become zeros: that
// keeps every scale's logarithm small.
float fm__kv_int8_key_scale(float largest, uint16_t *scale);
float fm__kv_int8_value_inv(float largest, uint16_t *inv, float *log2_scale);

#endif

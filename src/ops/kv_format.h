// SPDX-License-Identifier: MIT
// Key/value cache formats: a table. Attention (reference and every CPU level) goes through these functions only, so a
// new format touches no attention kernel.
//
// The cache of a layer is an array of pages; a page holds FM__KV_BLOCK consecutive keys and values of one session, all
// K kv heads. Within a page: for each head, `block_bytes(head_k, head_v)` bytes that belong to the format.
#ifndef FM_OPS_KV_FORMAT_H
#define FM_OPS_KV_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { FM__KV_BLOCK = 64 };  // keys a page
enum { FM__KV_CHUNK = 512 }; // keys a softmax chunk: (m, l, o) of chunks are merged left to right in f32

struct fm__kv_dims {
    int head_k, head_v; // elements of one key and of one value vector
};

struct fm__kv_format {
    const char *name; // "f32", "f16", "bf16", "int8"
    // Bytes of one head's 64-key block (multiple of 64).
    size_t (*block_bytes)(const struct fm__kv_dims *d);
    // Writes key and value number i (0…63) of the block. k [head_k], v [head_v], f32.
    void (*encode)(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v);
    // Bytes that prepare needs for one query row; prepare turns R query rows q [R, head_k] (row stride in floats),
    // already multiplied by the softmax scale, into the form that score wants.
    size_t (*query_bytes)(const struct fm__kv_dims *d);
    void (*prepare)(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared);
    // scores [R, s_stride]: s[r * s_stride + j] = q_r · k_j for the block's 64 keys (garbage where a key was never
    // written: the caller masks).
    void (*score)(const struct fm__kv_dims *d, int n_rows, const void *prepared, const void *block, float *scores,
                  int64_t s_stride);
    // o [R, o_stride] = sum over n_keys of p[r, j] * v_j, p >= 0, over one chunk of up to 512 keys in up to 8 blocks.
    // p is [R, p_stride] and is scratch: the format may overwrite it (int8 quantises each row against its own maximum in
    // this chunk). Columns from n_keys to the end of the last block are zero on entry. `o` is overwritten, not added to.
    void (*mix)(const struct fm__kv_dims *d, int n_rows, float *p, int64_t p_stride, int n_keys,
                const void *const *blocks, float *o, int64_t o_stride);
    // Reads key and value i back as f32 (audit, context shift, conversion).
    void (*decode)(const struct fm__kv_dims *d, const void *block, int i, float *k, float *v);
};

enum { FM__KV_F32, FM__KV_F16, FM__KV_BF16, FM__KV_INT8, FM__KV_BUILTIN };

// Format by index or name; NULL when there is none. The reference table: plain C, obviously right.
const struct fm__kv_format *fm__kv_format(int index);
int fm__kv_format_by_name(const char *name); // -1: none; "q8_0" and "i8" are other names of int8

// Tests (and later formats) add their own before any plan is made; returns its index, or -1 when the table is full.
int fm__kv_format_register(const struct fm__kv_format *format);

#endif

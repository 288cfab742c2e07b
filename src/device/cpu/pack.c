// SPDX-License-Identifier: MIT
// Packing as a table: which bytes of a file block form which field of a packed one.
#include "device/cpu/pack.h"

#include <string.h>

#include "base/alloc.h"
#include "tensor/blocks.h"

// `count` units of `unit` bytes from byte `from` of the file block. turn: the bits of Q5's high plane.
struct field {
    uint8_t from, unit, count, turn;
};
struct packing {
    int elements, bytes; // of a file block
    struct field fields[5];
};

static const struct packing packings[FM_DTYPE_COUNT] = {
    [FM_F32] = {1, 4, {{0, 4, 1, 0}}},
    [FM_F16] = {1, 2, {{0, 2, 1, 0}}},
    [FM_BF16] = {2, 4, {{0, 4, 1, 0}}},
    [FM_I8] = {4, 4, {{0, 4, 1, 0}}},
    [FM_Q4_0] = {32, 18, {{2, 4, 4, 0}, {0, 2, 1, 0}}},
    [FM_Q4_1] = {32, 20, {{4, 4, 4, 0}, {0, 2, 1, 0}, {2, 2, 1, 0}}},
    [FM_Q5_0] = {32, 22, {{6, 4, 4, 0}, {2, 4, 1, 1}, {0, 2, 1, 0}}},
    [FM_Q5_1] = {32, 24, {{8, 4, 4, 0}, {4, 4, 1, 1}, {0, 2, 1, 0}, {2, 2, 1, 0}}},
    [FM_Q8_0] = {32, 34, {{2, 4, 8, 0}, {0, 2, 1, 0}}},
    [FM_Q2_K] = {256, 84, {{16, 4, 16, 0}, {0, 4, 4, 0}, {80, 2, 1, 0}, {82, 2, 1, 0}}},
    [FM_Q3_K] = {256, 110, {{32, 4, 16, 0}, {0, 4, 8, 0}, {96, 4, 3, 0}, {108, 2, 1, 0}}},
    [FM_Q4_K] = {256, 144, {{16, 4, 32, 0}, {4, 4, 3, 0}, {0, 2, 1, 0}, {2, 2, 1, 0}}},
    [FM_Q5_K] = {256, 176, {{48, 4, 32, 0}, {16, 4, 8, 0}, {4, 4, 3, 0}, {0, 2, 1, 0}, {2, 2, 1, 0}}},
    [FM_Q6_K] = {256, 210, {{0, 4, 32, 0}, {128, 4, 16, 0}, {192, 4, 4, 0}, {208, 2, 1, 0}}},
    [FM_IQ4_NL] = {32, 18, {{2, 4, 4, 0}, {0, 2, 1, 0}}},
    [FM_IQ4_XS] = {256, 136, {{8, 4, 32, 0}, {4, 4, 1, 0}, {0, 2, 1, 0}, {2, 2, 1, 0}}},
};

int fm__pack_block_elements(fm_dtype dtype)
{
    return packings[dtype].elements;
}

size_t fm__pack_block_bytes(fm_dtype dtype)
{
    return (size_t)packings[dtype].bytes * FM__PACK_ROWS;
}

// blocks along K; only BF16's pairs may end with half a block
static int64_t n_blocks_of(const struct packing *p, int64_t K)
{
    return (K + p->elements - 1) / p->elements;
}

size_t fm__pack_group_bytes(fm_dtype dtype, int64_t K)
{
    return (size_t)n_blocks_of(&packings[dtype], K) * fm__pack_block_bytes(dtype);
}

size_t fm__pack_bytes(fm_dtype dtype, int64_t O, int64_t K)
{
    size_t bytes;
    if ((unsigned)dtype >= FM_DTYPE_COUNT || !packings[dtype].bytes || O < 1 || K < 1) return 0;
    if (!fm_dtype_row_bytes(dtype, K) || (dtype == FM_I8 && K % 4)) return 0;
    if (O > INT64_MAX - 15 || K > INT64_MAX - 1) return 0;
    if (!fm__mul_size((size_t)n_blocks_of(&packings[dtype], K), fm__pack_block_bytes(dtype), &bytes)) return 0;
    return fm__mul_size(bytes, (size_t)((O + 15) / 16), &bytes) ? bytes : 0;
}

// bit 4 q + i of the word to bit 8 i + q, and back
static uint32_t turn(uint32_t word)
{
    uint32_t out = 0;
    for (int bit = 0; bit < 32; bit++) out |= (word >> bit & 1) << (8 * (bit % 4) + bit / 4);
    return out;
}

static uint32_t turn_back(uint32_t word)
{
    uint32_t out = 0;
    for (int bit = 0; bit < 32; bit++) out |= (word >> (8 * (bit % 4) + bit / 4) & 1) << bit;
    return out;
}

static void pack_field(const struct field *f, const uint8_t *const block[16], uint8_t *out)
{
    for (int u = 0; u < f->count; u++, out += 16 * f->unit) {
        const int at = f->from + u * f->unit;
        if (f->turn) {
            for (int r = 0; r < 16; r++) {
                uint32_t word;
                memcpy(&word, block[r] + at, 4);
                word = turn(word);
                memcpy(out + 4 * r, &word, 4);
            }
        } else if (f->unit == 4) {
            for (int r = 0; r < 16; r++) memcpy(out + 4 * r, block[r] + at, 4);
        } else {
            for (int r = 0; r < 16; r++) memcpy(out + 2 * r, block[r] + at, 2);
        }
    }
}

// The last column of a BF16 matrix of odd K: half a pair.
static void pack_odd_column(const uint8_t *rows, size_t stride, int n_rows, uint8_t *out)
{
    memset(out, 0, 64);
    for (int r = 0; r < n_rows; r++) memcpy(out + 4 * r, rows + (size_t)r * stride, 2);
}

void fm__pack_columns(fm_dtype dtype, const void *rows, size_t stride, int n_rows, int64_t n, void *packed)
{
    static const uint8_t zeros[256];
    const struct packing *p = &packings[dtype];
    const uint8_t *block[16];
    uint8_t *out = packed;
    for (int r = 0; r < 16; r++) block[r] = r < n_rows ? (const uint8_t *)rows + (size_t)r * stride : zeros;
    for (int64_t b = 0; b < n / p->elements; b++) {
        for (const struct field *f = p->fields; f < p->fields + 5 && f->count; f++) {
            pack_field(f, block, out);
            out += 16 * f->unit * f->count;
        }
        for (int r = 0; r < n_rows; r++) block[r] += p->bytes;
    }
    if (n % p->elements) pack_odd_column(block[0], stride, n_rows, out);
}

void fm__pack_rows(fm_dtype dtype, int64_t K, int64_t first, int64_t n_rows, const void *rows, void *packed)
{
    const size_t row_bytes = fm_dtype_row_bytes(dtype, K), group_bytes = fm__pack_group_bytes(dtype, K);
    for (int64_t r = 0; r < n_rows; r += 16) {
        const int n = n_rows - r < 16 ? (int)(n_rows - r) : 16;
        const uint8_t *from = (const uint8_t *)rows + (size_t)r * row_bytes;
        fm__pack_columns(dtype, from, row_bytes, n, K, (uint8_t *)packed + (size_t)((first + r) / 16) * group_bytes);
    }
}

// One row's block out of a packed block of 16 rows.
static void unpack_block(const struct packing *p, const uint8_t *packed, int r, uint8_t *block)
{
    for (const struct field *f = p->fields; f < p->fields + 5 && f->count; f++) {
        for (int u = 0; u < f->count; u++, packed += 16 * f->unit) {
            uint8_t *to = block + f->from + u * f->unit;
            if (f->turn) {
                uint32_t word;
                memcpy(&word, packed + 4 * r, 4);
                word = turn_back(word);
                memcpy(to, &word, 4);
            } else if (f->unit == 4) {
                memcpy(to, packed + 4 * r, 4);
            } else {
                memcpy(to, packed + 2 * r, 2);
            }
        }
    }
}

void fm__unpack_rows(fm_dtype dtype, int64_t K, int64_t first, int64_t n_rows, const void *packed, void *rows)
{
    const struct packing *p = &packings[dtype];
    const size_t row_bytes = fm_dtype_row_bytes(dtype, K), group_bytes = fm__pack_group_bytes(dtype, K);
    for (int64_t row = first; row < first + n_rows; row++) {
        const uint8_t *from = (const uint8_t *)packed + (size_t)(row / 16) * group_bytes;
        uint8_t *to = (uint8_t *)rows + (size_t)(row - first) * row_bytes;
        for (int64_t b = 0; b < K / p->elements; b++, from += 16 * p->bytes, to += p->bytes)
            unpack_block(p, from, (int)(row % 16), to);
        if (K % p->elements) memcpy(to, from + 4 * (row % 16), 2);
    }
}

void fm__packed_dequantise_row(fm_dtype dtype, int64_t K, const void *packed, int64_t row, float *dst)
{
    const struct packing *p = &packings[dtype];
    const uint8_t *from = (const uint8_t *)packed + (size_t)(row / 16) * fm__pack_group_bytes(dtype, K);
    uint8_t block[256];
    for (int64_t k = 0; k < K; k += p->elements, from += 16 * p->bytes) {
        unpack_block(p, from, (int)(row % 16), block);
        fm__dequantise_row(dtype, block, K - k < p->elements ? K - k : p->elements, dst + k);
    }
}

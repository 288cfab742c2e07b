// SPDX-License-Identifier: MIT
// FM__LAYOUT_PACK16: weights in groups of 16 output rows, so that one 64-byte load holds the same four consecutive
// codes of 16 rows. That is the operand order of the int8 dot instructions and of AMX's B tiles.
//
// A group holds, for each file block along K, its 16 rows' blocks field by field: every field of the file's block
// (nibbles, high bits, scales, halves) is cut in units of 4 or 2 bytes and stored [unit][16 rows][bytes of a unit],
// code fields first. So 4-bit codes stay 4 bits, a group is as large as its 16 rows in the file, and unpacking gives
// the file's exact bytes. F32, F16: [K][16]; BF16: [K/2][16][2], K rounded up to even with zeros; I8: [K/4][16][4],
// whole quads only. One field is more than moved: the 32 high bits of a Q5_0 or Q5_1 block are turned so that bit q of
// byte i belongs to element 4 q + i (one byte a code column). The last group is filled up with rows of zero bytes.
#ifndef FM_DEVICE_CPU_PACK_H
#define FM_DEVICE_CPU_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/tensor.h"

enum { FM__LAYOUT_PACK16 = 1, FM__PACK_ROWS = 16 };

// Bytes of a packed matrix [O, K]. 0 for a type that is no weight type, sizes below 1, a K that breaks a block,
// overflow.
size_t fm__pack_bytes(fm_dtype dtype, int64_t O, int64_t K);
// Bytes of one group of 16 rows.
size_t fm__pack_group_bytes(fm_dtype dtype, int64_t K);

// Packs n_rows rows in file order (contiguous) into rows first … of `packed`. first is a multiple of 16, and so is
// n_rows unless they are the matrix's last. Different groups may be packed by different threads.
void fm__pack_rows(fm_dtype dtype, int64_t K, int64_t first, int64_t n_rows, const void *rows, void *packed);
// The inverse, for any first and n_rows.
void fm__unpack_rows(fm_dtype dtype, int64_t K, int64_t first, int64_t n_rows, const void *packed, void *rows);

// Packs a piece of a group: n columns (whole blocks, but for the last of an odd BF16 row) of up to 16 rows (fewer: the
// rest is zeros) that lie `stride` bytes apart.
void fm__pack_columns(fm_dtype dtype, const void *rows, size_t stride, int n_rows, int64_t n, void *packed);
// A file block's worth of columns in the packing: elements, and bytes of 16 rows. BF16 has pairs here.
int fm__pack_block_elements(fm_dtype dtype);
size_t fm__pack_block_bytes(fm_dtype dtype);

// dst[K] = row `row` of the packed matrix, as fm__dequantise_row gives it.
void fm__packed_dequantise_row(fm_dtype dtype, int64_t K, const void *packed, int64_t row, float *dst);

#endif

// SPDX-License-Identifier: MIT
// The linear op on CPUs: y[N, O] = x[N, K] W[O, K]^T + bias[O] + residual[N, O].
//
// Arithmetic, by the type of x; the same bytes at every level, for every N, batch mate and number of threads.
// ops/linear_ref.c is the plain form that tests hold every kernel against with memcmp:
//   q8a   W a block format: integer products, tensor/q8a.h has the order.
//   f32   W any type: w as fm__dequantise_row gives it, acc = fma(x[k], w[k], acc) over ascending k from acc = 0.
//   bf16  W any type rounded to bf16 (nearest even): the two chains of an AMX tile product, which multiply-adds with
//         flushed subnormals reproduce (ops/linear_ref.h). For training.
//   q8r   W I8 with a scale an output: tensor/q8r.h.
// Then y = acc, y = y + bias, y = y + residual, each rounded. y may be the residual's own memory.
//
// W is in rows order or FM__LAYOUT_PACK16 (pack.h); fast kernels are made for the packed one and pack pieces of the
// other as they go.
#ifndef FM_DEVICE_CPU_LINEAR_H
#define FM_DEVICE_CPU_LINEAR_H

#include "device/cpu/worker.h"
#include "tensor/q8a.h"
#include "tensor/q8r.h"

struct fm__linear_kernel {
    const char *name; // "linear_q8a_vnni"; NULL: none, the reference runs
    fm__kernel_fn *run;
    size_t (*workspace)(const struct fm__call *largest, int n_workers); // NULL: none
};

// The best kernel at `level` (base/cpuinfo.h) for weights `dtype` and activations `act`, with n_rows rows at most.
// Those of f32 and bf16 rows take transposed weights too.
struct fm__linear_kernel fm__linear_kernel(fm_dtype dtype, fm_dtype act, int level, int64_t n_rows);
// … and for linear_dw of x and dy `act`.
struct fm__linear_kernel fm__linear_dw_kernel(fm_dtype act, int level);

// Rows to q8a and q8r at `level`, never NULL: the bytes are those of the plain form at every level.
fm__q8a_quantise_fn *fm__q8a_quantiser(int level);
fm__q8r_quantise_fn *fm__q8r_quantiser(int level);

// Below this many rows fm__linear_q8a_amx hands over to VNNI: tiles would be too empty (measured: bench --kernels).
enum { FM__LINEAR_AMX_ROWS = 48 };
// … and fm__linear_bf16_amx, fm__linear_i8_amx to the vector kernels.
enum { FM__LINEAR_TILE_ROWS = 32 };

size_t fm__linear_q8a_amx_workspace(const struct fm__call *largest, int n_workers);
size_t fm__linear_bf16_amx_workspace(const struct fm__call *largest, int n_workers);
size_t fm__linear_dw_bf16_amx_workspace(const struct fm__call *largest, int n_workers);
size_t fm__linear_i8_amx_workspace(const struct fm__call *largest, int n_workers);

// Whether the dot product of bf16 is faster here than two multiply-adds in f32 (on Intel's cores with AMX it is half as
// fast, on AMD's Zen 4 twice): timed, a few microseconds.
bool fm__linear_bf16_pays(void);

#if defined(__x86_64__)
fm__kernel_fn fm__linear_q8a_avx2, fm__linear_q8a_avx512, fm__linear_q8a_vnni, fm__linear_q8a_amx;
fm__kernel_fn fm__linear_f32_avx2, fm__linear_f32_avx512, fm__linear_dw_f32_avx2, fm__linear_dw_f32_avx512;
fm__kernel_fn fm__linear_bf16_avx2, fm__linear_bf16_avx512, fm__linear_bf16_bf16, fm__linear_bf16_amx;
fm__kernel_fn fm__linear_dw_bf16_avx2, fm__linear_dw_bf16_avx512, fm__linear_dw_bf16_bf16, fm__linear_dw_bf16_amx;
fm__kernel_fn fm__linear_i8_avx2, fm__linear_i8_avx512, fm__linear_i8_vnni, fm__linear_i8_amx;
fm__q8a_quantise_fn fm__q8a_quantise_row_avx2, fm__q8a_quantise_row_avx512;
fm__q8r_quantise_fn fm__q8r_quantise_row_avx2, fm__q8r_quantise_row_avx512;
#elif defined(__aarch64__)
fm__kernel_fn fm__linear_q8a_neon, fm__linear_q8a_dotprod, fm__linear_q8a_i8mm;
fm__kernel_fn fm__linear_f32_neon, fm__linear_dw_f32_neon;
fm__q8a_quantise_fn fm__q8a_quantise_row_neon;
#endif

#endif

// SPDX-License-Identifier: MIT
// Rows of logits in 16 lanes: the functions of ops/linear_cross_entropy.h, to the bit, at the level that defines them.
#ifndef FM_DEVICE_CPU_LOSS_H
#define FM_DEVICE_CPU_LOSS_H

#include "device/cpu/worker.h"
#include "ops/linear_cross_entropy.h"

struct fm__loss_rows {
    void (*cap)(float *x, int64_t n, float cap);
    struct fm__lce_sum (*slab_sum)(const float *x, int64_t n);
    void (*slab_grad)(float *y, int64_t n, const struct fm__lce_row *row);
    void (*round)(const float *x, int64_t n, uint16_t *bf16);
};

#if defined(__x86_64__)
extern const struct fm__loss_rows fm__loss_rows_avx2, fm__loss_rows_avx512;
#elif defined(__aarch64__)
extern const struct fm__loss_rows fm__loss_rows_neon;
#endif

// linear_cross_entropy and its two gradients at a level above ref: the same driver, over the level's linear kernels.
// NULL where one of them is missing for the call's types.
struct fm__kernel fm__linear_cross_entropy_kernel(const struct fm__call *largest, int level);

#endif

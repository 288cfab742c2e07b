// SPDX-License-Identifier: MIT
#include "tensor/q8r.h"

#include <math.h>

void fm__q8r_quantise_row(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    float peak = 0;
    for (int64_t i = 0; i < K; i++) peak = fmaxf(peak, fabsf(x[i]));
    const int zero = peak < 0x1p-100f; // 127 / peak must not overflow
    const float inverse = zero ? 0 : 127 / peak, d = zero ? 0 : peak / 127;
    for (int64_t i = 0; i < K; i++) q[i] = (int8_t)rintf(x[i] * inverse);
    memset(q + K, 0, (size_t)K / 8);
    memcpy(q + K, &d, sizeof d);
}

void fm__q8r_dequantise_row(const void *row, int64_t K, float *x)
{
    const int8_t *q = row;
    const float d = fm__q8r_d(row, K);
    for (int64_t i = 0; i < K; i++) x[i] = (float)q[i] * d;
}

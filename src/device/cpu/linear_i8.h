// SPDX-License-Identifier: MIT
// The end of a plain int8 product, for all its kernels: included after a vec_*.h and linear_call.h.
#ifndef FM_DEVICE_CPU_LINEAR_I8_H
#define FM_DEVICE_CPU_LINEAR_I8_H

#include "tensor/q8r.h"

// Sums of panel p, int32 [n_rows, stride], become y; they are overwritten on the way.
INLINE void i8_finish(const struct linear *l, int64_t p, int64_t row, int64_t n_rows, float *sums, int64_t stride)
{
    float scale[16] = {0};
    if (l->scale) memcpy(scale, l->scale + 16 * p, sizeof *scale * (size_t)(l->O - 16 * p < 16 ? l->O - 16 * p : 16));
    for (int64_t r = 0; r < n_rows; r++) {
        const vf d = vf_set1(fm__q8r_d(l->x + (size_t)(row + r) * l->x_stride, l->K));
        for (int s = 0; s < 16; s += VL) {
            float *at = sums + r * stride + s;
            vf_store(at, vf_mul(vf_from_i32(vb_load(at)), vf_mul(d, vf_load(scale + s))));
        }
    }
    linear_finish(l, p, row, n_rows, &(struct linear_sums){sums, NULL, stride});
}

#endif

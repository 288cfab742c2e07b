// SPDX-License-Identifier: MIT
// conv2d and its gradients on CPU workers, over the linear kernels of the level; none at level ref.
#ifndef FM_DEVICE_CPU_CONV_H
#define FM_DEVICE_CPU_CONV_H

#include "device/cpu/kernels.h"

struct fm__kernel fm__conv2d_kernel(const struct fm__call *largest, int level);
struct fm__kernel fm__conv2d_dx_kernel(const struct fm__call *largest, int level);
struct fm__kernel fm__conv2d_dw_kernel(const struct fm__call *largest, int level);

#endif

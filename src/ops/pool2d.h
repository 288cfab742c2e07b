// SPDX-License-Identifier: MIT
// Images [begin, end) of pool2d and of its gradient: the reference, and what the CPU's workers share by rows.
#ifndef FM_OPS_POOL2D_H
#define FM_OPS_POOL2D_H

#include "ops/call.h"
#include "ops/conv.h"

void fm__pool2d_rows(const struct fm__call *call, int64_t begin, int64_t end);
void fm__pool2d_grad_rows(const struct fm__call *call, int64_t begin, int64_t end);

#endif

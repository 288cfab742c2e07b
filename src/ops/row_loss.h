// SPDX-License-Identifier: MIT
// One row of row_loss and of its gradient: the reference, and what the CPU's workers share by rows.
#ifndef FM_OPS_ROW_LOSS_H
#define FM_OPS_ROW_LOSS_H

#include <stdint.h>

#include "fathom/status.h"
#include "ops/attrs.h"

double fm__row_loss(const struct fm__attr_loss *a, const float *x, const float *y, int64_t n);
// dx = scale times the derivative of the above in x.
void fm__row_loss_grad(const struct fm__attr_loss *a, const float *x, const float *y, int64_t n, float scale,
                       float *dx);

struct fm__call;
// Rows [begin, end) of the ops.
void fm__row_loss_rows(const struct fm__call *call, int64_t begin, int64_t end);
void fm__row_loss_grad_rows(const struct fm__call *call, int64_t begin, int64_t end);

struct fm__shape;
fm_status fm__row_loss_inputs(const struct fm__shape *s); // x, y and the f32 vectors after them

#endif

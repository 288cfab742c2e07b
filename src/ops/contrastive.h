// SPDX-License-Identifier: MIT
// The arithmetic of contrastive and of its gradient: what one row needs, so that workers can share rows.
#ifndef FM_OPS_CONTRASTIVE_H
#define FM_OPS_CONTRASTIVE_H

#include <stdint.h>

struct fm__call;
// Rows [begin, end) of the ops.
void fm__contrastive_rows(const struct fm__call *call, int64_t begin, int64_t end);
void fm__contrastive_grad_rows(const struct fm__call *call, int64_t begin, int64_t end);

// a · b / T of two rows: one chain over ascending columns, then the product with 1 / T.
float fm__contrastive_score(const float *a, const float *b, int64_t n, float inverse);

#endif

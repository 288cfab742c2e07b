// SPDX-License-Identifier: MIT
// Norms over channels of images: rows are [C * S], S values a channel. What workers of the CPU share.
#ifndef FM_OPS_CHANNELS_H
#define FM_OPS_CHANNELS_H

#include <stdio.h>

#include "fathom/status.h"
#include "ops/call.h"

// batchnorm and its gradient, channels [begin, end); batchnorm_fixed, rows [begin, end).
void fm__batchnorm_channels(const struct fm__call *call, int64_t begin, int64_t end);
void fm__batchnorm_grad_channels(const struct fm__call *call, int64_t begin, int64_t end);
void fm__batchnorm_fixed_rows(const struct fm__call *call, int64_t begin, int64_t end);
// groupnorm, rows [begin, end); its gradient, groups [begin, end).
void fm__groupnorm_rows(const struct fm__call *call, int64_t begin, int64_t end);
void fm__groupnorm_grad_groups(const struct fm__call *call, int64_t begin, int64_t end);

// Sums in double, element i in lane i mod 16 (ops/functions.h).
double fm__channel_sum(const float *x, int64_t n);
double fm__channel_squares(const float *x, int64_t n, double mean);                   // of (x - mean)^2
double fm__channel_products(const float *x, const float *dy, int64_t n, double mean); // of (x - mean) dy

struct fm__shape;
// Attributes channels; x [N, C * S]; inputs 1 … n_vectors f32 [C].
fm_status fm__channels_check(const struct fm__shape *s, int n_vectors);
void fm__channels_print(const union fm__attrs *attrs, FILE *to);

#endif

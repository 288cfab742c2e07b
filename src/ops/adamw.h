// SPDX-License-Identifier: MIT
// One element of an AdamW step: the arithmetic that adamw, adamw8 and their kernels share to the bit.
#ifndef FM_OPS_ADAMW_H
#define FM_OPS_ADAMW_H

#include <math.h>
#include <stdio.h>

#include "ops/attrs.h"

struct fm__adamw {
    float scale;        // of the gradient
    float beta1, rest1; // beta1 and 1 - beta1
    float beta2, rest2;
    float keep;     // 1 - lr decay
    float step;     // lr / (1 - beta1^t)
    float inv_root; // 1 / sqrt(1 - beta2^t)
    float eps;
};

static inline struct fm__adamw fm__adamw(const struct fm__attr_adamw *a, const float *knobs)
{
    return (struct fm__adamw){.scale = knobs[3],
                              .beta1 = a->beta1,
                              .rest1 = 1.0f - a->beta1,
                              .beta2 = a->beta2,
                              .rest2 = 1.0f - a->beta2,
                              .keep = 1.0f - knobs[0] * a->weight_decay,
                              .step = knobs[0] / knobs[1],
                              .inv_root = 1.0f / sqrtf(knobs[2]),
                              .eps = a->eps};
}

static inline void fm__adamw_element(const struct fm__adamw *a, float g, float *p, float *m, float *v)
{
    g *= a->scale;
    *m = fmaf(a->beta1, *m, a->rest1 * g);
    *v = fmaf(a->beta2, *v, a->rest2 * g * g);
    *p = fmaf(-a->step, *m / fmaf(sqrtf(*v), a->inv_root, a->eps), *p * a->keep);
}

void fm__adamw_print(const union fm__attrs *attrs, FILE *to);

#endif

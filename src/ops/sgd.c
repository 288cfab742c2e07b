// SPDX-License-Identifier: MIT
// sgd: one step of gradient descent with momentum, elementwise, with g scaled first:
//   d = g + decay p;  m = momentum m + d;  p -= lr (nesterov ? d + momentum m : m)
// The decay is a term of the gradient, as in PyTorch's SGD; its first step has m = 0 before.
//   p, g, m f32 of equal shape, knobs f32 [4] (ops/optimiser.h) -> the next versions of p, m, in place.
#include <math.h>

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 3, FM_F32));
    FM_TRY(fm__want_knobs(s, 3));
    for (int i = 0; i < 2; i++) fm__shape_like(s, i, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_momentum *a = &c->attrs->momentum;
    const float *g = c->in[1].data, *knobs = c->in[3].data;
    float *p = c->out[0].data, *m = c->out[1].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) {
        const float d = fmaf(a->weight_decay, p[i], g[i] * knobs[FM__KNOB_SCALE]);
        m[i] = fmaf(a->momentum, m[i], d);
        p[i] = fmaf(-knobs[FM__KNOB_RATE], a->nesterov ? fmaf(a->momentum, m[i], d) : m[i], p[i]);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_momentum *a = &attrs->momentum;
    fprintf(to, " momentum=%g decay=%g%s", (double)a->momentum, (double)a->weight_decay,
            a->nesterov ? " nesterov=1" : "");
}

const struct fm__op fm__op_sgd = {
    .name = "sgd",
    .doc = "p, m of one step of gradient descent with momentum",
    .min_in = 4,
    .max_in = 4,
    .n_out = 2,
    .shape = shape,
    .alias = {1, 3},
    .print = print,
    .reference = reference,
};

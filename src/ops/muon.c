// SPDX-License-Identifier: MIT
// muon: the step along an orthogonalised direction o, with decoupled weight decay:  p = p (1 - lr decay) - lr factor o.
//   p, o f32 of equal shape, knobs f32 [4] (ops/optimiser.h) -> the next version of p, in place.
// The products between muon_direction and this op are ordinary nodes: src/train/optimiser.c.
#include <math.h>

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 2, FM_F32));
    FM_TRY(fm__want_knobs(s, 2));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_momentum *a = &c->attrs->momentum;
    const float *o = c->in[1].data, rate = ((const float *)c->in[2].data)[FM__KNOB_RATE];
    const float keep = 1.0f - rate * a->weight_decay, step = rate * a->factor;
    float *p = c->out[0].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) p[i] = fmaf(-step, o[i], p[i] * keep);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " decay=%g factor=%g", (double)attrs->momentum.weight_decay, (double)attrs->momentum.factor);
}

const struct fm__op fm__op_muon = {
    .name = "muon",
    .doc = "p = p (1 - lr decay) - lr factor o",
    .min_in = 3,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .alias = {1},
    .print = print,
    .reference = reference,
};

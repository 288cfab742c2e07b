// SPDX-License-Identifier: MIT
// muon_direction: the momentum of Muon and what is orthogonalised next (K. Jordan's note of 2024), with g scaled first:
//   m = momentum m + (1 - momentum) g;  u = nesterov ? momentum m + (1 - momentum) g : m
//   m, g f32 of equal shape, knobs f32 [4] (ops/optimiser.h) -> the next version of m, in place; u f32 of that shape.
#include <math.h>

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 2, FM_F32));
    FM_TRY(fm__want_knobs(s, 2));
    for (int i = 0; i < 2; i++) fm__shape_like(s, i, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_momentum *a = &c->attrs->momentum;
    const float *g = c->in[1].data, scale = ((const float *)c->in[2].data)[FM__KNOB_SCALE];
    const float rest = 1.0f - a->momentum;
    float *m = c->out[0].data, *u = c->out[1].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) {
        const float d = rest * (g[i] * scale);
        m[i] = fmaf(a->momentum, m[i], d);
        u[i] = a->nesterov ? fmaf(a->momentum, m[i], d) : m[i];
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " momentum=%g%s", (double)attrs->momentum.momentum, attrs->momentum.nesterov ? " nesterov=1" : "");
}

const struct fm__op fm__op_muon_direction = {
    .name = "muon_direction",
    .doc = "m of one step, and the direction before it is orthogonalised",
    .min_in = 3,
    .max_in = 3,
    .n_out = 2,
    .shape = shape,
    .alias = {1, 0},
    .print = print,
    .reference = reference,
};

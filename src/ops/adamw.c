// SPDX-License-Identifier: MIT
// adamw: one step of Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), elementwise, with g scaled
// first:
//   p (1 - lr decay) -> p;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
//   p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//   p, g, m, v f32 of equal shape, knobs f32 [4] (ops/optimiser.h) -> the next versions of p, m, v, in place.
#include "ops/adamw.h"

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 4, FM_F32));
    FM_TRY(fm__want_knobs(s, 4));
    for (int i = 0; i < 3; i++) fm__shape_like(s, i, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__adamw a = fm__adamw(&c->attrs->adamw, c->in[4].data);
    const float *g = c->in[1].data;
    float *p = c->out[0].data, *m = c->out[1].data, *v = c->out[2].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) fm__adamw_element(&a, g[i], &p[i], &m[i], &v[i]);
}

void fm__adamw_print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_adamw *a = &attrs->adamw;
    fprintf(to, " beta1=%g beta2=%g eps=%g decay=%g", (double)a->beta1, (double)a->beta2, (double)a->eps,
            (double)a->weight_decay);
}

const struct fm__op fm__op_adamw = {
    .name = "adamw",
    .doc = "p, m, v of one AdamW step",
    .min_in = 5,
    .max_in = 5,
    .n_out = 3,
    .shape = shape,
    .alias = {1, 3, 4},
    .print = fm__adamw_print,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// adamw: one step of Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), elementwise:
//   p (1 - lr decay) -> p;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
//   p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//   p, g, m, v f32 of equal shape, knobs f32 [3]: lr, 1 - beta1^t, 1 - beta2^t -> the next versions of p, m, v, in
//   place.
// The rate and the corrections change from step to step: data. The rest are attributes.
#include <math.h>

#include "base/error.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 4; i++) {
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_rank(s, i, s->in[0]->rank));
        for (int d = 0; d < s->in[0]->rank; d++) FM_TRY(fm__want_dim(s, i, d, s->in[0]->dims[d]));
    }
    FM_TRY(fm__want_dtype(s, 4, FM_F32));
    FM_TRY(fm__want_rank(s, 4, 1));
    FM_TRY(fm__want_dim(s, 4, 0, 3));
    for (int i = 0; i < 3; i++) fm__shape_like(s, i, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_adamw *a = &c->attrs->adamw;
    const float *g = c->in[1].data, *knobs = c->in[4].data;
    const float keep = 1.0f - knobs[0] * a->weight_decay, step = knobs[0] / knobs[1], root = sqrtf(knobs[2]);
    float *p = c->out[0].data, *m = c->out[1].data, *v = c->out[2].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) {
        m[i] = fmaf(a->beta1, m[i], (1.0f - a->beta1) * g[i]);
        v[i] = fmaf(a->beta2, v[i], (1.0f - a->beta2) * g[i] * g[i]);
        p[i] = fmaf(-step, m[i] / (sqrtf(v[i]) / root + a->eps), p[i] * keep);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
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
    .print = print,
    .reference = reference,
};

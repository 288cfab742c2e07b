// SPDX-License-Identifier: MIT
// cross_entropy: loss[n] = weight[n] (log sum exp(logits[n]) - logits[n][target[n]]); 0 where the target is no class,
// which is how rows are masked.
//   logits f32 [N, V], targets i32 [N], weights f32 [N] (optional: 1) -> loss f32 [N], lse f32 [N].
// Attribute loss.smoothing s: (1 - s) logits[target] + s mean(logits) instead of logits[target].
// The largest logit is taken out first; the sum in double, element i in lane i mod 16.
#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/linear_cross_entropy.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    if (!(s->attrs->loss.smoothing >= 0 && s->attrs->loss.smoothing < 1))
        return fm__fail(s->err, FM_E_ARG, "cross_entropy: smoothing %g, want 0 <= smoothing < 1",
                        (double)s->attrs->loss.smoothing);
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    if (s->n_in > 2 && s->in[2]) {
        FM_TRY(fm__want_rank(s, 2, 1));
        FM_TRY(fm__want_dtype(s, 2, FM_F32));
        FM_TRY(fm__want_dim(s, 2, 0, s->in[0]->dims[0]));
    }
    for (int i = 0; i < 2; i++) {
        s->out[i].dtype = FM_F32;
        s->out[i].rank = 1;
        s->out[i].dims[0] = s->in[0]->dims[0];
    }
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const int32_t *targets = c->in[1].data;
    const float *weights = c->n_in > 2 ? c->in[2].data : NULL;
    int64_t V = c->in[0].dims[1];
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * V;
        double lanes[16] = {0}, logits[16] = {0};
        float top = x[0];
        for (int64_t i = 1; i < V; i++) top = x[i] > top ? x[i] : top;
        for (int64_t i = 0; i < V; i++) lanes[i % 16] += fm__fn_exp(x[i] - top), logits[i % 16] += x[i];
        const double lse = top + log(fm__fn_sum16(lanes));
        const int counts = targets[n] >= 0 && targets[n] < V;
        const double own = fm__lce_own(counts ? x[targets[n]] : 0, fm__fn_sum16(logits), V, c->attrs->loss.smoothing);
        ((float *)c->out[0].data)[n] = counts ? (float)((lse - own) * (weights ? weights[n] : 1.0f)) : 0.0f;
        ((float *)c->out[1].data)[n] = (float)lse;
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    if (attrs->loss.smoothing != 0) fprintf(to, " smoothing=%g", (double)attrs->loss.smoothing);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val weights = node->n_in > 2 ? node->in[2] : FM__NONE;
    const fm__val in[] = {node->in[0], node->in[1], node->out[1], d_out[0], weights};
    if (d_out[0] == FM__NONE || d_out[1] != FM__NONE || fm__grad_needs(grad, weights)) {
        struct fm_error err;
        return fm__graph_fail(grad->g,
                              (fm__fail(&err, FM_E_UNSUPPORTED, "cross_entropy: gradient of lse or weights"), &err));
    }
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_CROSS_ENTROPY_GRAD, 5, in, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_cross_entropy = {
    .name = "cross_entropy",
    .doc = "loss = weight (log sum exp(x) - x[target])",
    .min_in = 2,
    .max_in = 3,
    .n_out = 2,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = print,
};

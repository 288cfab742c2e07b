// SPDX-License-Identifier: MIT
// cross_entropy_grad: dlogits[n][i] = dloss[n] weight[n] (exp(logits[n][i] - lse[n]) - (1 - s) (i == target[n]) - s /
// V) with the smoothing s of cross_entropy; zeros where the target is no class.
//   logits f32 [N, V], targets i32 [N], lse f32 [N], dloss f32 [N], weights f32 [N] (optional) -> f32 [N, V].
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    for (int i = 1; i < s->n_in; i++) {
        if (!s->in[i]) continue;
        if (i > 1) FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_rank(s, i, 1));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const int32_t *targets = c->in[1].data;
    const float *lse = c->in[2].data, *dloss = c->in[3].data, *weights = c->n_in > 4 ? c->in[4].data : NULL;
    const float smoothing = c->attrs->loss.smoothing;
    int64_t V = c->in[0].dims[1];
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * V;
        float *dx = (float *)c->out[0].data + n * V, g = dloss[n] * (weights ? weights[n] : 1.0f);
        const float even = g * (smoothing / (float)V);
        if (targets[n] < 0 || targets[n] >= V) {
            memset(dx, 0, (size_t)V * sizeof *dx);
            continue;
        }
        for (int64_t i = 0; i < V; i++) dx[i] = g * fm__fn_exp(x[i] - lse[n]) - even; // loss = lse - x[target]
        dx[targets[n]] -= g * (1.0f - smoothing);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fm__op_cross_entropy.print(attrs, to);
}

const struct fm__op fm__op_cross_entropy_grad = {
    .name = "cross_entropy_grad",
    .doc = "dx = dloss weight (softmax(x) - onehot)",
    .min_in = 4,
    .max_in = 5,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .print = print,
};

// SPDX-License-Identifier: MIT
// row_loss_grad: with s = dloss[n] weight[n] and T the temperature, dx of row_loss:
//   mse  2 s (x - y) / X     bce  s (sigmoid(x) - y) / X     kl  s T (softmax(x / T) - softmax(y / T))
//   x f32 [N, X], y f32 [N, X] ([N] where X is 1), dloss f32 [N], weights f32 [N] (optional) -> f32 [N, X].
#include "base/error.h"
#include "ops/op.h"
#include "ops/row_loss.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__row_loss_inputs(s));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

void fm__row_loss_grad_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const float *dloss = c->in[2].data, *weights = c->n_in > 3 ? c->in[3].data : NULL;
    const int64_t X = c->in[0].dims[1];
    for (int64_t n = begin; n < end; n++)
        fm__row_loss_grad(&c->attrs->loss, (const float *)c->in[0].data + n * X, (const float *)c->in[1].data + n * X,
                          X, dloss[n] * (weights ? weights[n] : 1.0f), (float *)c->out[0].data + n * X);
}

static void reference(const struct fm__call *c)
{
    fm__row_loss_grad_rows(c, 0, c->in[0].dims[0]);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fm__op_row_loss.print(attrs, to);
}

const struct fm__op fm__op_row_loss_grad = {
    .name = "row_loss_grad",
    .doc = "dx of row_loss",
    .min_in = 3,
    .max_in = 4,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .print = print,
};

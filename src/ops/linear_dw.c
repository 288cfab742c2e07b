// SPDX-License-Identifier: MIT
// linear_dw: dW[o][k] = sum over rows of dy[n][o] x[n][k], in slabs (ops/slabs.h).
//   x [N, K], dy [N, O], both f32 or both bf16 -> f32 [O, K]: the weight gradient of y = x W^T. ops/linear_ref.h has
//   the arithmetic.
#include "base/error.h"
#include "ops/linear_ref.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, s->in[0]->dtype == FM_BF16 ? FM_BF16 : FM_F32));
    }
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 2;
    s->out[0].dims[0] = s->in[1]->dims[1];
    s->out[0].dims[1] = s->in[0]->dims[1];
    return FM_OK;
}

static double flops(const struct fm__call *c)
{
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[0].dims[1] * (double)c->in[1].dims[1];
}

const struct fm__op fm__op_linear_dw = {
    .name = "linear_dw",
    .doc = "dW = dy^T x",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .flops = flops,
    .reference = fm__ref_linear_dw,
};

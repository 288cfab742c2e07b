// SPDX-License-Identifier: MIT
// linear_dw_add: accumulate of linear_dw in one: the gradient is added to its sum while it is in registers, instead of
// written, read and added. The same bytes: (the sum over rows) + acc.
//   x [N, K], dy [N, O], both f32 or both bf16, acc f32 [O, K], keep f32 [1] or left out -> f32 [O, K], where acc lay.
#include "ops/linear_ref.h"
#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, s->in[0]->dtype == FM_BF16 ? FM_BF16 : FM_F32));
    }
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    FM_TRY(fm__want_rank(s, 2, 2));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    FM_TRY(fm__want_dim(s, 2, 0, s->in[1]->dims[1]));
    FM_TRY(fm__want_dim(s, 2, 1, s->in[0]->dims[1]));
    FM_TRY(fm__want_keep(s, 3));
    fm__shape_like(s, 0, 2);
    return FM_OK;
}

static double flops(const struct fm__call *c)
{
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[0].dims[1] * (double)c->in[1].dims[1];
}

const struct fm__op fm__op_linear_dw_add = {
    .name = "linear_dw_add",
    .doc = "acc = dy^T x, or acc + dy^T x",
    .min_in = 3,
    .max_in = 4,
    .n_out = 1,
    .shape = shape,
    .alias = {3},
    .flops = flops,
    .reference = fm__ref_linear_dw,
};

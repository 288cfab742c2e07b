// SPDX-License-Identifier: MIT
// pool2d_grad: dy of a place goes to its largest pixel, or in equal parts to the pixels under the kernel; places in
// ascending order.
//   x f32 [N, C * H * W], dy f32 [N, C * OH * OW] -> f32 [N, C * H * W]; attributes of pool2d.
#include "base/error.h"
#include "ops/op.h"
#include "ops/pool2d.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__conv_check(s, 0));
    const struct fm__conv g = fm__conv_of(&s->attrs->conv);
    FM_TRY(fm__want_dim(s, 0, 1, g.channels * g.pixels));
    FM_TRY(fm__want_rank(s, 1, 2));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    FM_TRY(fm__want_dim(s, 1, 1, g.channels * g.places));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    fm__pool2d_grad_rows(c, 0, c->in[0].dims[0]);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fm__op_pool2d.print(attrs, to);
}

const struct fm__op fm__op_pool2d_grad = {
    .name = "pool2d_grad",
    .doc = "dx of pool2d",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .print = print,
};

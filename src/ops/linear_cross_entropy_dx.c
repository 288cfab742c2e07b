// SPDX-License-Identifier: MIT
// linear_cross_entropy_dx: dx of linear_cross_entropy where W is not trained; W of any weight type. Formula, inputs and
// reference: linear_cross_entropy_grad.c.
#include "ops/linear_cross_entropy.h"
#include "ops/op.h"

static double flops(const struct fm__call *c)
{
    return 2 * fm__lce_flops(c);
}

const struct fm__op fm__op_linear_cross_entropy_dx = {
    .name = "linear_cross_entropy_dx",
    .doc = "dx of linear_cross_entropy",
    .min_in = 5,
    .max_in = 6,
    .n_out = 1,
    .shape = fm__lce_gradient_shape,
    .reference = fm__lce_gradient,
    .workspace = fm__lce_gradient_workspace,
    .flops = flops,
    .print = fm__lce_print,
};

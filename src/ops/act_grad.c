// SPDX-License-Identifier: MIT
// act_grad: dx = dy f'(x).  x, dy f32 [N, X] -> f32 [N, X].
#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, i, d, s->in[0]->dims[d]));
    }
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data, *dy = c->in[1].data;
    int64_t n = fm_tensor_elements(&c->in[0]);
    // y = f(x)
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = dy[i] * fm__act_derivative(c->attrs->act.act, x[i]);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " act=%s", fm__act_name(attrs->act.act));
}

const struct fm__op fm__op_act_grad = {
    .name = "act_grad",
    .doc = "dx = dy f'(x)",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .in_place = {3},
    .print = print,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// act_mul_grad: the gradients of y = f(gate) up.  gate, up, dy f32 [N, F] -> dgate, dup f32 [N, F].
#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 3; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, i, d, s->in[0]->dims[d]));
    }
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *gate = c->in[0].data, *up = c->in[1].data, *dy = c->in[2].data;
    float *dgate = c->out[0].data, *dup = c->out[1].data;
    int64_t n = fm_tensor_elements(&c->in[0]);
    for (int64_t i = 0; i < n; i++) { // y = f(gate) up
        dgate[i] = dy[i] * up[i] * fm__act_derivative(c->attrs->act.act, gate[i]);
        dup[i] = dy[i] * fm__act(c->attrs->act.act, gate[i]);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " act=%s", fm__act_name(attrs->act.act));
}

const struct fm__op fm__op_act_mul_grad = {
    .name = "act_mul_grad",
    .doc = "dgate = dy up f'(gate), dup = dy f(gate)",
    .min_in = 3,
    .max_in = 3,
    .n_out = 2,
    .shape = shape,
    .in_place = {1 << 1, 1 << 2}, // dgate where up lies, dup where dy lies
    .print = print,
    .reference = reference,
};

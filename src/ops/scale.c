// SPDX-License-Identifier: MIT
// scale: y = x * factor + bias, two constants.  x f32.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data;
    int64_t n = fm_tensor_elements(&c->in[0]);
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = x[i] * c->attrs->scale.factor + c->attrs->scale.bias;
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " factor=%.9g bias=%.9g", (double)attrs->scale.factor, (double)attrs->scale.bias);
}

// dx = dy factor
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const union fm__attrs attrs = {.scale = {.factor = node->attrs.scale.factor}};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_SCALE, 1, d_out, &attrs));
    return FM_OK;
}

const struct fm__op fm__op_scale = {
    .name = "scale",
    .doc = "y = x * factor + bias",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {1},
    .reference = reference,
    .print = print,
};

// SPDX-License-Identifier: MIT
// sum: y = the sum, or the mean, of all elements.  x f32 -> f32 [1]. In double, element i in lane i mod 16, then the
// tree of fm__fn_sum16.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 1;
    s->out[0].dims[0] = 1;
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data;
    int64_t n = fm_tensor_elements(&c->in[0]);
    double lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % 16] += x[i];
    *(float *)c->out[0].data = (float)(fm__fn_sum16(lanes) / (c->attrs->sum.mean ? (double)n : 1.0));
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    if (attrs->sum.mean) fputs(" mean=1", to);
}

// Every element gets dy, or its share of it.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {node->in[0], d_out[0]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_BROADCAST, 2, in, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_sum = {
    .name = "sum",
    .doc = "y = sum of x",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .print = print,
    .reference = reference,
};

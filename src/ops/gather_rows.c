// SPDX-License-Identifier: MIT
// gather_rows: y[n] = x[index[n]].  x f32 [M, X], index i32 [N] -> f32 [N, X]: picks the rows that need logits.
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    fm__shape_like(s, 0, 0);
    s->out[0].dims[0] = s->in[1]->dims[0];
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    int64_t x_len = c->in[0].dims[1];
    const int32_t *index = c->in[1].data;
    for (int64_t n = 0; n < c->in[1].dims[0]; n++)
        memcpy((float *)c->out[0].data + n * x_len, (const float *)c->in[0].data + index[n] * x_len,
               (size_t)x_len * sizeof(float));
}

// Each row's gradient goes to where it was picked from; rows picked twice add up.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_SCATTER_ROWS, 3, in, NULL));
    return FM_OK;
}

const struct fm__op fm__op_gather_rows = {
    .name = "gather_rows",
    .doc = "y[n] = x[index[n]]",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
};

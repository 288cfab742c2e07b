// SPDX-License-Identifier: MIT
// embed: y[n] = W[tokens[n]], dequantised.  W [V, D] any weight type, tokens i32 [N] -> f32 [N, D].
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"
#include "tensor/blocks.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_weight_type(s, 0));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 2;
    s->out[0].dims[0] = s->in[1]->dims[0];
    s->out[0].dims[1] = s->in[0]->dims[1];
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm_tensor *w = &c->in[0];
    const int32_t *tokens = c->in[1].data;
    for (int64_t n = 0; n < c->out[0].dims[0]; n++) {
        const char *row = (const char *)w->data + tokens[n] * w->strides[0];
        fm__dequantise_row(w->dtype, row, w->dims[1], (float *)c->out[0].data + n * w->dims[1]);
    }
}

// As gather_rows: dW[tokens[n]] += dy[n].
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_SCATTER_ROWS, 3, in, NULL));
    return FM_OK;
}

const struct fm__op fm__op_embed = {
    .name = "embed",
    .doc = "y[n] = W[tokens[n]]",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
};

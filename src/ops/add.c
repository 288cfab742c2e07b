// SPDX-License-Identifier: MIT
// add: y = a + b. a, b f32 of equal shape, or b [X] repeated over the rows of a [N, X].
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__value *a = s->in[0], *b = s->in[1];
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    if (b->rank > a->rank) return fm__want_rank(s, 1, a->rank);
    for (int d = 0; d < b->rank; d++) FM_TRY(fm__want_dim(s, 1, b->rank - 1 - d, a->dims[a->rank - 1 - d]));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *a = c->in[0].data, *b = c->in[1].data;
    int64_t n = fm_tensor_elements(&c->in[0]), period = fm_tensor_elements(&c->in[1]);
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = a[i] + b[i % period];
}

// da = dy; db = dy, summed over the rows that b was repeated for.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val a = node->in[0], b = node->in[1];
    fm__grad_add(grad, a, d_out[0]);
    if (!fm__grad_needs(grad, b)) return FM_OK;
    const int repeated = grad->g->values[b].rank < grad->g->values[a].rank;
    fm__grad_add(grad, b, repeated ? fm__graph_add(grad->g, FM__OP_SUM_ROWS, 1, d_out, NULL) : d_out[0]);
    return FM_OK;
}

const struct fm__op fm__op_add = {
    .name = "add",
    .doc = "y = a + b",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {3},
    .reference = reference,
};

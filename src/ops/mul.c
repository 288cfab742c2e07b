// SPDX-License-Identifier: MIT
// mul: y = a * b. a, b f32 of equal shape, or b [X] repeated over the rows of a [N, X].
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
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = a[i] * b[i % period];
}

// da = dy b; db = dy a, summed over the rows that b was repeated for.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    struct fm__graph *g = grad->g;
    const fm__val a = node->in[0], b = node->in[1];
    if (fm__grad_needs(grad, a)) fm__grad_add(grad, a, fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){d_out[0], b}, NULL));
    if (!fm__grad_needs(grad, b)) return FM_OK;
    const int repeated = g->values[b].rank < g->values[a].rank;
    const fm__val d = fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){d_out[0], a}, NULL);
    fm__grad_add(grad, b, repeated ? fm__graph_add(g, FM__OP_SUM_ROWS, 1, &d, NULL) : d);
    return FM_OK;
}

const struct fm__op fm__op_mul = {
    .name = "mul",
    .doc = "y = a * b",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {3},
    .reference = reference,
};

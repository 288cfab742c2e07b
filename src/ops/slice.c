// SPDX-License-Identifier: MIT
// slice: y[n] = x[n][begin … begin + count).  x f32 [N, X] -> f32 [N, count].
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_slice *a = &s->attrs->slice;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    if (a->begin < 0 || a->count < 1 || a->begin > s->in[0]->dims[1] - a->count)
        return fm__fail(s->err, FM_E_SHAPE, "slice: %lld elements from %lld of rows of %lld", (long long)a->count,
                        (long long)a->begin, (long long)s->in[0]->dims[1]);
    fm__shape_like(s, 0, 0);
    s->out[0].dims[1] = a->count;
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_slice *a = &c->attrs->slice;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++)
        memcpy((float *)c->out[0].data + n * a->count, (const float *)c->in[0].data + n * c->in[0].dims[1] + a->begin,
               (size_t)a->count * sizeof(float));
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " begin=%lld count=%lld", (long long)attrs->slice.begin, (long long)attrs->slice.count);
}

// Back to where it was cut from, zeros beside.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    union fm__attrs attrs = node->attrs;
    attrs.slice.total = grad->g->values[node->in[0]].dims[1];
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_PAD, 1, d_out, &attrs));
    return FM_OK;
}

const struct fm__op fm__op_slice = {
    .name = "slice",
    .doc = "y[n] = x[n][begin … begin + count)",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = print,
};

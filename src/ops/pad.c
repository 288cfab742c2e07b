// SPDX-License-Identifier: MIT
// pad: rows of `total` elements, x at [begin, begin + count), zeros beside: the gradient of slice.
//   x f32 [N, count] -> f32 [N, total].
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_slice *a = &s->attrs->slice;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dim(s, 0, 1, a->count));
    if (a->begin < 0 || a->count < 1 || a->begin > a->total - a->count)
        return fm__fail(s->err, FM_E_SHAPE, "pad: %lld elements at %lld of rows of %lld", (long long)a->count,
                        (long long)a->begin, (long long)a->total);
    fm__shape_like(s, 0, 0);
    s->out[0].dims[1] = a->total;
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_slice *a = &c->attrs->slice;
    memset(c->out[0].data, 0, fm_tensor_bytes(&c->out[0]));
    for (int64_t n = 0; n < c->in[0].dims[0]; n++)
        memcpy((float *)c->out[0].data + n * a->total + a->begin, (const float *)c->in[0].data + n * a->count,
               (size_t)a->count * sizeof(float));
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " begin=%lld count=%lld total=%lld", (long long)attrs->slice.begin, (long long)attrs->slice.count,
            (long long)attrs->slice.total);
}

// Cut out again.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_SLICE, 1, d_out, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_pad = {
    .name = "pad",
    .doc = "y[n][begin … begin + count) = x[n]",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .print = print,
    .reference = reference,
};

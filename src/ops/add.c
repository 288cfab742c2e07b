// SPDX-License-Identifier: MIT
// add: y = a + b. a, b f32 of equal shape, or b [X] repeated over the rows of a [N, X].
#include "base/error.h"
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

const struct fm__op fm__op_add = {
    .name = "add",
    .doc = "y = a + b",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
};

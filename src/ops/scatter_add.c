// SPDX-License-Identifier: MIT
// scatter_add: acc[index[n]] += x[n], ascending n, in place; keep 0: from zeros. What accumulate of scatter_rows would
// be with a matrix less to write and to read, and rounded in another order.
//   acc f32 [M, X], index i32 [N], x f32 [N, X], keep f32 [1] or left out -> f32 [M, X], where acc lay.
#include <string.h>

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    FM_TRY(fm__want_rank(s, 2, 2));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    FM_TRY(fm__want_dim(s, 2, 0, s->in[1]->dims[0]));
    FM_TRY(fm__want_dim(s, 2, 1, s->in[0]->dims[1]));
    FM_TRY(fm__want_keep(s, 3));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const int32_t *index = c->in[1].data;
    const int64_t X = c->in[2].dims[1];
    if (!fm__keeps(c, 3)) memset(c->out[0].data, 0, fm_tensor_bytes(&c->out[0]));
    for (int64_t n = 0; n < c->in[2].dims[0]; n++) {
        const float *x = (const float *)c->in[2].data + n * X;
        float *y = (float *)c->out[0].data + index[n] * X;
        for (int64_t i = 0; i < X; i++) y[i] += x[i];
    }
}

static double flops(const struct fm__call *c)
{
    return (double)fm_tensor_elements(&c->in[2]);
}

const struct fm__op fm__op_scatter_add = {
    .name = "scatter_add",
    .doc = "acc[index[n]] += x[n]",
    .min_in = 3,
    .max_in = 4,
    .n_out = 1,
    .shape = shape,
    .alias = {1},
    .flops = flops,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// scatter_rows: y[index[n]] += x[n] from zeros, ascending n: the gradient of embed and gather_rows.
//   like any type [M, X], index i32 [N], x f32 [N, X] -> f32 [M, X]. Only like's shape is used.
#include <string.h>

#include "base/error.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    FM_TRY(fm__want_rank(s, 2, 2));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    FM_TRY(fm__want_dim(s, 2, 0, s->in[1]->dims[0]));
    FM_TRY(fm__want_dim(s, 2, 1, s->in[0]->dims[1]));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const int32_t *index = c->in[1].data;
    int64_t X = c->in[2].dims[1];
    memset(c->out[0].data, 0, fm_tensor_bytes(&c->out[0]));
    for (int64_t n = 0; n < c->in[2].dims[0]; n++) {
        const float *x = (const float *)c->in[2].data + n * X;
        float *y = (float *)c->out[0].data + index[n] * X;
        for (int64_t i = 0; i < X; i++) y[i] += x[i];
    }
}

const struct fm__op fm__op_scatter_rows = {
    .name = "scatter_rows",
    .doc = "y[index[n]] += x[n]",
    .min_in = 3,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
};

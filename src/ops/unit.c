// SPDX-License-Identifier: MIT
// unit: y = x / (sqrt(s) + 1e-7), with s the sum of x's squares: x made a unit of the Frobenius norm, 0 left as it is.
//   x f32 [...], s f32 [1] -> f32 of x's shape.
#include <math.h>

#include "base/error.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) FM_TRY(fm__want_dtype(s, i, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dim(s, 1, 0, 1));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data, inv = 1.0f / (sqrtf(*(const float *)c->in[1].data) + 1e-7f);
    int64_t n = fm_tensor_elements(&c->out[0]);
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = x[i] * inv;
}

const struct fm__op fm__op_unit = {
    .name = "unit",
    .doc = "y = x / (sqrt(s) + 1e-7)",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .in_place = {1},
    .reference = reference,
};

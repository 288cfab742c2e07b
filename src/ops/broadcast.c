// SPDX-License-Identifier: MIT
// broadcast: y = s everywhere, or s / number of elements, in the dims of `like`.  like any [...], s f32 [1] -> f32
// [...].
#include "base/error.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dim(s, 1, 0, 1));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    int64_t n = fm_tensor_elements(&c->out[0]);
    float s = *(const float *)c->in[1].data;
    if (c->attrs->sum.mean) s /= (float)n;
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = s;
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    if (attrs->sum.mean) fputs(" mean=1", to);
}

const struct fm__op fm__op_broadcast = {
    .name = "broadcast",
    .doc = "y = s",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .print = print,
    .reference = reference,
};

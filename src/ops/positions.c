// SPDX-License-Identifier: MIT
// positions: y[n] = the position of row n.  rows i32 [N, 4] -> i32 [N]: an index for learned positions.
#include "base/error.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_I32));
    FM_TRY(fm__want_dim(s, 0, 1, FM__ROW_FIELDS));
    s->out[0].dtype = FM_I32;
    s->out[0].rank = 1;
    s->out[0].dims[0] = s->in[0]->dims[0];
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    for (int64_t n = 0; n < c->in[0].dims[0]; n++)
        ((int32_t *)c->out[0].data)[n] = ((const int32_t *)c->in[0].data)[n * FM__ROW_FIELDS + FM__ROW_POS];
}

const struct fm__op fm__op_positions = {
    .name = "positions",
    .doc = "y[n] = position of row n",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
};

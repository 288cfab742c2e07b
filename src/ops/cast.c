// SPDX-License-Identifier: MIT
// cast: the same numbers in another type. x [..., X] f32 -> dtype (f32, bf16, f16, q8a or q8r).
#include <string.h>

#include "base/error.h"
#include "ops/op.h"
#include "ops/rows_out.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    return fm__shape_rows_out(s, 0, s->attrs->cast.dtype);
}

static void reference(const struct fm__call *c)
{
    int64_t x = c->in[0].dims[c->in[0].rank - 1], n = fm_tensor_elements(&c->in[0]) / x;
    for (int64_t i = 0; i < n; i++) fm__store_row((const float *)c->in[0].data + i * x, x, &c->out[0], i);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " dtype=%s", fm_dtype_info((fm_dtype)attrs->cast.dtype)->name);
}

const struct fm__op fm__op_cast = {
    .name = "cast",
    .doc = "y = x in another type",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .print = print,
};

// SPDX-License-Identifier: MIT
// accumulate: the next version of a sum over micro-batches, in place:  keep 0: acc = d;  otherwise: acc = acc + d.
//   acc, d f32 of equal shape, keep f32 [1] or left out (then 1) -> f32 of that shape, where acc lay.
// keep is data: the first micro-batch of a step assigns, whatever stood there, and the same plan adds the others.
#include <string.h>

#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 2, FM_F32));
    FM_TRY(fm__want_keep(s, 2));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *d = c->in[1].data;
    float *acc = c->out[0].data;
    int64_t n = fm_tensor_elements(&c->out[0]);
    if (!fm__keeps(c, 2))
        memcpy(acc, d, (size_t)n * sizeof *acc);
    else
        for (int64_t i = 0; i < n; i++) acc[i] += d[i];
}

const struct fm__op fm__op_accumulate = {
    .name = "accumulate",
    .doc = "acc = d, or acc + d",
    .min_in = 2,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .alias = {1},
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// sum_rows: y[i] = sum over rows of x[n][i], in slabs (ops/slabs.h).  x f32 [N, X] -> f32 [X].
#include "base/error.h"
#include "ops/op.h"
#include "ops/slabs.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 1;
    s->out[0].dims[0] = s->in[0]->dims[1];
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data;
    int64_t N = c->in[0].dims[0], X = c->in[0].dims[1];
    for (int64_t i = 0; i < X; i++) {
        float total = 0;
        for (int64_t begin = 0; begin < N; begin = fm__slab_end(begin, N)) {
            float sum = 0;
            for (int64_t n = begin; n < fm__slab_end(begin, N); n++) sum += x[n * X + i];
            total += sum;
        }
        ((float *)c->out[0].data)[i] = total;
    }
}

const struct fm__op fm__op_sum_rows = {
    .name = "sum_rows",
    .doc = "y[i] = sum over rows of x[n][i]",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
};

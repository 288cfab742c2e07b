// SPDX-License-Identifier: MIT
// linear_dw: dW[o][k] = sum over rows of dy[n][o] x[n][k], in slabs (ops/slabs.h).
//   x f32 [N, K], dy f32 [N, O] -> f32 [O, K]: the weight gradient of y = x W^T.
#include <math.h>

#include "base/error.h"
#include "ops/op.h"
#include "ops/slabs.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
    }
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 2;
    s->out[0].dims[0] = s->in[1]->dims[1];
    s->out[0].dims[1] = s->in[0]->dims[1];
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data, *dy = c->in[1].data;
    int64_t N = c->in[0].dims[0], K = c->in[0].dims[1], O = c->in[1].dims[1];
    for (int64_t o = 0; o < O; o++)
        for (int64_t k = 0; k < K; k++) {
            float total = 0;
            for (int64_t begin = 0; begin < N; begin = fm__slab_end(begin, N)) {
                float sum = 0;
                for (int64_t n = begin; n < fm__slab_end(begin, N); n++) sum = fmaf(dy[n * O + o], x[n * K + k], sum);
                total += sum;
            }
            ((float *)c->out[0].data)[o * K + k] = total;
        }
}

static double flops(const struct fm__call *c)
{
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[0].dims[1] * (double)c->in[1].dims[1];
}

const struct fm__op fm__op_linear_dw = {
    .name = "linear_dw",
    .doc = "dW = dy^T x",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .flops = flops,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// batchnorm_fixed: y = (x - mean) / sqrt(var + eps) * w + b with given statistics: batchnorm at inference.
//   x f32 [N, C * S]; w, b, mean, var f32 [C] -> f32 [N, C * S].
#include <math.h>

#include "base/error.h"
#include "ops/channels.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__channels_check(s, 4));
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

void fm__batchnorm_fixed_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const int64_t C = c->attrs->channels.channels, S = c->in[0].dims[1] / C;
    const float *w = c->in[1].data, *b = c->in[2].data, *means = c->in[3].data, *vars = c->in[4].data;
    for (int64_t run = begin * C; run < end * C; run++) {
        const int64_t channel = run % C;
        const double mean = means[channel], inv = 1.0 / sqrt((double)vars[channel] + c->attrs->channels.eps);
        const float *x = (const float *)c->in[0].data + run * S;
        float *y = (float *)c->out[0].data + run * S;
        for (int64_t i = 0; i < S; i++) y[i] = (float)((x[i] - mean) * inv) * w[channel] + b[channel];
    }
}

static void reference(const struct fm__call *c)
{
    fm__batchnorm_fixed_rows(c, 0, c->in[0].dims[0]);
}

const struct fm__op fm__op_batchnorm_fixed = {
    .name = "batchnorm_fixed",
    .doc = "y = (x - mean) / sqrt(var + eps) * w + b, statistics given",
    .min_in = 5,
    .max_in = 5,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .print = fm__channels_print,
};

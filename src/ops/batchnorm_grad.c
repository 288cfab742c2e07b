// SPDX-License-Identifier: MIT
// batchnorm_grad: with r = 1 / sqrt(var + eps) and h = (x - mean) r of a channel over the batch, y = h w + b gives
//   dw = sum dy h,   db = sum dy,   dx = w r (dy - mean(dy) - h mean(dy h)).
//   x f32 [N, C * S], w f32 [C], dy f32 [N, C * S] -> dx f32 [N, C * S], dw f32 [C], db f32 [C].
// Sums as in batchnorm.c.
#include <math.h>

#include "base/error.h"
#include "ops/channels.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__channels_check(s, 1));
    FM_TRY(fm__want_rank(s, 2, 2));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, 2, d, s->in[0]->dims[d]));
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 1);
    fm__shape_like(s, 2, 1);
    return FM_OK;
}

void fm__batchnorm_grad_channels(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__attr_channels *a = &c->attrs->channels;
    const int64_t N = c->in[0].dims[0], X = c->in[0].dims[1], S = X / a->channels;
    const double count = (double)N * (double)S;
    for (int64_t channel = begin; channel < end; channel++) {
        const float *x = (const float *)c->in[0].data + channel * S, *dy = (const float *)c->in[2].data + channel * S;
        float *dx = (float *)c->out[0].data + channel * S;
        double sum = 0, squares = 0, grads = 0, products = 0;
        for (int64_t n = 0; n < N; n++) sum += fm__channel_sum(x + n * X, S);
        const double mean = sum / count;
        for (int64_t n = 0; n < N; n++) {
            squares += fm__channel_squares(x + n * X, S, mean);
            grads += fm__channel_sum(dy + n * X, S);
            products += fm__channel_products(x + n * X, dy + n * X, S, mean);
        }
        const double r = 1.0 / sqrt(squares / count + a->eps), factor = r * ((const float *)c->in[1].data)[channel];
        for (int64_t n = 0; n < N; n++)
            for (int64_t i = n * X; i < n * X + S; i++)
                dx[i] = (float)(factor * (dy[i] - grads / count - (x[i] - mean) * r * (products * r / count)));
        ((float *)c->out[1].data)[channel] = (float)(products * r);
        ((float *)c->out[2].data)[channel] = (float)grads;
    }
}

static void reference(const struct fm__call *c)
{
    fm__batchnorm_grad_channels(c, 0, c->attrs->channels.channels);
}

const struct fm__op fm__op_batchnorm_grad = {
    .name = "batchnorm_grad",
    .doc = "dx, dw, db of batchnorm",
    .min_in = 3,
    .max_in = 3,
    .n_out = 3,
    .shape = shape,
    .reference = reference,
    .print = fm__channels_print,
};

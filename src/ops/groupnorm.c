// SPDX-License-Identifier: MIT
// groupnorm: y = (x - mean) / sqrt(var + eps) * w + b, mean and var of a row's groups of channels; w and b by channel.
//   x f32 [N, C * S]; w, b f32 [C] -> f32 [N, C * S]; attribute groups, a divisor of C. arXiv 1803.08494.
// Sums in double, 16 lanes over the group's C / groups * S values, which lie side by side; two passes.
#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/channels.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_channels *a = &s->attrs->channels;
    FM_TRY(fm__channels_check(s, 2));
    if (a->groups < 1 || a->channels % a->groups)
        return fm__fail(s->err, FM_E_ARG, "groupnorm: %d groups of %d channels, want a divisor", a->groups,
                        a->channels);
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

void fm__groupnorm_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__attr_channels *a = &c->attrs->channels;
    const int64_t X = c->in[0].dims[1], S = X / a->channels, L = X / a->groups;
    const float *w = c->in[1].data, *b = c->in[2].data;
    for (int64_t at = begin * X; at < end * X; at += L) {
        const float *x = (const float *)c->in[0].data + at;
        float *y = (float *)c->out[0].data + at;
        const double mean = fm__channel_sum(x, L) / (double)L;
        const double inv = 1.0 / sqrt(fm__channel_squares(x, L, mean) / (double)L + a->eps);
        for (int64_t i = 0, channel = at % X / S; i < L; i += S, channel++)
            for (int64_t k = i; k < i + S; k++) y[k] = (float)((x[k] - mean) * inv) * w[channel] + b[channel];
    }
}

static void reference(const struct fm__call *c)
{
    fm__groupnorm_rows(c, 0, c->in[0].dims[0]);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    const fm__val first = fm__graph_add(grad->g, FM__OP_GROUPNORM_GRAD, 3, in, &node->attrs);
    for (int i = 0; i < 3; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

const struct fm__op fm__op_groupnorm = {
    .name = "groupnorm",
    .doc = "y = (x - mean) / sqrt(var + eps) * w + b over groups of channels",
    .min_in = 3,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = fm__channels_print,
};

// SPDX-License-Identifier: MIT
// batchnorm: y = (x - mean) / sqrt(var + eps) * w + b, mean and var of each channel over the batch; and the running
// statistics r' = (1 - momentum) r + momentum (mean or unbiased var), which inference takes (batchnorm_fixed).
//   x f32 [N, C * S]; w, b, running mean, running var f32 [C] -> y f32 [N, C * S], both running statistics' next
//   versions.
// arXiv 1502.03167. Sums in double: 16 lanes within a row's channel, rows in order; two passes.
#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/channels.h"
#include "ops/functions.h"
#include "ops/op.h"

fm_status fm__channels_check(const struct fm__shape *s, int n_vectors)
{
    const struct fm__attr_channels *a = &s->attrs->channels;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    if (a->channels < 1 || s->in[0]->dims[1] % a->channels)
        return fm__fail(s->err, FM_E_ARG, "%s: %d channels of rows of %lld, want a divisor", s->op, a->channels,
                        (long long)s->in[0]->dims[1]);
    for (int i = 1; i <= n_vectors; i++) {
        FM_TRY(fm__want_rank(s, i, 1));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_dim(s, i, 0, a->channels));
    }
    return FM_OK;
}

void fm__channels_print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " channels=%d eps=%g", attrs->channels.channels, (double)attrs->channels.eps);
    if (attrs->channels.groups) fprintf(to, " groups=%d", attrs->channels.groups);
    if (attrs->channels.momentum != 0) fprintf(to, " momentum=%g", (double)attrs->channels.momentum);
}

#define LANES(n, value)                                         \
    double lanes[16] = {0};                                     \
    int64_t i = 0;                                              \
    for (; i + 16 <= (n); i += 16)                              \
        for (int k = 0; k < 16; k++) lanes[k] += value(i + k);  \
    for (int k = 0; i + k < (n); k++) lanes[k] += value(i + k); \
    return fm__fn_sum16(lanes)

double fm__channel_sum(const float *x, int64_t n)
{
#define VALUE(j) x[j]
    LANES(n, VALUE);
#undef VALUE
}

double fm__channel_squares(const float *x, int64_t n, double mean)
{
#define VALUE(j) (x[j] - mean) * (x[j] - mean)
    LANES(n, VALUE);
#undef VALUE
}

double fm__channel_products(const float *x, const float *dy, int64_t n, double mean)
{
#define VALUE(j) (x[j] - mean) * dy[j]
    LANES(n, VALUE);
#undef VALUE
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__channels_check(s, 4));
    if (!(s->attrs->channels.momentum >= 0 && s->attrs->channels.momentum <= 1))
        return fm__fail(s->err, FM_E_ARG, "batchnorm: momentum %g, want 0 to 1", (double)s->attrs->channels.momentum);
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 3);
    fm__shape_like(s, 2, 4);
    return FM_OK;
}

void fm__batchnorm_channels(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__attr_channels *a = &c->attrs->channels;
    const int64_t N = c->in[0].dims[0], X = c->in[0].dims[1], S = X / a->channels;
    const float *w = c->in[1].data, *b = c->in[2].data, *means = c->in[3].data, *vars = c->in[4].data;
    const double count = (double)N * (double)S;
    for (int64_t channel = begin; channel < end; channel++) {
        const float *x = (const float *)c->in[0].data + channel * S;
        float *y = (float *)c->out[0].data + channel * S;
        double sum = 0, squares = 0;
        for (int64_t n = 0; n < N; n++) sum += fm__channel_sum(x + n * X, S);
        const double mean = sum / count;
        for (int64_t n = 0; n < N; n++) squares += fm__channel_squares(x + n * X, S, mean);
        const double inv = 1.0 / sqrt(squares / count + a->eps);
        for (int64_t n = 0; n < N; n++)
            for (int64_t i = n * X; i < n * X + S; i++) y[i] = (float)((x[i] - mean) * inv) * w[channel] + b[channel];
        const double keep = 1.0 - a->momentum, unbiased = squares / (count > 1 ? count - 1 : 1);
        ((float *)c->out[1].data)[channel] = (float)(keep * means[channel] + a->momentum * mean);
        ((float *)c->out[2].data)[channel] = (float)(keep * vars[channel] + a->momentum * unbiased);
    }
}

static void reference(const struct fm__call *c)
{
    fm__batchnorm_channels(c, 0, c->attrs->channels.channels);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const union fm__attrs attrs = {
        .channels = {.channels = node->attrs.channels.channels, .eps = node->attrs.channels.eps}};
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    const fm__val first = fm__graph_add(grad->g, FM__OP_BATCHNORM_GRAD, 3, in, &attrs);
    for (int i = 0; i < 3; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

const struct fm__op fm__op_batchnorm = {
    .name = "batchnorm",
    .doc = "y = (x - mean) / sqrt(var + eps) * w + b over the batch; running statistics",
    .min_in = 5,
    .max_in = 5,
    .n_out = 3,
    .alias = {0, 4, 5},
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = fm__channels_print,
};

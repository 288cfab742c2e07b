// SPDX-License-Identifier: MIT
// groupnorm_grad: with r = 1 / sqrt(var + eps) and h = (x - mean) r of a row's group, y = h w + b gives
//   dx = r (w dy - mean(w dy) - h mean(w dy h)),   dw = sum over rows and pixels of dy h,   db = sum of dy.
//   x f32 [N, C * S], w f32 [C], dy f32 [N, C * S] -> dx f32 [N, C * S], dw f32 [C], db f32 [C].
// A channel's sums over its S values: 16 lanes in double; the group's are its channels' in order; dw and db over rows
// in slabs (slabs.h), of sums rounded to f32.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/channels.h"
#include "ops/op.h"
#include "ops/slabs.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_channels *a = &s->attrs->channels;
    FM_TRY(fm__channels_check(s, 1));
    if (a->groups < 1 || a->channels % a->groups)
        return fm__fail(s->err, FM_E_ARG, "groupnorm_grad: %d groups of %d channels, want a divisor", a->groups,
                        a->channels);
    FM_TRY(fm__want_rank(s, 2, 2));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, 2, d, s->in[0]->dims[d]));
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 1);
    fm__shape_like(s, 2, 1);
    return FM_OK;
}

struct group {
    const float *x, *w, *dy; // of the group: L values, its channels' weights, L values
    float *dx, *dw, *db;     // dw, db: added to
    int64_t channels, S;
    float eps;
};

static void one_group(const struct group *g)
{
    const int64_t S = g->S, L = g->channels * S;
    const double mean = fm__channel_sum(g->x, L) / (double)L;
    const double r = 1.0 / sqrt(fm__channel_squares(g->x, L, mean) / (double)L + g->eps);
    double grads = 0, products = 0;
    for (int64_t k = 0; k < g->channels; k++) {
        const double d = fm__channel_sum(g->dy + k * S, S);
        const double p = fm__channel_products(g->x + k * S, g->dy + k * S, S, mean) * r;
        grads += g->w[k] * d;
        products += g->w[k] * p;
        g->dw[k] += (float)p;
        g->db[k] += (float)d;
    }
    for (int64_t i = 0; i < L; i++) {
        const double h = (g->x[i] - mean) * r, d = (double)g->w[i / S] * g->dy[i];
        g->dx[i] = (float)(r * (d - grads / (double)L - h * (products / (double)L)));
    }
}

// Workspace: the slab's dw and db, [2 C].
static size_t workspace(const struct fm__call *c)
{
    return 2 * (size_t)c->attrs->channels.channels * sizeof(float);
}

void fm__groupnorm_grad_groups(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__attr_channels *a = &c->attrs->channels;
    const int64_t N = c->in[0].dims[0], X = c->in[0].dims[1], C = a->channels, wide = C / a->groups;
    const int64_t first = begin * wide, last = end * wide;
    float *slab = c->workspace, *dw = c->out[1].data, *db = c->out[2].data;
    for (int64_t k = first; k < last; k++) dw[k] = db[k] = 0;
    for (int64_t row = 0; row < N; row = fm__slab_end(row, N)) {
        for (int64_t k = first; k < last; k++) slab[k] = slab[C + k] = 0;
        for (int64_t n = row; n < fm__slab_end(row, N); n++)
            for (int64_t k = first; k < last; k += wide) {
                const int64_t at = n * X + k * (X / C);
                one_group(&(struct group){.x = (const float *)c->in[0].data + at,
                                          .w = (const float *)c->in[1].data + k,
                                          .dy = (const float *)c->in[2].data + at,
                                          .dx = (float *)c->out[0].data + at,
                                          .dw = slab + k,
                                          .db = slab + C + k,
                                          .channels = wide,
                                          .S = X / C,
                                          .eps = a->eps});
            }
        for (int64_t k = first; k < last; k++) dw[k] += slab[k], db[k] += slab[C + k];
    }
}

static void reference(const struct fm__call *c)
{
    fm__groupnorm_grad_groups(c, 0, c->attrs->channels.groups);
}

const struct fm__op fm__op_groupnorm_grad = {
    .name = "groupnorm_grad",
    .doc = "dx, dw, db of groupnorm",
    .min_in = 3,
    .max_in = 3,
    .n_out = 3,
    .shape = shape,
    .workspace = workspace,
    .reference = reference,
    .print = fm__channels_print,
};

// SPDX-License-Identifier: MIT
// rmsnorm: y = x / sqrt(mean(x^2) + eps) * w over runs of E = len(w) elements, so that one op serves whole rows and
// heads.  x f32 [N, X], X a multiple of E; w f32 [E] -> [N, X] f32 or q8a.  arXiv 1910.07467.
#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/op.h"
#include "ops/rows_out.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    if (s->in[1]->dims[0] < 1 || s->in[0]->dims[1] % s->in[1]->dims[0])
        return fm__fail(s->err, FM_E_SHAPE, "rmsnorm: rows of %lld elements, weight %s of %lld does not divide them",
                        (long long)s->in[0]->dims[1], s->in[1]->name, (long long)s->in[1]->dims[0]);
    return fm__shape_rows_out(s, 0, s->attrs->norm.out_dtype);
}

// One row at a time through a small buffer: a row may have to be quantised as a whole. The sum in double: squares of
// large f32 overflow, and the order hardly shows.
static void reference(const struct fm__call *c)
{
    int64_t x_len = c->in[0].dims[1], e = c->in[1].dims[0];
    const float *w = c->in[1].data;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * x_len;
        float *y = c->workspace;
        for (int64_t h = 0; h < x_len; h += e) {
            double lanes[16] = {0};
            for (int64_t i = 0; i < e; i++) lanes[i % 16] += (double)x[h + i] * x[h + i];
            float inv = (float)(1.0 / sqrt(fm__fn_sum16(lanes) / (double)e + c->attrs->norm.eps));
            for (int64_t i = 0; i < e; i++) y[h + i] = x[h + i] * inv * w[i];
        }
        fm__store_row(y, x_len, &c->out[0], n);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " eps=%g", (double)attrs->norm.eps);
    fm__print_out_dtype(attrs->norm.out_dtype, to);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const union fm__attrs attrs = {.norm = {.eps = node->attrs.norm.eps}};
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    const fm__val first = fm__graph_add(grad->g, FM__OP_RMSNORM_GRAD, 3, in, &attrs);
    for (int i = 0; i < 2; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

const struct fm__op fm__op_rmsnorm = {
    .name = "rmsnorm",
    .doc = "y = x / sqrt(mean(x^2) + eps) * w",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .workspace = fm__row_workspace,
    .print = print,
};

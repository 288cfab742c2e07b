// SPDX-License-Identifier: MIT
// layernorm: y = (x - mean(x)) / sqrt(var(x) + eps) * w + b.  x f32 [N, X]; w, b f32 [X] -> [N, X] f32 or q8a.
// arXiv 1607.06450; the variance is the biased one.
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
    for (int i = 1; i < s->n_in; i++) {
        FM_TRY(fm__want_rank(s, i, 1));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[1]));
    }
    return fm__shape_rows_out(s, 0, s->attrs->norm.out_dtype);
}

static void reference(const struct fm__call *c)
{
    int64_t x_len = c->in[0].dims[1];
    const float *w = c->in[1].data, *b = c->n_in > 2 ? c->in[2].data : NULL;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * x_len;
        float *y = c->workspace;
        double sums[16] = {0}, squares[16] = {0};
        for (int64_t i = 0; i < x_len; i++) sums[i % 16] += x[i];
        double mean = fm__fn_sum16(sums) / (double)x_len;
        for (int64_t i = 0; i < x_len; i++) squares[i % 16] += (x[i] - mean) * (x[i] - mean);
        double inv = 1.0 / sqrt(fm__fn_sum16(squares) / (double)x_len + c->attrs->norm.eps);
        for (int64_t i = 0; i < x_len; i++) y[i] = (float)((x[i] - mean) * inv) * w[i] + (b ? b[i] : 0.0f);
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
    const fm__val first = fm__graph_add(grad->g, FM__OP_LAYERNORM_GRAD, 3, in, &attrs);
    for (int i = 0; i < node->n_in; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

const struct fm__op fm__op_layernorm = {
    .name = "layernorm",
    .doc = "y = (x - mean) / sqrt(var + eps) * w + b",
    .min_in = 2,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .workspace = fm__row_workspace,
    .print = print,
};

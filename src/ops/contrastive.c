// SPDX-License-Identifier: MIT
// contrastive: a[n] and b[n] belong together, all others in the batch do not. With s[i][j] = a[i] · b[j] / T,
//   loss[n] = weight[n] / 2 ((log sum_j exp s[n][j] - s[n][n]) + (log sum_i exp s[i][n] - s[n][n]))
// over the rows whose weight is not 0 (the others take no part: loss 0). arXiv 1807.03748; both directions: 2103.00020.
//   a f32 [N, D], b f32 [N, D], weights f32 [N] (optional: 1) -> loss f32 [N], lse f32 [N, 2] (of a's row, of b's).
// Rows are taken as they are: whoever wants cosines normalises before. Sums in double, row j in lane j mod 16; two
// passes, the largest score first.
#include "ops/contrastive.h"

#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    if (!(s->attrs->loss.temperature > 0))
        return fm__fail(s->err, FM_E_ARG, "contrastive: temperature %g, want above 0",
                        (double)s->attrs->loss.temperature);
    for (int i = 0; i < s->n_in; i++) {
        if (i > 0 && !s->in[i]) continue;
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_rank(s, i, i < 2 ? 2 : 1));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    FM_TRY(fm__want_dim(s, 1, 1, s->in[0]->dims[1]));
    for (int i = 0; i < 2; i++) {
        s->out[i].dtype = FM_F32;
        s->out[i].rank = i + 1;
        s->out[i].dims[0] = s->in[0]->dims[0];
        s->out[i].dims[1] = 2;
    }
    return FM_OK;
}

float fm__contrastive_score(const float *a, const float *b, int64_t n, float inverse)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum = fmaf(a[i], b[i], sum);
    return sum * inverse;
}

// log sum exp of one row against all rows of the other side that take part.
static double log_sum(const float *row, const float *others, const float *weights, const struct fm__call *c)
{
    const int64_t N = c->in[0].dims[0], D = c->in[0].dims[1];
    const float inverse = 1.0f / c->attrs->loss.temperature;
    float top = -INFINITY;
    double lanes[16] = {0};
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < N; j++) {
            if (weights && weights[j] == 0) continue;
            const float score = fm__contrastive_score(row, others + j * D, D, inverse);
            if (pass == 0)
                top = score > top ? score : top;
            else
                lanes[j % 16] += fm__fn_exp(score - top);
        }
    return top + log(fm__fn_sum16(lanes));
}

void fm__contrastive_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const float *a = c->in[0].data, *b = c->in[1].data, *weights = c->n_in > 2 ? c->in[2].data : NULL;
    const int64_t D = c->in[0].dims[1];
    float *loss = c->out[0].data, *lse = c->out[1].data;
    for (int64_t n = begin; n < end; n++) {
        loss[n] = lse[2 * n] = lse[2 * n + 1] = 0;
        if (weights && weights[n] == 0) continue;
        const double own = fm__contrastive_score(a + n * D, b + n * D, D, 1.0f / c->attrs->loss.temperature);
        const double of_a = log_sum(a + n * D, b, weights, c), of_b = log_sum(b + n * D, a, weights, c);
        loss[n] = (float)((weights ? weights[n] : 1.0f) * 0.5 * (of_a - own + of_b - own));
        lse[2 * n] = (float)of_a, lse[2 * n + 1] = (float)of_b;
    }
}

static void reference(const struct fm__call *c)
{
    fm__contrastive_rows(c, 0, c->in[0].dims[0]);
}

static double flops(const struct fm__call *c) // both directions, two passes
{
    return 8.0 * (double)c->in[0].dims[0] * (double)c->in[0].dims[0] * (double)c->in[0].dims[1];
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " temperature=%g", (double)attrs->loss.temperature);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val weights = node->n_in > 2 ? node->in[2] : FM__NONE;
    const fm__val in[] = {node->in[0], node->in[1], node->out[1], d_out[0], weights};
    if (d_out[0] == FM__NONE || d_out[1] != FM__NONE || fm__grad_needs(grad, weights)) {
        struct fm_error err;
        fm__fail(&err, FM_E_UNSUPPORTED, "contrastive: gradient of lse or weights");
        return fm__graph_fail(grad->g, &err);
    }
    const fm__val da = fm__graph_add(grad->g, FM__OP_CONTRASTIVE_GRAD, 5, in, &node->attrs);
    fm__grad_add(grad, node->in[0], da);
    fm__grad_add(grad, node->in[1], fm__graph_out(grad->g, da, 1));
    return FM_OK;
}

const struct fm__op fm__op_contrastive = {
    .name = "contrastive",
    .doc = "loss = weight / 2 (cross entropy of a b^T / T, and of its transpose)",
    .min_in = 2,
    .max_in = 3,
    .n_out = 2,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .flops = flops,
    .print = print,
};

// SPDX-License-Identifier: MIT
// attention_rows: causal attention among the rows of the batch itself, without a cache: training on packed documents.
//   q f32 [N, H*E], k f32 [N, K*E], v f32 [N, K*E'], rows i32 [N, 4] -> y f32 [N, H*E'], lse f32 [N, H].
// A document is the rows of one slot; row n sees the rows j <= n of its document (ops/attention_rows.h). lse is the log
// of the sum of the exponentials of its scores: what the gradient needs to form them again, instead of N x N
// probabilities. Attributes: scale, softcap, window, n_kv, head_k, head_v; no ALiBi.
#include "ops/attention_rows.h"

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_attention *a = &s->attrs->attention;
    for (int i = 0; i < 4; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, i < 3 ? FM_F32 : FM_I32));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    FM_TRY(fm__want_dim(s, 3, 1, FM__ROW_FIELDS));
    int64_t heads = a->head_k > 0 ? s->in[0]->dims[1] / a->head_k : 0;
    if (heads < 1 || heads * a->head_k != s->in[0]->dims[1] || a->n_kv < 1 || heads % a->n_kv || a->head_v < 1)
        return fm__fail(s->err, FM_E_SHAPE,
                        "attention_rows: q rows of %lld, heads of %d over %d kv heads: want whole groups",
                        (long long)s->in[0]->dims[1], a->head_k, a->n_kv);
    FM_TRY(fm__want_dim(s, 1, 1, (int64_t)a->n_kv * a->head_k));
    FM_TRY(fm__want_dim(s, 2, 1, (int64_t)a->n_kv * a->head_v));
    if (a->alibi_max > 0) return fm__fail(s->err, FM_E_UNSUPPORTED, "attention_rows: ALiBi");
    for (int i = 0; i < 2; i++) fm__shape_like(s, i, 0);
    s->out[0].dims[1] = heads * a->head_v;
    s->out[1].dims[1] = heads;
    return FM_OK;
}

static size_t workspace(const struct fm__call *c)
{
    return ((size_t)c->in[0].dims[0] + (size_t)c->attrs->attention.head_v) * sizeof(double);
}

// One row and head: scores, softmax, mix.
static void attend(const struct fm__rows_attention *t, int64_t n, int h, double *scores, float *y, float *lse)
{
    double top = -INFINITY, sum = 0, slope, *mix = scores + t->n_rows;
    for (int64_t j = 0; j <= n; j++) {
        scores[j] = fm__rows_sees(t, n, j) ? fm__rows_score(t, n, j, h, &slope) : -INFINITY;
        top = fmax(top, scores[j]);
    }
    for (int e = 0; e < t->a->head_v; e++) mix[e] = 0;
    for (int64_t j = 0; j <= n; j++) {
        const double p = exp(scores[j] - top);
        sum += p;
        for (int e = 0; e < t->a->head_v; e++) mix[e] += p * fm__rows_v(t, j, h)[e];
    }
    for (int e = 0; e < t->a->head_v; e++) y[e] = (float)(mix[e] / sum);
    *lse = (float)(top + log(sum));
}

static void reference(const struct fm__call *c)
{
    const struct fm__rows_attention t = fm__rows_attention(c);
    for (int64_t n = 0; n < t.n_rows; n++)
        for (int h = 0; h < t.n_heads; h++) {
            const int64_t at = n * t.n_heads + h;
            attend(&t, n, h, c->workspace, (float *)c->out[0].data + at * t.a->head_v, (float *)c->out[1].data + at);
        }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_attention *a = &attrs->attention;
    fprintf(to, " scale=%g n_kv=%d head_k=%d head_v=%d", (double)a->scale, a->n_kv, a->head_k, a->head_v);
    if (a->window) fprintf(to, " window=%d", a->window);
    if (a->softcap > 0) fprintf(to, " softcap=%g", (double)a->softcap);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    if (d_out[1] != FM__NONE) {
        struct fm_error err;
        return fm__graph_fail(grad->g, (fm__fail(&err, FM_E_UNSUPPORTED, "attention_rows: gradient of lse"), &err));
    }
    const fm__val in[] = {node->in[0], node->in[1], node->in[2], node->in[3], node->out[0], node->out[1], d_out[0]};
    const fm__val first = fm__graph_add(grad->g, FM__OP_ATTENTION_ROWS_GRAD, 7, in, &node->attrs);
    for (int i = 0; i < 3; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

static double flops(const struct fm__call *c) // half of all pairs, one document
{
    const struct fm__attr_attention *a = &c->attrs->attention;
    return (double)c->rows * (double)c->rows * (double)(c->in[0].dims[1] / a->head_k) * (a->head_k + a->head_v);
}

const struct fm__op fm__op_attention_rows = {
    .name = "attention_rows",
    .doc = "y = softmax(scale q k^T + mask) v within the batch",
    .min_in = 4,
    .max_in = 4,
    .n_out = 2,
    .shape = shape,
    .gradient = gradient,
    .workspace = workspace,
    .flops = flops,
    .print = print,
    .reference = reference,
};

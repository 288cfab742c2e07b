// SPDX-License-Identifier: MIT
// attention_rows: causal attention among the rows of the batch itself, without a cache: training on packed documents.
//   q f32 [N, H*E], k f32 [N, K*E], v f32 [N, K*E'], rows i32 [N, 4] -> y f32 [N, H*E'], lse f32 [N, H].
// A document is a run of rows of one slot; row n sees the rows j <= n of its document, less than `window` rows back.
// lse is the log2 of the sum of the exponentials of its scores: what the gradient needs to form them again, instead of
// N x N probabilities. Attributes: scale, softcap, window, n_kv, head_k, head_v; no ALiBi. The arithmetic stands in
// ops/attention_rows.h.
#include "ops/attention_rows.h"

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
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

static size_t workspace(const struct fm__call *c) // a query, scaled
{
    return (size_t)c->attrs->attention.head_k * sizeof(float);
}

float fm__rows_score(const struct fm__rows_attention *t, const float *q, const float *k, float *slope)
{
    float s = 0;
    for (int e = 0; e < t->a->head_k; e++) s = fmaf(q[e], k[e], s);
    *slope = 1;
    if (t->heads.cap_in == 0) return s;
    const float bent = fm__fn_tanh(s * t->heads.cap_in);
    *slope = fmaf(-bent, bent, 1.0f);
    return bent * t->heads.cap_out;
}

// Row i of a document against the keys it sees; returns its lse.
static float attend(const struct fm__rows_attention *t, struct fm__rows_doc doc, int64_t i, int h, float *q, float *y)
{
    const int head_k = t->a->head_k, head_v = t->a->head_v;
    const int64_t first = fm__rows_first_key(t, i);
    float m = -INFINITY, l = 0, slope, s[FM__ROWS_TILE];
    for (int e = 0; e < head_k; e++) q[e] = fm__rows_q(t, doc.first + i, h)[e] * t->heads.q_scale;
    for (int e = 0; e < head_v; e++) y[e] = 0;
    for (int64_t tile = first / FM__ROWS_TILE * FM__ROWS_TILE; tile <= i; tile += FM__ROWS_TILE) {
        const int64_t lo = tile < first ? first : tile, hi = tile + FM__ROWS_TILE <= i ? tile + FM__ROWS_TILE : i + 1;
        float top = m;
        for (int64_t j = lo; j < hi; j++) {
            s[j - tile] = fm__rows_score(t, q, fm__rows_k(t, doc.first + j, h), &slope);
            top = s[j - tile] > top ? s[j - tile] : top;
        }
        const float a = fm__exp2(m - top);
        l *= a;
        for (int e = 0; e < head_v; e++) y[e] *= a;
        for (int64_t j = lo; j < hi; j++) {
            const float p = fm__exp2(s[j - tile] - top), *v = fm__rows_v(t, doc.first + j, h);
            l += p;
            for (int e = 0; e < head_v; e++) y[e] = fmaf(p, v[e], y[e]);
        }
        m = top;
    }
    const float inverse = 1.0f / l;
    for (int e = 0; e < head_v; e++) y[e] = fmaf(y[e], inverse, 0.0f);
    return fm__rows_lse(m, l);
}

static void reference(const struct fm__call *c)
{
    const struct fm__rows_attention t = fm__rows_attention(c);
    float *y = c->out[0].data, *lse = c->out[1].data;
    struct fm__rows_doc doc;
    for (int64_t first = 0; first < t.n_rows; first += doc.n) {
        doc = fm__rows_doc(&t, first);
        for (int64_t at = first * t.n_heads; at < (first + doc.n) * t.n_heads; at++) {
            const int64_t i = at / t.n_heads - first;
            lse[at] = attend(&t, doc, i, (int)(at % t.n_heads), c->workspace, y + at * t.a->head_v);
        }
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

static double flops(const struct fm__call *c) // half of all pairs, as if the rows were one document
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

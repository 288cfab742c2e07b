// SPDX-License-Identifier: MIT
// attention_rows_grad: with p = exp(s - lse) formed again from the scores and delta = sum of dy y,
//   dv_j = sum_n p_nj dy_n,   ds_nj = p_nj (dy_n v_j - delta_n) (times the cap's slope),
//   dq_n = scale sum_j ds_nj k_j,   dk_j = scale sum_n ds_nj q_n          (arXiv 2205.14135, appendix B)
//   q, k, v, rows, y, lse as attention_rows has them, dy f32 [N, H*E'] -> dq, dk, dv f32 of the shapes of q, k, v.
// Attributes: scale, softcap, window, n_kv, head_k, head_v; no ALiBi. The arithmetic stands in ops/attention_rows.h.
#include <string.h>

#include "base/error.h"
#include "ops/attention_rows.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 7; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, i == 3 ? FM_I32 : FM_F32));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    FM_TRY(fm__want_dim(s, 6, 1, s->in[4]->dims[1]));
    for (int i = 0; i < 3; i++) fm__shape_like(s, i, i);
    return FM_OK;
}

// One head's dk and dv of all rows, and a scaled query.
static size_t workspace(const struct fm__call *c)
{
    const size_t head_k = (size_t)c->attrs->attention.head_k, head_v = (size_t)c->attrs->attention.head_v;
    return ((size_t)c->in[0].dims[0] * (head_k + head_v) + head_k) * sizeof(float);
}

struct grads {
    const float *y, *lse, *dy;
    float *dq, *dk, *dv, *q;
};

static void add_scaled(float *sum, float factor, const float *x, int n)
{
    for (int e = 0; e < n; e++) sum[e] = fmaf(factor, x[e], sum[e]);
}

// Row i of a document and head h: its dq, and what it adds to dk and dv of the keys it sees.
static void one_row(const struct fm__rows_attention *t, const struct grads *g, struct fm__rows_doc doc, int64_t i,
                    int h)
{
    const int head_k = t->a->head_k, head_v = t->a->head_v;
    const int64_t n = doc.first + i, at = n * t->n_heads + h;
    const float *q = fm__rows_q(t, n, h), *dy = g->dy + at * head_v;
    const float delta = fm__rows_delta(dy, g->y + at * head_v, head_v);
    float *dq = g->dq + at * head_k, slope;
    for (int e = 0; e < head_k; e++) g->q[e] = q[e] * t->heads.q_scale, dq[e] = 0;
    for (int64_t j = doc.first + fm__rows_first_key(t, i); j <= n; j++) {
        const float *k = fm__rows_k(t, j, h), *v = fm__rows_v(t, j, h);
        const float p = fm__exp2(fm__rows_score(t, g->q, k, &slope) - g->lse[at]);
        float dp = 0;
        for (int e = 0; e < head_v; e++) dp = fmaf(dy[e], v[e], dp);
        float ds = p * (dp - delta);
        if (t->heads.cap_in != 0) ds *= slope;
        add_scaled(dq, ds, k, head_k);
        add_scaled(g->dk + j * head_k, ds, q, head_k);
        add_scaled(g->dv + j * head_v, p, dy, head_v);
    }
    for (int e = 0; e < head_k; e++) dq[e] = fmaf(dq[e], t->a->scale, 0.0f);
}

// to[n][kv] of all rows: the first head's, or that and the next's.
static void add_head(const struct fm__rows_attention *t, const float *from, int width, int h, float *to)
{
    for (int64_t n = 0; n < t->n_rows; n++)
        for (int e = 0; e < width; e++) {
            float *sum = to + (n * t->a->n_kv + h / t->group) * width + e;
            *sum = h % t->group ? *sum + from[n * width + e] : from[n * width + e];
        }
}

static void reference(const struct fm__call *c)
{
    const struct fm__rows_attention t = fm__rows_attention(c);
    const size_t n_k = (size_t)(t.n_rows * t.a->head_k), n_v = (size_t)(t.n_rows * t.a->head_v);
    float *head = c->workspace, *dk = c->out[1].data, *dv = c->out[2].data;
    const struct grads g = {.y = c->in[4].data,
                            .lse = c->in[5].data,
                            .dy = c->in[6].data,
                            .dq = c->out[0].data,
                            .dk = head,
                            .dv = head + n_k,
                            .q = head + n_k + n_v};
    struct fm__rows_doc doc;
    for (int h = 0; h < t.n_heads; h++) {
        memset(head, 0, (n_k + n_v) * sizeof *head);
        for (int64_t first = 0; first < t.n_rows; first += doc.n) {
            doc = fm__rows_doc(&t, first);
            for (int64_t i = 0; i < doc.n; i++) one_row(&t, &g, doc, i, h);
        }
        add_head(&t, g.dk, t.a->head_k, h, dk);
        add_head(&t, g.dv, t.a->head_v, h, dv);
    }
    for (int64_t i = 0; i < (int64_t)n_k * t.a->n_kv; i++) dk[i] = fmaf(dk[i], t.a->scale, 0.0f);
    for (int64_t i = 0; i < (int64_t)n_v * t.a->n_kv; i++) dv[i] += 0.0f;
}

static double flops(const struct fm__call *c) // five products of half of all pairs, as if the rows were one document
{
    const struct fm__attr_attention *a = &c->attrs->attention;
    return (double)c->rows * (double)c->rows * (double)(c->in[0].dims[1] / a->head_k) * (3 * a->head_k + 2 * a->head_v);
}

const struct fm__op fm__op_attention_rows_grad = {
    .name = "attention_rows_grad",
    .doc = "dq, dk, dv of attention_rows",
    .min_in = 7,
    .max_in = 7,
    .n_out = 3,
    .shape = shape,
    .workspace = workspace,
    .flops = flops,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// attention_rows_grad: with p = exp(s - lse) formed again from the scores and delta = sum of dy y,
//   dv_j = sum_n p_nj dy_n,   ds_nj = p_nj (dy_n v_j - delta_n) (times the cap's slope),
//   dq_n = scale sum_j ds_nj k_j,   dk_j = scale sum_n ds_nj q_n          (arXiv 2205.14135, appendix B)
//   q, k, v, rows, y, lse as attention_rows has them, dy f32 [N, H*E'] -> dq, dk, dv f32 of the shapes of q, k, v.
// Attributes: scale, softcap, window, n_kv, head_k, head_v; no ALiBi.
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

static size_t workspace(const struct fm__call *c)
{
    return ((size_t)c->attrs->attention.head_k + (size_t)c->attrs->attention.head_v) * sizeof(double);
}

// p and scale * ds of row n, head h against row j.
static double pair(const struct fm__rows_attention *t, const struct fm__call *c, int64_t n, int h, int64_t j,
                   double *ds)
{
    const int64_t at = n * t->n_heads + h;
    const float *y = (const float *)c->in[4].data + at * t->a->head_v;
    const float *dy = (const float *)c->in[6].data + at * t->a->head_v;
    double slope, p = exp(fm__rows_score(t, n, j, h, &slope) - ((const float *)c->in[5].data)[at]);
    const double delta = fm__rows_dot(dy, y, t->a->head_v);
    *ds = t->a->scale * slope * p * (fm__rows_dot(dy, fm__rows_v(t, j, h), t->a->head_v) - delta);
    return p;
}

static void add_scaled(double *sum, double factor, const float *x, int n)
{
    for (int e = 0; e < n; e++) sum[e] += factor * x[e];
}

static void store(const double *sum, int n, float *out)
{
    for (int e = 0; e < n; e++) out[e] = (float)sum[e];
}

static void grad_q(const struct fm__rows_attention *t, const struct fm__call *c, int64_t n, int h)
{
    double *dq = c->workspace, ds;
    for (int e = 0; e < t->a->head_k; e++) dq[e] = 0;
    for (int64_t j = 0; j <= n; j++) {
        if (!fm__rows_sees(t, n, j)) continue;
        pair(t, c, n, h, j, &ds);
        add_scaled(dq, ds, fm__rows_k(t, j, h), t->a->head_k);
    }
    store(dq, t->a->head_k, (float *)c->out[0].data + (n * t->n_heads + h) * t->a->head_k);
}

// Of one row's kv head: all later rows and all heads of the group that see it.
static void grad_kv(const struct fm__rows_attention *t, const struct fm__call *c, int64_t j, int kv)
{
    double *dk = c->workspace, *dv = dk + t->a->head_k, ds;
    for (int e = 0; e < t->a->head_k + t->a->head_v; e++) dk[e] = 0;
    for (int64_t n = j; n < t->n_rows; n++)
        for (int h = kv * t->group; fm__rows_sees(t, n, j) && h < (kv + 1) * t->group; h++) {
            const double p = pair(t, c, n, h, j, &ds);
            add_scaled(dk, ds, fm__rows_q(t, n, h), t->a->head_k);
            add_scaled(dv, p, (const float *)c->in[6].data + (n * t->n_heads + h) * t->a->head_v, t->a->head_v);
        }
    store(dk, t->a->head_k, (float *)c->out[1].data + (j * t->a->n_kv + kv) * t->a->head_k);
    store(dv, t->a->head_v, (float *)c->out[2].data + (j * t->a->n_kv + kv) * t->a->head_v);
}

static void reference(const struct fm__call *c)
{
    const struct fm__rows_attention t = fm__rows_attention(c);
    for (int64_t n = 0; n < t.n_rows; n++) {
        for (int h = 0; h < t.n_heads; h++) grad_q(&t, c, n, h);
        for (int kv = 0; kv < t.a->n_kv; kv++) grad_kv(&t, c, n, kv);
    }
}

const struct fm__op fm__op_attention_rows_grad = {
    .name = "attention_rows_grad",
    .doc = "dq, dk, dv of attention_rows",
    .min_in = 7,
    .max_in = 7,
    .n_out = 3,
    .shape = shape,
    .workspace = workspace,
    .reference = reference,
};

// SPDX-License-Identifier: MIT
// attention_rows and its gradient: the arithmetic that the references and every kernel follow to the bit. All in f32,
// chains are fused multiply-adds; i is a row and j a key of one document, both counted from the document's first row,
// so that a packed document has the bytes it has alone.
//
//   s_ij = chain over e ascending of (q_ie * q_scale) k_je;  capped: s = fm__fn_tanh(s * cap_in) * cap_out
//          (q_scale, cap_in and cap_out of ops/attention.h: s is in units of log2)
//   forward, tiles of 64 keys [64t, 64t + 64) ascending, from m = -inf, l = 0, o = 0; only the keys that row i sees:
//     m' = max(m, s_ij);  a = exp2(m - m');  l = l a;  o = o a
//     keys ascending: p = exp2(s_ij - m');  l = l + p;  o_e = fma(p, v_je, o_e)
//     y = fma(o, 1 / l, 0);  lse = m + log2(l)
//   gradient, pairs that see each other: p = exp2(s_ij - lse_i);  delta_i = fm__sum16 of 16 chains over dy_e y_e;
//     dp = chain over e of dy_ie v_je;  ds = p (dp - delta_i);  capped: ds = ds (1 - tanh^2)
//     dq_i = fma(chain over j ascending of ds k_j, scale, 0)
//     dv_j, dk_j: of each head a chain over i ascending of p dy_i and ds q_i; the heads of a group added ascending;
//     dv = sum + 0, dk = fma(sum, scale, 0)
//
// Every result ends with "+ 0", which makes -0 and 0 one: so a kernel may add what an unseen pair would give, a product
// with an exact 0, or leave it out. (With a value that is infinite or NaN an unseen pair within the same tiles may
// show. Such a step is lost anyway; other documents are never touched.) Nothing of size T x T is ever kept.
#ifndef FM_OPS_ATTENTION_ROWS_H
#define FM_OPS_ATTENTION_ROWS_H

#include "ops/attention.h"
#include "ops/call.h"

enum { FM__ROWS_TILE = 64 }; // keys a tile

struct fm__rows_attention {
    const struct fm__attr_attention *a;
    struct fm__attend_heads heads;
    const float *q, *k, *v;
    const int32_t (*rows)[FM__ROW_FIELDS];
    int64_t n_rows;
    int n_heads, group; // H, H / K
};

static inline struct fm__rows_attention fm__rows_attention(const struct fm__call *c)
{
    const struct fm__attr_attention *a = &c->attrs->attention;
    const int n_heads = (int)(c->in[0].dims[1] / a->head_k);
    return (struct fm__rows_attention){.a = a,
                                       .heads = fm__attend_heads(a),
                                       .q = c->in[0].data,
                                       .k = c->in[1].data,
                                       .v = c->in[2].data,
                                       .rows = c->in[3].data,
                                       .n_rows = c->in[0].dims[0],
                                       .n_heads = n_heads,
                                       .group = n_heads / a->n_kv};
}

// A document: neighbouring rows of one slot. first is an index into the batch.
struct fm__rows_doc {
    int64_t first, n;
};
static inline struct fm__rows_doc fm__rows_doc(const struct fm__rows_attention *t, int64_t first)
{
    int64_t n = 1;
    while (first + n < t->n_rows && t->rows[first + n][FM__ROW_SLOT] == t->rows[first][FM__ROW_SLOT]) n++;
    return (struct fm__rows_doc){first, n};
}

// The first key that row i of a document sees; the last is i itself.
static inline int64_t fm__rows_first_key(const struct fm__rows_attention *t, int64_t i)
{
    return t->a->window > 0 && i >= t->a->window ? i - t->a->window + 1 : 0;
}

// Row n of the batch: its query of head h, its key and value of the kv head that serves h.
static inline const float *fm__rows_q(const struct fm__rows_attention *t, int64_t n, int h)
{
    return t->q + (n * t->n_heads + h) * t->a->head_k;
}
static inline const float *fm__rows_k(const struct fm__rows_attention *t, int64_t n, int h)
{
    return t->k + (n * t->a->n_kv + h / t->group) * t->a->head_k;
}
static inline const float *fm__rows_v(const struct fm__rows_attention *t, int64_t n, int h)
{
    return t->v + (n * t->a->n_kv + h / t->group) * t->a->head_v;
}

// log sum exp in units of log2, of what the largest score m and the sum l are. One call a row and head: the library's
// log2 in double is good enough, and the same for every kernel.
static inline float fm__rows_lse(float m, float l)
{
    return m + (float)log2((double)l);
}

// dy y, n columns
static inline float fm__rows_delta(const float *dy, const float *y, int n)
{
    float lanes[16] = {0};
    for (int e = 0; e < n; e++) lanes[e % 16] = fmaf(dy[e], y[e], lanes[e % 16]);
    return fm__sum16(lanes);
}

// s of a pair by the reference; q has been multiplied by q_scale. *slope: d capped / d s, 1 without a cap.
float fm__rows_score(const struct fm__rows_attention *t, const float *q, const float *k, float *slope);

#endif

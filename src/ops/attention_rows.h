// SPDX-License-Identifier: MIT
// What attention_rows and its gradient share: sizes, which row sees which, one score. Double precision: these are the
// references that fused kernels are held against.
#ifndef FM_OPS_ATTENTION_ROWS_H
#define FM_OPS_ATTENTION_ROWS_H

#include <math.h>

#include "ops/call.h"

struct fm__rows_attention {
    const struct fm__attr_attention *a;
    const float *q, *k, *v;
    const int32_t (*rows)[FM__ROW_FIELDS];
    int64_t n_rows;
    int n_heads, group; // H, H / K
};

static inline struct fm__rows_attention fm__rows_attention(const struct fm__call *c)
{
    const struct fm__attr_attention *a = &c->attrs->attention;
    const int n_heads = (int)(c->in[0].dims[1] / a->head_k);
    return (struct fm__rows_attention){
        a, c->in[0].data, c->in[1].data, c->in[2].data, c->in[3].data, c->in[0].dims[0], n_heads, n_heads / a->n_kv};
}

// Row n sees row j <= n of its own document, less than `window` positions back.
static inline int fm__rows_sees(const struct fm__rows_attention *t, int64_t n, int64_t j)
{
    const int32_t *from = t->rows[n], *to = t->rows[j];
    return j <= n && from[FM__ROW_SLOT] == to[FM__ROW_SLOT] &&
           (t->a->window <= 0 || from[FM__ROW_POS] - to[FM__ROW_POS] < t->a->window);
}

static inline const float *fm__rows_q(const struct fm__rows_attention *t, int64_t n, int h)
{
    return t->q + (n * t->n_heads + h) * t->a->head_k;
}
static inline const float *fm__rows_k(const struct fm__rows_attention *t, int64_t j, int h)
{
    return t->k + (j * t->a->n_kv + h / t->group) * t->a->head_k;
}
static inline const float *fm__rows_v(const struct fm__rows_attention *t, int64_t j, int h)
{
    return t->v + (j * t->a->n_kv + h / t->group) * t->a->head_v;
}

static inline double fm__rows_dot(const float *x, const float *y, int n)
{
    double sum = 0;
    for (int e = 0; e < n; e++) sum += (double)x[e] * y[e];
    return sum;
}

// s = scale q k, then c tanh(s / c); *slope = d capped / d s.
static inline double fm__rows_score(const struct fm__rows_attention *t, int64_t n, int64_t j, int h, double *slope)
{
    double s = t->a->scale * fm__rows_dot(fm__rows_q(t, n, h), fm__rows_k(t, j, h), t->a->head_k);
    *slope = 1;
    if (!(t->a->softcap > 0)) return s;
    const double tanh_s = tanh(s / t->a->softcap);
    *slope = 1 - tanh_s * tanh_s;
    return t->a->softcap * tanh_s;
}

#endif

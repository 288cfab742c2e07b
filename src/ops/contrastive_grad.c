// SPDX-License-Identifier: MIT
// contrastive_grad: with g[n] = dloss[n] weight[n] / 2 and s as in contrastive.c
//   ds[i][j] = g[i] (exp(s[i][j] - lse[i][0]) - (i == j)) + g[j] (exp(s[i][j] - lse[j][1]) - (i == j))
//   da[i] = sum_j ds[i][j] b[j] / T,   db[j] = sum_i ds[i][j] a[i] / T: chains over ascending rows that take part.
//   a, b f32 [N, D], lse f32 [N, 2], dloss f32 [N], weights f32 [N] (optional) -> da, db f32 [N, D].
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/contrastive.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < s->n_in; i++) {
        if (i > 0 && !s->in[i]) continue;
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_rank(s, i, i < 3 ? 2 : 1));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    FM_TRY(fm__want_dim(s, 1, 1, s->in[0]->dims[1]));
    FM_TRY(fm__want_dim(s, 2, 1, 2));
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 0);
    return FM_OK;
}

static float scale_of(const struct fm__call *c, int64_t n)
{
    const float *weights = c->n_in > 4 ? c->in[4].data : NULL;
    return 0.5f * ((const float *)c->in[3].data)[n] * (weights ? weights[n] : 1.0f);
}

// d loss / d s[i][j], row i of a, row j of b.
static float score_grad(const struct fm__call *c, float score, int64_t i, int64_t j)
{
    const float *lse = c->in[2].data, hit = i == j ? 1.0f : 0.0f;
    const float by_a = scale_of(c, i) * (fm__fn_exp(score - lse[2 * i]) - hit);
    return by_a + scale_of(c, j) * (fm__fn_exp(score - lse[2 * j + 1]) - hit);
}

void fm__contrastive_grad_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const float *a = c->in[0].data, *b = c->in[1].data, *weights = c->n_in > 4 ? c->in[4].data : NULL;
    const int64_t N = c->in[0].dims[0], D = c->in[0].dims[1];
    const float inverse = 1.0f / c->attrs->loss.temperature;
    for (int64_t n = begin; n < end; n++) {
        float *da = (float *)c->out[0].data + n * D, *db = (float *)c->out[1].data + n * D;
        memset(da, 0, (size_t)D * sizeof *da);
        memset(db, 0, (size_t)D * sizeof *db);
        if (weights && weights[n] == 0) continue;
        for (int64_t k = 0; k < N; k++) {
            if (weights && weights[k] == 0) continue;
            const float s_a = fm__contrastive_score(a + n * D, b + k * D, D, inverse);
            const float s_b = fm__contrastive_score(a + k * D, b + n * D, D, inverse);
            const float ds_a = score_grad(c, s_a, n, k) * inverse, ds_b = score_grad(c, s_b, k, n) * inverse;
            for (int64_t i = 0; i < D; i++) {
                da[i] = fmaf(ds_a, b[k * D + i], da[i]);
                db[i] = fmaf(ds_b, a[k * D + i], db[i]);
            }
        }
    }
}

static void reference(const struct fm__call *c)
{
    fm__contrastive_grad_rows(c, 0, c->in[0].dims[0]);
}

static double flops(const struct fm__call *c)
{
    return 8.0 * (double)c->in[0].dims[0] * (double)c->in[0].dims[0] * (double)c->in[0].dims[1];
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fm__op_contrastive.print(attrs, to);
}

const struct fm__op fm__op_contrastive_grad = {
    .name = "contrastive_grad",
    .doc = "da, db of contrastive",
    .min_in = 4,
    .max_in = 5,
    .n_out = 2,
    .shape = shape,
    .reference = reference,
    .flops = flops,
    .print = print,
};

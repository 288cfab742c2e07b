// SPDX-License-Identifier: MIT
// layernorm_grad: with r = 1 / sqrt(var(x) + eps) and h = (x - mean(x)) r, y = h w + b gives
//   dx = r (w dy - mean(w dy) - h mean(w dy h)),   dw = sum over rows of dy h,   db = sum over rows of dy (slabs.h).
//   x f32 [N, X], w f32 [X], dy f32 [N, X] -> dx f32 [N, X], dw f32 [X], db f32 [X].
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/functions.h"
#include "ops/op.h"
#include "ops/slabs.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_rank(s, 2, 2));
    for (int i = 0; i < 3; i++) FM_TRY(fm__want_dtype(s, i, FM_F32));
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[1]));
    for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, 2, d, s->in[0]->dims[d]));
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 1);
    fm__shape_like(s, 2, 1);
    return FM_OK;
}

struct row {
    const float *x, *w, *dy;
    float *dx;
    float *dw; // dw [X], then db [X]
};

// dx, and dy h and dy added to dw and db.
static void one_row(const struct row *row, float eps, int64_t n)
{
    const float *x = row->x, *w = row->w, *dy = row->dy;
    double sums[16] = {0}, squares[16] = {0}, grads[16] = {0}, products[16] = {0};
    for (int64_t i = 0; i < n; i++) sums[i % 16] += x[i];
    const double mean = fm__fn_sum16(sums) / (double)n;
    for (int64_t i = 0; i < n; i++) squares[i % 16] += (x[i] - mean) * (x[i] - mean);
    const double r = 1.0 / sqrt(fm__fn_sum16(squares) / (double)n + eps);
    for (int64_t i = 0; i < n; i++) {
        grads[i % 16] += (double)w[i] * dy[i];
        products[i % 16] += (double)w[i] * dy[i] * ((x[i] - mean) * r);
    }
    const double mean_grad = fm__fn_sum16(grads) / (double)n, mean_product = fm__fn_sum16(products) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double h = (x[i] - mean) * r;
        row->dx[i] = (float)(r * ((double)w[i] * dy[i] - mean_grad - h * mean_product));
        row->dw[i] += (float)(dy[i] * h);
        row->dw[n + i] += dy[i];
    }
}

static size_t workspace(const struct fm__call *c)
{
    return 2 * (size_t)c->in[1].dims[0] * sizeof(float);
}

static void reference(const struct fm__call *c)
{
    int64_t N = c->in[0].dims[0], X = c->in[0].dims[1];
    float *slab = c->workspace, *dw = c->out[1].data, *db = c->out[2].data;
    memset(dw, 0, (size_t)X * sizeof *dw);
    memset(db, 0, (size_t)X * sizeof *db);
    for (int64_t begin = 0; begin < N; begin = fm__slab_end(begin, N)) {
        memset(slab, 0, 2 * (size_t)X * sizeof *slab);
        for (int64_t i = begin * X; i < fm__slab_end(begin, N) * X; i += X)
            one_row(&(struct row){.x = (const float *)c->in[0].data + i,
                                  .w = c->in[1].data,
                                  .dy = (const float *)c->in[2].data + i,
                                  .dx = (float *)c->out[0].data + i,
                                  .dw = slab},
                    c->attrs->norm.eps, X);
        for (int64_t i = 0; i < X; i++) dw[i] += slab[i], db[i] += slab[X + i];
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " eps=%g", (double)attrs->norm.eps);
}

const struct fm__op fm__op_layernorm_grad = {
    .name = "layernorm_grad",
    .doc = "dx, dw, db of layernorm",
    .min_in = 3,
    .max_in = 3,
    .n_out = 3,
    .shape = shape,
    .workspace = workspace,
    .print = print,
    .reference = reference,
};

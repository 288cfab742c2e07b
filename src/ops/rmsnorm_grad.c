// SPDX-License-Identifier: MIT
// rmsnorm_grad: with r = 1 / sqrt(mean(x^2) + eps) and h = x r over runs of E = len(w) elements, y = h w gives
//   dx = r (w dy - h mean(w dy h)),   dw = sum over rows and runs of dy h (rows in slabs, ops/slabs.h).
//   x f32 [N, X], w f32 [E], dy f32 [N, X] -> dx f32 [N, X], dw f32 [E].
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
    for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, 2, d, s->in[0]->dims[d]));
    if (s->in[1]->dims[0] < 1 || s->in[0]->dims[1] % s->in[1]->dims[0])
        return fm__fail(s->err, FM_E_SHAPE,
                        "rmsnorm_grad: rows of %lld elements, weight %s of %lld does not divide them",
                        (long long)s->in[0]->dims[1], s->in[1]->name, (long long)s->in[1]->dims[0]);
    fm__shape_like(s, 0, 0);
    fm__shape_like(s, 1, 1);
    return FM_OK;
}

struct run {
    const float *x, *w, *dy;
    float *dx, *dw;
};

// dx, and dy h added to dw.
static void one_run(const struct run *run, float eps, int64_t e)
{
    const float *x = run->x, *w = run->w, *dy = run->dy;
    double squares[16] = {0}, products[16] = {0};
    for (int64_t i = 0; i < e; i++) squares[i % 16] += (double)x[i] * x[i];
    const double r = 1.0 / sqrt(fm__fn_sum16(squares) / (double)e + eps);
    for (int64_t i = 0; i < e; i++) products[i % 16] += (double)w[i] * dy[i] * x[i];
    const double mean = fm__fn_sum16(products) * r / (double)e; // of w dy h
    for (int64_t i = 0; i < e; i++) {
        run->dx[i] = (float)(r * ((double)w[i] * dy[i] - x[i] * r * mean));
        run->dw[i] += (float)(dy[i] * (x[i] * r));
    }
}

static size_t workspace(const struct fm__call *c)
{
    return (size_t)c->in[1].dims[0] * sizeof(float);
}

static void reference(const struct fm__call *c)
{
    int64_t N = c->in[0].dims[0], X = c->in[0].dims[1], e = c->in[1].dims[0];
    float *slab = c->workspace, *dw = c->out[1].data;
    memset(dw, 0, (size_t)e * sizeof *dw);
    for (int64_t begin = 0; begin < N; begin = fm__slab_end(begin, N)) {
        memset(slab, 0, (size_t)e * sizeof *slab);
        for (int64_t i = begin * X; i < fm__slab_end(begin, N) * X; i += e)
            one_run(&(struct run){.x = (const float *)c->in[0].data + i,
                                  .w = c->in[1].data,
                                  .dy = (const float *)c->in[2].data + i,
                                  .dx = (float *)c->out[0].data + i,
                                  .dw = slab},
                    c->attrs->norm.eps, e);
        for (int64_t i = 0; i < e; i++) dw[i] += slab[i];
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " eps=%g", (double)attrs->norm.eps);
}

const struct fm__op fm__op_rmsnorm_grad = {
    .name = "rmsnorm_grad",
    .doc = "dx, dw of rmsnorm",
    .min_in = 3,
    .max_in = 3,
    .n_out = 2,
    .shape = shape,
    .workspace = workspace,
    .print = print,
    .reference = reference,
};

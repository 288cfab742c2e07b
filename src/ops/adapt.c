// SPDX-License-Identifier: MIT
// adapt: y[n] += B A x[n] with the matrices of row n's adapter; rows without one keep their bytes. In place.
//   y [N, O] f32, the product that is changed (output 0 lies where it lay) · x [N, K] f32, what the product was of ·
//   rows i32 [N, 4]: field ADAPTER is i, -1: none · spans i32 [M, 2]: ranks begin … end of adapter i among all R ·
//   b f32 [O, R] · a f32 [R, K]; left out: x is A x already, [N, R] (embeddings) ·
//   gain f32 [M, O] (DoRA, arXiv 2402.09353): y[n] += gain[i] (y[n] - bias) besides · bias f32 [O], the product's own.
//
// Arithmetic, one output: u[j] = fma(x[k], a[j][k], u[j]) over ascending k from 0; t = fma(u[j], b[o][j], t) over the
// span's ascending j from 0; t = fma(gain, y - bias, t); y = y + t. A row's bytes depend on the row and its adapter.
// LoRA's paper: arXiv 2106.09685.
#include <math.h>

#include "base/error.h"
#include "ops/adapt.h"
#include "ops/op.h"

enum {
    Y = FM__ADAPT_Y,
    X = FM__ADAPT_X,
    ROWS = FM__ADAPT_ROWS,
    SPANS = FM__ADAPT_SPANS,
    B = FM__ADAPT_B,
    A = FM__ADAPT_A,
    GAIN = FM__ADAPT_GAIN,
    BIAS = FM__ADAPT_BIAS
};

static bool given(const struct fm__shape *s, int i)
{
    return s->n_in > i && s->in[i];
}

static fm_status shape(struct fm__shape *s)
{
    static const int ranks[] = {2, 2, 2, 2, 2, 2, 2, 1};
    for (int i = 0; i < 8; i++) {
        if (!given(s, i)) continue;
        FM_TRY(fm__want_rank(s, i, ranks[i]));
        FM_TRY(fm__want_dtype(s, i, i == ROWS || i == SPANS ? FM_I32 : FM_F32));
    }
    const int64_t o = s->in[Y]->dims[1], r = s->in[B]->dims[1];
    FM_TRY(fm__want_dim(s, X, 0, s->in[Y]->dims[0]));
    FM_TRY(fm__want_dim(s, ROWS, 0, s->in[Y]->dims[0]));
    FM_TRY(fm__want_dim(s, ROWS, 1, FM__ROW_FIELDS));
    FM_TRY(fm__want_dim(s, SPANS, 1, 2));
    FM_TRY(fm__want_dim(s, B, 0, o));
    if (given(s, A)) {
        FM_TRY(fm__want_dim(s, A, 0, r));
        FM_TRY(fm__want_dim(s, A, 1, s->in[X]->dims[1]));
    } else {
        FM_TRY(fm__want_dim(s, X, 1, r));
    }
    if (given(s, GAIN)) {
        FM_TRY(fm__want_dim(s, GAIN, 0, s->in[SPANS]->dims[0]));
        FM_TRY(fm__want_dim(s, GAIN, 1, o));
    }
    if (given(s, BIAS)) FM_TRY(fm__want_dim(s, BIAS, 0, o));
    fm__shape_like(s, 0, Y);
    return FM_OK;
}

static const float *row_of(const struct fm__call *c, int i, int64_t row)
{
    if (!fm__adapt_has(c, i)) return NULL;
    return (const float *)c->in[i].data + row * c->in[i].dims[c->in[i].rank - 1];
}

static void adapt_row(const struct fm__call *c, int64_t n, int32_t adapter, float *u)
{
    const int32_t *span = (const int32_t *)c->in[SPANS].data + (ptrdiff_t)2 * adapter;
    const float *x = row_of(c, X, n), *gain = row_of(c, GAIN, adapter), *bias = row_of(c, BIAS, 0);
    float *y = (float *)c->out[0].data + n * c->out[0].dims[1];
    for (int32_t j = span[0]; j < span[1]; j++) {
        const float *a = row_of(c, A, j);
        u[j] = a ? 0 : x[j];
        for (int64_t k = 0; a && k < c->in[X].dims[1]; k++) u[j] = fmaf(x[k], a[k], u[j]);
    }
    for (int64_t o = 0; o < c->out[0].dims[1]; o++) {
        const float *b = row_of(c, B, o);
        float t = 0;
        for (int32_t j = span[0]; j < span[1]; j++) t = fmaf(u[j], b[j], t);
        if (gain) t = fmaf(gain[o], bias ? y[o] - bias[o] : y[o], t);
        y[o] = y[o] + t;
    }
}

// Output 0 lies where y lay.
static void reference(const struct fm__call *c)
{
    const int32_t *rows = c->in[ROWS].data, n_adapters = (int32_t)c->in[SPANS].dims[0];
    for (int64_t n = 0; n < c->out[0].dims[0]; n++) {
        const int32_t adapter = rows[n * FM__ROW_FIELDS + FM__ROW_ADAPTER];
        if (adapter >= 0 && adapter < n_adapters && !fm__adapt_is_idle(c, adapter))
            adapt_row(c, n, adapter, c->workspace);
    }
}

static size_t workspace(const struct fm__call *c)
{
    return (size_t)c->in[B].dims[1] * sizeof(float);
}

static double flops(const struct fm__call *c)
{
    const double r = (double)c->in[B].dims[1] / (double)c->in[SPANS].dims[0]; // a row has one of the adapters
    return 2 * r * (double)c->in[Y].dims[0] * (double)(c->in[Y].dims[1] + c->in[X].dims[1]);
}

const struct fm__op fm__op_adapt = {
    .name = "adapt",
    .doc = "y[n] += B A x[n], of row n's adapter",
    .min_in = 5,
    .max_in = 8,
    .n_out = 1,
    .alias = {1},
    .shape = shape,
    .reference = reference,
    .workspace = workspace,
    .flops = flops,
};

// SPDX-License-Identifier: MIT
// linear_cross_entropy_grad: with z = cap(x[n] W^T) formed again, slab by slab, and
//   dz[n][v] = dloss[n] weight[n] (exp(z[n][v] - lse[n]) - (1 - s) (v == target[n]) - s / V) (1 - (z[n][v] / c)^2):
//   dx = dz W,  dW = dz^T x.  Rows without a target: dx 0, nothing to dW.
//   x f32 or bf16 [N, D], W f32 [V, D], targets i32 [N], lse f32 [N], dloss f32 [N], weights f32 [N] (optional)
//   -> dx f32 [N, D], dW f32 [V, D].
// linear_cross_entropy_dx is the same without dW, for W of any weight type.
#include <string.h>

#include "base/error.h"
#include "ops/linear_cross_entropy.h"
#include "ops/linear_ref.h"
#include "ops/op.h"
#include "tensor/half.h"

fm_status fm__lce_gradient_shape(struct fm__shape *s)
{
    FM_TRY(fm__lce_want_operands(s));
    for (int i = 2; i < s->n_in; i++) {
        if (!s->in[i]) continue;
        FM_TRY(fm__want_dtype(s, i, i == 2 ? FM_I32 : FM_F32));
        FM_TRY(fm__want_rank(s, i, 1));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__lce_gradient_shape(s));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    fm__shape_like(s, 1, 1);
    return FM_OK;
}

void fm__lce_slab_grad(float *y, int64_t n, const struct fm__lce_row *row)
{
    const float own = row->target >= 0 && row->target < n ? y[row->target] : 0;
    for (int64_t i = 0; i < n; i++) {
        const float t = y[i] / row->cap, d = row->scale * fm__fn_exp(y[i] - row->lse) - row->even;
        y[i] = row->cap != 0 ? d * fmaf(-t, t, 1.0f) : d;
    }
    if (row->target >= 0 && row->target < n) y[row->target] = fm__lce_target_grad(own, row);
}

// Workspace: | dz [N][slab] | x of the rows with a target [N][D] | their numbers i32 [N] | dz in x's type |
size_t fm__lce_gradient_workspace(const struct fm__call *c)
{
    const size_t N = (size_t)c->in[0].dims[0], D = (size_t)c->in[0].dims[1];
    return N * (2 * FM__LCE_SLAB + D + 1) * sizeof(float);
}

struct slab {
    const struct fm__call *call;
    struct fm_tensor x, w, dz, operand; // rows with a target; the slab of W; operand: dz in x's type
    const int32_t *index;
    int64_t begin; // of W's rows
};

static void form_dz(const struct slab *s)
{
    const struct fm__call *c = s->call;
    const int64_t n_v = s->dz.dims[1];
    const struct fm__call product = {.n_in = 2, .n_out = 1, .rows = s->dz.dims[0], .in = {s->x, s->w}, .out = {s->dz}};
    fm__ref_linear(&product);
    for (int64_t i = 0; i < s->dz.dims[0]; i++) {
        const struct fm__lce_row how = fm__lce_row(c, s->index[i], s->begin);
        float *row = (float *)s->dz.data + i * n_v;
        fm__lce_cap(row, n_v, how.cap);
        fm__lce_slab_grad(row, n_v, &how);
        for (int64_t v = 0; v < n_v && s->operand.dtype == FM_BF16; v++)
            ((uint16_t *)s->operand.data)[i * n_v + v] = fm__f32_to_bf16(row[v]);
    }
}

// dx += dz W, dW = dz^T x
static void back_through(const struct slab *s)
{
    const struct fm__call *c = s->call;
    const int64_t D = c->in[0].dims[1];
    const union fm__attrs turned = {.linear = {.transpose_w = 1}};
    struct fm__call product = {
        .n_in = 4, .n_out = 1, .rows = s->dz.dims[0], .attrs = &turned, .in = {s->operand, s->w}};
    product.in[2].dtype = FM_DTYPE_COUNT; // no bias
    product.in[3] = product.out[0] = fm__lce_matrix(FM_F32, c->out[0].data, s->dz.dims[0], D);
    fm__ref_linear(&product);
    if (c->n_out < 2) return;
    struct fm__call dw = {.n_in = 2, .n_out = 1, .rows = s->dz.dims[0], .in = {s->x, s->operand}};
    dw.out[0] = fm__lce_matrix(FM_F32, (float *)c->out[1].data + s->begin * D, s->dz.dims[1], D);
    fm__op(FM__OP_LINEAR_DW)->reference(&dw);
}

void fm__lce_gradient(const struct fm__call *c)
{
    const int64_t N = c->in[0].dims[0], D = c->in[0].dims[1], V = c->in[1].dims[0];
    const fm_dtype type = c->in[0].dtype;
    const size_t row_bytes = (size_t)c->in[0].strides[0];
    float *dz = c->workspace, *dx = c->out[0].data;
    char *x = (char *)(dz + N * FM__LCE_SLAB);
    int32_t *index = (int32_t *)(dz + N * (FM__LCE_SLAB + D));
    const int64_t n_rows = fm__lce_rows(c->in[2].data, N, V, index);
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(x + (size_t)i * row_bytes, (const char *)c->in[0].data + (size_t)index[i] * row_bytes, row_bytes);
    memset(dx, 0, (size_t)(N * D) * sizeof *dx);
    for (int64_t v = 0; v < V; v += FM__LCE_SLAB) {
        const int64_t n_v = V - v < FM__LCE_SLAB ? V - v : FM__LCE_SLAB;
        struct slab s = {.call = c, .x = fm__lce_matrix(type, x, n_rows, D), .w = c->in[1], .index = index, .begin = v};
        s.w.dims[0] = n_v;
        s.w.data = (char *)c->in[1].data + v * c->in[1].strides[0];
        s.dz = fm__lce_matrix(FM_F32, dz, n_rows, n_v);
        s.operand = type == FM_BF16 ? fm__lce_matrix(FM_BF16, index + N, n_rows, n_v) : s.dz;
        form_dz(&s);
        back_through(&s);
    }
    // dx stands in its first rows: each moves up to its own, the last one first
    for (int64_t i = n_rows - 1; i >= 0 && index[i] != i; i--) {
        memcpy(dx + index[i] * D, dx + i * D, (size_t)D * sizeof *dx);
        memset(dx + i * D, 0, (size_t)D * sizeof *dx);
    }
}

static double flops(const struct fm__call *c)
{
    return 3 * fm__lce_flops(c);
}

const struct fm__op fm__op_linear_cross_entropy_grad = {
    .name = "linear_cross_entropy_grad",
    .doc = "dx, dW of linear_cross_entropy",
    .min_in = 5,
    .max_in = 6,
    .n_out = 2,
    .shape = shape,
    .reference = fm__lce_gradient,
    .workspace = fm__lce_gradient_workspace,
    .flops = flops,
    .print = fm__lce_print,
};

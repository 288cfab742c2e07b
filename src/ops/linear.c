// SPDX-License-Identifier: MIT
// linear: y = x W^T (+ bias) (+ residual).
//   x [N, K] f32, q8a, q8r or bf16; W [O, K] any weight type; bias f32 [O]; residual f32 [N, O] -> f32 [N, O].
//   W I8 [O, K] takes scale f32 [O] as input 4: a row of W is its integers times its scale. The plan makes x q8r for
//   it.
// x's type says how products are formed (ops/linear_ref.h has the exact arithmetic of each): q8a for inference of
// quantised weights, q8r for weights of plain int8, f32 or bf16 for training, so that the gradient is exact.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/linear_ref.h"
#include "ops/op.h"
#include "tensor/q8r.h"

// W of plain int8: x f32 (until the plan casts it) or q8r, and scales; no scales for other weights.
static fm_status int8_shape(struct fm__shape *s)
{
    const fm_dtype x = s->in[0]->dtype, w = s->in[1]->dtype;
    const bool scales = s->n_in > 4 && s->in[4];
    if ((x == FM_Q8R) > (w == FM_I8) || (w == FM_I8 && x != FM_Q8R && x != FM_F32))
        return fm__fail(s->err, FM_E_SHAPE, "linear: x is %s and W %s, want q8r with i8", fm_dtype_info(x)->name,
                        fm_dtype_info(w)->name);
    if (scales != (w == FM_I8))
        return fm__fail(s->err, FM_E_SHAPE, "linear: W is %s %s scales, want them with i8 and only there",
                        fm_dtype_info(w)->name, scales ? "with" : "without");
    if (w != FM_I8) return FM_OK;
    if (s->attrs->linear.transpose_w) return fm__fail(s->err, FM_E_SHAPE, "linear: W is i8, transposed: not offered");
    if (s->in[1]->dims[1] > FM__Q8R_MAX_K)
        return fm__fail(s->err, FM_E_SHAPE, "linear: W is i8 of %lld columns, want %d at most",
                        (long long)s->in[1]->dims[1], FM__Q8R_MAX_K);
    FM_TRY(fm__want_dtype(s, 4, FM_F32));
    FM_TRY(fm__want_rank(s, 4, 1));
    return fm__want_dim(s, 4, 0, s->in[1]->dims[0]);
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_rank(s, 1, 2));
    if (s->in[1]->dtype != FM_I8 || s->n_in < 5) FM_TRY(fm__want_weight_type(s, 1));
    fm_dtype x = s->in[0]->dtype;
    if (x != FM_F32 && x != FM_Q8A && x != FM_Q8R && x != FM_BF16)
        return fm__fail(s->err, FM_E_SHAPE, "linear: x is %s, want f32, q8a, q8r or bf16", fm_dtype_info(x)->name);
    int t = s->attrs->linear.transpose_w;
    FM_TRY(int8_shape(s));
    if (t && x != FM_BF16) FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dim(s, 1, t ? 0 : 1, s->in[0]->dims[1]));
    int64_t o = s->in[1]->dims[t ? 1 : 0];
    if (s->n_in > 2 && s->in[2]) {
        FM_TRY(fm__want_dtype(s, 2, FM_F32));
        FM_TRY(fm__want_rank(s, 2, 1));
        FM_TRY(fm__want_dim(s, 2, 0, o));
    }
    if (s->n_in > 3 && s->in[3]) {
        FM_TRY(fm__want_dtype(s, 3, FM_F32));
        FM_TRY(fm__want_rank(s, 3, 2));
        FM_TRY(fm__want_dim(s, 3, 0, s->in[0]->dims[0]));
        FM_TRY(fm__want_dim(s, 3, 1, o));
    }
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 2;
    s->out[0].dims[0] = s->in[0]->dims[0];
    s->out[0].dims[1] = o;
    return FM_OK;
}

static double flops(const struct fm__call *c)
{
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[1].dims[0] * (double)c->in[1].dims[1];
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    if (attrs->linear.transpose_w) fputs(" transpose_w=1", to);
}

// y = x W^T + bias + residual:  dx = dy W (any weight type),  dW = dy^T x (float weights only: fm__graph_gradient
// refuses the others),  dbias = the sum of dy's rows,  dresidual = dy. With y = x W the other way round.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    struct fm__graph *g = grad->g;
    const fm__val x = node->in[0], w = node->in[1], dy = d_out[0];
    const int t = node->attrs.linear.transpose_w;
    const union fm__attrs turned = {.linear = {.transpose_w = !t}};
    if (fm__grad_needs(grad, x)) fm__grad_add(grad, x, fm__graph_add(g, FM__OP_LINEAR, 2, (fm__val[]){dy, w}, &turned));
    if (fm__grad_needs(grad, w))
        fm__grad_add(grad, w, fm__graph_add(g, FM__OP_LINEAR_DW, 2, (fm__val[]){t ? dy : x, t ? x : dy}, NULL));
    if (node->n_in > 2 && fm__grad_needs(grad, node->in[2]))
        fm__grad_add(grad, node->in[2], fm__graph_add(g, FM__OP_SUM_ROWS, 1, &dy, NULL));
    if (node->n_in > 3) fm__grad_add(grad, node->in[3], dy);
    return FM_OK;
}

const struct fm__op fm__op_linear = {
    .name = "linear",
    .doc = "y = x W^T + bias + residual",
    .min_in = 2,
    .max_in = 5,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {1 << 3}, // the residual
    .reference = fm__ref_linear,
    .flops = flops,
    .print = print,
};

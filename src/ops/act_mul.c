// SPDX-License-Identifier: MIT
// act_mul: y = f(gate) * up: SwiGLU and GeGLU (arXiv 2002.05202).  gate, up f32 [N, F] -> [N, F] f32 or q8a.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/elementwise.h"
#include "ops/op.h"
#include "ops/rows_out.h"

static fm_status shape(struct fm__shape *s)
{
    for (int i = 0; i < 2; i++) {
        FM_TRY(fm__want_rank(s, i, 2));
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        for (int d = 0; d < 2; d++) FM_TRY(fm__want_dim(s, i, d, s->in[0]->dims[d]));
    }
    return fm__shape_rows_out(s, 0, s->attrs->act.out_dtype);
}

static void reference(const struct fm__call *c)
{
    int64_t f = c->in[0].dims[1];
    float *y = c->workspace;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *gate = (const float *)c->in[0].data + n * f, *up = (const float *)c->in[1].data + n * f;
        for (int64_t i = 0; i < f; i++) y[i] = fm__act(c->attrs->act.act, gate[i]) * up[i];
        fm__store_row(y, f, &c->out[0], n);
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " act=%s", fm__act_name(attrs->act.act));
    fm__print_out_dtype(attrs->act.out_dtype, to);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const union fm__attrs attrs = {.act = {.act = node->attrs.act.act}};
    const fm__val in[] = {node->in[0], node->in[1], d_out[0]};
    const fm__val first = fm__graph_add(grad->g, FM__OP_ACT_MUL_GRAD, 3, in, &attrs);
    for (int i = 0; i < 2; i++) fm__grad_add(grad, node->in[i], fm__graph_out(grad->g, first, i));
    return FM_OK;
}

const struct fm__op fm__op_act_mul = {
    .name = "act_mul",
    .doc = "y = f(gate) * up",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {3},
    .reference = reference,
    .workspace = fm__row_workspace,
    .print = print,
};

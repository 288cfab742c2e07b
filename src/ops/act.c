// SPDX-License-Identifier: MIT
// act: y = f(x), f one of SiLU, GELU (tanh form or erf), ReLU.  x f32 [N, X] -> [N, X] f32 or q8a.
// SiLU: arXiv 1702.03118; GELU: arXiv 1606.08415.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/elementwise.h"
#include "ops/functions.h"
#include "ops/op.h"
#include "ops/rows_out.h"

float fm__act(int act, float x)
{
    switch (act) {
    case FM__ACT_SILU:
        return x * fm__fn_sigmoid(x);
    case FM__ACT_GELU_TANH:
        return x * fm__fn_sigmoid(FM__TWICE_SQRT_2_OVER_PI * x * fmaf(FM__GELU_CUBIC * x, x, 1.0f));
    case FM__ACT_GELU_ERF:
        return x * fm__fn_normal(x);
    case FM__ACT_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

// SiLU: s (1 + x (1 - s)).  GELU tanh: s + x s (1 - s) du with du the derivative of 2u.  GELU erf: Phi(x) + x phi(x).
float fm__act_derivative(int act, float x)
{
    switch (act) {
    case FM__ACT_SILU: {
        float s = fm__fn_sigmoid(x);
        return s * fmaf(x, 1.0f - s, 1.0f);
    }
    case FM__ACT_GELU_TANH: {
        float s = fm__fn_sigmoid(FM__TWICE_SQRT_2_OVER_PI * x * fmaf(FM__GELU_CUBIC * x, x, 1.0f));
        float du = FM__TWICE_SQRT_2_OVER_PI * fmaf(3.0f * FM__GELU_CUBIC * x, x, 1.0f);
        return fmaf(x * s * (1.0f - s), du, s);
    }
    case FM__ACT_GELU_ERF:
        return fmaf(x * FM__INV_SQRT_2_PI, fm__fn_exp(-0.5f * x * x), fm__fn_normal(x));
    case FM__ACT_RELU:
        return x > 0 ? 1.0f : 0.0f;
    default:
        return 1.0f;
    }
}

const char *fm__act_name(int act)
{
    static const char *const names[] = {"none", "silu", "gelu_tanh", "gelu_erf", "relu"};
    return (unsigned)act < sizeof names / sizeof *names ? names[act] : "invalid";
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    return fm__shape_rows_out(s, 0, s->attrs->act.out_dtype);
}

static void reference(const struct fm__call *c)
{
    int64_t x_len = c->in[0].dims[1];
    float *y = c->workspace;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * x_len;
        for (int64_t i = 0; i < x_len; i++) y[i] = fm__act(c->attrs->act.act, x[i]);
        fm__store_row(y, x_len, &c->out[0], n);
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
    const fm__val in[] = {node->in[0], d_out[0]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_ACT_GRAD, 2, in, &attrs));
    return FM_OK;
}

const struct fm__op fm__op_act = {
    .name = "act",
    .doc = "y = f(x)",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {1},
    .reference = reference,
    .workspace = fm__row_workspace,
    .print = print,
};

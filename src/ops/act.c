// SPDX-License-Identifier: MIT
// act: y = f(x), f one of SiLU, GELU (tanh form or erf), ReLU.  x f32 [N, X] -> [N, X] f32 or q8a.
// SiLU: arXiv 1702.03118; GELU: arXiv 1606.08415.
#include <math.h>

#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/op.h"
#include "ops/rows_out.h"

static const double sqrt_2_over_pi = 0.79788456080286535588, gelu_cubic = 0.044715; // GELU paper, section 2

float fm__act(int act, float value)
{
    double x = value;
    switch (act) {
    case FM__ACT_SILU:
        return (float)(x / (1 + exp(-x)));
    case FM__ACT_GELU_TANH:
        return (float)(0.5 * x * (1 + tanh(sqrt_2_over_pi * (x + gelu_cubic * x * x * x))));
    case FM__ACT_GELU_ERF:
        return (float)(0.5 * x * (1 + erf(x * 0.70710678118654752440)));
    case FM__ACT_RELU:
        return value > 0 ? value : 0;
    default:
        return value;
    }
}

float fm__act_derivative(int act, float value)
{
    double x = value;
    switch (act) {
    case FM__ACT_SILU: {
        double s = 1 / (1 + exp(-x));
        return (float)(s * (1 + x * (1 - s)));
    }
    case FM__ACT_GELU_TANH: {
        double t = tanh(sqrt_2_over_pi * (x + gelu_cubic * x * x * x));
        return (float)(0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt_2_over_pi * (1 + 3 * gelu_cubic * x * x));
    }
    case FM__ACT_GELU_ERF:
        return (float)(0.5 * (1 + erf(x * 0.70710678118654752440)) + x * 0.39894228040143267794 * exp(-0.5 * x * x));
    case FM__ACT_RELU:
        return value > 0 ? 1.0f : 0.0f;
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

const struct fm__op fm__op_act = {
    .name = "act",
    .doc = "y = f(x)",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .workspace = fm__row_workspace,
    .print = print,
};

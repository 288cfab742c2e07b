// SPDX-License-Identifier: MIT
// softcap: y = c * tanh(x / c), c in attrs.scale.factor: Gemma 2's bound on logits (arXiv 2408.00118).  x f32.
#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    if (!(s->attrs->scale.factor > 0))
        return fm__fail(s->err, FM_E_ARG, "softcap: cap %g, want > 0", (double)s->attrs->scale.factor);
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const float *x = c->in[0].data;
    float cap = c->attrs->scale.factor;
    int64_t n = fm_tensor_elements(&c->in[0]);
    for (int64_t i = 0; i < n; i++) ((float *)c->out[0].data)[i] = cap * fm__fn_tanh(x[i] / cap);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " cap=%g", (double)attrs->scale.factor);
}

// y = c tanh(x / c)  ->  dx = dy (1 - (y / c)^2)
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    struct fm__graph *g = grad->g;
    const union fm__attrs divide = {.scale = {.factor = 1.0f / node->attrs.scale.factor}};
    const union fm__attrs one_minus = {.scale = {.factor = -1, .bias = 1}};
    fm__val t = fm__graph_add(g, FM__OP_SCALE, 1, node->out, &divide);
    t = fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){t, t}, NULL);
    t = fm__graph_add(g, FM__OP_SCALE, 1, &t, &one_minus);
    fm__grad_add(grad, node->in[0], fm__graph_add(g, FM__OP_MUL, 2, (fm__val[]){d_out[0], t}, NULL));
    return FM_OK;
}

const struct fm__op fm__op_softcap = {
    .name = "softcap",
    .doc = "y = c * tanh(x / c)",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {1},
    .reference = reference,
    .print = print,
};

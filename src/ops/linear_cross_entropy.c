// SPDX-License-Identifier: MIT
// linear_cross_entropy: loss[n] = weight[n] (log sum exp(z) - z[target[n]]) with z = cap(x[n] W^T), and no matrix of
// logits: W is taken in slabs (linear_cross_entropy.h has the arithmetic). Rows whose target is no class are not
// computed: loss 0, lse 0.
//   x f32 or bf16 [N, D], W [V, D] of any weight type, targets i32 [N], weights f32 [N] (optional: 1)
//   -> loss f32 [N], lse f32 [N].
// Attributes loss.softcap: cap(z) = c tanh(z / c), 0: none; loss.smoothing s: (1 - s) z[target] + s mean(z) instead of
// z[target]. One chunk of logits at a time: arXiv 2411.09009.
#include "ops/linear_cross_entropy.h"

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/linear_ref.h"
#include "ops/op.h"

void fm__lce_cap(float *x, int64_t n, float cap)
{
    if (cap == 0) return;
    for (int64_t i = 0; i < n; i++) x[i] = cap * fm__fn_tanh(x[i] / cap);
}

struct fm__lce_sum fm__lce_slab_sum(const float *x, int64_t n)
{
    struct fm__lce_sum slab = FM__LCE_NOTHING;
    double lanes[16] = {0}, logits[16] = {0};
    for (int64_t i = 0; i < n; i++) slab.top = x[i] > slab.top ? x[i] : slab.top;
    for (int64_t i = 0; i < n; i++) lanes[i % 16] += fm__fn_exp(x[i] - slab.top), logits[i % 16] += x[i];
    slab.sum = fm__fn_sum16(lanes);
    slab.logits = fm__fn_sum16(logits);
    return slab;
}

int64_t fm__lce_rows(const int32_t *targets, int64_t N, int64_t V, int32_t *index)
{
    int64_t n = 0;
    for (int64_t i = 0; i < N; i++)
        if (targets[i] >= 0 && targets[i] < V) index[n++] = (int32_t)i;
    return n;
}

struct fm_tensor fm__lce_matrix(fm_dtype dtype, const void *data, int64_t n_rows, int64_t n_columns)
{
    struct fm_tensor t = {.dtype = dtype, .rank = 2, .dims = {n_rows, n_columns}, .data = (void *)(uintptr_t)data};
    fm_tensor_set_contiguous(&t);
    return t;
}

fm_status fm__lce_want_operands(const struct fm__shape *s)
{
    FM_TRY(fm__want_rank(s, 0, 2));
    if (s->in[0]->dtype != FM_BF16) FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 2));
    FM_TRY(fm__want_weight_type(s, 1));
    if (!(s->attrs->loss.smoothing >= 0 && s->attrs->loss.smoothing < 1))
        return fm__fail(s->err, FM_E_ARG, "%s: smoothing %g, want 0 <= smoothing < 1", s->op,
                        (double)s->attrs->loss.smoothing);
    return fm__want_dim(s, 1, 1, s->in[0]->dims[1]);
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__lce_want_operands(s));
    FM_TRY(fm__want_dtype(s, 2, FM_I32));
    if (s->n_in > 3 && s->in[3]) FM_TRY(fm__want_dtype(s, 3, FM_F32));
    for (int i = 2; i < s->n_in; i++) {
        if (!s->in[i]) continue;
        FM_TRY(fm__want_rank(s, i, 1));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
    }
    for (int i = 0; i < 2; i++) {
        s->out[i].dtype = FM_F32;
        s->out[i].rank = 1;
        s->out[i].dims[0] = s->in[0]->dims[0];
    }
    return FM_OK;
}

static size_t workspace(const struct fm__call *c)
{
    (void)c;
    return FM__LCE_SLAB * sizeof(float);
}

static void reference(const struct fm__call *c)
{
    const int32_t *targets = c->in[2].data;
    const float *weights = c->n_in > 3 ? c->in[3].data : NULL;
    const int64_t N = c->in[0].dims[0], D = c->in[0].dims[1], V = c->in[1].dims[0];
    float *z = c->workspace;
    for (int64_t n = 0; n < N; n++) {
        struct fm__lce_sum all = FM__LCE_NOTHING;
        const bool counts = targets[n] >= 0 && targets[n] < V;
        double own = 0, lse;
        for (int64_t v = 0; v < V && counts; v += FM__LCE_SLAB) {
            const int64_t n_v = V - v < FM__LCE_SLAB ? V - v : FM__LCE_SLAB;
            struct fm__call product = {.n_in = 2, .n_out = 1, .rows = 1, .in[1] = c->in[1]};
            product.in[0] = fm__lce_matrix(c->in[0].dtype, (const char *)c->in[0].data + n * c->in[0].strides[0], 1, D);
            product.in[1].dims[0] = n_v;
            product.in[1].data = (char *)c->in[1].data + v * c->in[1].strides[0];
            product.out[0] = fm__lce_matrix(FM_F32, z, 1, n_v);
            fm__ref_linear(&product);
            fm__lce_cap(z, n_v, c->attrs->loss.softcap);
            fm__lce_join(&all, fm__lce_slab_sum(z, n_v));
            if (targets[n] >= v && targets[n] < v + n_v) own = z[targets[n] - v];
        }
        lse = counts ? fm__lce_value(&all) : 0;
        own = fm__lce_own(own, all.logits, V, c->attrs->loss.smoothing);
        ((float *)c->out[0].data)[n] = counts ? (float)((lse - own) * (weights ? weights[n] : 1.0f)) : 0.0f;
        ((float *)c->out[1].data)[n] = (float)lse;
    }
}

double fm__lce_flops(const struct fm__call *c)
{
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[1].dims[0] * (double)c->in[1].dims[1];
}

void fm__lce_print(const union fm__attrs *attrs, FILE *to)
{
    if (attrs->loss.softcap != 0) fprintf(to, " softcap=%g", (double)attrs->loss.softcap);
    if (attrs->loss.smoothing != 0) fprintf(to, " smoothing=%g", (double)attrs->loss.smoothing);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    struct fm__graph *g = grad->g;
    const fm__val x = node->in[0], w = node->in[1], weights = node->n_in > 3 ? node->in[3] : FM__NONE;
    const fm__val in[] = {x, w, node->in[2], node->out[1], d_out[0], weights};
    if (d_out[0] == FM__NONE || d_out[1] != FM__NONE || fm__grad_needs(grad, weights)) {
        struct fm_error err;
        fm__fail(&err, FM_E_UNSUPPORTED, "linear_cross_entropy: gradient of lse or weights");
        return fm__graph_fail(g, &err);
    }
    const bool trained = fm__grad_needs(grad, w);
    const enum fm__op_id op = trained ? FM__OP_LINEAR_CROSS_ENTROPY_GRAD : FM__OP_LINEAR_CROSS_ENTROPY_DX;
    const fm__val dx = fm__graph_add(g, op, 6, in, &node->attrs);
    fm__grad_add(grad, x, dx);
    if (trained) fm__grad_add(grad, w, fm__graph_out(g, dx, 1));
    return FM_OK;
}

const struct fm__op fm__op_linear_cross_entropy = {
    .name = "linear_cross_entropy",
    .doc = "loss = weight (log sum exp(x W^T) - (x W^T)[target])",
    .min_in = 3,
    .max_in = 4,
    .n_out = 2,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .workspace = workspace,
    .flops = fm__lce_flops,
    .print = fm__lce_print,
};

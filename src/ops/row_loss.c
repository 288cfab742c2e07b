// SPDX-License-Identifier: MIT
// row_loss: loss[n] = weight[n] times one of
//   mse   mean over columns of (x - y)^2
//   bce   mean over columns of log(1 + exp(x)) - x y, y in [0, 1]: binary cross entropy of logits
//   kl    T^2 KL(softmax(y / T) || softmax(x / T)): x a student's logits, y its teacher's (arXiv 1503.02531)
//   x f32 [N, X], y f32 [N, X] ([N] where X is 1), weights f32 [N] (optional: 1) -> f32 [N].
// Sums in double, element i in lane i mod 16. y and weights are data: asking for their gradient is an error.
#include "ops/row_loss.h"

#include <math.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/functions.h"
#include "ops/op.h"

fm_status fm__row_loss_inputs(const struct fm__shape *s)
{
    const struct fm__attr_loss *a = &s->attrs->loss;
    if (a->kind < 0 || a->kind > FM__LOSS_KL) return fm__fail(s->err, FM_E_ARG, "%s: kind %d", s->op, a->kind);
    if (a->kind == FM__LOSS_KL && !(a->temperature > 0))
        return fm__fail(s->err, FM_E_ARG, "%s: temperature %g, want above 0", s->op, (double)a->temperature);
    FM_TRY(fm__want_rank(s, 0, 2));
    if (s->in[0]->dims[1] != 1 || s->in[1]->rank != 1) {
        FM_TRY(fm__want_rank(s, 1, 2));
        FM_TRY(fm__want_dim(s, 1, 1, s->in[0]->dims[1]));
    }
    for (int i = 0; i < s->n_in; i++) {
        if (!s->in[i]) continue;
        FM_TRY(fm__want_dtype(s, i, FM_F32));
        FM_TRY(fm__want_dim(s, i, 0, s->in[0]->dims[0]));
        if (i > 1) FM_TRY(fm__want_rank(s, i, 1));
    }
    return FM_OK;
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__row_loss_inputs(s));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 1;
    s->out[0].dims[0] = s->in[0]->dims[0];
    return FM_OK;
}

struct softmax {
    float top;
    double sum; // of exp((x - top) / T)
};

static struct softmax softmax_of(const float *x, int64_t n, float inverse)
{
    struct softmax s = {.top = x[0]};
    double lanes[16] = {0};
    for (int64_t i = 1; i < n; i++) s.top = x[i] > s.top ? x[i] : s.top;
    for (int64_t i = 0; i < n; i++) lanes[i % 16] += fm__fn_exp((x[i] - s.top) * inverse);
    s.sum = fm__fn_sum16(lanes);
    return s;
}

static double probability(const struct softmax *s, float x, float inverse)
{
    return fm__fn_exp((x - s->top) * inverse) / s->sum;
}

// T^2 sum q (log q - log p) = T^2 (sum q (y - x) / T + log sum exp(x / T) - log sum exp(y / T))
static double kl(const struct fm__attr_loss *a, const float *x, const float *y, int64_t n)
{
    const float inverse = 1.0f / a->temperature;
    const struct softmax p = softmax_of(x, n, inverse), q = softmax_of(y, n, inverse);
    double lanes[16] = {0};
    for (int64_t i = 0; i < n; i++)
        lanes[i % 16] += probability(&q, y[i], inverse) * (((double)y[i] - q.top) - ((double)x[i] - p.top));
    const double divergence = fm__fn_sum16(lanes) * inverse + log(p.sum) - log(q.sum);
    return (double)a->temperature * a->temperature * divergence;
}

double fm__row_loss(const struct fm__attr_loss *a, const float *x, const float *y, int64_t n)
{
    double lanes[16] = {0};
    if (a->kind == FM__LOSS_KL) return kl(a, x, y, n);
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)x[i] - y[i], positive = x[i] > 0 ? x[i] : 0;
        lanes[i % 16] +=
            a->kind == FM__LOSS_MSE ? d * d : positive - (double)x[i] * y[i] + log1p((double)fm__fn_exp(-fabsf(x[i])));
    }
    return fm__fn_sum16(lanes) / (double)n;
}

void fm__row_loss_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const float *weights = c->n_in > 2 ? c->in[2].data : NULL;
    const int64_t X = c->in[0].dims[1];
    for (int64_t n = begin; n < end; n++) {
        const float *x = (const float *)c->in[0].data + n * X, *y = (const float *)c->in[1].data + n * X;
        ((float *)c->out[0].data)[n] = (float)(fm__row_loss(&c->attrs->loss, x, y, X) * (weights ? weights[n] : 1.0f));
    }
}

static void reference(const struct fm__call *c)
{
    fm__row_loss_rows(c, 0, c->in[0].dims[0]);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    static const char *const names[] = {"mse", "bce", "kl"};
    fprintf(to, " kind=%s", names[attrs->loss.kind]);
    if (attrs->loss.kind == FM__LOSS_KL) fprintf(to, " temperature=%g", (double)attrs->loss.temperature);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val weights = node->n_in > 2 ? node->in[2] : FM__NONE;
    const fm__val in[] = {node->in[0], node->in[1], d_out[0], weights};
    if (fm__grad_needs(grad, node->in[1]) || fm__grad_needs(grad, weights)) {
        struct fm_error err;
        fm__fail(&err, FM_E_UNSUPPORTED, "row_loss: gradient of targets or weights");
        return fm__graph_fail(grad->g, &err);
    }
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_ROW_LOSS_GRAD, 4, in, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_row_loss = {
    .name = "row_loss",
    .doc = "loss = weight mse, bce or kl of x and y",
    .min_in = 2,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = print,
};

void fm__row_loss_grad(const struct fm__attr_loss *a, const float *x, const float *y, int64_t n, float scale, float *dx)
{
    if (a->kind == FM__LOSS_KL) { // T (p - q)
        const float inverse = 1.0f / a->temperature;
        const struct softmax p = softmax_of(x, n, inverse), q = softmax_of(y, n, inverse);
        for (int64_t i = 0; i < n; i++)
            dx[i] = (float)(scale * a->temperature * (probability(&p, x[i], inverse) - probability(&q, y[i], inverse)));
        return;
    }
    const double factor = (a->kind == FM__LOSS_MSE ? 2.0 : 1.0) * scale / (double)n;
    for (int64_t i = 0; i < n; i++)
        dx[i] = (float)(factor * ((a->kind == FM__LOSS_MSE ? (double)x[i] : fm__fn_sigmoid(x[i])) - y[i]));
}

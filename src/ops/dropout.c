// SPDX-License-Identifier: MIT
// dropout: y = x / (1 - p) where the element is kept, 0 where it is dropped, with probability p.
//   x f32 [N, X], key i32 [4] = {seed low, seed high, step, row offset} -> f32 [N, X].
// The mask is a function of (seed, step, attribute stream, row offset + n, column) alone (dropout.h): the same whatever
// the number of threads, after a resume, and when a recomputation forms it again. dx is the same op applied to dy.
// JMLR 15 (2014) 1929, in the form that leaves inference alone.
#include "ops/dropout.h"

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const float p = s->attrs->dropout.p;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_rank(s, 1, 1));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    FM_TRY(fm__want_dim(s, 1, 0, FM__KEY_FIELDS));
    if (!(p >= 0 && p < 1)) return fm__fail(s->err, FM_E_ARG, "dropout: p is %g, want 0 <= p < 1", (double)p);
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_dropout *a = &c->attrs->dropout;
    const uint32_t *key = c->in[1].data, threshold = fm__dropout_threshold(a);
    const int64_t X = c->in[0].dims[1];
    const float scale = fm__dropout_scale(a);
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * X;
        float *y = (float *)c->out[0].data + n * X;
        for (int64_t i = 0; i < X; i++) {
            const uint32_t counter[4] = {fm__dropout_counter(i), key[FM__KEY_ROW] + (uint32_t)n, key[FM__KEY_STEP],
                                         (uint32_t)a->stream};
            uint32_t words[4];
            fm__philox4x32(counter, key, words);
            y[i] = words[fm__dropout_word(i)] >= threshold ? x[i] * scale : 0.0f;
        }
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fprintf(to, " p=%g stream=%d", (double)attrs->dropout.p, attrs->dropout.stream);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {d_out[0], node->in[1]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_DROPOUT, 2, in, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_dropout = {
    .name = "dropout",
    .doc = "y = x / (1 - p) where kept, else 0",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .in_place = {1},
    .reference = reference,
    .print = print,
};

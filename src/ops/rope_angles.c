// SPDX-License-Identifier: MIT
// rope_angles: cosines and sines of every row's position, once a step for all heads and layers (arXiv 2104.09864).
//   rows i32 [N, 4], factors f32 [n_rot/2] (optional) -> f32 [N, n_rot]: n_rot/2 cosines, then n_rot/2 sines.
// graph/passes.h puts it where rope would compute them again and again. Of the attributes head_dim, neox and backward
// are 0.
#include "base/error.h"
#include "ops/op.h"
#include "ops/rope.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_rope *a = &s->attrs->rope;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_I32));
    FM_TRY(fm__want_dim(s, 0, 1, FM__ROW_FIELDS));
    if (a->n_rot < 2 || a->n_rot % 2)
        return fm__fail(s->err, FM_E_SHAPE, "rope_angles: %d elements turning, want an even count", a->n_rot);
    if (s->n_in > 1 && s->in[1]) {
        FM_TRY(fm__want_dtype(s, 1, FM_F32));
        FM_TRY(fm__want_dim(s, 1, 0, a->n_rot / 2));
    }
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 2;
    s->out[0].dims[0] = s->in[0]->dims[0];
    s->out[0].dims[1] = a->n_rot;
    return FM_OK;
}

static size_t workspace(const struct fm__call *c)
{
    return (size_t)c->attrs->rope.n_rot / 2 * sizeof(double);
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_rope *a = &c->attrs->rope;
    const float *factors = c->n_in > 1 ? c->in[1].data : NULL;
    double *frequencies = c->workspace;
    for (int i = 0; i < a->n_rot / 2; i++) frequencies[i] = fm__rope_frequency(a, i, factors);
    for (int64_t n = 0; n < c->out[0].dims[0]; n++)
        fm__rope_turn(a, frequencies, ((const int32_t *)c->in[0].data)[n * FM__ROW_FIELDS + FM__ROW_POS],
                      (float *)c->out[0].data + n * a->n_rot);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_rope *a = &attrs->rope;
    fprintf(to, " n_rot=%d base=%g", a->n_rot, (double)a->base);
    if (a->scaling)
        fprintf(to, " scaling=%s factor=%g", a->scaling == FM__ROPE_YARN ? "yarn" : "linear", (double)a->factor);
}

const struct fm__op fm__op_rope_angles = {
    .name = "rope_angles",
    .doc = "cos and sin of position * base^(-2i/n_rot)",
    .min_in = 1,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .workspace = workspace,
    .print = print,
};

// SPDX-License-Identifier: MIT
// rope: turns pairs of each head by position-dependent angles (arXiv 2104.09864).
//   x f32 [N, H*E], rows i32 [N, 4], factors f32 [n_rot/2] (optional), angles f32 [N, n_rot] (optional: what
//   rope_angles made of the same rows, factors and attributes; then those are not looked at) -> f32 [N, H*E].
// Scaling: linear (positions / factor), YaRN (arXiv 2309.00071: high frequencies extrapolate, low ones interpolate,
// a ramp between; logits are scaled through cos and sin). NTK scaling changes only `base`, in the model.
#include "ops/rope.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

// Index of the pair that turns `turns` times over the original context (YaRN, section 3.2).
static double yarn_pair(const struct fm__attr_rope *a, double turns)
{
    const double pi = 3.14159265358979323846;
    return a->n_rot * log(a->n_ctx_orig / (turns * 2 * pi)) / (2 * log((double)a->base));
}

double fm__rope_frequency(const struct fm__attr_rope *a, int i, const float *factors)
{
    double factor = a->factor > 0 ? a->factor : 1, extrapolated = pow(a->base, -2.0 * i / a->n_rot);
    if (factors) extrapolated /= factors[i];
    double interpolated = extrapolated / factor;
    if (a->scaling != FM__ROPE_YARN || a->ext_factor == 0) return interpolated;
    double low = fmax(0, floor(yarn_pair(a, a->beta_fast)));
    double high = fmin(a->n_rot - 1, ceil(yarn_pair(a, a->beta_slow)));
    double ramp = (i - low) / fmax(0.001, high - low);
    double keep = (1 - fmin(1, fmax(0, ramp))) * a->ext_factor;
    return interpolated * (1 - keep) + extrapolated * keep;
}

void fm__rope_turn(const struct fm__attr_rope *a, const double *frequencies, int64_t position, float *angles)
{
    double gain = a->attn_factor > 0 ? a->attn_factor : 1;
    if (a->scaling == FM__ROPE_YARN && a->ext_factor != 0)
        gain *= 1 + 0.1 * log(a->factor > 0 ? (double)a->factor : 1.0);
    for (int i = 0; i < a->n_rot / 2; i++) {
        double theta = (double)position * frequencies[i];
        angles[i] = (float)(cos(theta) * gain);
        angles[a->n_rot / 2 + i] = (float)(sin(theta) * gain);
    }
}

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_rope *a = &s->attrs->rope;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dtype(s, 1, FM_I32));
    FM_TRY(fm__want_rank(s, 1, 2));
    FM_TRY(fm__want_dim(s, 1, 1, FM__ROW_FIELDS));
    if (a->head_dim < 1 || s->in[0]->dims[1] % a->head_dim || a->n_rot < 2 || a->n_rot % 2 || a->n_rot > a->head_dim)
        return fm__fail(s->err, FM_E_SHAPE,
                        "rope: rows of %lld, heads of %d, %d turning: want heads that divide rows and"
                        " an even count that fits",
                        (long long)s->in[0]->dims[1], a->head_dim, a->n_rot);
    if (s->n_in > 2 && s->in[2]) {
        FM_TRY(fm__want_dtype(s, 2, FM_F32));
        FM_TRY(fm__want_dim(s, 2, 0, a->n_rot / 2));
    }
    if (s->n_in > 3 && s->in[3]) {
        FM_TRY(fm__want_dtype(s, 3, FM_F32));
        FM_TRY(fm__want_rank(s, 3, 2));
        FM_TRY(fm__want_dim(s, 3, 0, s->in[0]->dims[0]));
        FM_TRY(fm__want_dim(s, 3, 1, a->n_rot));
    }
    fm__shape_like(s, 0, 0);
    return FM_OK;
}

// Workspace: the frequencies, then the angles of a row.
static size_t workspace(const struct fm__call *c)
{
    size_t n_rot = (size_t)c->attrs->rope.n_rot;
    return n_rot / 2 * sizeof(double) + n_rot * sizeof(float);
}

static void reference(const struct fm__call *c)
{
    const struct fm__attr_rope *a = &c->attrs->rope;
    const float *factors = c->n_in > 2 ? c->in[2].data : NULL, *given = c->n_in > 3 ? c->in[3].data : NULL;
    int64_t x_len = c->in[0].dims[1];
    int half = a->n_rot / 2, step = a->neox ? 1 : 2, mate = a->neox ? half : 1;
    double *frequencies = c->workspace;
    float *own = (float *)(frequencies + half), sign = a->backward ? -1.0f : 1.0f;
    for (int i = 0; !given && i < half; i++) frequencies[i] = fm__rope_frequency(a, i, factors);
    for (int64_t n = 0; n < c->in[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * x_len, *angles = given ? given + n * a->n_rot : own;
        float *y = (float *)c->out[0].data + n * x_len;
        if (!given)
            fm__rope_turn(a, frequencies, ((const int32_t *)c->in[1].data)[n * FM__ROW_FIELDS + FM__ROW_POS], own);
        for (int64_t h = 0; h < x_len; h += a->head_dim) {
            for (int i = 0; i < half; i++) {
                float x0 = x[h + i * step], x1 = x[h + i * step + mate], c0 = angles[i], s0 = angles[half + i] * sign;
                y[h + i * step] = x0 * c0 - x1 * s0;
                y[h + i * step + mate] = x0 * s0 + x1 * c0;
            }
            memcpy(y + h + a->n_rot, x + h + a->n_rot, (size_t)(a->head_dim - a->n_rot) * sizeof *y);
        }
    }
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_rope *a = &attrs->rope;
    fprintf(to, " head_dim=%d n_rot=%d base=%g%s", a->head_dim, a->n_rot, (double)a->base, a->neox ? " neox" : "");
    if (a->scaling)
        fprintf(to, " scaling=%s factor=%g", a->scaling == FM__ROPE_YARN ? "yarn" : "linear", (double)a->factor);
    if (a->backward) fputs(" backward", to);
}

// Turning by theta is orthogonal (up to the attention factor, which stays): its transpose turns by -theta.
static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    union fm__attrs attrs = node->attrs;
    fm__val in[4];
    for (int i = 0; i < 4; i++) in[i] = i == 0 ? d_out[0] : node->in[i];
    attrs.rope.backward = !attrs.rope.backward;
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_ROPE, node->n_in, in, &attrs));
    return FM_OK;
}

const struct fm__op fm__op_rope = {
    .name = "rope",
    .doc = "pairs of each head turned by position * base^(-2i/n_rot)",
    .min_in = 2,
    .max_in = 4,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .workspace = workspace,
    .print = print,
};

// SPDX-License-Identifier: MIT
// conv2d_dx: dx[n][pixel] = sum over the taps that met it of sum over o of w[o][tap] dy[n][o][place].
//   w f32 [O, C * kh * kw], dy f32 [N, O * OH * OW] -> f32 [N, C * H * W]; attributes of conv2d.
// The inner sum is one chain over ascending o from 0; the outer adds taps in ascending order to 0.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/conv.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__conv_check(s, 1));
    const struct fm__conv g = fm__conv_of(&s->attrs->conv);
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dim(s, 0, 1, g.taps));
    FM_TRY(fm__want_dim(s, 1, 1, s->in[0]->dims[0] * g.places));
    fm__shape_like(s, 0, 1);
    s->out[0].dims[1] = g.channels * g.pixels;
    return FM_OK;
}

// Tap (c, ky, kx) of all places of an image.
static void one_tap(const struct fm__call *c, const struct fm__conv *g, int64_t tap, const float *dy, float *dx)
{
    const float *w = c->in[0].data;
    const int64_t kx = tap % g->kernel_w, ky = tap / g->kernel_w % g->kernel_h,
                  channel = tap / g->kernel_w / g->kernel_h;
    for (int64_t place = 0; place < g->places; place++) {
        const int64_t at = fm__conv_pixel(g, place / g->out_w, place % g->out_w, ky, kx);
        float sum = 0;
        for (int64_t o = 0; o < c->in[0].dims[0]; o++) sum = fmaf(w[o * g->taps + tap], dy[o * g->places + place], sum);
        if (at >= 0) dx[channel * g->pixels + at] += sum;
    }
}

static void reference(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t O = c->in[0].dims[0], X = g.channels * g.pixels;
    for (int64_t n = 0; n < c->in[1].dims[0]; n++) {
        float *dx = (float *)c->out[0].data + n * X;
        memset(dx, 0, (size_t)X * sizeof *dx);
        for (int64_t tap = 0; tap < g.taps; tap++)
            one_tap(c, &g, tap, (const float *)c->in[1].data + n * O * g.places, dx);
    }
}

static double flops(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    return 2.0 * (double)c->in[1].dims[0] * (double)c->in[0].dims[0] * (double)g.places * (double)g.taps;
}

const struct fm__op fm__op_conv2d_dx = {
    .name = "conv2d_dx",
    .doc = "dx of conv2d",
    .min_in = 2,
    .max_in = 2,
    .n_out = 1,
    .shape = shape,
    .reference = reference,
    .flops = flops,
    .print = fm__conv_print,
};

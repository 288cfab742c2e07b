// SPDX-License-Identifier: MIT
// conv2d_dw: dw[o][tap] = sum over n and places of dy[n][o][place] x[n][under the tap],  dbias[o] = sum of dy[n][o].
//   x f32 [N, C * H * W], dy f32 [N, O * OH * OW] -> dw f32 [O, C * kh * kw], dbias f32 [O]; attributes of conv2d.
// An image gives one chain over ascending places from 0 (dbias: 16 lanes in double); images are added in slabs
// (conv.h).
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/conv.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__conv_check(s, 0));
    const struct fm__conv g = fm__conv_of(&s->attrs->conv);
    FM_TRY(fm__want_dim(s, 0, 1, g.channels * g.pixels));
    FM_TRY(fm__want_rank(s, 1, 2));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    FM_TRY(fm__want_dim(s, 1, 0, s->in[0]->dims[0]));
    const int64_t O = s->in[1]->dims[1] / g.places;
    FM_TRY(fm__want_dim(s, 1, 1, O * g.places));
    fm__shape_like(s, 0, 0);
    s->out[0].dims[0] = O;
    s->out[0].dims[1] = g.taps;
    s->out[1].dtype = FM_F32;
    s->out[1].rank = 1;
    s->out[1].dims[0] = O;
    return FM_OK;
}

static float tap_sum(const struct fm__conv *g, const float *image, const float *dy, int64_t tap)
{
    const int64_t kx = tap % g->kernel_w, ky = tap / g->kernel_w % g->kernel_h,
                  channel = tap / g->kernel_w / g->kernel_h;
    float sum = 0;
    for (int64_t place = 0; place < g->places; place++) {
        const int64_t at = fm__conv_pixel(g, place / g->out_w, place % g->out_w, ky, kx);
        sum = fmaf(dy[place], at < 0 ? 0.0f : image[channel * g->pixels + at], sum);
    }
    return sum;
}

float fm__conv_place_sum(const float *dy, int64_t n)
{
    double lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % 16] += dy[i];
    return (float)fm__fn_sum16(lanes);
}

static void reference(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const int64_t N = c->in[0].dims[0], O = c->out[0].dims[0], X = g.channels * g.pixels;
    float *dw = c->out[0].data, *db = c->out[1].data;
    for (int64_t o = 0; o < O; o++)
        for (int64_t tap = 0; tap <= g.taps; tap++) { // the last one is the bias
            float total = 0, slab = 0;
            for (int64_t n = 0; n < N; n++) {
                const float *dy = (const float *)c->in[1].data + (n * O + o) * g.places;
                slab += tap < g.taps ? tap_sum(&g, (const float *)c->in[0].data + n * X, dy, tap)
                                     : fm__conv_place_sum(dy, g.places);
                if (n % FM__CONV_SLAB < FM__CONV_SLAB - 1 && n < N - 1) continue;
                total += slab;
                slab = 0;
            }
            *(tap < g.taps ? dw + o * g.taps + tap : db + o) = total;
        }
}

static double flops(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    return 2.0 * (double)c->in[0].dims[0] * (double)c->out[0].dims[0] * (double)g.places * (double)g.taps;
}

const struct fm__op fm__op_conv2d_dw = {
    .name = "conv2d_dw",
    .doc = "dw, dbias of conv2d",
    .min_in = 2,
    .max_in = 2,
    .n_out = 2,
    .shape = shape,
    .reference = reference,
    .flops = flops,
    .print = fm__conv_print,
};

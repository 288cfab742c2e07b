// SPDX-License-Identifier: MIT
// conv2d: y[n][o][place] = bias[o] + sum over taps of w[o][tap] x[n][under the tap].
//   x f32 [N, C * H * W], w f32 [O, C * kh * kw], bias f32 [O] (optional) -> f32 [N, O * OH * OW].
//   Attributes conv: channels, height, width, kernel_h, kernel_w, stride, padding; OH = (H + 2 padding - kh) / stride +
//   1.
// One fused multiply-add chain over ascending taps from 0, zeros beyond the border included; then the bias.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/conv.h"
#include "ops/op.h"

enum { MAX_SIDE = 1 << 15, MAX_CHANNELS = 1 << 16 }; // products stay far from overflow

fm_status fm__conv_check(const struct fm__shape *s, int input)
{
    const struct fm__attr_conv *a = &s->attrs->conv;
    const bool sides = a->height > 0 && a->width > 0 && a->height <= MAX_SIDE && a->width <= MAX_SIDE;
    const bool kernel = a->kernel_h > 0 && a->kernel_w > 0 && a->stride > 0 && a->stride <= MAX_SIDE;
    if (!sides || !kernel || a->channels < 1 || a->channels > MAX_CHANNELS)
        return fm__fail(s->err, FM_E_ARG, "%s: %d channels of %d x %d, kernel %d x %d, stride %d: want all above 0",
                        s->op, a->channels, a->height, a->width, a->kernel_h, a->kernel_w, a->stride);
    if (a->padding < 0 || a->padding >= a->kernel_h || a->padding >= a->kernel_w)
        return fm__fail(s->err, FM_E_ARG, "%s: padding %d, want 0 or more and less than the kernel's %d x %d", s->op,
                        a->padding, a->kernel_h, a->kernel_w);
    if (a->kernel_h > a->height + 2 * a->padding || a->kernel_w > a->width + 2 * a->padding)
        return fm__fail(s->err, FM_E_ARG, "%s: kernel %d x %d, want at most the padded image's %d x %d", s->op,
                        a->kernel_h, a->kernel_w, a->height + 2 * a->padding, a->width + 2 * a->padding);
    FM_TRY(fm__want_rank(s, input, 2));
    FM_TRY(fm__want_dtype(s, input, FM_F32));
    return FM_OK;
}

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__conv_check(s, 0));
    const struct fm__conv g = fm__conv_of(&s->attrs->conv);
    FM_TRY(fm__want_dim(s, 0, 1, g.channels * g.pixels));
    FM_TRY(fm__want_rank(s, 1, 2));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    FM_TRY(fm__want_dim(s, 1, 1, g.taps));
    if (s->n_in > 2 && s->in[2]) {
        FM_TRY(fm__want_rank(s, 2, 1));
        FM_TRY(fm__want_dtype(s, 2, FM_F32));
        FM_TRY(fm__want_dim(s, 2, 0, s->in[1]->dims[0]));
    }
    fm__shape_like(s, 0, 0);
    s->out[0].dims[1] = s->in[1]->dims[0] * g.places;
    return FM_OK;
}

static float one_place(const struct fm__conv *g, const float *image, const float *w, int64_t oy, int64_t ox)
{
    float sum = 0;
    for (int64_t c = 0; c < g->channels; c++)
        for (int64_t ky = 0; ky < g->kernel_h; ky++)
            for (int64_t kx = 0; kx < g->kernel_w; kx++, w++) {
                const int64_t at = fm__conv_pixel(g, oy, ox, ky, kx);
                sum = fmaf(*w, at < 0 ? 0.0f : image[c * g->pixels + at], sum);
            }
    return sum;
}

static void reference(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const float *w = c->in[1].data, *bias = c->n_in > 2 ? c->in[2].data : NULL;
    const int64_t O = c->in[1].dims[0];
    float *y = c->out[0].data;
    for (int64_t n = 0; n < c->in[0].dims[0]; n++)
        for (int64_t o = 0; o < O; o++)
            for (int64_t oy = 0; oy < g.out_h; oy++)
                for (int64_t ox = 0; ox < g.out_w; ox++) {
                    const float *image = (const float *)c->in[0].data + n * g.channels * g.pixels;
                    const float sum = one_place(&g, image, w + o * g.taps, oy, ox);
                    *y++ = bias ? sum + bias[o] : sum;
                }
}

// Columns [*begin, *end) of an output row whose input is inside the image, for tap column kx.
static void inside(const struct fm__conv *g, int64_t kx, int64_t *begin, int64_t *end)
{
    const int64_t first = g->padding - kx, last = g->width - 1 + g->padding - kx; // of ox * stride
    *begin = first > 0 ? (first + g->stride - 1) / g->stride : 0;
    *end = last < 0 ? 0 : last / g->stride + 1;
    if (*end > g->out_w) *end = g->out_w;
    if (*begin > *end) *begin = *end;
}

void fm__conv_tap_row(const struct fm__conv *g, const float *image, int64_t tap, float *row)
{
    const int64_t kx = tap % g->kernel_w, ky = tap / g->kernel_w % g->kernel_h, c = tap / (g->kernel_w * g->kernel_h);
    int64_t begin, end;
    inside(g, kx, &begin, &end);
    for (int64_t oy = 0; oy < g->out_h; oy++, row += g->out_w) {
        const int64_t y = oy * g->stride - g->padding + ky;
        memset(row, 0, (size_t)g->out_w * sizeof *row);
        if (y < 0 || y >= g->height) continue;
        const float *from = image + c * g->pixels + y * g->width - g->padding + kx;
        if (g->stride == 1)
            memcpy(row + begin, from + begin, (size_t)(end - begin) * sizeof *row);
        else
            for (int64_t ox = begin; ox < end; ox++) row[ox] = from[ox * g->stride];
    }
}

void fm__conv_tap_add(const struct fm__conv *g, const float *row, int64_t tap, float *image)
{
    const int64_t kx = tap % g->kernel_w, ky = tap / g->kernel_w % g->kernel_h, c = tap / (g->kernel_w * g->kernel_h);
    int64_t begin, end;
    inside(g, kx, &begin, &end);
    for (int64_t oy = 0; oy < g->out_h; oy++, row += g->out_w) {
        const int64_t y = oy * g->stride - g->padding + ky;
        if (y < 0 || y >= g->height) continue;
        float *to = image + c * g->pixels + y * g->width - g->padding + kx;
        if (g->stride == 1)
            for (int64_t ox = begin; ox < end; ox++) to[ox] += row[ox];
        else
            for (int64_t ox = begin; ox < end; ox++) to[ox * g->stride] += row[ox];
    }
}

static double flops(const struct fm__call *c)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    return 2.0 * (double)c->in[0].dims[0] * (double)c->in[1].dims[0] * (double)g.places * (double)g.taps;
}

void fm__conv_print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_conv *a = &attrs->conv;
    fprintf(to, " image=%dx%dx%d kernel=%dx%d stride=%d padding=%d", a->channels, a->height, a->width, a->kernel_h,
            a->kernel_w, a->stride, a->padding);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    struct fm__graph *g = grad->g;
    const fm__val x = node->in[0], w = node->in[1], bias = node->n_in > 2 ? node->in[2] : FM__NONE;
    if (fm__grad_needs(grad, x))
        fm__grad_add(grad, x, fm__graph_add(g, FM__OP_CONV2D_DX, 2, (fm__val[]){w, d_out[0]}, &node->attrs));
    if (!fm__grad_needs(grad, w) && !fm__grad_needs(grad, bias)) return FM_OK;
    const fm__val dw = fm__graph_add(g, FM__OP_CONV2D_DW, 2, (fm__val[]){x, d_out[0]}, &node->attrs);
    fm__grad_add(grad, w, dw);
    if (bias != FM__NONE) fm__grad_add(grad, bias, fm__graph_out(g, dw, 1));
    return FM_OK;
}

const struct fm__op fm__op_conv2d = {
    .name = "conv2d",
    .doc = "y[o] = bias[o] + sum over taps of w[o][tap] x[tap]",
    .min_in = 2,
    .max_in = 3,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .flops = flops,
    .print = fm__conv_print,
};

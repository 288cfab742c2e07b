// SPDX-License-Identifier: MIT
// pool2d: the largest of the pixels under the kernel, or their mean (zeros beyond the border count).
//   x f32 [N, C * H * W] -> f32 [N, C * OH * OW]; attributes conv, kind FM__POOL_MAX or FM__POOL_MEAN.
// Pixels in ascending order; of equal ones the first is the largest, and a NaN before all. The mean is a chain of sums
// divided by the kernel's size.
#include "ops/pool2d.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/gradient.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__conv_check(s, 0));
    const struct fm__conv g = fm__conv_of(&s->attrs->conv);
    FM_TRY(fm__want_dim(s, 0, 1, g.channels * g.pixels));
    fm__shape_like(s, 0, 0);
    s->out[0].dims[1] = g.channels * g.places;
    return FM_OK;
}

// The pixels under the kernel at a place, without those beyond the border. The kernel is larger than the padding, so
// there are some.
struct window {
    int64_t top, bottom, left, right; // bottom and right: the first beyond
};

static struct window window_of(const struct fm__conv *g, int64_t oy, int64_t ox)
{
    const int64_t y = oy * g->stride - g->padding, x = ox * g->stride - g->padding;
    return (struct window){.top = y < 0 ? 0 : y,
                           .bottom = y + g->kernel_h < g->height ? y + g->kernel_h : g->height,
                           .left = x < 0 ? 0 : x,
                           .right = x + g->kernel_w < g->width ? x + g->kernel_w : g->width};
}

// By selection, not by jumps: which pixel is the largest cannot be foretold.
static inline int64_t largest_of(const float *x, int64_t first, int64_t width, int64_t rows, int64_t columns)
{
    int64_t top = first;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t at = first + y * width; at < first + y * width + columns; at++) {
            const bool better = (x[at] > x[top]) | (isnan(x[at]) & !isnan(x[top]));
            top = better ? at : top;
        }
    return top;
}

static int64_t largest(const struct fm__conv *g, const float *x, const struct window *w)
{
    const int64_t first = w->top * g->width + w->left, rows = w->bottom - w->top, columns = w->right - w->left;
    if (rows == 2 && columns == 2) return largest_of(x, first, g->width, 2, 2); // the usual one, unrolled
    return largest_of(x, first, g->width, rows, columns);
}

static float mean(const struct fm__conv *g, const float *x, const struct window *w)
{
    float sum = 0;
    for (int64_t y = w->top; y < w->bottom; y++)
        for (int64_t at = y * g->width + w->left; at < y * g->width + w->right; at++) sum += x[at];
    return sum / (float)(g->kernel_h * g->kernel_w);
}

void fm__pool2d_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    for (int64_t image = begin * g.channels; image < end * g.channels; image++) {
        const float *x = (const float *)c->in[0].data + image * g.pixels;
        float *y = (float *)c->out[0].data + image * g.places;
        for (int64_t oy = 0; oy < g.out_h; oy++)
            for (int64_t ox = 0; ox < g.out_w; ox++) {
                const struct window w = window_of(&g, oy, ox);
                *y++ = c->attrs->conv.kind == FM__POOL_MAX ? x[largest(&g, x, &w)] : mean(&g, x, &w);
            }
    }
}

static void reference(const struct fm__call *c)
{
    fm__pool2d_rows(c, 0, c->in[0].dims[0]);
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    fputs(attrs->conv.kind == FM__POOL_MAX ? " kind=max" : " kind=mean", to);
    fm__conv_print(attrs, to);
}

static fm_status gradient(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out)
{
    const fm__val in[] = {node->in[0], d_out[0]};
    fm__grad_add(grad, node->in[0], fm__graph_add(grad->g, FM__OP_POOL2D_GRAD, 2, in, &node->attrs));
    return FM_OK;
}

const struct fm__op fm__op_pool2d = {
    .name = "pool2d",
    .doc = "y = max or mean of the pixels under the kernel",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .gradient = gradient,
    .reference = reference,
    .print = print,
};

static void spread_mean(const struct fm__conv *g, float d, const struct window *w, float *dx)
{
    for (int64_t y = w->top; y < w->bottom; y++)
        for (int64_t at = y * g->width + w->left; at < y * g->width + w->right; at++) dx[at] += d;
}

void fm__pool2d_grad_rows(const struct fm__call *c, int64_t begin, int64_t end)
{
    const struct fm__conv g = fm__conv_of(&c->attrs->conv);
    const float size = (float)(g.kernel_h * g.kernel_w);
    for (int64_t image = begin * g.channels; image < end * g.channels; image++) {
        const float *x = (const float *)c->in[0].data + image * g.pixels;
        const float *dy = (const float *)c->in[1].data + image * g.places;
        float *dx = (float *)c->out[0].data + image * g.pixels;
        memset(dx, 0, (size_t)g.pixels * sizeof *dx);
        for (int64_t oy = 0; oy < g.out_h; oy++)
            for (int64_t ox = 0; ox < g.out_w; ox++, dy++) {
                const struct window w = window_of(&g, oy, ox);
                if (c->attrs->conv.kind == FM__POOL_MAX)
                    dx[largest(&g, x, &w)] += *dy;
                else
                    spread_mean(&g, *dy / size, &w, dx);
            }
    }
}

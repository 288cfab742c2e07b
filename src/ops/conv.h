// SPDX-License-Identifier: MIT
// Geometry of conv2d and pool2d: images are rows [C * H * W] of a batch, places are pixels of the output, taps are
// (channel, y, x) of the kernel. Beyond the border there are zeros (pool2d's maximum: nothing).
#ifndef FM_OPS_CONV_H
#define FM_OPS_CONV_H

#include <stdint.h>
#include <stdio.h>

#include "fathom/status.h"
#include "ops/attrs.h"

struct fm__conv {
    int64_t channels, height, width; // of the input
    int64_t kernel_h, kernel_w, stride, padding;
    int64_t out_h, out_w;
    int64_t pixels, places, taps; // H * W, out_h * out_w, C * kernel_h * kernel_w
};

static inline struct fm__conv fm__conv_of(const struct fm__attr_conv *a)
{
    struct fm__conv g = {.channels = a->channels, .height = a->height, .width = a->width};
    g.kernel_h = a->kernel_h, g.kernel_w = a->kernel_w, g.stride = a->stride, g.padding = a->padding;
    g.out_h = (g.height + 2 * g.padding - g.kernel_h) / g.stride + 1;
    g.out_w = (g.width + 2 * g.padding - g.kernel_w) / g.stride + 1;
    g.pixels = g.height * g.width;
    g.places = g.out_h * g.out_w;
    g.taps = g.channels * g.kernel_h * g.kernel_w;
    return g;
}

// The input's pixel under tap (ky, kx) of the place (oy, ox); -1: beyond the border.
static inline int64_t fm__conv_pixel(const struct fm__conv *g, int64_t oy, int64_t ox, int64_t ky, int64_t kx)
{
    const int64_t y = oy * g->stride - g->padding + ky, x = ox * g->stride - g->padding + kx;
    return y < 0 || y >= g->height || x < 0 || x >= g->width ? -1 : y * g->width + x;
}

// Weight gradients: images are summed in slabs of this many, each in order from 0, then the slabs in order. Small,
// because a batch of images has few slabs of 256 for workers to share.
enum { FM__CONV_SLAB = 8 };

struct fm__shape;
fm_status fm__conv_check(const struct fm__shape *s, int input); // attributes, and input [N, C * H * W] f32
void fm__conv_print(const union fm__attrs *attrs, FILE *to);

// What lies under one tap, place by place (zeros beyond the border), and the other way round: image += row.
void fm__conv_tap_row(const struct fm__conv *g, const float *image, int64_t tap, float *row);
void fm__conv_tap_add(const struct fm__conv *g, const float *row, int64_t tap, float *image);

// The sum of n values in double, element i in lane i mod 16.
float fm__conv_place_sum(const float *dy, int64_t n);

#endif

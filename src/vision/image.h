// SPDX-License-Identifier: MIT
// Pictures: decoding PNG and JPEG from memory, grey or colour, scaling. All arithmetic is in integers or double and has
// one order, so that the same bytes give the same pixels on every machine (up to the JPEG library's own transform).
#ifndef FM_VISION_IMAGE_H
#define FM_VISION_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

enum { FM__IMAGE_SIDE_MAX = 16384, FM__IMAGE_PIXELS_MAX = 1 << 27 };

struct fm__image {
    int width, height, channels; // 1: grey, 3: red, green, blue
    uint8_t *pixels;             // [height, width, channels]; fm__image_free
};

// Decodes what the first bytes say it is; transparency is laid over white. channels 0: as the file has it (a grey file
// 1, else 3). Errors: FM_E_FORMAT (damaged, ends early), FM_E_UNSUPPORTED (neither PNG nor JPEG, a CMYK JPEG),
// FM_E_LIMIT (more than FM__IMAGE_SIDE_MAX wide or high), FM_E_NOMEM.
fm_status fm__image_decode(const uint8_t *bytes, size_t n, int channels, struct fm__image *out, struct fm_error *err);
void fm__image_free(struct fm__image *image); // zeroed is fine, and what it becomes

// Colour to grey by ITU-R BT.601 luma (0.299, 0.587, 0.114, in 1/65536), grey to colour by repeating.
fm_status fm__image_set_channels(struct fm__image *image, int channels, struct fm_error *err);
// Scales with a triangle filter as wide as a new pixel (at least an old one): averages when it shrinks, linear when it
// grows.
fm_status fm__image_resize(struct fm__image *image, int width, int height, struct fm_error *err);

#endif

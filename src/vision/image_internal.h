// SPDX-License-Identifier: MIT
// Between decoding and the two formats.
#ifndef FM_VISION_IMAGE_INTERNAL_H
#define FM_VISION_IMAGE_INTERNAL_H

#include "vision/image.h"

// Sets width, height and channels within the bounds and allocates the pixels.
fm_status fm__image_alloc(struct fm__image *image, uint32_t width, uint32_t height, int channels, struct fm_error *err);
fm_status fm__png_decode(const uint8_t *bytes, size_t n, struct fm__image *out, struct fm_error *err);
fm_status fm__jpeg_decode(const uint8_t *bytes, size_t n, struct fm__image *out, struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
#include "vision/image.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "vision/image_internal.h"

fm_status fm__image_alloc(struct fm__image *image, uint32_t width, uint32_t height, int channels, struct fm_error *err)
{
    if (!width || !height || width > FM__IMAGE_SIDE_MAX || height > FM__IMAGE_SIDE_MAX ||
        (uint64_t)width * height > FM__IMAGE_PIXELS_MAX)
        return fm__fail(err, FM_E_LIMIT, "a picture of %u x %u, want 1 to %d a side and at most %d pixels", width,
                        height, FM__IMAGE_SIDE_MAX, FM__IMAGE_PIXELS_MAX);
    size_t bytes = (size_t)width * height * (size_t)channels;
    *image = (struct fm__image){(int)width, (int)height, channels, fm__malloc(bytes)};
    return image->pixels ? FM_OK : fm__fail_nomem(err, "picture", bytes);
}

void fm__image_free(struct fm__image *image)
{
    fm__free(image->pixels);
    *image = (struct fm__image){0};
}

fm_status fm__image_decode(const uint8_t *bytes, size_t n, int channels, struct fm__image *out, struct fm_error *err)
{
    *out = (struct fm__image){0};
    bool png = n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
    bool jpeg = n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
    if (!png && !jpeg) return fm__fail(err, FM_E_UNSUPPORTED, "neither PNG nor JPEG");
    fm_status status = png ? fm__png_decode(bytes, n, out, err) : fm__jpeg_decode(bytes, n, out, err);
    if (status == FM_OK && channels) status = fm__image_set_channels(out, channels, err);
    if (status != FM_OK) fm__image_free(out);
    return status;
}

fm_status fm__image_set_channels(struct fm__image *image, int channels, struct fm_error *err)
{
    if (channels == image->channels) return FM_OK;
    if (channels != 1 && channels != 3) return fm__fail(err, FM_E_ARG, "%d channels, want 1 or 3", channels);
    struct fm__image other = {0};
    FM_TRY(fm__image_alloc(&other, (uint32_t)image->width, (uint32_t)image->height, channels, err));
    size_t n = (size_t)image->width * (size_t)image->height;
    const uint8_t *from = image->pixels;
    for (size_t i = 0; i < n; i++) {
        if (channels == 3) {
            memset(other.pixels + 3 * i, from[i], 3);
        } else { // the weights make up 65536
            const uint8_t *p = from + 3 * i;
            other.pixels[i] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
        }
    }
    fm__image_free(image);
    *image = other;
    return FM_OK;
}

// --- scaling ---

// One line of `n` old pixels (`from`, `step` bytes apart) to `n_new` ones.
struct axis {
    int n, n_new;
    size_t from_step, to_step;
};

static void scale_line(const uint8_t *from, uint8_t *to, const struct axis *a)
{
    double scale = (double)a->n / a->n_new, reach = scale > 1 ? scale : 1;
    for (int i = 0; i < a->n_new; i++) {
        double centre = (i + 0.5) * scale, sum = 0, weights = 0;
        int first = (int)floor(centre - reach), last = (int)ceil(centre + reach);
        for (int k = first < 0 ? 0 : first; k <= last && k < a->n; k++) {
            double weight = 1 - fabs(k + 0.5 - centre) / reach;
            if (weight <= 0) continue;
            sum += weight * from[(size_t)k * a->from_step];
            weights += weight;
        }
        to[(size_t)i * a->to_step] = (uint8_t)(sum / weights + 0.5);
    }
}

// Scales one axis; the other keeps its size.
static fm_status scale_axis(struct fm__image *image, int width, int height, struct fm_error *err)
{
    struct fm__image other = {0};
    FM_TRY(fm__image_alloc(&other, (uint32_t)width, (uint32_t)height, image->channels, err));
    size_t c = (size_t)image->channels, old_row = c * (size_t)image->width, new_row = c * (size_t)width;
    bool across = width != image->width;
    struct axis axis =
        across ? (struct axis){image->width, width, c, c} : (struct axis){image->height, height, old_row, new_row};
    int lines = across ? height : width;
    for (int line = 0; line < lines; line++)
        for (size_t k = 0; k < c; k++) {
            size_t old_at = across ? (size_t)line * old_row : (size_t)line * c;
            size_t new_at = across ? (size_t)line * new_row : (size_t)line * c;
            scale_line(image->pixels + old_at + k, other.pixels + new_at + k, &axis);
        }
    fm__image_free(image);
    *image = other;
    return FM_OK;
}

fm_status fm__image_resize(struct fm__image *image, int width, int height, struct fm_error *err)
{
    if (width < 1 || height < 1) return fm__fail(err, FM_E_ARG, "a picture of %d x %d", width, height);
    if (width != image->width) FM_TRY(scale_axis(image, width, image->height, err));
    if (height != image->height) FM_TRY(scale_axis(image, width, height, err));
    return FM_OK;
}

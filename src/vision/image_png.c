// SPDX-License-Identifier: MIT
// PNG through libpng's simplified interface, which catches its own long jumps.
#include <png.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/quote.h"
#include "vision/image_internal.h"

static fm_status refuse(png_image *png, struct fm_error *err)
{
    bool nomem = strstr(png->message, "memory") != NULL;
    fm_status status =
        fm__fail(err, nomem ? FM_E_NOMEM : FM_E_FORMAT, "PNG: %s", fm__quote(png->message, strlen(png->message)).text);
    png_image_free(png);
    return status;
}

fm_status fm__png_decode(const uint8_t *bytes, size_t n, struct fm__image *out, struct fm_error *err)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&png, bytes, n)) return refuse(&png, err);
    bool colour = png.format & PNG_FORMAT_FLAG_COLOR;
    fm_status status = fm__image_alloc(out, png.width, png.height, colour ? 3 : 1, err);
    if (status != FM_OK) {
        png_image_free(&png);
        return status;
    }
    png.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    png_color white = {255, 255, 255};
    if (!png_image_finish_read(&png, &white, out->pixels, 0, NULL)) return refuse(&png, err);
    png_image_free(&png);
    return FM_OK;
}

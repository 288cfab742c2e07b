// SPDX-License-Identifier: MIT
// JPEG through libjpeg-turbo. Its errors are long jumps out of the library: all that is allocated before one lies in
// the caller's *out, or is the library's.
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "base/error.h"
#include "base/quote.h"
#include "vision/image_internal.h"

struct failure {
    struct jpeg_error_mgr manager; // first: the library hands out its address
    jmp_buf back;
};

static void jump(j_common_ptr jpeg)
{
    longjmp(((struct failure *)jpeg->err)->back, 1);
}

// A warning means damaged data, which the library would fill up with grey.
static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0) jump(jpeg);
}

static void read_lines(struct jpeg_decompress_struct *jpeg, struct fm__image *out)
{
    size_t row = (size_t)out->width * (size_t)out->channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW line = out->pixels + row * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &line, 1);
    }
}

static fm_status decode(struct jpeg_decompress_struct *jpeg, struct fm__image *out, struct fm_error *err)
{
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return fm__fail(err, FM_E_UNSUPPORTED, "JPEG: CMYK, want grey or colour");
    bool grey = jpeg->jpeg_color_space == JCS_GRAYSCALE;
    jpeg->out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW; // exact on every machine
    FM_TRY(fm__image_alloc(out, jpeg->image_width, jpeg->image_height, grey ? 1 : 3, err));
    jpeg_start_decompress(jpeg);
    read_lines(jpeg, out);
    jpeg_finish_decompress(jpeg);
    return FM_OK;
}

fm_status fm__jpeg_decode(const uint8_t *bytes, size_t n, struct fm__image *out, struct fm_error *err)
{
    struct jpeg_decompress_struct jpeg = {0}; // so that destroying is right whatever came first
    struct failure failure;
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = jump;
    failure.manager.emit_message = warn;
    fm_status status;
    if (setjmp(failure.back)) {
        char text[JMSG_LENGTH_MAX];
        failure.manager.format_message((j_common_ptr)&jpeg, text);
        bool nomem = failure.manager.msg_code == JERR_OUT_OF_MEMORY;
        status = fm__fail(err, nomem ? FM_E_NOMEM : FM_E_FORMAT, "JPEG: %s", fm__quote(text, strlen(text)).text);
    } else {
        jpeg_create_decompress(&jpeg);
        jpeg_mem_src(&jpeg, bytes, (unsigned long)n);
        status = decode(&jpeg, out, err);
    }
    jpeg_destroy_decompress(&jpeg);
    return status;
}

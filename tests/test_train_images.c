// SPDX-License-Identifier: MIT
// Images: PNG and JPEG decoded, damaged ones refused, scaling; IDX files plain and gzip, folders of classes, as samples
// of a loader.
#include "support/train_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

#include "base/alloc.h"
#include "train/data_idx.h"
#include "vision/image.h"

// --- encoded pictures ---

// A PNG of the given simplified-interface format. *n its length; the caller frees.
static uint8_t *png_of(const void *pixels, int width, int height, png_uint_32 format, size_t *n)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height, .format = format};
    png_alloc_size_t size = 0;
    assert_true(png_image_write_to_memory(&image, NULL, &size, 0, pixels, 0, NULL));
    uint8_t *out = malloc(size);
    assert_true(png_image_write_to_memory(&image, out, &size, 0, pixels, 0, NULL));
    *n = size;
    return out;
}

static uint8_t *jpeg_of(const uint8_t *pixels, int width, int height, int channels, size_t *n)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr manager;
    unsigned char *out = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&manager);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &out, &size);
    jpeg.image_width = (JDIMENSION)width, jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = channels;
    jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 95, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)pixels + (size_t)jpeg.next_scanline * (size_t)(width * channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    *n = size;
    return out;
}

static void png_pixels_come_back(void **state)
{
    (void)state;
    static const uint8_t grey[6] = {0, 50, 100, 150, 200, 255}, colour[6] = {255, 0, 0, 10, 20, 30};
    static const uint8_t clear[8] = {0, 0, 0, 0, 9, 8, 7, 255}; // transparent black, opaque
    struct fm__image image;
    struct fm_error err = {0};
    size_t n;
    uint8_t *bytes = png_of(grey, 3, 2, PNG_FORMAT_GRAY, &n);
    assert_ok(fm__image_decode(bytes, n, 0, &image, &err), err);
    assert_int_equal(image.width, 3), assert_int_equal(image.height, 2), assert_int_equal(image.channels, 1);
    assert_memory_equal(image.pixels, grey, 6);
    fm__image_free(&image);
    assert_ok(fm__image_decode(bytes, n, 3, &image, &err), err);
    assert_int_equal(image.channels, 3);
    assert_int_equal(image.pixels[3 * 5 + 1], 255), assert_int_equal(image.pixels[3], 50);
    fm__image_free(&image);
    for (size_t k = 0; k < n - 12; k++) // every length, but for the mark of the end
        assert_int_not_equal(fm__image_decode(bytes, k, 0, &image, &err), FM_OK);
    free(bytes);
    bytes = png_of(colour, 2, 1, PNG_FORMAT_RGB, &n);
    assert_ok(fm__image_decode(bytes, n, 0, &image, &err), err);
    assert_memory_equal(image.pixels, colour, 6);
    fm__image_free(&image);
    assert_ok(fm__image_decode(bytes, n, 1, &image, &err), err);
    assert_int_equal(image.pixels[0], 76), assert_int_equal(image.pixels[1], 18); // 0.299 · 255; 2.99 + 11.74 + 3.42
    fm__image_free(&image);
    uint8_t *packed = memmem(bytes, n, "IDAT", 4);
    assert_non_null(packed);
    packed[4 + 4] ^= 0x40;
    assert_int_equal(fm__image_decode(bytes, n, 0, &image, &err), FM_E_FORMAT);
    assert_null(image.pixels);
    free(bytes);
    bytes = png_of(clear, 2, 1, PNG_FORMAT_RGBA, &n);
    assert_ok(fm__image_decode(bytes, n, 0, &image, &err), err);
    static const uint8_t on_white[6] = {255, 255, 255, 9, 8, 7};
    assert_memory_equal(image.pixels, on_white, 6);
    fm__image_free(&image);
    free(bytes);
}

static void jpegs(void **state)
{
    (void)state;
    enum { SIDE = 24 };
    static uint8_t pixels[SIDE * SIDE * 4];
    for (int i = 0; i < SIDE * SIDE * 3; i++) pixels[i] = (uint8_t)(i / 3 % SIDE * 8 + i % 3 * 16);
    struct fm__image image;
    struct fm_error err = {0};
    size_t n;
    uint8_t *bytes = jpeg_of(pixels, SIDE, SIDE, 3, &n);
    assert_ok(fm__image_decode(bytes, n, 0, &image, &err), err);
    assert_int_equal(image.channels, 3), assert_int_equal(image.width, SIDE);
    double worst = 0;
    for (int i = 0; i < SIDE * SIDE * 3; i++) worst = fmax(worst, fabs((double)image.pixels[i] - pixels[i]));
    assert_true(worst <= 8); // a smooth ramp at quality 95: quantisation steps are at most 10
    fm__image_free(&image);
    assert_int_equal(fm__image_decode(bytes, n / 2, 0, &image, &err), FM_E_FORMAT); // half a picture is none
    assert_memory_equal(err.text, "JPEG: ", 6);
    for (size_t k = 0; k < n - 2; k++) assert_int_not_equal(fm__image_decode(bytes, k, 0, &image, &err), FM_OK);
    free(bytes);
    bytes = jpeg_of(pixels, SIDE, SIDE, 1, &n);
    assert_ok(fm__image_decode(bytes, n, 0, &image, &err), err);
    assert_int_equal(image.channels, 1);
    fm__image_free(&image);
    free(bytes);
    bytes = jpeg_of(pixels, SIDE, SIDE, 4, &n);
    assert_int_equal(fm__image_decode(bytes, n, 0, &image, &err), FM_E_UNSUPPORTED);
    free(bytes);
    assert_int_equal(fm__image_decode((const uint8_t *)"GIF89a", 6, 0, &image, &err), FM_E_UNSUPPORTED);
}

static void scaling(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm__image image = {4, 2, 1, fm__malloc(8)};
    memcpy(image.pixels, "\x00\x40\x80\xc0\x20\x60\xa0\xe0", 8);
    assert_ok(fm__image_resize(&image, 4, 2, &err), err); // nothing to do
    assert_int_equal(image.pixels[3], 0xc0);
    assert_ok(fm__image_resize(&image, 2, 1, &err), err);
    // triangle of reach 2 over 4: weights 3 3 1 (· 1/8, the fourth falls off the edge at 0), rows averaged
    double left = (3 * 0x10 + 3 * 0x50 + 0x90) / 7.0;
    assert_true(fabs(image.pixels[0] - left) <= 1);
    assert_int_equal(image.width, 2), assert_int_equal(image.height, 1);
    fm__image_free(&image);
    image = (struct fm__image){2, 1, 3, fm__malloc(6)};
    memcpy(image.pixels, "\x00\x10\x20\x80\x90\xa0", 6);
    assert_ok(fm__image_resize(&image, 4, 3, &err), err);
    static const uint8_t wanted[12] = {0, 16, 32, 32, 48, 64, 96, 112, 128, 128, 144, 160}; // a quarter of the way each
    for (int row = 0; row < 3; row++) assert_memory_equal(image.pixels + 12 * row, wanted, 12);
    assert_int_equal(fm__image_resize(&image, 0, 1, &err), FM_E_ARG);
    assert_int_equal(fm__image_resize(&image, 1 << 20, 1, &err), FM_E_LIMIT);
    fm__image_free(&image);
}

// --- IDX ---

enum { N_IMAGES = 7, WIDTH = 5, HEIGHT = 4, AREA = WIDTH * HEIGHT };
static uint8_t images_file[16 + N_IMAGES * AREA], labels_file[8 + N_IMAGES];

static void make_idx(void)
{
    memcpy(images_file, (const uint8_t[]){0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, HEIGHT, 0, 0, 0, WIDTH}, 16);
    memcpy(labels_file, (const uint8_t[]){0, 0, 8, 1, 0, 0, 0, N_IMAGES}, 8);
    for (int i = 0; i < N_IMAGES * AREA; i++) images_file[16 + i] = (uint8_t)(i * 3);
    for (int i = 0; i < N_IMAGES; i++) labels_file[8 + i] = (uint8_t)(i % 3 * 5); // 0, 5, 10
}

static const char *write_gzip(const char *name, const uint8_t *bytes, size_t n)
{
    uint8_t out[4096];
    z_stream z = {.next_in = (Bytef *)bytes, .avail_in = (uInt)n, .next_out = out, .avail_out = sizeof out};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return test_write(name, (char *)out, sizeof out - z.avail_out);
}

static void check_idx_samples(const char *path)
{
    struct fm__data_opts opts = {.kind = FM__DATA_IMAGES, .paths = &path, .n_paths = 1};
    struct fm__loader_opts walk = {
        .rows = 3, .batch = 5, .order = FM__ORDER_SEQUENTIAL, .feature_mean = 0.5f, .feature_std = 0.25f};
    struct fm__dataset *data;
    struct fm__loader *loader;
    struct fm__microbatch mb = test_microbatch(3, AREA);
    struct fm_error err = {0};
    int32_t shape[3];
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    fm__dataset_image_shape(data, shape);
    assert_int_equal(shape[0], 1), assert_int_equal(shape[1], HEIGHT), assert_int_equal(shape[2], WIDTH);
    assert_int_equal(fm__dataset_n_features(data), AREA);
    assert_int_equal(fm__dataset_n_labels(data), 3);
    assert_string_equal(fm__dataset_label(data, 2), "10");
    assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
    bool seen[N_IMAGES] = {false};
    for (int n = 0; n < N_IMAGES; n += (int)mb.n_rows) {
        assert_ok(fm__loader_next(loader, &mb, &err), err);
        for (int64_t r = 0; r < mb.n_rows; r++) {
            int64_t i = mb.samples[r];
            seen[i] = true;
            assert_int_equal(mb.targets[r], i % 3);
            for (int k = 0; k < AREA; k++)
                assert_true(mb.features[r * AREA + k] == ((float)images_file[16 + i * AREA + k] / 255 - 0.5f) / 0.25f);
        }
    }
    for (int i = 0; i < N_IMAGES; i++) assert_true(seen[i]);
    assert_true(mb.ends_epoch);
    fm__loader_free(loader);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
}

// Moved images are the old ones, shifted, with black behind; every move within the bound occurs, none beyond.
static void images_are_moved(void **state)
{
    (void)state;
    enum { N = 60, SIDE = 5, SHIFT = 1 };
    uint8_t images[16 + N * SIDE * SIDE] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, SIDE, 0, 0, 0, SIDE},
                                   labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
    for (int i = 0; i < N; i++) images[16 + i * SIDE * SIDE + 2 * SIDE + 2] = 255; // a dot in the middle
    test_write("m-labels-idx1-ubyte", (char *)labels, sizeof labels);
    const char *path = test_write("m-images-idx3-ubyte", (char *)images, sizeof images);
    struct fm__data_opts opts = {.kind = FM__DATA_IMAGES, .paths = &path, .n_paths = 1};
    struct fm__loader_opts walk = {.rows = N, .batch = N, .image_shift = SHIFT, .seed = 1};
    struct fm__dataset *data;
    struct fm__loader *loader, *again;
    struct fm__microbatch mb = test_microbatch(N, SIDE * SIDE), other = test_microbatch(N, SIDE * SIDE);
    struct fm_error err = {0};
    int seen[SIDE][SIDE] = {{0}};
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
    assert_ok(fm__loader_new(data, &walk, &again, &err), err);
    for (int epoch = 0; epoch < 4; epoch++) {
        assert_ok(fm__loader_next(loader, &mb, &err), err);
        assert_ok(fm__loader_next(again, &other, &err), err);
        assert_memory_equal(mb.features, other.features, N * SIDE * SIDE * sizeof(float));
        for (int i = 0; i < N * SIDE * SIDE; i++) {
            assert_true(mb.features[i] == 0 || mb.features[i] == 1);
            if (mb.features[i] == 1) seen[i / SIDE % SIDE][i % SIDE]++;
        }
    }
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) assert_int_equal(seen[y][x] > 0, y >= 1 && y <= 3 && x >= 1 && x <= 3);
    fm__loader_free(loader), fm__loader_free(again);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb), test_microbatch_deinit(&other);
}

static void idx_plain_and_gzip(void **state)
{
    (void)state;
    make_idx();
    test_write("t-labels-idx1-ubyte", (char *)labels_file, sizeof labels_file);
    check_idx_samples(test_write("t-images-idx3-ubyte", (char *)images_file, sizeof images_file));
    write_gzip("u-labels-idx1-ubyte.gz", labels_file, sizeof labels_file);
    check_idx_samples(write_gzip("u-images-idx3-ubyte.gz", images_file, sizeof images_file));
}

static void refused(const char *path, fm_status code, const char *why)
{
    struct fm__data_opts opts = {.kind = FM__DATA_IMAGES, .paths = &path, .n_paths = 1};
    struct fm__dataset *data;
    struct fm_error err = {0};
    fm_status status = fm__dataset_open(&opts, &data, &err);
    if (status != code) fail_msg("%s: %s: %s", path, fm_status_text(status), err.text);
    if (!strstr(err.text, why)) fail_msg("\"%s\" lacks \"%s\"", err.text, why);
}

static void damaged_idx(void **state)
{
    (void)state;
    make_idx();
    const char *path = test_write("v-images-idx3-ubyte", (char *)images_file, sizeof images_file);
    refused(path, FM_E_NOT_FOUND, "v-labels-idx1-ubyte");
    test_write("v-labels-idx1-ubyte", (char *)labels_file, sizeof labels_file);
    for (size_t n = 0; n < sizeof images_file; n++) {
        test_write("v-images-idx3-ubyte", (char *)images_file, n);
        refused(path, FM_E_FORMAT, "v-images-idx3-ubyte: ends too early");
    }
    images_file[3] = 1;
    test_write("v-images-idx3-ubyte", (char *)images_file, sizeof images_file);
    refused(path, FM_E_FORMAT, "begins with 00000801, want 00000803");
    images_file[3] = 3, images_file[8] = 0xff;
    test_write("v-images-idx3-ubyte", (char *)images_file, sizeof images_file);
    refused(path, FM_E_FORMAT, "dimension 2 is 42");
    images_file[8] = 0, images_file[7]--;
    test_write("v-images-idx3-ubyte", (char *)images_file, sizeof images_file);
    refused(path, FM_E_FORMAT, "6 images, but 7 labels in ");
    labels_file[7]--;
    test_write("v-labels-idx1-ubyte", (char *)labels_file, sizeof labels_file);
    refused(path, FM_E_FORMAT, "v-images-idx3-ubyte: goes on behind its last element");
    refused(test_write_text("pixels", "x"), FM_E_ARG, "needs \"images\" in its name");
    // gzip: the check sum at its end counts
    make_idx();
    test_write("v-labels-idx1-ubyte", (char *)labels_file, sizeof labels_file);
    path = write_gzip("v-images-idx3-ubyte", images_file, sizeof images_file);
    size_t n;
    uint8_t *bytes = test_read_file(path, &n);
    bytes[n - 6] ^= 1;
    test_write("v-images-idx3-ubyte", (char *)bytes, n);
    refused(path, FM_E_FORMAT, "its gzip stream is damaged");
    free(bytes);
}

// --- folders ---

static void make_folder(const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    mkdir(path, 0700);
}

static void folders_of_classes(void **state)
{
    (void)state;
    static const uint8_t grey[4] = {10, 20, 30, 40};
    static uint8_t colour[8 * 8 * 3];
    memset(colour, 200, sizeof colour);
    make_folder("set"), make_folder("set/cat"), make_folder("set/ant"), make_folder("set/.hidden");
    size_t n;
    uint8_t *bytes = png_of(grey, 2, 2, PNG_FORMAT_GRAY, &n);
    test_write("set/cat/1.png", (char *)bytes, n);
    test_write("set/cat/2.PNG", (char *)bytes, n);
    test_write("set/.hidden/3.png", (char *)bytes, n);
    free(bytes);
    bytes = jpeg_of(colour, 8, 8, 3, &n);
    test_write("set/ant/a.jpg", (char *)bytes, n);
    free(bytes);
    test_write_text("set/ant/notes.txt", "x");
    test_write_text("set/readme.png", "x"); // not in a class
    char folder[400];
    snprintf(folder, sizeof folder, "%s/set", test_tmpdir());
    const char *path = folder;
    refused(path, FM_E_FORMAT, "cat/1.png: 2 x 2 of 3 channels, the first is 8 x 8 of 3");
    struct fm__data_opts opts = {
        .kind = FM__DATA_IMAGES, .paths = &path, .n_paths = 1, .images = {.width = 2, .height = 2, .channels = 1}};
    struct fm__loader_opts walk = {.rows = 8, .batch = 8, .order = FM__ORDER_SEQUENTIAL};
    struct fm__dataset *data;
    struct fm__loader *loader;
    struct fm__microbatch mb = test_microbatch(8, 4);
    struct fm_error err = {0};
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    assert_int_equal(fm__dataset_n_samples(data, FM__DATA_ALL), 3);
    assert_string_equal(fm__dataset_label(data, 0), "ant");
    assert_string_equal(fm__dataset_label(data, 1), "cat");
    assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    assert_int_equal(mb.n_rows, 3);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(mb.targets[r], mb.samples[r] > 0);
        for (int k = 0; k < 4; k++) {
            float want = mb.samples[r] ? (float)grey[k] / 255 : 200.0f / 255;
            assert_true(fabsf(mb.features[4 * r + k] - want) < 0.01f);
        }
    }
    char where[500];
    fm__dataset_where(data, 2, where, sizeof where);
    assert_non_null(strstr(where, "set/cat/2.PNG"));
    fm__loader_free(loader);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
    // a damaged picture is a bad row
    test_write_text("set/cat/1.png", "\x89PNG\r\n\x1a\nrubbish");
    assert_int_equal(fm__dataset_open(&opts, &data, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "cat/1.png"));
    assert_non_null(strstr(err.text, "PNG: "));
    opts.skip_bad = 1;
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    assert_int_equal(fm__dataset_counts(data)->skipped[FM__SKIP_IMAGE], 1);
    fm__dataset_close(data);
    make_folder("empty");
    snprintf(folder, sizeof folder, "%s/empty", test_tmpdir());
    refused(folder, FM_E_FORMAT, "no CLASS/NAME.png or .jpg below it");
}

static void no_memory(void **state)
{
    (void)state;
    make_idx();
    static const uint8_t grey[4] = {10, 20, 30, 40};
    make_folder("few"), make_folder("few/cat");
    size_t n;
    uint8_t *bytes = png_of(grey, 2, 2, PNG_FORMAT_GRAY, &n);
    test_write("few/cat/1.png", (char *)bytes, n);
    free(bytes);
    write_gzip("w-labels-idx1-ubyte.gz", labels_file, sizeof labels_file);
    char folder[400];
    snprintf(folder, sizeof folder, "%s/few", test_tmpdir());
    const char *paths[2] = {write_gzip("w-images-idx3-ubyte.gz", images_file, sizeof images_file), folder};
    for (int i = 0; i < 2; i++) {
        struct fm__data_opts opts = {.kind = FM__DATA_IMAGES, .paths = &paths[i], .n_paths = 1, .images = {3, 3, 3}};
        if (i == 0) opts.images = (struct fm__data_images){0};
        fm_status status = FM_E_NOMEM;
        for (int64_t k = 0; status != FM_OK; k++) {
            struct fm_error err = {0};
            struct fm__dataset *data = NULL;
            fm__alloc_fail_after(k, true);
            status = fm__dataset_open(&opts, &data, &err);
            fm__alloc_fail_after(-1, false);
            fm__dataset_close(data);
            if (status != FM_OK && status != FM_E_NOMEM) fail_msg("allocation %lld: %s", (long long)k, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_pixels_come_back),
        cmocka_unit_test(jpegs),
        cmocka_unit_test(scaling),
        cmocka_unit_test(images_are_moved),
        cmocka_unit_test(idx_plain_and_gzip),
        cmocka_unit_test(damaged_idx),
        cmocka_unit_test(folders_of_classes),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

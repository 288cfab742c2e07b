// SPDX-License-Identifier: MIT
// Images with a class each: IDX files as MNIST has them (plain or gzip, told by their bytes), and folders
// CLASS/NAME.png|jpg. Pixels are kept as bytes, [channels, height, width].
#include "train/data_images.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/quote.h"
#include "train/data_idx.h"
#include "vision/image.h"

// --- listing ---

static char *join_path(const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char *path = fm__malloc(n);
    if (path) snprintf(path, n, "%s/%s", folder, name);
    return path;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // bytes, not the locale's order
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_picture(const char *path)
{
    return fm__ends_with(path, ".png") || fm__ends_with(path, ".jpg") || fm__ends_with(path, ".jpeg");
}

typedef fm_status entry_fn(struct fm__dataset *data, const char *path, struct fm_error *err);

// Calls fn for every entry, in byte order of the names.
static fm_status each_entry(struct fm__dataset *data, const char *folder, entry_fn *fn, struct fm_error *err)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, is_visible, by_name);
    if (n < 0) return fm__fail(err, FM_E_IO, "%s: %s", folder, strerror(errno));
    fm_status status = FM_OK;
    for (int i = 0; i < n; i++) {
        char *path = status == FM_OK ? join_path(folder, entries[i]->d_name) : NULL;
        if (status == FM_OK) status = path ? fn(data, path, err) : fm__fail_nomem(err, folder, strlen(folder));
        fm__free(path);
        fm__free(entries[i]); // scandir's, of the same heap
    }
    fm__free(entries);
    return status;
}

static fm_status add_picture(struct fm__dataset *data, const char *path, struct fm_error *err)
{
    return is_picture(path) ? fm__data_add_file(data, path, err) : FM_OK;
}

static fm_status add_class(struct fm__dataset *data, const char *path, struct fm_error *err)
{
    return is_folder(path) ? each_entry(data, path, add_picture, err) : FM_OK;
}

// The name of the labels that go with a file of images; *out NULL: there is no "images" in its name.
static fm_status labels_beside(const char *path, char **out, struct fm_error *err)
{
    *out = NULL;
    static const char *const from[] = {"images-idx3", "images.idx3", "images"};
    static const char *const to[] = {"labels-idx1", "labels.idx1", "labels"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (int i = 0; i < 3; i++) {
        const char *at = strstr(name, from[i]);
        if (!at) continue;
        *out = fm__strdup(path);
        if (!*out) return fm__fail_nomem(err, path, strlen(path));
        memcpy(*out + (at - path), to[i], strlen(to[i])); // of the same length
        return FM_OK;
    }
    return FM_OK;
}

fm_status fm__images_list(struct fm__dataset *data, const char *path, struct fm_error *err)
{
    size_t before = data->n_files;
    if (is_folder(path)) {
        FM_TRY(each_entry(data, path, add_class, err));
        if (data->n_files > before) return FM_OK;
        return fm__fail(err, FM_E_FORMAT, "%s: no CLASS/NAME.png or .jpg below it", path);
    }
    char *labels;
    FM_TRY(labels_beside(path, &labels, err));
    if (!labels)
        return fm__fail(err, FM_E_ARG, "%s: a file of images needs \"images\" in its name, for \"labels\" beside it",
                        path);
    fm_status status = fm__data_add_file(data, path, err);
    if (status == FM_OK) status = fm__data_add_file(data, labels, err);
    fm__free(labels);
    return status;
}

fm_status fm__images_add_name(const char *path, struct fm__sha256 *sha, struct fm_error *err)
{
    const char *at = path + strlen(path);
    for (int slashes = 0; at > path; at--)
        if (at[-1] == '/' && ++slashes == 2) break;
    return fm__sha256_update(sha, at, strlen(at) + 1, err);
}

// --- shape ---

// The first image says what all are like, where the options do not.
static fm_status check_shape(struct fm__builder *b, int channels, int height, int width, struct fm_error *err)
{
    int64_t *shape = b->data->shape;
    if (!shape[0]) shape[0] = channels, shape[1] = height, shape[2] = width;
    if (shape[0] == channels && shape[1] == height && shape[2] == width) return FM_OK;
    return fm__bad(b, FM__SKIP_IMAGE, err,
                   "%d x %d of %d channels, the first is %" PRId64 " x %" PRId64 " of %" PRId64
                   " (say which width and height to scale to)",
                   width, height, channels, shape[2], shape[1], shape[0]);
}

// --- folders ---

// The class: the name of the folder that the file is in.
static struct fm_str class_of(const char *path)
{
    const char *end = strrchr(path, '/'), *start = end;
    while (start > path && start[-1] != '/') start--;
    return (struct fm_str){start, (size_t)(end - start)};
}

static fm_status picture(struct fm__builder *b, const char *path, struct fm__image *image, uint8_t **planes,
                         struct fm_error *err)
{
    enum { FILE_MAX = 1 << 28 };
    const struct fm__data_images *o = &b->opts->images;
    char *bytes;
    size_t n;
    FM_TRY(fm__file_read_all(path, FILE_MAX, &bytes, &n, err));
    fm_status status =
        fm__image_decode((const uint8_t *)bytes, n, o->channels ? o->channels : (int)b->data->shape[0], image, err);
    fm__free(bytes);
    if (status == FM_OK && o->width && o->height) status = fm__image_resize(image, o->width, o->height, err);
    if (status != FM_OK && status != FM_E_NOMEM) b->skip = FM__SKIP_IMAGE;
    if (status != FM_OK) return status;
    FM_TRY(check_shape(b, image->channels, image->height, image->width, err));
    size_t area = (size_t)image->width * (size_t)image->height, c = (size_t)image->channels;
    *planes = fm__malloc(area * c);
    if (!*planes) return fm__fail_nomem(err, "picture", area * c);
    for (size_t i = 0; i < area; i++)
        for (size_t k = 0; k < c; k++) (*planes)[k * area + i] = image->pixels[i * c + k];
    struct fm__sample sample = {.n = {(uint32_t)(area * c), 0}};
    FM_TRY(fm__build_label(b, class_of(path), &sample.label, err));
    return fm__build_emit_bytes(b, &sample, *planes, err);
}

static fm_status read_picture(struct fm__builder *b, const char *path, struct fm_error *err)
{
    struct fm__image image = {0};
    uint8_t *planes = NULL;
    fm_status status = picture(b, path, &image, &planes, err);
    fm__free(planes);
    fm__image_free(&image);
    return fm__build_end_row(b, status, err);
}

// --- IDX ---

static fm_status read_pairs(struct fm__builder *b, struct fm__idx *images, struct fm__idx *labels, uint8_t *pixels,
                            struct fm_error *err)
{
    size_t n = (size_t)images->dims[1] * images->dims[2];
    for (uint32_t i = 0; i < images->dims[0]; i++) {
        struct fm__sample sample = {.n = {(uint32_t)n, 0}};
        uint8_t label;
        char name[8];
        FM_TRY(fm__idx_read(images, pixels, n, err));
        FM_TRY(fm__idx_read(labels, &label, 1, err));
        b->line = i + 1;
        snprintf(name, sizeof name, "%u", label);
        fm_status status = check_shape(b, 1, (int)images->dims[1], (int)images->dims[2], err);
        if (status == FM_OK) status = fm__build_label(b, (struct fm_str){name, strlen(name)}, &sample.label, err);
        if (status == FM_OK) status = fm__build_emit_bytes(b, &sample, pixels, err);
        FM_TRY(fm__build_end_row(b, status, err));
    }
    FM_TRY(fm__idx_end(images, err));
    return fm__idx_end(labels, err);
}

static fm_status read_idx(struct fm__builder *b, const char *path, const char *labels_path, struct fm_error *err)
{
    struct fm__idx images = {0}, labels = {0};
    uint8_t *pixels = NULL;
    fm_status status = fm__idx_open(path, 3, &images, err);
    if (status == FM_OK) status = fm__idx_open(labels_path, 1, &labels, err);
    if (status == FM_OK && images.dims[0] != labels.dims[0])
        status = fm__fail(err, FM_E_FORMAT, "%s: %u images, but %u labels in %s", path, images.dims[0], labels.dims[0],
                          labels_path);
    if (status == FM_OK) {
        size_t n = (size_t)images.dims[1] * images.dims[2];
        pixels = fm__malloc(n);
        status = pixels ? read_pairs(b, &images, &labels, pixels, err) : fm__fail_nomem(err, "picture", n);
    }
    fm__free(pixels);
    fm__idx_close(&images);
    fm__idx_close(&labels);
    return status;
}

fm_status fm__read_images(struct fm__builder *b, const char *path, struct fm_error *err)
{
    if (is_picture(path)) return read_picture(b, path, err);
    // files of images and of labels alternate: the first of a pair reads both
    char *labels;
    FM_TRY(labels_beside(path, &labels, err));
    bool first = b->file + 1 < b->data->n_files && labels && strcmp(labels, b->data->files[b->file + 1].path) == 0;
    fm__free(labels);
    return first ? read_idx(b, path, b->data->files[b->file + 1].path, err) : FM_OK;
}

// SPDX-License-Identifier: MIT
// Which files a dataset is made of, what they hashed to, and whether they are still the same.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/tok_hash.h"
#include "train/data_images.h"

fm_status fm__stamp_of(const char *path, struct fm__stamp *out, struct fm_error *err)
{
    struct stat st;
    *out = (struct fm__stamp){0};
    if (stat(path, &st))
        return fm__fail(err, errno == ENOENT ? FM_E_NOT_FOUND : FM_E_IO, "%s: %s", path, strerror(errno));
    *out = (struct fm__stamp){(uint64_t)st.st_size, (uint64_t)st.st_ino, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    return FM_OK;
}

static bool same_stamp(const struct fm__stamp *a, const struct fm__stamp *b)
{
    return a->size == b->size && a->inode == b->inode && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

fm_status fm__data_file_unchanged(const struct fm__data_file *file, struct fm__stamp *seen, struct fm_error *err)
{
    struct fm__stamp now;
    char hex[FM__SHA256_HEX];
    fm_status status = fm__stamp_of(file->path, &now, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "a data file is gone while it is in use");
    if (same_stamp(&now, seen)) return FM_OK;
    FM_TRY(fm__sha256_file(file->path, hex, err));
    if (strcmp(hex, file->hex) != 0)
        return fm__fail(err, FM_E_IO,
                        "%s: changed while it is in use (%" PRIu64 " bytes of SHA-256 %.12s…, were %" PRIu64
                        " of %.12s…)",
                        file->path, now.size, hex, file->then.size, file->hex);
    *seen = now;
    return FM_OK;
}

fm_status fm__data_add_file(struct fm__dataset *data, const char *path, struct fm_error *err)
{
    if ((data->n_files & (data->n_files - 1)) == 0) { // full at every power of two
        size_t cap = data->n_files ? data->n_files * 2 : 1;
        struct fm__data_file *grown = fm__realloc(data->files, cap * sizeof *grown);
        if (!grown) return fm__fail_nomem(err, "list of data files", cap * sizeof *grown);
        data->files = grown;
    }
    if (data->n_files == UINT32_MAX) return fm__fail(err, FM_E_LIMIT, "more than %u data files", UINT32_MAX);
    struct fm__data_file *file = &data->files[data->n_files];
    *file = (struct fm__data_file){.path = fm__strdup(path)};
    if (!file->path) return fm__fail_nomem(err, path, strlen(path));
    data->n_files++;
    return FM_OK;
}

// Hashes a file, and sees that nobody writes to it meanwhile.
static fm_status hash_file(struct fm__data_file *file, struct fm_error *err)
{
    struct fm__stamp after;
    FM_TRY(fm__stamp_of(file->path, &file->then, err));
    FM_TRY(fm__sha256_file(file->path, file->hex, err));
    FM_TRY(fm__stamp_of(file->path, &after, err));
    if (same_stamp(&file->then, &after)) return FM_OK;
    return fm__fail(err, FM_E_IO, "%s: somebody is writing to it", file->path);
}

// --- the key ---

struct hasher {
    struct fm__sha256 *sha;
    struct fm_error *err;
};

// Length first, so that no two lists of fields give one stream; NULL differs from "".
static fm_status add(const struct hasher *h, const void *p, size_t n)
{
    uint64_t length = p ? n : UINT64_MAX;
    FM_TRY(fm__sha256_update(h->sha, &length, sizeof length, h->err));
    return p ? fm__sha256_update(h->sha, p, n, h->err) : FM_OK;
}

static fm_status add_string(const struct hasher *h, const char *text)
{
    return add(h, text, text ? strlen(text) : 0);
}

static fm_status add_options(const struct hasher *h, const struct fm__data_opts *o, bool packed)
{
    // the length cuts nothing of packed text, so that one store serves all
    const int64_t numbers[] = {o->kind,
                               packed ? 0 : o->length,
                               o->refuse_long,
                               o->skip_bad,
                               o->end,
                               o->unit,
                               packed,
                               o->one_slot,
                               o->columns.header,
                               o->columns.delimiter,
                               o->images.width,
                               o->images.height,
                               o->images.channels,
                               (int64_t)o->n_labels};
    FM_TRY(add_string(h, "fathom samples 1")); // another number when readers give other samples for the same bytes
    FM_TRY(add(h, numbers, sizeof numbers));
    FM_TRY(add(h, o->chat_template, o->n_chat_template));
    for (int i = 0; i < FM__DATA_TEXT_COLUMNS; i++) FM_TRY(add_string(h, o->columns.text[i]));
    FM_TRY(add_string(h, o->columns.join));
    FM_TRY(add_string(h, o->columns.label));
    for (size_t i = 0; o->labels && i < o->n_labels; i++) FM_TRY(add_string(h, o->labels[i]));
    return FM_OK;
}

static fm_status add_files(const struct hasher *h, const struct fm__data_opts *o, const struct fm__dataset *data)
{
    for (size_t i = 0; i < data->n_files; i++) {
        const char *path = data->files[i].path, *ending = strrchr(path, '.');
        FM_TRY(add(h, data->files[i].hex, FM__SHA256_HEX));
        FM_TRY(add_string(h, ending)); // the format is read off it
        if (o->kind == FM__DATA_IMAGES) FM_TRY(fm__images_add_name(path, h->sha, h->err));
    }
    return FM_OK;
}

static fm_status make_key(const struct fm__data_opts *o, struct fm__dataset *data, struct fm_error *err)
{
    uint8_t tokenizer[FM__SHA256_BYTES] = {0};
    if (o->tok) FM_TRY(fm__tokenizer_hash(o->tok, tokenizer, err));
    struct hasher h = {fm__sha256_new(), err};
    if (!h.sha) return fm__fail_nomem(err, "hash of the data", FM__SHA256_BYTES);
    fm_status status = add_options(&h, o, data->packed);
    if (status == FM_OK) status = add(&h, tokenizer, sizeof tokenizer);
    if (status == FM_OK) status = add_files(&h, o, data);
    if (status == FM_OK) status = fm__sha256_final(h.sha, data->key, err);
    fm__sha256_free(h.sha);
    return status;
}

fm_status fm__data_identify(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    for (size_t i = 0; i < opts->n_paths; i++)
        FM_TRY(opts->kind == FM__DATA_IMAGES ? fm__images_list(data, opts->paths[i], err)
                                             : fm__data_add_file(data, opts->paths[i], err));
    for (size_t i = 0; i < data->n_files; i++) FM_TRY(hash_file(&data->files[i], err));
    return make_key(opts, data, err);
}

// --- the cache's folder ---

static fm_status make_folders(char *path, struct fm_error *err)
{
    for (char *slash = path + 1; *slash; slash++) {
        if (*slash != '/') continue;
        *slash = '\0';
        int failed = mkdir(path, 0777) && errno != EEXIST ? errno : 0;
        if (failed) fm__fail(err, FM_E_IO, "%s: cannot make the folder: %s", path, strerror(failed));
        *slash = '/';
        if (failed) return FM_E_IO;
    }
    if (mkdir(path, 0777) && errno != EEXIST)
        return fm__fail(err, FM_E_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    return FM_OK;
}

fm_status fm__data_cache_folder(char **out, struct fm_error *err)
{
    *out = NULL;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *below = "";
    const char *root = cache && cache[0] == '/' ? cache : home && home[0] == '/' ? (below = "/.cache", home) : NULL;
    if (!root)
        return fm__fail(err, FM_E_NOT_FOUND,
                        "no folder for a cache: neither XDG_CACHE_HOME nor HOME is an absolute path");
    size_t size = strlen(root) + sizeof "/.cache/fathom/data";
    char *path = fm__malloc(size);
    if (!path) return fm__fail_nomem(err, "path of the cache", size);
    snprintf(path, size, "%s%s/fathom/data", root, below);
    fm_status status = make_folders(path, err);
    if (status == FM_OK)
        *out = path;
    else
        fm__free(path);
    return status;
}

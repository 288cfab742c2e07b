// SPDX-License-Identifier: MIT
#include "train/data_store.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"

enum { HEAD_BYTES = 64, TRAILER_BYTES = 64, MAGIC_BYTES = 12, STEP = 1 << 20 };
static const char magic[MAGIC_BYTES + 1] = "fathom-data\n";
static const uint32_t version = 1;

struct fm__store {
    char *path; // NULL: in memory
    // while it is filled
    struct fm__file_writer *writer;
    struct fm__sha256 *sha;
    // memory
    char *bytes;
    size_t cap;
    uint64_t n_payload;
    // while it is read
    struct fm__file file;
    struct stat opened;
    char *tail; // index and description
};

struct trailer {
    uint64_t n_payload, n_index, n_description, zero;
    uint8_t digest[FM__SHA256_BYTES];
};
_Static_assert(sizeof(struct trailer) == TRAILER_BYTES, "written as it lies in memory");

static struct fm__store *store_new(const char *path, struct fm_error *err)
{
    struct fm__store *store = fm__calloc(1, sizeof *store);
    if (store) store->file.fd = -1;
    if (store && path) store->path = fm__strdup(path);
    if (store && (!path || store->path)) return store;
    fm__free(store);
    fm__fail_nomem(err, "store of samples", sizeof *store);
    return NULL;
}

void fm__store_close(struct fm__store *store)
{
    if (!store) return;
    fm__file_writer_close(store->writer);
    fm__sha256_free(store->sha);
    fm__file_close(&store->file);
    fm__free(store->bytes);
    fm__free(store->tail);
    fm__free(store->path);
    fm__free(store);
}

// --- filling ---

// Bytes of the file, which its hash covers too.
static fm_status put(struct fm__store *store, const void *bytes, size_t n, struct fm_error *err)
{
    FM_TRY(fm__sha256_update(store->sha, bytes, n, err));
    return fm__file_writer_write(store->writer, bytes, n, err);
}

static fm_status begin_file(struct fm__store *store, const uint8_t key[FM__SHA256_BYTES], struct fm_error *err)
{
    char head[HEAD_BYTES] = {0};
    memcpy(head, magic, MAGIC_BYTES);
    memcpy(head + MAGIC_BYTES, &version, sizeof version);
    memcpy(head + 16, key, FM__SHA256_BYTES);
    store->sha = fm__sha256_new();
    if (!store->sha) return fm__fail_nomem(err, "store of samples", FM__SHA256_BYTES);
    FM_TRY(fm__file_writer_open(store->path, &store->writer, err));
    return put(store, head, sizeof head, err);
}

fm_status fm__store_create(const char *path, const uint8_t key[FM__SHA256_BYTES], struct fm__store **out,
                           struct fm_error *err)
{
    *out = NULL;
    struct fm__store *store = store_new(path, err);
    if (!store) return FM_E_NOMEM;
    fm_status status = path ? begin_file(store, key, err) : FM_OK;
    if (status == FM_OK)
        *out = store;
    else
        fm__store_close(store);
    return status;
}

fm_status fm__store_append(struct fm__store *store, const void *bytes, size_t n, struct fm_error *err)
{
    if (store->writer) {
        FM_TRY(put(store, bytes, n, err));
    } else {
        size_t used = (size_t)store->n_payload, need;
        if (!fm__add_size(used, n, &need)) return fm__fail_nomem(err, "samples in memory", SIZE_MAX);
        if (need > store->cap) {
            size_t cap = need < SIZE_MAX / 2 ? need + need / 2 + 4096 : need;
            char *grown = fm__realloc(store->bytes, cap);
            if (!grown) return fm__fail_nomem(err, "samples in memory (a cache folder keeps them on disk)", cap);
            store->bytes = grown, store->cap = cap;
        }
        if (n) memcpy(store->bytes + used, bytes, n);
    }
    store->n_payload += n;
    return FM_OK;
}

uint64_t fm__store_size(const struct fm__store *store)
{
    return store->n_payload;
}

static fm_status open_for_reading(struct fm__store *store, struct fm_error *err)
{
    FM_TRY(fm__file_open(store->path, &store->file, err));
    if (fstat(store->file.fd, &store->opened)) return fm__fail(err, FM_E_IO, "%s: cannot stat", store->path);
    return FM_OK;
}

fm_status fm__store_finish(struct fm__store *store, const struct fm__store_tail *tail, struct fm_error *err)
{
    if (!store->writer) return FM_OK;
    struct trailer end = {
        .n_payload = store->n_payload, .n_index = tail->n_index, .n_description = tail->n_description};
    FM_TRY(put(store, tail->index, tail->n_index, err));
    FM_TRY(put(store, tail->description, tail->n_description, err));
    FM_TRY(put(store, &end, offsetof(struct trailer, digest), err));
    FM_TRY(fm__sha256_final(store->sha, end.digest, err));
    FM_TRY(fm__file_writer_write(store->writer, end.digest, sizeof end.digest, err));
    FM_TRY(fm__file_writer_commit(store->writer, err));
    fm__file_writer_close(store->writer);
    store->writer = NULL;
    return open_for_reading(store, err);
}

// --- opening ---

static fm_status check_head(const struct fm__store *store, const uint8_t key[FM__SHA256_BYTES], struct trailer *end,
                            struct fm_error *err)
{
    char head[HEAD_BYTES];
    uint64_t size = store->file.size, sum;
    if (size < HEAD_BYTES + TRAILER_BYTES)
        return fm__fail(err, FM_E_FORMAT, "%" PRIu64 " bytes, want at least %d", size, HEAD_BYTES + TRAILER_BYTES);
    FM_TRY(fm__file_pread(&store->file, 0, head, sizeof head, err));
    if (memcmp(head, magic, MAGIC_BYTES) != 0) return fm__fail(err, FM_E_FORMAT, "not a store of samples");
    uint32_t found;
    memcpy(&found, head + MAGIC_BYTES, sizeof found);
    if (found != version) return fm__fail(err, FM_E_FORMAT, "version %u, want %u", found, version);
    if (memcmp(head + 16, key, FM__SHA256_BYTES) != 0) return fm__fail(err, FM_E_FORMAT, "it belongs to other data");
    FM_TRY(fm__file_pread(&store->file, size - TRAILER_BYTES, end, sizeof *end, err));
    if (__builtin_add_overflow(end->n_payload, end->n_index, &sum) ||
        __builtin_add_overflow(sum, end->n_description, &sum) || sum != size - HEAD_BYTES - TRAILER_BYTES)
        return fm__fail(err, FM_E_FORMAT, "its parts do not make up its %" PRIu64 " bytes", size);
    return FM_OK;
}

static fm_status hash_up_to_digest(const struct fm__store *store, struct fm__sha256 *sha, char *piece,
                                   struct fm_error *err)
{
    uint64_t n = store->file.size - FM__SHA256_BYTES;
    for (uint64_t at = 0; at < n;) {
        size_t step = n - at < STEP ? (size_t)(n - at) : STEP;
        FM_TRY(fm__file_pread(&store->file, at, piece, step, err));
        FM_TRY(fm__sha256_update(sha, piece, step, err));
        at += step;
    }
    return FM_OK;
}

static fm_status check_digest(const struct fm__store *store, const struct trailer *end, struct fm_error *err)
{
    uint8_t digest[FM__SHA256_BYTES] = {0};
    struct fm__sha256 *sha = fm__sha256_new();
    char *piece = fm__malloc(STEP);
    fm_status status = sha && piece ? FM_OK : fm__fail_nomem(err, "check of a store", STEP);
    if (status == FM_OK) status = hash_up_to_digest(store, sha, piece, err);
    if (status == FM_OK) status = fm__sha256_final(sha, digest, err);
    fm__free(piece);
    fm__sha256_free(sha);
    if (status != FM_OK) return status;
    if (memcmp(digest, end->digest, sizeof digest) != 0)
        return fm__fail(err, FM_E_FORMAT, "its bytes are not those that were written");
    return FM_OK;
}

static fm_status read_tail(struct fm__store *store, const struct trailer *end, struct fm__store_tail *tail,
                           struct fm_error *err)
{
    size_t n = (size_t)(end->n_index + end->n_description);
    store->tail = fm__malloc(n + 1);
    if (!store->tail) return fm__fail_nomem(err, "index of a store", n + 1);
    FM_TRY(fm__file_pread(&store->file, HEAD_BYTES + end->n_payload, store->tail, n, err));
    store->tail[n] = '\0';
    store->n_payload = end->n_payload;
    *tail = (struct fm__store_tail){store->tail, (size_t)end->n_index, store->tail + end->n_index,
                                    (size_t)end->n_description};
    return FM_OK;
}

fm_status fm__store_open(const char *path, const uint8_t key[FM__SHA256_BYTES], struct fm__store **out,
                         struct fm__store_tail *tail, struct fm_error *err)
{
    *out = NULL;
    *tail = (struct fm__store_tail){0};
    struct fm__store *store = store_new(path, err);
    if (!store) return FM_E_NOMEM;
    struct trailer end = {0};
    fm_status status = open_for_reading(store, err);
    if (status == FM_OK) status = check_head(store, key, &end, err);
    if (status == FM_OK) status = check_digest(store, &end, err);
    if (status == FM_OK) status = read_tail(store, &end, tail, err);
    if (status == FM_OK)
        *out = store;
    else
        fm__store_close(store);
    return status;
}

void fm__store_drop_tail(struct fm__store *store)
{
    fm__free(store->tail);
    store->tail = NULL;
}

// --- reading ---

fm_status fm__store_read(const struct fm__store *store, uint64_t at, void *dst, size_t n, struct fm_error *err)
{
    if (at > store->n_payload || n > store->n_payload - at)
        return fm__fail(err, FM_E_IO, "%s: %zu bytes at %" PRIu64 ", it has %" PRIu64,
                        store->path ? store->path : "samples in memory", n, at, store->n_payload);
    if (!store->path) {
        if (n) memcpy(dst, store->bytes + at, n);
        return FM_OK;
    }
    fm_status status = fm__file_pread(&store->file, HEAD_BYTES + at, dst, n, err);
    return status == FM_OK ? status : fm__error_prefix(err, status, "%s", store->path);
}

fm_status fm__store_unchanged(const struct fm__store *store, struct fm_error *err)
{
    struct stat now;
    if (!store->path) return FM_OK;
    if (fstat(store->file.fd, &now)) return fm__fail(err, FM_E_IO, "%s: cannot stat", store->path);
    const struct stat *then = &store->opened; // not the time of its inode: that changes when a newer one replaces it
    if (now.st_size == then->st_size && now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == then->st_mtim.tv_nsec)
        return FM_OK;
    return fm__fail(err, FM_E_IO, "%s: the cached samples changed while they are in use; delete it and resume",
                    store->path);
}

// SPDX-License-Identifier: MIT
// Writing GGUF version 3. Declarations are serialised as they come into one block of bytes; the first data call (or
// finish) writes header, entries and tensor table, after which the file only grows. Invariant: `place` of a declared
// tensor is the sum of the padded bytes before it, so that the table needs no second pass over the data.
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "format/gguf_internal.h"

struct bytes {
    uint8_t *p;
    size_t n, space;
    bool failed; // memory ran out: checked once after a group of puts
};

struct declared {
    struct fm_str name;
    struct fm_tensor view;
    size_t bytes;
};

struct fm_gguf_writer {
    struct fm__file_writer *file;
    struct bytes kvs;
    uint64_t n_kvs;
    size_t alignment;
    struct fm__arena arena; // declared tensors, names
    struct fm__names keys, names;
    struct declared **tensors;
    size_t n_tensors, space;
    bool data_begun;
    bool finished;
    size_t i_tensor;  // whose data comes next
    size_t n_written; // bytes of it so far
};

// --- bytes ---

static void put(struct bytes *b, const void *p, size_t n)
{
    size_t wanted;
    if (b->failed || n == 0) return;
    if (!fm__add_size(b->n, n, &wanted)) {
        b->failed = true;
        return;
    }
    if (!b->p || wanted > b->space) {
        size_t space = wanted < SIZE_MAX / 2 ? wanted * 2 : wanted;
        uint8_t *grown = fm__realloc(b->p, space);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->p = grown;
        b->space = space;
    }
    memcpy(b->p + b->n, p, n);
    b->n = wanted;
}

static void put_u32(struct bytes *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_u64(struct bytes *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void put_str(struct bytes *b, struct fm_str s)
{
    put_u64(b, s.n);
    put(b, s.p, s.n);
}

// --- metadata ---

// Bytes of `n` nested arrays as the reader keeps them: {u32 type, u64 length, elements} each.
static size_t nested_bytes(const uint8_t *p, uint32_t type, uint64_t n)
{
    size_t scalar = fm__gguf_scalar_bytes(type), at = 0;
    if (scalar) return (size_t)n * scalar;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t inner;
        uint64_t length;
        if (type == FM_GGUF_STRING) {
            memcpy(&length, p + at, sizeof length);
            at += sizeof length + (size_t)length;
        } else {
            memcpy(&inner, p + at, sizeof inner);
            memcpy(&length, p + at + sizeof inner, sizeof length);
            at += sizeof inner + sizeof length;
            at += nested_bytes(p + at, inner, length);
        }
    }
    return at;
}

static void put_value(struct bytes *b, const struct fm_gguf_kv *kv)
{
    uint32_t element = kv->type;
    put_u32(b, kv->type);
    if (kv->type == FM_GGUF_ARRAY) {
        element = kv->array_type;
        put_u32(b, element);
        put_u64(b, kv->n);
    }
    if (element == FM_GGUF_STRING) {
        const struct fm_str *strings = kv->data;
        for (uint64_t i = 0; i < kv->n; i++) put_str(b, strings[i]);
    } else if (element == FM_GGUF_ARRAY) {
        put(b, kv->data, nested_bytes(kv->data, element, kv->n));
    } else {
        put(b, kv->data, (size_t)kv->n * fm__gguf_scalar_bytes(element));
    }
}

static fm_status check_kv(const struct fm_gguf_kv *kv, size_t *alignment, struct fm_error *err)
{
    struct fm__quoted key = fm__quote(kv->key.p, kv->key.n);
    if (kv->key.n == 0 || memchr(kv->key.p, 0, kv->key.n))
        return fm__fail(err, FM_E_ARG, "metadata key \"%s\": empty or with a zero byte", key.text);
    if ((unsigned)kv->type >= FM__GGUF_N_TYPES || (unsigned)kv->array_type >= FM__GGUF_N_TYPES)
        return fm__fail(err, FM_E_ARG, "metadata \"%s\": type %d of %d, want less than %d", key.text, (int)kv->type,
                        (int)kv->array_type, FM__GGUF_N_TYPES);
    if (kv->type != FM_GGUF_ARRAY && kv->n != 1)
        return fm__fail(err, FM_E_ARG, "metadata \"%s\": %" PRIu64 " values, a scalar has 1", key.text, kv->n);
    if (kv->n && !kv->data) return fm__fail(err, FM_E_ARG, "metadata \"%s\": no data", key.text);
    if (kv->n > SIZE_MAX / sizeof(struct fm_str))
        return fm__fail(err, FM_E_ARG, "metadata \"%s\": %" PRIu64 " values", key.text, kv->n);
    if (strcmp(key.text, "general.alignment")) return FM_OK;
    fm_status status = fm__gguf_check_alignment(kv, alignment, err);
    if (status != FM_OK && err) err->code = FM_E_ARG; // of a file it is malformed data, of a caller an argument
    return status == FM_OK ? FM_OK : FM_E_ARG;
}

fm_status fm_gguf_writer_kv(struct fm_gguf_writer *w, const struct fm_gguf_kv *kv, struct fm_error *err)
{
    size_t alignment = w->alignment;
    if (w->data_begun) return fm__fail(err, FM_E_ARG, "metadata after the first data");
    FM_TRY(check_kv(kv, &alignment, err));
    if (fm__names_find(&w->keys, kv->key.p, kv->key.n) >= 0)
        return fm__fail(err, FM_E_ARG, "duplicate metadata key \"%s\"", fm__quote(kv->key.p, kv->key.n).text);
    char *key = fm__arena_strndup(&w->arena, kv->key.p, kv->key.n);
    if (!key) return fm__fail_nomem(err, "metadata key", kv->key.n);
    size_t before = w->kvs.n;
    put_str(&w->kvs, kv->key);
    put_value(&w->kvs, kv);
    fm_status status = w->kvs.failed ? fm__fail_nomem(err, "metadata", w->kvs.n) : FM_OK;
    if (status == FM_OK) status = fm__names_add(&w->keys, (struct fm_str){key, kv->key.n}, err);
    if (status != FM_OK) { // as if it had not been called
        w->kvs.n = before;
        w->kvs.failed = false;
        return status;
    }
    w->alignment = alignment;
    w->n_kvs++;
    return FM_OK;
}

// --- tensors ---

static fm_status check_view(const struct fm_tensor *view, size_t *bytes, struct fm_error *err)
{
    const struct fm_dtype_info *info = fm_dtype_info(view->dtype);
    int64_t elements = 1;
    if (info->gguf_type < 0) return fm__fail(err, FM_E_ARG, "type %s is not one of a file", info->name);
    if (view->rank < 0 || view->rank > FM_MAX_RANK)
        return fm__fail(err, FM_E_ARG, "rank %d, want 0 to %d", view->rank, FM_MAX_RANK);
    for (int i = 0; i < view->rank; i++)
        if (view->dims[i] < 1 || !fm__mul_i64(elements, view->dims[i], &elements))
            return fm__fail(err, FM_E_ARG, "dim %d is %" PRId64 ", want 1 to 2^63 elements in all", i, view->dims[i]);
    *bytes = fm_tensor_bytes(view);
    if (*bytes && *bytes <= INT64_MAX) return FM_OK;
    return fm__fail(err, FM_E_ARG, "rows of %" PRId64 " elements do not make blocks of %d, or too many bytes",
                    view->rank ? view->dims[view->rank - 1] : 1, info->block_elements);
}

fm_status fm_gguf_writer_tensor(struct fm_gguf_writer *w, struct fm_str name, const struct fm_tensor *view,
                                struct fm_error *err)
{
    size_t bytes = 0;
    struct fm__quoted quoted = fm__quote(name.p, name.n);
    if (w->data_begun) return fm__fail(err, FM_E_ARG, "tensor \"%s\" declared after the first data", quoted.text);
    if (name.n == 0 || memchr(name.p, 0, name.n))
        return fm__fail(err, FM_E_ARG, "tensor name \"%s\": empty or with a zero byte", quoted.text);
    if (fm__names_find(&w->names, name.p, name.n) >= 0)
        return fm__fail(err, FM_E_ARG, "duplicate tensor name \"%s\"", quoted.text);
    fm_status status = check_view(view, &bytes, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "tensor \"%s\"", quoted.text);
    struct declared *d = fm__arena_alloc(&w->arena, sizeof *d);
    char *copy = fm__arena_strndup(&w->arena, name.p, name.n);
    if (!d || !copy || !fm__gguf_reserve((void **)&w->tensors, &w->space, w->n_tensors))
        return fm__fail_nomem(err, "tensor table", sizeof *d);
    *d = (struct declared){.name = {copy, name.n}, .view = *view, .bytes = bytes};
    FM_TRY(fm__names_add(&w->names, d->name, err));
    w->tensors[w->n_tensors++] = d;
    return FM_OK;
}

static size_t padding(uint64_t n, size_t alignment)
{
    return (size_t)((0 - n) & (alignment - 1));
}

// Everything before the data, padding included.
static fm_status put_tables(const struct fm_gguf_writer *w, struct bytes *b, struct fm_error *err)
{
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, w->n_tensors);
    put_u64(b, w->n_kvs);
    put(b, w->kvs.p, w->kvs.n);
    uint64_t place = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct declared *d = w->tensors[i];
        put_str(b, d->name);
        put_u32(b, (uint32_t)d->view.rank);
        for (int k = d->view.rank - 1; k >= 0; k--) put_u64(b, (uint64_t)d->view.dims[k]); // innermost first
        put_u32(b, (uint32_t)fm_dtype_info(d->view.dtype)->gguf_type);
        put_u64(b, place);
        if (__builtin_add_overflow(place, d->bytes + padding(d->bytes, w->alignment), &place) || place > INT64_MAX)
            return fm__fail(err, FM_E_ARG, "the tensors have more than 2^63 bytes");
    }
    static const uint8_t zeros[256];
    // without tensors there are no data to align: vocabulary files end right after their metadata
    for (size_t left = w->n_tensors ? padding(b->n, w->alignment) : 0; left;) {
        size_t n = left < sizeof zeros ? left : sizeof zeros;
        put(b, zeros, n);
        left -= n;
    }
    return b->failed ? fm__fail_nomem(err, "header", b->n) : FM_OK;
}

static fm_status begin_data(struct fm_gguf_writer *w, struct fm_error *err)
{
    struct bytes b = {0};
    if (w->data_begun) return FM_OK;
    fm_status status = put_tables(w, &b, err);
    if (status == FM_OK) {
        w->data_begun = true;
        status = fm__file_writer_write(w->file, b.p, b.n, err);
    }
    fm__free(b.p);
    return status;
}

static fm_status pad_tensor(struct fm_gguf_writer *w, size_t bytes, struct fm_error *err)
{
    static const uint8_t zeros[256];
    for (size_t left = padding(bytes, w->alignment); left;) {
        size_t n = left < sizeof zeros ? left : sizeof zeros;
        FM_TRY(fm__file_writer_write(w->file, zeros, n, err));
        left -= n;
    }
    return FM_OK;
}

fm_status fm_gguf_writer_data(struct fm_gguf_writer *w, const void *bytes, size_t n, struct fm_error *err)
{
    FM_TRY(begin_data(w, err));
    if (n == 0) return FM_OK;
    if (w->i_tensor == w->n_tensors) return fm__fail(err, FM_E_ARG, "%zu bytes after the data of the last tensor", n);
    const struct declared *d = w->tensors[w->i_tensor];
    if (n > d->bytes - w->n_written)
        return fm__fail(err, FM_E_ARG, "tensor \"%s\": %zu bytes after %zu, it has %zu",
                        fm__quote(d->name.p, d->name.n).text, n, w->n_written, d->bytes);
    FM_TRY(fm__file_writer_write(w->file, bytes, n, err));
    w->n_written += n;
    if (w->n_written < d->bytes) return FM_OK;
    w->i_tensor++;
    w->n_written = 0;
    return pad_tensor(w, d->bytes, err);
}

// --- life ---

fm_status fm_gguf_writer_new(const char *path, struct fm_gguf_writer **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_gguf_writer *w = fm__calloc(1, sizeof *w);
    if (!w) return fm__fail_nomem(err, path, sizeof *w);
    w->alignment = FM__GGUF_ALIGNMENT;
    fm_status status = fm__file_writer_open(path, &w->file, err);
    if (status == FM_OK)
        *out = w;
    else
        fm_gguf_writer_free(w);
    return status;
}

void fm_gguf_writer_free(struct fm_gguf_writer *w)
{
    if (!w) return;
    fm__file_writer_close(w->file);
    fm__free(w->kvs.p);
    fm__free(w->tensors);
    fm__names_deinit(&w->keys);
    fm__names_deinit(&w->names);
    fm__arena_deinit(&w->arena);
    fm__free(w);
}

fm_status fm_gguf_writer_finish(struct fm_gguf_writer *w, struct fm_error *err)
{
    if (w->finished) return fm__fail(err, FM_E_ARG, "finished before");
    FM_TRY(begin_data(w, err));
    if (w->i_tensor < w->n_tensors) {
        const struct declared *d = w->tensors[w->i_tensor];
        return fm__fail(err, FM_E_ARG, "tensor \"%s\": %zu bytes of data came, it has %zu",
                        fm__quote(d->name.p, d->name.n).text, w->n_written, d->bytes);
    }
    w->finished = true;
    return fm__file_writer_commit(w->file, err);
}

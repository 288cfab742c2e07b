// SPDX-License-Identifier: MIT
// Writing safetensors: the header is a JSON object that grows with the declarations; the first data call (or finish)
// writes it, padded with blanks to 8 bytes, after which the file only grows.
#include <inttypes.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/quote.h"
#include "fathom/safetensors.h"
#include "format/safetensors_types.h"

struct fm_safetensors_writer {
    struct fm__file_writer *file;
    json_t *header;   // the tensors
    json_t *metadata; // NULL: none yet
    size_t *bytes;    // of each declared tensor
    size_t n_tensors, space;
    uint64_t place; // where the next declared tensor's data go
    bool data_begun, finished;
    size_t i_tensor;  // whose data comes next
    size_t n_written; // bytes of it so far
};

fm_status fm_safetensors_writer_new(const char *path, struct fm_safetensors_writer **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_safetensors_writer *w = fm__calloc(1, sizeof *w);
    if (!w) return fm__fail_nomem(err, path, sizeof *w);
    w->header = json_object();
    fm_status status = w->header ? fm__file_writer_open(path, &w->file, err) : fm__fail_nomem(err, path, sizeof *w);
    if (status == FM_OK)
        *out = w;
    else
        fm_safetensors_writer_free(w);
    return status;
}

void fm_safetensors_writer_free(struct fm_safetensors_writer *w)
{
    if (!w) return;
    fm__file_writer_close(w->file);
    json_decref(w->header);
    json_decref(w->metadata);
    fm__free(w->bytes);
    fm__free(w);
}

static bool is_text(struct fm_str s)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s.p;
    utf8proc_int32_t point = 1;
    for (size_t i = 0; i < s.n;) {
        size_t left = s.n - i < 4 ? s.n - i : 4;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t)left, &point);
        if (n <= 0 || point == 0) return false;
        i += (size_t)n;
    }
    return true;
}

// A JSON text as jansson takes it: a C string in UTF-8. The caller frees *out.
static fm_status copy_text(struct fm_str s, const char *what, char **out, struct fm_error *err)
{
    *out = NULL;
    if (!is_text(s))
        return fm__fail(err, FM_E_ARG, "%s \"%s\": want UTF-8 without zero bytes", what, fm__quote(s.p, s.n).text);
    *out = fm__strndup(s.n ? s.p : "", s.n);
    return *out ? FM_OK : fm__fail_nomem(err, what, s.n);
}

fm_status fm_safetensors_writer_metadata(struct fm_safetensors_writer *w, struct fm_str key, struct fm_str value,
                                         struct fm_error *err)
{
    if (w->data_begun) return fm__fail(err, FM_E_ARG, "metadata after the first data");
    if (!w->metadata && !(w->metadata = json_object())) return fm__fail_nomem(err, "metadata", key.n);
    char *key_copy, *value_copy = NULL;
    fm_status status = copy_text(key, "metadata key", &key_copy, err);
    if (status == FM_OK) status = copy_text(value, "metadata value", &value_copy, err);
    if (status == FM_OK && json_object_get(w->metadata, key_copy))
        status = fm__fail(err, FM_E_ARG, "duplicate metadata key \"%s\"", fm__quote(key.p, key.n).text);
    if (status == FM_OK && json_object_set_new(w->metadata, key_copy, json_string(value_copy)))
        status = fm__fail_nomem(err, "metadata", key.n + value.n);
    fm__free(key_copy);
    fm__free(value_copy);
    return status;
}

// --- tensors ---

static fm_status check_view(const struct fm_tensor *view, const char **type, size_t *bytes, struct fm_error *err)
{
    *type = fm__safetensors_type_name(view->dtype);
    if (!*type) return fm__fail(err, FM_E_ARG, "safetensors has no element type %s", fm_dtype_info(view->dtype)->name);
    if (view->rank < 0 || view->rank > FM_MAX_RANK)
        return fm__fail(err, FM_E_ARG, "rank %d, want 0 to %d", view->rank, FM_MAX_RANK);
    int64_t n = fm_dtype_info(view->dtype)->block_bytes;
    for (int i = 0; i < view->rank; i++)
        if (view->dims[i] < 0 || !fm__mul_i64(n, view->dims[i] ? view->dims[i] : 1, &n))
            return fm__fail(err, FM_E_ARG, "dim %d is %" PRId64 ", want counts that make less than 2^63 bytes", i,
                            view->dims[i]);
    *bytes = fm_tensor_bytes(view);
    return FM_OK;
}

// {"dtype":…,"shape":[…],"data_offsets":[…]}; NULL when memory is out.
static json_t *describe(const struct fm_tensor *view, const char *type, uint64_t from, uint64_t to)
{
    json_t *shape = json_array();
    for (int i = 0; shape && i < view->rank; i++)
        if (json_array_append_new(shape, json_integer(view->dims[i]))) {
            json_decref(shape);
            return NULL;
        }
    if (!shape) return NULL;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape, "data_offsets", (json_int_t)from,
                     (json_int_t)to); // takes the shape also when it fails
}

static bool make_room(struct fm_safetensors_writer *w)
{
    if (w->n_tensors < w->space) return true;
    size_t space = w->space ? w->space * 2 : 64, bytes;
    if (!fm__mul_size(space, sizeof *w->bytes, &bytes)) return false;
    size_t *grown = fm__realloc(w->bytes, bytes);
    if (!grown) return false;
    w->bytes = grown;
    w->space = space;
    return true;
}

static fm_status declare(struct fm_safetensors_writer *w, const char *name, const struct fm_tensor *view,
                         struct fm_error *err)
{
    const char *type;
    size_t bytes = 0;
    uint64_t end;
    FM_TRY(check_view(view, &type, &bytes, err));
    if (!strcmp(name, FM__SAFETENSORS_METADATA))
        return fm__fail(err, FM_E_ARG, "the format keeps this name for itself");
    if (json_object_get(w->header, name)) return fm__fail(err, FM_E_ARG, "declared twice");
    if (__builtin_add_overflow(w->place, bytes, &end) || end > INT64_MAX)
        return fm__fail(err, FM_E_ARG, "the tensors have more than 2^63 bytes");
    if (!make_room(w) || json_object_set_new(w->header, name, describe(view, type, w->place, end)))
        return fm__fail_nomem(err, "tensor table", sizeof *view);
    w->bytes[w->n_tensors++] = bytes;
    w->place = end;
    return FM_OK;
}

fm_status fm_safetensors_writer_tensor(struct fm_safetensors_writer *w, struct fm_str name,
                                       const struct fm_tensor *view, struct fm_error *err)
{
    if (w->data_begun)
        return fm__fail(err, FM_E_ARG, "tensor \"%s\" declared after the first data", fm__quote(name.p, name.n).text);
    char *copy;
    FM_TRY(copy_text(name, "tensor name", &copy, err));
    fm_status status = declare(w, copy, view, err);
    fm__free(copy);
    if (status == FM_OK) return FM_OK;
    return fm__error_prefix(err, status, "tensor \"%s\"", fm__quote(name.p, name.n).text);
}

// --- data ---

// The metadata first, as other writers do. NULL when memory is out; the caller frees it with free().
static char *header_text(const struct fm_safetensors_writer *w)
{
    json_t *whole = json_object();
    bool failed = !whole || (w->metadata && json_object_set(whole, FM__SAFETENSORS_METADATA, w->metadata)) ||
                  json_object_update(whole, w->header);
    char *text = failed ? NULL : json_dumps(whole, JSON_COMPACT);
    json_decref(whole);
    return text;
}

// jansson's allocations are freed by its own functions, which the program may have set.
static void free_text(char *text)
{
    json_free_t jansson_free;
    json_get_alloc_funcs(NULL, &jansson_free);
    if (text) jansson_free(text);
}

static fm_status begin_data(struct fm_safetensors_writer *w, struct fm_error *err)
{
    if (w->data_begun) return FM_OK;
    char *text = header_text(w);
    if (!text) return fm__fail_nomem(err, "safetensors header", w->n_tensors * 100);
    size_t n = strlen(text), padding = (0 - n) & 7;
    uint64_t length = n + padding;
    w->data_begun = true;
    fm_status status = fm__file_writer_write(w->file, &length, sizeof length, err);
    if (status == FM_OK) status = fm__file_writer_write(w->file, text, n, err);
    if (status == FM_OK) status = fm__file_writer_write(w->file, "        ", padding, err);
    free_text(text);
    return status;
}

// Passes over tensors that have all their bytes.
static void next_tensor(struct fm_safetensors_writer *w)
{
    while (w->i_tensor < w->n_tensors && w->n_written == w->bytes[w->i_tensor]) {
        w->i_tensor++;
        w->n_written = 0;
    }
}

fm_status fm_safetensors_writer_data(struct fm_safetensors_writer *w, const void *bytes, size_t n, struct fm_error *err)
{
    FM_TRY(begin_data(w, err));
    if (n == 0) return FM_OK;
    next_tensor(w);
    if (w->i_tensor == w->n_tensors) return fm__fail(err, FM_E_ARG, "%zu bytes after the data of the last tensor", n);
    if (n > w->bytes[w->i_tensor] - w->n_written)
        return fm__fail(err, FM_E_ARG, "tensor %zu: %zu bytes after %zu, it has %zu", w->i_tensor, n, w->n_written,
                        w->bytes[w->i_tensor]);
    FM_TRY(fm__file_writer_write(w->file, bytes, n, err));
    w->n_written += n;
    return FM_OK;
}

fm_status fm_safetensors_writer_finish(struct fm_safetensors_writer *w, struct fm_error *err)
{
    if (w->finished) return fm__fail(err, FM_E_ARG, "finished before");
    FM_TRY(begin_data(w, err));
    next_tensor(w);
    if (w->i_tensor < w->n_tensors)
        return fm__fail(err, FM_E_ARG, "tensor %zu: %zu bytes of data came, it has %zu", w->i_tensor, w->n_written,
                        w->bytes[w->i_tensor]);
    w->finished = true;
    return fm__file_writer_commit(w->file, err);
}

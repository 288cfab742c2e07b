// SPDX-License-Identifier: MIT
// Opening safetensors files. A file is: u64 n; n bytes of JSON {"name": {"dtype", "shape", "data_offsets": [from, to]},
// …, "__metadata__": {text: text}}, blanks at its end; the data. Invariant once open: the tensors of each file, sorted
// by place, follow one another from the first byte of the data to the last.
#include "fathom/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "format/names.h"
#include "format/safetensors_types.h"
#include "format/source.h"

enum {
    MAX_HEADER = 100 * 1000 * 1000, // the limit that other readers of the format set
    MAX_SHARDS = 1024,
};

struct text_pair {
    struct fm_str key, value;
};

struct fm_safetensors {
    struct fm__arena arena; // tensors, names, metadata
    struct fm__source *shards;
    int n_shards;
    struct fm_safetensors_tensor *tensors; // addresses settle when the last file is read
    size_t n_tensors;
    struct fm__names names;
    struct text_pair *metadata; // of the first file
    size_t n_metadata;
};

static const struct {
    const char *name;
    fm_dtype dtype;
} types[] = {{"F64", FM_F64}, {"F32", FM_F32}, {"F16", FM_F16}, {"BF16", FM_BF16}, {"I64", FM_I64},
             {"I32", FM_I32}, {"I16", FM_I16}, {"I8", FM_I8},   {"U8", FM_U8}};

const char *fm__safetensors_type_name(fm_dtype dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype) return types[i].name;
    return NULL;
}

fm_dtype fm__safetensors_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) return types[i].dtype;
    return FM_DTYPE_COUNT;
}

// --- one tensor of the header ---

static fm_status copy_text(struct fm_safetensors *s, const char *p, size_t n, struct fm_str *out, struct fm_error *err)
{
    char *copy = fm__arena_strndup(&s->arena, p, n);
    if (!copy) return fm__fail_nomem(err, "safetensors header", n);
    *out = (struct fm_str){copy, n};
    return FM_OK;
}

// Non-negative integer number `i` of a JSON array.
static bool count_at(const json_t *array, size_t i, int64_t *out)
{
    const json_t *value = json_array_get(array, i);
    if (!json_is_integer(value)) return false;
    *out = json_integer_value(value);
    return *out >= 0;
}

static fm_status read_shape(const json_t *entry, struct fm_safetensors_tensor *t, struct fm_error *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape");
    if (!json_is_string(dtype)) return fm__fail(err, FM_E_FORMAT, "no dtype");
    if (!json_is_array(shape)) return fm__fail(err, FM_E_FORMAT, "no shape");
    const char *name = json_string_value(dtype);
    t->view.dtype = fm__safetensors_type(name);
    if (t->view.dtype == FM_DTYPE_COUNT)
        return fm__fail(err, FM_E_UNSUPPORTED, "dtype %s is not supported", fm__quote(name, strlen(name)).text);
    size_t rank = json_array_size(shape);
    if (rank > FM_MAX_RANK) return fm__fail(err, FM_E_UNSUPPORTED, "rank %zu, want at most %d", rank, FM_MAX_RANK);
    t->view.rank = (int)rank;
    // dims of 0 are legal; the others' product must still be a number, for strides
    int64_t elements = 1, bytes;
    for (size_t i = 0; i < rank; i++) {
        int64_t *dim = &t->view.dims[i];
        if (!count_at(shape, i, dim) || !fm__mul_i64(elements, *dim ? *dim : 1, &elements))
            return fm__fail(err, FM_E_FORMAT, "dim %zu is not a count, or there are more than 2^63 elements", i);
    }
    if (!fm__mul_i64(elements, fm_dtype_info(t->view.dtype)->block_bytes, &bytes))
        return fm__fail(err, FM_E_FORMAT, "%" PRId64 " elements of %s are too many", elements, name);
    t->bytes = fm_tensor_bytes(&t->view);
    fm_tensor_set_contiguous(&t->view);
    return FM_OK;
}

// data_start and data_bytes: the file's data.
static fm_status read_place(const json_t *entry, struct fm_safetensors_tensor *t, uint64_t data_start,
                            uint64_t data_bytes, struct fm_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    int64_t from, to;
    if (json_array_size(offsets) != 2 || !count_at(offsets, 0, &from) || !count_at(offsets, 1, &to) || from > to)
        return fm__fail(err, FM_E_FORMAT, "data_offsets: want [from, to]");
    if ((uint64_t)to > data_bytes)
        return fm__fail(err, FM_E_FORMAT,
                        "data_offsets: end %" PRId64 ", the file has %" PRIu64 " bytes of data (at byte %" PRIu64 ")",
                        to, data_bytes, data_start);
    if ((uint64_t)(to - from) != t->bytes)
        return fm__fail(err, FM_E_FORMAT, "data_offsets: %" PRId64 " bytes, dtype and shape make %zu", to - from,
                        t->bytes);
    t->file_offset = data_start + (uint64_t)from;
    return FM_OK;
}

static fm_status read_tensor(struct fm_safetensors *s, const char *name, const json_t *entry, uint64_t data_start,
                             struct fm_error *err)
{
    struct fm_safetensors_tensor *t = &s->tensors[s->n_tensors]; // load_file made room
    *t = (struct fm_safetensors_tensor){.shard = s->n_shards - 1};
    FM_TRY(copy_text(s, name, strlen(name), &t->name, err));
    fm_status status = read_shape(entry, t, err);
    uint64_t size = s->shards[t->shard].size;
    if (status == FM_OK) status = read_place(entry, t, data_start, size - data_start, err);
    if (status == FM_OK) status = fm__names_add(&s->names, t->name, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "tensor \"%s\"", fm__quote(t->name.p, t->name.n).text);
    s->n_tensors++;
    return FM_OK;
}

// --- a header ---

static fm_status read_metadata(struct fm_safetensors *s, json_t *object, struct fm_error *err)
{
    if (!json_is_object(object))
        return fm__fail(err, FM_E_FORMAT, FM__SAFETENSORS_METADATA ": want an object of texts");
    bool keep = s->n_shards == 1;
    if (keep) {
        s->metadata = fm__arena_alloc(&s->arena, json_object_size(object) * sizeof *s->metadata);
        if (!s->metadata) return fm__fail_nomem(err, FM__SAFETENSORS_METADATA, json_object_size(object));
    }
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return fm__fail(err, FM_E_FORMAT, FM__SAFETENSORS_METADATA " \"%s\": want a text",
                            fm__quote(key, strlen(key)).text);
        if (!keep) continue;
        struct text_pair *pair = &s->metadata[s->n_metadata];
        FM_TRY(copy_text(s, key, strlen(key), &pair->key, err));
        FM_TRY(copy_text(s, json_string_value(value), json_string_length(value), &pair->value, err));
        s->n_metadata++;
    }
    return FM_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct fm_safetensors_tensor *x = *(const struct fm_safetensors_tensor *const *)a;
    const struct fm_safetensors_tensor *y = *(const struct fm_safetensors_tensor *const *)b;
    if (x->file_offset != y->file_offset) return x->file_offset < y->file_offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // those without bytes first
}

// The tensors from `first` on are those of one file: they must cover its data from `data_start` to its end.
static fm_status check_cover(const struct fm_safetensors *s, size_t first, uint64_t data_start, uint64_t size,
                             struct fm_error *err)
{
    size_t n = s->n_tensors - first;
    const struct fm_safetensors_tensor **sorted = fm__calloc(n, sizeof(struct fm_safetensors_tensor *));
    if (!sorted) return fm__fail_nomem(err, "safetensors header", n * sizeof(struct fm_safetensors_tensor *));
    for (size_t i = 0; i < n; i++) sorted[i] = &s->tensors[first + i];
    qsort(sorted, n, sizeof(struct fm_safetensors_tensor *), by_place);
    uint64_t end = data_start;
    fm_status status = FM_OK;
    for (size_t i = 0; i < n && status == FM_OK; end = sorted[i]->file_offset + sorted[i]->bytes, i++)
        if (sorted[i]->file_offset != end)
            status = fm__fail(err, FM_E_FORMAT,
                              "tensor \"%s\": begins at byte %" PRIu64 ", the data before it end at byte %" PRIu64,
                              fm__quote(sorted[i]->name.p, sorted[i]->name.n).text, sorted[i]->file_offset, end);
    if (status == FM_OK && end != size)
        status =
            fm__fail(err, FM_E_FORMAT, "the tensors end at byte %" PRIu64 ", the file at byte %" PRIu64, end, size);
    fm__free(sorted);
    return status;
}

static fm_status read_entries(struct fm_safetensors *s, json_t *header, uint64_t data_start, struct fm_error *err)
{
    if (!json_is_object(header)) return fm__fail(err, FM_E_FORMAT, "header: want a JSON object (at byte 8)");
    size_t n = s->n_tensors + json_object_size(header), first = s->n_tensors;
    struct fm_safetensors_tensor *grown = fm__realloc(s->tensors, n * sizeof *grown); // n is bounded by the header
    if (!grown) return fm__fail_nomem(err, "safetensors header", n * sizeof *grown);
    s->tensors = grown;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value)
    {
        if (!strcmp(key, FM__SAFETENSORS_METADATA))
            FM_TRY(read_metadata(s, value, err));
        else
            FM_TRY(read_tensor(s, key, value, data_start, err));
    }
    return check_cover(s, first, data_start, s->shards[s->n_shards - 1].size, err);
}

// Reads the header of the last source of `s`.
static fm_status load_file(struct fm_safetensors *s, struct fm_error *err)
{
    const struct fm__source *source = &s->shards[s->n_shards - 1];
    uint64_t n;
    if (source->size < sizeof n)
        return fm__fail(err, FM_E_FORMAT, "%" PRIu64 " bytes, a safetensors file begins with 8 (at byte 0)",
                        source->size);
    FM_TRY(fm__source_read(source, 0, &n, sizeof n, err));
    if (n > source->size - sizeof n)
        return fm__fail(err, FM_E_FORMAT,
                        "header of %" PRIu64 " bytes, the file has %" PRIu64 " after its length (at byte 0)", n,
                        source->size - sizeof n);
    if (n > MAX_HEADER)
        return fm__fail(err, FM_E_LIMIT, "header of %" PRIu64 " bytes, want at most %d (at byte 0)", n, MAX_HEADER);
    char *text = fm__malloc((size_t)n);
    if (!text) return fm__fail_nomem(err, "safetensors header", n);
    json_t *header = NULL;
    const struct fm__json_limits limits = {.bytes = MAX_HEADER, .depth = 8};
    fm_status status = fm__source_read(source, sizeof n, text, (size_t)n, err);
    if (status == FM_OK) {
        status = fm__json_parse(text, (size_t)n, &limits, &header, err);
        if (status != FM_OK) fm__error_prefix(err, status, "header after byte 8");
    }
    fm__free(text);
    if (status == FM_OK) status = read_entries(s, header, sizeof n + n, err);
    json_decref(header);
    return status;
}

static fm_status add_source(struct fm_safetensors *s, struct fm__source source, struct fm_error *err)
{
    struct fm__source *grown = fm__realloc(s->shards, (size_t)(s->n_shards + 1) * sizeof *grown);
    if (!grown) {
        fm__source_close(&source);
        return fm__fail_nomem(err, "safetensors files", sizeof *grown);
    }
    s->shards = grown;
    s->shards[s->n_shards++] = source;
    return load_file(s, err);
}

static fm_status add_file(struct fm_safetensors *s, const char *path, struct fm_error *err)
{
    struct fm__source source;
    FM_TRY(fm__source_open(path, &source, err)); // names the path itself
    fm_status status = add_source(s, source, err);
    return status == FM_OK ? FM_OK : fm__error_prefix(err, status, "%s", path);
}

// --- sharded models ---

// The file `name` in the folder of `path`, or in `path` itself when that is a folder. The caller frees it.
static fm_status join(const char *path, bool is_folder, const char *name, char **out, struct fm_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t n_folder = is_folder ? strlen(path) : slash ? (size_t)(slash - path) : 0;
    size_t space = n_folder + strlen(name) + 2;
    *out = fm__malloc(space);
    if (!*out) return fm__fail_nomem(err, path, space);
    snprintf(*out, space, "%.*s%s%s", (int)n_folder, path, is_folder || slash ? "/" : "", name);
    return FM_OK;
}

// Opens file `name` unless an earlier entry of the index did; *shard is its number.
static fm_status open_shard(struct fm_safetensors *s, const char *index_path, struct fm__names *files, const char *name,
                            int *shard, struct fm_error *err)
{
    int64_t known = fm__names_find(files, name, strlen(name));
    if (known >= 0) {
        *shard = (int)known;
        return FM_OK;
    }
    if (!*name || strchr(name, '/') || !strcmp(name, ".."))
        return fm__fail(err, FM_E_FORMAT, "file \"%s\": want the name of a file beside the index",
                        fm__quote(name, strlen(name)).text);
    if (s->n_shards == MAX_SHARDS) return fm__fail(err, FM_E_LIMIT, "more than %d files", MAX_SHARDS);
    char *path;
    FM_TRY(join(index_path, false, name, &path, err));
    *shard = s->n_shards;
    fm_status status = fm__names_add(files, (struct fm_str){name, strlen(name)}, err);
    if (status == FM_OK) status = add_file(s, path, err);
    fm__free(path);
    return status;
}

// Opens every file that the map names, and finds every tensor where the map says it is.
static fm_status read_index(struct fm_safetensors *s, const char *path, json_t *index, struct fm_error *err)
{
    json_t *map = json_object_get(index, "weight_map"), *file;
    const char *name;
    struct fm__names files = {0};
    fm_status status = FM_OK;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return fm__fail(err, FM_E_FORMAT, "weight_map: want an object of tensors and their files");
    json_object_foreach(map, name, file)
    {
        int shard = -1;
        if (!json_is_string(file))
            status = fm__fail(err, FM_E_FORMAT, "weight_map: want the name of a file for \"%s\"",
                              fm__quote(name, strlen(name)).text);
        else
            status = open_shard(s, path, &files, json_string_value(file), &shard, err);
        if (status != FM_OK) break;
        const struct fm_safetensors_tensor *t = fm_safetensors_find_tensor(s, name);
        if (t && t->shard == shard) continue;
        status =
            fm__fail(err, FM_E_FORMAT, "weight_map: tensor \"%s\" is not in \"%s\"", fm__quote(name, strlen(name)).text,
                     fm__quote(json_string_value(file), json_string_length(file)).text);
        break;
    }
    fm__names_deinit(&files);
    return status;
}

static fm_status open_index(struct fm_safetensors *s, const char *path, struct fm_error *err)
{
    char *text;
    size_t n;
    json_t *index = NULL;
    const struct fm__json_limits limits = {.bytes = MAX_HEADER, .depth = 8};
    FM_TRY(fm__file_read_all(path, MAX_HEADER, &text, &n, err)); // names the path itself
    fm_status status = fm__json_parse(text, n, &limits, &index, err);
    fm__free(text);
    if (status == FM_OK) status = read_index(s, path, index, err);
    json_decref(index);
    return status == FM_OK ? FM_OK : fm__error_prefix(err, status, "%s", path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && !strcmp(text + n - n_end, end);
}

// What is in the folder: one file, or an index.
static fm_status open_folder(struct fm_safetensors *s, const char *path, struct fm_error *err)
{
    struct stat st;
    char *file;
    FM_TRY(join(path, true, "model.safetensors", &file, err));
    bool single = !stat(file, &st);
    fm_status status = single ? add_file(s, file, err) : FM_OK;
    fm__free(file);
    if (single) return status;
    FM_TRY(join(path, true, "model.safetensors.index.json", &file, err));
    if (stat(file, &st))
        status =
            fm__fail(err, FM_E_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json in it", path);
    else
        status = open_index(s, file, err);
    fm__free(file);
    return status;
}

// --- public ---

fm_status fm_safetensors_open(const char *path, struct fm_safetensors **out, struct fm_error *err)
{
    *out = NULL;
    struct stat st;
    struct fm_safetensors *s = fm__calloc(1, sizeof *s);
    if (!s) return fm__fail_nomem(err, path, sizeof *s);
    fm_status status;
    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        status = open_folder(s, path, err);
    else
        status = ends_with(path, ".json") ? open_index(s, path, err) : add_file(s, path, err);
    if (status == FM_OK)
        *out = s;
    else
        fm_safetensors_close(s);
    return status;
}

fm_status fm_safetensors_open_memory(const void *bytes, size_t n, struct fm_safetensors **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_safetensors *s = fm__calloc(1, sizeof *s);
    if (!s) return fm__fail_nomem(err, "safetensors", sizeof *s);
    fm_status status = add_source(s, fm__source_of_memory(bytes, n), err);
    if (status == FM_OK)
        *out = s;
    else
        fm_safetensors_close(s);
    return status;
}

void fm_safetensors_close(struct fm_safetensors *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_shards; i++) fm__source_close(&s->shards[i]);
    fm__free(s->shards);
    fm__free(s->tensors);
    fm__names_deinit(&s->names);
    fm__arena_deinit(&s->arena);
    fm__free(s);
}

uint64_t fm_safetensors_n_tensors(const struct fm_safetensors *s)
{
    return s->n_tensors;
}

const struct fm_safetensors_tensor *fm_safetensors_tensor_at(const struct fm_safetensors *s, uint64_t i)
{
    return i < s->n_tensors ? &s->tensors[i] : NULL;
}

const struct fm_safetensors_tensor *fm_safetensors_find_tensor(const struct fm_safetensors *s, const char *name)
{
    int64_t i = fm__names_find(&s->names, name, strlen(name));
    return i < 0 ? NULL : &s->tensors[i];
}

uint64_t fm_safetensors_n_metadata(const struct fm_safetensors *s)
{
    return s->n_metadata;
}

bool fm_safetensors_metadata_at(const struct fm_safetensors *s, uint64_t i, struct fm_str *key, struct fm_str *value)
{
    if (i >= s->n_metadata) return false;
    *key = s->metadata[i].key;
    *value = s->metadata[i].value;
    return true;
}

bool fm_safetensors_get(const struct fm_safetensors *s, const char *key, struct fm_str *value)
{
    for (size_t i = 0; i < s->n_metadata; i++) // a handful
        if (!strcmp(s->metadata[i].key.p, key)) {
            *value = s->metadata[i].value;
            return true;
        }
    return false;
}

fm_status fm_safetensors_read(const struct fm_safetensors *s, const struct fm_safetensors_tensor *t, size_t offset,
                              void *dst, size_t n, struct fm_error *err)
{
    fm_status status;
    if (offset > t->bytes || n > t->bytes - offset)
        status = fm__fail(err, FM_E_ARG, "read of %zu bytes at %zu, it has %zu", n, offset, t->bytes);
    else
        status = fm__source_read(&s->shards[t->shard], t->file_offset + offset, dst, n, err);
    if (status == FM_OK) return FM_OK;
    return fm__error_prefix(err, status, "tensor \"%s\"", fm__quote(t->name.p, t->name.n).text);
}

// SPDX-License-Identifier: MIT
// Opening GGUF files: header, tensor table, the place of every tensor, split models, reading data.
// Invariant once open: every tensor has a type of dtype.def, dims ≥ 1 whose bytes fit int64_t, an aligned place that
// overlaps no other, and (except with vocab_only) lies inside its file.
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "format/gguf_internal.h"

struct load {
    struct fm_gguf *g;
    int shard;
    bool vocab_only;
    struct fm__gguf_cursor cursor;
    uint64_t n_tensors, n_kvs; // as the header says
    size_t first;              // index of this shard's first tensor
};

// --- header ---

static fm_status read_header(struct load *l, struct fm_error *err)
{
    struct fm__gguf_cursor *c = &l->cursor;
    char magic[4];
    uint32_t version;
    FM_TRY(fm__gguf_take(c, magic, sizeof magic, "magic", err));
    if (memcmp(magic, "GGUF", 4))
        return fm__fail(err, FM_E_FORMAT, "magic \"%s\", want \"GGUF\" (at byte 0)", fm__quote(magic, 4).text);
    FM_TRY(fm__gguf_take_u32(c, &version, "version", err));
    if (version && !(version & 0xffff))
        return fm__fail(err, FM_E_UNSUPPORTED, "big-endian file, want little endian (at byte 4)");
    if (version != 2 && version != 3)
        return fm__fail(err, FM_E_UNSUPPORTED, "version %" PRIu32 ", want 2 or 3 (at byte 4)", version);
    FM_TRY(fm__gguf_take_u64(c, &l->n_tensors, "tensor count", err));
    FM_TRY(fm__gguf_take_u64(c, &l->n_kvs, "metadata count", err));
    // least bytes: a tensor has a name of 1 byte, rank, type, offset; an entry a key of 1 byte, type, value of 1
    enum { LEAST_TENSOR = 9 + 4 + 4 + 8, LEAST_KV = 9 + 4 + 1 };
    uint64_t left = c->end - c->at;
    if (l->n_tensors > left / LEAST_TENSOR)
        return fm__fail(err, FM_E_FORMAT,
                        "%" PRIu64 " tensors, the %" PRIu64 " bytes left cannot list them (at byte 8)", l->n_tensors,
                        left);
    if (l->n_kvs > left / LEAST_KV)
        return fm__fail(err, FM_E_FORMAT,
                        "%" PRIu64 " metadata entries, the %" PRIu64 " bytes left cannot hold them (at byte 16)",
                        l->n_kvs, left);
    return FM_OK;
}

// --- tensor table ---

// Reverses the file's innermost-first dims into the view and computes bytes and strides.
static fm_status read_shape(struct fm__gguf_cursor *c, struct fm_gguf_tensor *t, struct fm_error *err)
{
    uint32_t rank, type;
    uint64_t start = c->at, dims[FM_MAX_RANK];
    FM_TRY(fm__gguf_take_u32(c, &rank, "rank", err));
    if (rank > FM_MAX_RANK)
        return fm__fail(err, FM_E_FORMAT, "rank %" PRIu32 ", want at most %d (at byte %" PRIu64 ")", rank, FM_MAX_RANK,
                        start);
    t->view.rank = (int)rank;
    int64_t elements = 1;
    for (int i = 0; i < t->view.rank; i++) {
        start = c->at;
        FM_TRY(fm__gguf_take_u64(c, &dims[i], "dims", err));
        if (dims[i] == 0 || dims[i] > INT64_MAX || !fm__mul_i64(elements, (int64_t)dims[i], &elements))
            return fm__fail(err, FM_E_FORMAT,
                            "dim %d is %" PRIu64 ", want 1 to 2^63 elements in all (at byte %" PRIu64 ")", i, dims[i],
                            start);
        t->view.dims[t->view.rank - 1 - i] = (int64_t)dims[i];
    }
    start = c->at;
    FM_TRY(fm__gguf_take_u32(c, &type, "type", err));
    t->view.dtype = type <= INT_MAX ? fm_dtype_from_gguf((int)type) : FM_DTYPE_COUNT;
    if (t->view.dtype == FM_DTYPE_COUNT)
        return fm__fail(err, FM_E_UNSUPPORTED, "type number %" PRIu32 " is not supported (at byte %" PRIu64 ")", type,
                        start);
    const struct fm_dtype_info *info = fm_dtype_info(t->view.dtype);
    t->bytes = fm_tensor_bytes(&t->view);
    if (t->bytes == 0 && (rank ? t->view.dims[rank - 1] : 1) % info->block_elements)
        return fm__fail(err, FM_E_FORMAT,
                        "%s rows of %" PRId64 " elements, want a multiple of %d (at byte %" PRIu64 ")", info->name,
                        rank ? t->view.dims[rank - 1] : 1, info->block_elements, start);
    if (t->bytes == 0 || t->bytes > INT64_MAX)
        return fm__fail(err, FM_E_FORMAT, "%" PRId64 " elements of %s are too many (at byte %" PRIu64 ")", elements,
                        info->name, start);
    fm_tensor_set_contiguous(&t->view);
    return FM_OK;
}

// file_offset stays relative to the data's start until place_tensors.
static fm_status read_tensor(struct load *l, struct fm_error *err)
{
    struct fm_gguf *g = l->g;
    struct fm__gguf_cursor *c = &l->cursor;
    uint64_t start = c->at;
    struct fm_gguf_tensor *t = fm__arena_alloc(&g->arena, sizeof *t);
    if (!t || !fm__gguf_reserve((void **)&g->tensors, &g->tensor_space, g->n_tensors))
        return fm__fail_nomem(err, "tensor table", sizeof *t);
    t->shard = l->shard;
    FM_TRY(fm__gguf_take_name(c, g, &t->name, "tensor name", err));
    fm_status status = fm__names_add(&g->tensor_names, t->name, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "tensor name at byte %" PRIu64, start);
    status = read_shape(c, t, err);
    if (status == FM_OK) status = fm__gguf_take_u64(c, &t->file_offset, "offset", err);
    if (status != FM_OK) return fm__error_prefix(err, status, "tensor \"%s\"", fm__quote(t->name.p, t->name.n).text);
    g->tensors[g->n_tensors++] = t;
    return FM_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct fm_gguf_tensor *x = *(const struct fm_gguf_tensor *const *)a;
    const struct fm_gguf_tensor *y = *(const struct fm_gguf_tensor *const *)b;
    return (x->file_offset > y->file_offset) - (x->file_offset < y->file_offset);
}

// `sorted` are the shard's n ≥ 1 tensors by place. Neighbours must not overlap.
static fm_status check_overlap(struct fm_gguf_tensor **sorted, size_t n, struct fm_error *err)
{
    for (size_t i = 1; i < n; i++) {
        const struct fm_gguf_tensor *a = sorted[i - 1], *b = sorted[i];
        if (a->bytes <= b->file_offset - a->file_offset) continue;
        return fm__fail(err, FM_E_FORMAT,
                        "tensor \"%s\" (%zu bytes at byte %" PRIu64 ") overlaps \"%s\" (at byte %" PRIu64 ")",
                        fm__quote(a->name.p, a->name.n).text, a->bytes, a->file_offset,
                        fm__quote(b->name.p, b->name.n).text, b->file_offset);
    }
    return FM_OK;
}

// The last tensor's data must be there. Writers pad it to the alignment or not at all; a file that ends in the middle
// of that padding was cut.
static fm_status check_end(const struct fm_gguf_tensor *last, uint64_t size, size_t alignment, struct fm_error *err)
{
    uint64_t end = last->file_offset + last->bytes; // read_shape and place_tensors bound both by INT64_MAX
    uint64_t padded = end + ((0 - end) & (alignment - 1));
    if (size == end || size >= padded) return FM_OK;
    return fm__fail(err, FM_E_FORMAT,
                    "tensor \"%s\": its %zu bytes %s at byte %" PRIu64 ", the file ends at byte %" PRIu64,
                    fm__quote(last->name.p, last->name.n).text, last->bytes, size < end ? "end" : "and padding end",
                    size < end ? end : padded, size);
}

// Turns relative offsets into places in the file and checks them.
static fm_status place_tensors(struct load *l, size_t alignment, struct fm_error *err)
{
    struct fm_gguf *g = l->g;
    size_t n = g->n_tensors - l->first;
    uint64_t start = l->cursor.at + ((0 - l->cursor.at) & (alignment - 1));
    if (n == 0) return FM_OK;
    for (size_t i = l->first; i < g->n_tensors; i++) {
        struct fm_gguf_tensor *t = g->tensors[i];
        uint64_t offset = t->file_offset, place, end;
        if (offset & (alignment - 1))
            return fm__fail(err, FM_E_FORMAT, "tensor \"%s\": offset %" PRIu64 ", want a multiple of %zu",
                            fm__quote(t->name.p, t->name.n).text, offset, alignment);
        if (__builtin_add_overflow(start, offset, &place) || __builtin_add_overflow(place, t->bytes, &end) ||
            end > INT64_MAX || (!l->vocab_only && end > g->shards[l->shard].size))
            return fm__fail(err, FM_E_FORMAT,
                            "tensor \"%s\": %zu bytes at offset %" PRIu64 " of the data, which has %" PRIu64
                            " (at byte %" PRIu64 ")",
                            fm__quote(t->name.p, t->name.n).text, t->bytes, offset,
                            g->shards[l->shard].size > start ? g->shards[l->shard].size - start : 0, start);
        t->file_offset = place;
    }
    struct fm_gguf_tensor **sorted = fm__malloc(n * sizeof(struct fm_gguf_tensor *));
    if (!sorted) return fm__fail_nomem(err, "tensor table", n * sizeof(struct fm_gguf_tensor *));
    memcpy(sorted, g->tensors + l->first, n * sizeof(struct fm_gguf_tensor *));
    qsort(sorted, n, sizeof(struct fm_gguf_tensor *), by_place);
    fm_status status = check_overlap(sorted, n, err);
    if (status == FM_OK && !l->vocab_only) status = check_end(sorted[n - 1], g->shards[l->shard].size, alignment, err);
    fm__free(sorted);
    return status;
}

// --- a file ---

static fm_status load_tables(struct load *l, struct fm__gguf_meta *meta, struct fm_error *err)
{
    size_t alignment;
    FM_TRY(read_header(l, err));
    FM_TRY(fm__gguf_read_meta(&l->cursor, l->g, l->n_kvs, meta, err));
    FM_TRY(fm__gguf_alignment(meta, &alignment, err));
    for (uint64_t i = 0; i < l->n_tensors; i++) FM_TRY(read_tensor(l, err));
    return place_tensors(l, alignment, err);
}

// Reads everything but the data of shard `shard`, whose source is open, its metadata into `meta`.
static fm_status load_shard(struct fm_gguf *g, int shard, bool vocab_only, struct fm__gguf_meta *meta,
                            struct fm_error *err)
{
    const struct fm__source *source = &g->shards[shard];
    struct load l = {.g = g, .shard = shard, .vocab_only = vocab_only, .first = g->n_tensors};
    l.cursor = (struct fm__gguf_cursor){.source = source, .end = source->size};
    if (l.cursor.end > FM__GGUF_MAX_HEADER) l.cursor.end = FM__GGUF_MAX_HEADER;
    if (!source->bytes && !(l.cursor.window = fm__malloc(FM__GGUF_WINDOW)))
        return fm__fail_nomem(err, "file window", FM__GGUF_WINDOW);
    fm_status status = load_tables(&l, meta, err);
    fm__free(l.cursor.window);
    return status;
}

static fm_status add_file(struct fm_gguf *g, const char *path, struct fm_error *err)
{
    struct fm__source *grown = fm__realloc(g->shards, (size_t)(g->n_shards + 1) * sizeof *grown);
    if (!grown) return fm__fail_nomem(err, path, sizeof *grown);
    g->shards = grown;
    FM_TRY(fm__source_open(path, &g->shards[g->n_shards], err));
    g->n_shards++;
    return FM_OK;
}

// --- split models ---

// Which file of how many this is: split.no and split.count of its metadata; 0 of 1 where they are absent.
static fm_status split_place(const struct fm__gguf_meta *meta, int64_t *no, int64_t *count, struct fm_error *err)
{
    *no = 0, *count = 1;
    const struct fm_gguf_kv *kv_no = fm__gguf_meta_find(meta, "split.no");
    const struct fm_gguf_kv *kv_count = fm__gguf_meta_find(meta, "split.count");
    if (!kv_no && !kv_count) return FM_OK;
    if (!kv_no || !kv_count || kv_no->type == FM_GGUF_ARRAY || kv_count->type == FM_GGUF_ARRAY ||
        !fm_gguf_kv_i64_at(kv_no, 0, no) || !fm_gguf_kv_i64_at(kv_count, 0, count))
        return fm__fail(err, FM_E_FORMAT, "split.no and split.count: want both, as integers");
    if (*count == 0) *count = 1; // what an unsplit file says that was merged
    if (*count < 1 || *count > FM__GGUF_MAX_SHARDS || *no < 0 || *no >= *count)
        return fm__fail(err, FM_E_FORMAT, "split.no %" PRId64 " of split.count %" PRId64 ", want 0 to %d", *no, *count,
                        FM__GGUF_MAX_SHARDS - 1);
    return FM_OK;
}

// The name of file `i` beside `path`, which is file `no` of `count`: "x-00002-of-00005.gguf". The caller frees it.
static fm_status shard_path(const char *path, int no, int count, int i, char **out, struct fm_error *err)
{
    char suffix[64];
    *out = NULL;
    snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", no + 1, count);
    size_t n = strlen(path), n_suffix = strlen(suffix);
    if (n < n_suffix || strcmp(path + n - n_suffix, suffix))
        return fm__fail(err, FM_E_FORMAT, "it is part %d of %d of a split model, so its name must end with \"%s\"",
                        no + 1, count, suffix);
    *out = fm__malloc(n + sizeof suffix);
    if (!*out) return fm__fail_nomem(err, path, n);
    sprintf(*out, "%.*s-%05d-of-%05d.gguf", (int)(n - n_suffix), path, i + 1, count);
    return FM_OK;
}

// Adds file `i` of `count`; for i = 0 its metadata become the model's.
static fm_status add_shard(struct fm_gguf *g, const char *path, int i, int count, bool vocab_only, struct fm_error *err)
{
    int64_t no, n_files;
    struct fm__gguf_meta own = {0}, *meta = i ? &own : &g->meta;
    FM_TRY(add_file(g, path, err)); // names the path itself
    fm_status status = load_shard(g, i, vocab_only, meta, err);
    if (status == FM_OK) status = split_place(meta, &no, &n_files, err);
    if (status == FM_OK && (no != i || n_files != count))
        status = fm__fail(err, FM_E_FORMAT, "says it is part %" PRId64 " of %" PRId64 ", want %d of %d", no + 1,
                          n_files, i + 1, count);
    fm__gguf_meta_deinit(&own);
    return status == FM_OK ? FM_OK : fm__error_prefix(err, status, "%s", path);
}

// The number of tensors that the first file promises for all of them.
static fm_status check_split_total(const struct fm_gguf *g, struct fm_error *err)
{
    int64_t want;
    if (!fm_gguf_get_i64(g, "split.tensors.count", &want) || (uint64_t)want == g->n_tensors) return FM_OK;
    return fm__fail(err, FM_E_FORMAT, "the files have %zu tensors, split.tensors.count says %" PRId64, g->n_tensors,
                    want);
}

static fm_status open_split(const char *path, int no, int count, bool vocab_only, struct fm_gguf **out,
                            struct fm_error *err)
{
    struct fm_gguf *g = fm__calloc(1, sizeof *g);
    if (!g) return fm__fail_nomem(err, path, sizeof *g);
    fm_status status = FM_OK;
    for (int i = 0; i < count && status == FM_OK; i++) {
        char *name;
        status = shard_path(path, no, count, i, &name, err);
        if (status != FM_OK)
            fm__error_prefix(err, status, "%s", path);
        else
            status = add_shard(g, name, i, count, vocab_only, err);
        fm__free(name);
    }
    if (status == FM_OK) status = check_split_total(g, err);
    if (status == FM_OK)
        *out = g;
    else
        fm_gguf_close(g);
    return status;
}

// --- public ---

fm_status fm_gguf_open(const char *path, const struct fm_gguf_open_opts *opts, struct fm_gguf **out,
                       struct fm_error *err)
{
    *out = NULL;
    bool vocab_only = opts && opts->vocab_only;
    int64_t no, count;
    struct fm_gguf *g = fm__calloc(1, sizeof *g);
    if (!g) return fm__fail_nomem(err, path, sizeof *g);
    fm_status status = add_file(g, path, err);
    if (status == FM_OK) {
        status = load_shard(g, 0, vocab_only, &g->meta, err);
        if (status == FM_OK) status = split_place(&g->meta, &no, &count, err);
        if (status != FM_OK) fm__error_prefix(err, status, "%s", path);
    }
    if (status == FM_OK && count == 1) {
        *out = g;
        return FM_OK;
    }
    fm_gguf_close(g);
    return status == FM_OK ? open_split(path, (int)no, (int)count, vocab_only, out, err) : status;
}

fm_status fm_gguf_open_memory(const void *bytes, size_t n, const struct fm_gguf_open_opts *opts, struct fm_gguf **out,
                              struct fm_error *err)
{
    *out = NULL;
    int64_t no, count;
    struct fm_gguf *g = fm__calloc(1, sizeof *g);
    if (g) g->shards = fm__calloc(1, sizeof *g->shards);
    if (!g || !g->shards) {
        fm__free(g);
        return fm__fail_nomem(err, "gguf", sizeof *g);
    }
    g->shards[0] = fm__source_of_memory(bytes, n);
    g->n_shards = 1;
    fm_status status = load_shard(g, 0, opts && opts->vocab_only, &g->meta, err);
    if (status == FM_OK) status = split_place(&g->meta, &no, &count, err);
    if (status == FM_OK && count != 1)
        status = fm__fail(err, FM_E_UNSUPPORTED,
                          "part %" PRId64 " of a model split into %" PRId64 " files cannot be opened from memory",
                          no + 1, count);
    if (status == FM_OK)
        *out = g;
    else
        fm_gguf_close(g);
    return status;
}

void fm_gguf_close(struct fm_gguf *g)
{
    if (!g) return;
    for (int i = 0; i < g->n_shards; i++) fm__source_close(&g->shards[i]);
    fm__free(g->shards);
    fm__gguf_meta_deinit(&g->meta);
    fm__free(g->tensors);
    fm__names_deinit(&g->tensor_names);
    fm__arena_deinit(&g->arena);
    fm__free(g);
}

fm_status fm_gguf_read(const struct fm_gguf *g, const struct fm_gguf_tensor *t, size_t offset, void *dst, size_t n,
                       struct fm_error *err)
{
    fm_status status;
    if (offset > t->bytes || n > t->bytes - offset)
        status = fm__fail(err, FM_E_ARG, "read of %zu bytes at %zu, it has %zu", n, offset, t->bytes);
    else
        status = fm__source_read(&g->shards[t->shard], t->file_offset + offset, dst, n, err);
    if (status == FM_OK) return FM_OK;
    return fm__error_prefix(err, status, "tensor \"%s\"", fm__quote(t->name.p, t->name.n).text);
}

// SPDX-License-Identifier: MIT
// Opening a dataset: identify the files, take their store from the cache or make it, split the samples into parts.
#include "train/data.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "train/data_images.h"
#include "train/data_order.h"

const char *fm__data_kind_word(enum fm__data_kind kind)
{
    static const char *const words[] = {
#define X(name, word, what) word,
#include "train/data_kinds.def"
#undef X
    };
    return (unsigned)kind < FM__DATA_KIND_COUNT ? words[kind] : "";
}

int fm__data_kind_of(const char *word)
{
    for (int i = 0; i < FM__DATA_KIND_COUNT; i++)
        if (strcmp(word, fm__data_kind_word((enum fm__data_kind)i)) == 0) return i;
    return -1;
}

const char *fm__data_skip_text(enum fm__data_skip skip)
{
    static const char *const texts[] = {
#define X(name, text) text,
#include "train/data_skips.def"
#undef X
    };
    return (unsigned)skip < FM__SKIP_COUNT ? texts[skip] : "";
}

// --- opening ---

static fm_status check_opts(const struct fm__data_opts *o, struct fm_error *err)
{
    if ((unsigned)o->kind >= FM__DATA_KIND_COUNT) return fm__fail(err, FM_E_ARG, "kind of data %d: unknown", o->kind);
    if (!o->n_paths) return fm__fail(err, FM_E_ARG, "no data file is named");
    if (o->kind != FM__DATA_IMAGES && !o->tok)
        return fm__fail(err, FM_E_ARG, "data of kind %s need a tokenizer", fm__data_kind_word(o->kind));
    if (o->kind != FM__DATA_IMAGES && (o->length < 1 || o->length > 1 << 28))
        return fm__fail(err, FM_E_ARG, "length %" PRId64 ": want 1 to %d tokens", o->length, 1 << 28);
    if (o->kind == FM__DATA_CHAT && !o->n_chat_template)
        return fm__fail(err, FM_E_ARG, "chats need a chat template, and the model has none");
    if (!(o->validation >= 0 && o->validation < 1))
        return fm__fail(err, FM_E_ARG, "validation fraction %g: want 0 or more and less than 1", o->validation);
    if (o->tok && fm_tokenizer_n_vocab(o->tok) >= FM__TOKEN_PREDICTED)
        return fm__fail(err, FM_E_LIMIT, "a vocabulary of %d tokens", fm_tokenizer_n_vocab(o->tok));
    return FM_OK;
}

// What a restored index must hold for the rest to be safe.
static fm_status check_index(const struct fm__dataset *data, struct fm_error *err)
{
    uint64_t size = fm__store_size(data->store);
    uint64_t unit = data->kind == FM__DATA_IMAGES ? 1 : sizeof(int32_t);
    bool labelled = data->kind == FM__DATA_CLASSIFY || data->kind == FM__DATA_IMAGES;
    for (size_t i = 0; i < data->n_index; i++) {
        const struct fm__sample *s = &data->index[i];
        uint64_t n = ((uint64_t)s->n[0] + s->n[1]) * unit;
        if (s->at > size || n > size - s->at || !s->n[0] || s->file >= data->n_files ||
            (labelled && (s->label < 0 || (uint32_t)s->label >= data->labels.n)))
            return fm__fail(err, FM_E_FORMAT, "entry %zu of its index is malformed", i);
    }
    if (data->packed && (data->n_stream < 1 || (uint64_t)data->n_stream * sizeof(int32_t) != size))
        return fm__fail(err, FM_E_FORMAT, "%" PRId64 " tokens in %" PRIu64 " bytes", data->n_stream, size);
    return data->packed || data->n_index ? FM_OK : fm__fail(err, FM_E_FORMAT, "it has no samples");
}

// Forgets what a restore or a build had put in.
static void forget(struct fm__dataset *data)
{
    fm__store_close(data->store);
    fm__free(data->index);
    fm__strtab_deinit(&data->labels);
    for (int i = 0; i < data->n_bad; i++) fm__free(data->bad[i].reason), fm__free(data->bad[i].text);
    data->store = NULL, data->index = NULL, data->n_index = 0, data->n_bad = 0, data->n_stream = 0;
    data->labels = (struct fm__strtab){0};
    data->counts = (struct fm__data_counts){0};
}

static fm_status restore(struct fm__dataset *data, const char *path, struct fm_error *err)
{
    struct fm__store_tail tail;
    FM_TRY(fm__store_open(path, data->key, &data->store, &tail, err));
    if (tail.n_index % sizeof *data->index) return fm__fail(err, FM_E_FORMAT, "an index of %zu bytes", tail.n_index);
    data->n_index = tail.n_index / sizeof *data->index;
    data->index = fm__malloc(tail.n_index);
    if (!data->index) return fm__fail_nomem(err, "index of the samples", tail.n_index);
    if (tail.n_index) memcpy(data->index, tail.index, tail.n_index);
    FM_TRY(fm__data_restore(data, tail.description, tail.n_description, err));
    fm__store_drop_tail(data->store);
    return check_index(data, err);
}

static fm_status make(const struct fm__data_opts *opts, struct fm__dataset *data, const char *path,
                      struct fm_error *err)
{
    struct fm__store_tail tail = {0};
    char *description;
    FM_TRY(fm__store_create(path, data->key, &data->store, err));
    FM_TRY(fm__build(opts, data, err));
    for (size_t i = 0; i < data->n_files; i++) {
        struct fm__stamp seen = data->files[i].then;
        FM_TRY(fm__data_file_unchanged(&data->files[i], &seen, err));
    }
    FM_TRY(fm__data_describe(data, &description, &tail.n_description, err));
    tail.index = data->index, tail.n_index = data->n_index * sizeof *data->index, tail.description = description;
    fm_status status = fm__store_finish(data->store, &tail, err);
    fm__free(description);
    return status;
}

static fm_status restore_or_make(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    if (!opts->cache) {
        snprintf(data->note, sizeof data->note, "samples kept in memory");
        return make(opts, data, NULL, err);
    }
    char hex[FM__SHA256_HEX];
    fm__sha256_hex(data->key, hex);
    size_t size = strlen(opts->cache) + sizeof "/0123456789abcdef0123456789abcdef.samples";
    char *path = fm__malloc(size);
    if (!path) return fm__fail_nomem(err, "path of the cache", size);
    snprintf(path, size, "%s/%.32s.samples", opts->cache, hex);
    fm_status status = restore(data, path, err);
    if (status == FM_OK) {
        snprintf(data->note, sizeof data->note, "samples read from %s", path);
    } else if (status != FM_E_NOMEM) {
        if (status == FM_E_NOT_FOUND)
            snprintf(data->note, sizeof data->note, "samples kept in %s", path);
        else
            snprintf(data->note, sizeof data->note, "%s cannot be used (%.200s): made anew", path, err->text);
        forget(data);
        status = make(opts, data, path, err);
    }
    fm__free(path);
    return status;
}

// --- parts ---

// The texts that callers are given.
static fm_status make_texts(struct fm__dataset *data, struct fm_error *err)
{
    for (int i = 0; i < data->n_bad; i++) {
        struct fm__bad_row *bad = &data->bad[i];
        size_t n = strlen(data->files[bad->file].path) + 16, size = n + strlen(bad->reason) + 3;
        bad->text = fm__malloc(size);
        if (!bad->text) return fm__fail_nomem(err, "reason of a bad row", size);
        fm__data_place(data, bad->file, bad->line, bad->text, n);
        n = strlen(bad->text);
        snprintf(bad->text + n, size - n, ": %s", bad->reason);
    }
    data->label_names = fm__calloc(data->labels.n + 1, sizeof *data->label_names);
    data->label_counts = fm__calloc(2 * (size_t)data->labels.n + 1, sizeof *data->label_counts);
    if (!data->label_names || !data->label_counts) return fm__fail_nomem(err, "labels", data->labels.n);
    for (uint32_t i = 0; i < data->labels.n; i++) {
        data->label_names[i] = fm__strndup(data->labels.bytes + data->labels.at[i], data->labels.len[i]);
        if (!data->label_names[i]) return fm__fail_nomem(err, "labels", data->labels.len[i]);
    }
    return FM_OK;
}

// How many of n are set aside: at least one of each part where a fraction was asked for.
static fm_status n_aside(const struct fm__data_opts *opts, int64_t n, const char *what, int64_t *out,
                         struct fm_error *err)
{
    *out = (int64_t)floor(opts->validation * (double)n + 0.5);
    if (opts->validation == 0) return FM_OK;
    if (n < 2) return fm__fail(err, FM_E_ARG, "%" PRId64 " %s cannot be split for validation", n, what);
    if (*out < 1) *out = 1;
    if (*out > n - 1) *out = n - 1;
    return FM_OK;
}

static fm_status split_stream(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    int64_t aside;
    FM_TRY(n_aside(opts, data->n_stream, "tokens", &aside, err));
    data->n_train = data->n_stream - aside;
    return FM_OK;
}

static fm_status split_samples(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    size_t n = data->n_index;
    int64_t aside;
    FM_TRY(n_aside(opts, (int64_t)n, "samples", &aside, err));
    data->n_train = (int64_t)n - aside;
    uint32_t *ids = data->part[0] = fm__malloc(n * sizeof *ids);
    if (!ids) return fm__fail_nomem(err, "parts of the samples", n * sizeof *ids);
    fm__data_permutation(ids, n, opts->seed, FM__STREAM_SPLIT);
    data->part[1] = ids + data->n_train;
    if (!aside) data->part[1] = ids + n;
    fm__data_sort_ids(ids, (size_t)data->n_train);
    fm__data_sort_ids(data->part[1], (size_t)aside);
    bool labelled = data->kind == FM__DATA_CLASSIFY || data->kind == FM__DATA_IMAGES;
    for (size_t i = 0; labelled && i < n; i++) {
        int64_t *counts = data->label_counts + ((int64_t)i < data->n_train ? 0 : data->labels.n);
        counts[data->index[ids[i]].label]++;
    }
    return FM_OK;
}

// The key, and what else decides which samples a part has.
static fm_status make_fingerprint(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    struct {
        uint8_t key[FM__SHA256_BYTES];
        uint64_t seed;
        double validation;
        int64_t length;
    } all = {.seed = opts->validation > 0 ? opts->seed : 0, .validation = opts->validation, .length = opts->length};
    uint8_t digest[FM__SHA256_BYTES];
    memcpy(all.key, data->key, sizeof all.key);
    FM_TRY(fm__sha256_bytes(&all, sizeof all, digest, err));
    memcpy(&data->fingerprint, digest, sizeof data->fingerprint);
    return FM_OK;
}

static fm_status open_dataset(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    data->kind = opts->kind;
    data->packed = opts->kind == FM__DATA_TEXT && !opts->whole;
    data->one_slot = opts->one_slot;
    data->length = opts->length;
    FM_TRY(fm__data_identify(opts, data, err));
    FM_TRY(restore_or_make(opts, data, err));
    FM_TRY(make_texts(data, err));
    FM_TRY(make_fingerprint(opts, data, err));
    return data->packed ? split_stream(opts, data, err) : split_samples(opts, data, err);
}

fm_status fm__dataset_open(const struct fm__data_opts *opts, struct fm__dataset **out, struct fm_error *err)
{
    struct fm_error own;
    if (!err) err = &own; // reasons of bad rows are read off it
    *out = NULL;
    FM_TRY(check_opts(opts, err));
    struct fm__dataset *data = fm__calloc(1, sizeof *data);
    if (!data) return fm__fail_nomem(err, "dataset", sizeof *data);
    fm_status status = open_dataset(opts, data, err);
    if (status == FM_OK)
        *out = data;
    else
        fm__dataset_close(data);
    return status;
}

void fm__dataset_close(struct fm__dataset *data)
{
    if (!data) return;
    for (uint32_t i = 0; data->label_names && i < data->labels.n; i++) fm__free(data->label_names[i]);
    forget(data);
    for (size_t i = 0; i < data->n_files; i++) fm__free(data->files[i].path);
    fm__free(data->files);
    fm__free(data->label_names);
    fm__free(data->label_counts);
    fm__free(data->part[0]);
    fm__free(data);
}

// --- what it is ---

enum fm__data_kind fm__dataset_kind(const struct fm__dataset *data)
{
    return data->kind;
}

const struct fm__data_counts *fm__dataset_counts(const struct fm__dataset *data)
{
    return &data->counts;
}

int64_t fm__dataset_n_samples(const struct fm__dataset *data, enum fm__data_part part)
{
    if (data->packed) return fm__stream_samples(data, part, 0);
    int64_t n = (int64_t)data->n_index;
    return part == FM__DATA_ALL ? n : part == FM__DATA_TRAIN ? data->n_train : n - data->n_train;
}

const char *fm__dataset_note(const struct fm__dataset *data)
{
    return data->note;
}

const char *fm__dataset_bad_row(const struct fm__dataset *data, int i)
{
    return i >= 0 && i < data->n_bad ? data->bad[i].text : NULL;
}

int32_t fm__dataset_n_labels(const struct fm__dataset *data)
{
    return (int32_t)data->labels.n;
}

const char *fm__dataset_label(const struct fm__dataset *data, int32_t id)
{
    return id >= 0 && (uint32_t)id < data->labels.n ? data->label_names[id] : NULL;
}

int64_t fm__dataset_label_count(const struct fm__dataset *data, enum fm__data_part part, int32_t id)
{
    if (id < 0 || (uint32_t)id >= data->labels.n) return 0;
    const int64_t *train = data->label_counts, *valid = train + data->labels.n;
    return (part != FM__DATA_VALID ? train[id] : 0) + (part != FM__DATA_TRAIN ? valid[id] : 0);
}

int64_t fm__dataset_n_features(const struct fm__dataset *data)
{
    return data->shape[0] * data->shape[1] * data->shape[2];
}

void fm__dataset_image_shape(const struct fm__dataset *data, int32_t shape[3])
{
    for (int i = 0; i < 3; i++) shape[i] = (int32_t)data->shape[i];
}

uint64_t fm__dataset_fingerprint(const struct fm__dataset *data)
{
    return data->fingerprint;
}

void fm__data_place(const struct fm__dataset *data, uint32_t file, uint32_t line, char *out, size_t size)
{
    const char *path = data->files[file].path;
    if (line)
        snprintf(out, size, "%s:%u", path, line);
    else
        snprintf(out, size, "%s", path);
}

void fm__dataset_where(const struct fm__dataset *data, int64_t sample, char *out, size_t size)
{
    if (data->packed) {
        snprintf(out, size, "%s%s: token %" PRId64, data->files[0].path, data->n_files > 1 ? " and others" : "",
                 sample);
    } else if (sample >= 0 && (uint64_t)sample < data->n_index) {
        fm__data_place(data, data->index[sample].file, data->index[sample].line, out, size);
    } else {
        snprintf(out, size, "no sample %" PRId64, sample);
    }
}

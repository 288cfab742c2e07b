// SPDX-License-Identifier: MIT
// What a store says of itself besides its samples: counts, labels, the first bad rows; as JSON, one line.
#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"
#include "train/data_internal.h"

// The numbers of a dataset in one order for both directions.
enum { N_PLAIN = 12 };

static void numbers_of(struct fm__dataset *data, int64_t *out[N_PLAIN])
{
    struct fm__data_counts *c = &data->counts;
    int64_t *const all[N_PLAIN] = {&c->rows,        &c->used,        &c->truncated,   &c->tokens,
                                   &c->targets,     &c->longest,     &c->turns,       &c->turns_lost,
                                   &data->n_stream, &data->shape[0], &data->shape[1], &data->shape[2]};
    memcpy(out, all, sizeof all);
}

static json_t *numbers_json(const struct fm__dataset *data)
{
    struct fm__dataset copy = *data; // numbers_of gives places to write to
    int64_t *places[N_PLAIN];
    json_t *out = json_array();
    numbers_of(&copy, places);
    for (int i = 0; i < N_PLAIN; i++)
        if (json_array_append_new(out, json_integer(*places[i]))) goto fail;
    for (int i = 0; i < FM__SKIP_COUNT; i++)
        if (json_array_append_new(out, json_integer(data->counts.skipped[i]))) goto fail;
    return out;
fail:
    json_decref(out);
    return NULL;
}

static json_t *labels_json(const struct fm__dataset *data)
{
    json_t *out = json_array();
    for (uint32_t i = 0; i < data->labels.n; i++)
        if (json_array_append_new(out, json_stringn(data->labels.bytes + data->labels.at[i], data->labels.len[i]))) {
            json_decref(out);
            return NULL;
        }
    return out;
}

static json_t *bad_json(const struct fm__dataset *data)
{
    json_t *out = json_array();
    for (int i = 0; i < data->n_bad; i++) {
        const struct fm__bad_row *bad = &data->bad[i];
        if (json_array_append_new(out,
                                  json_pack("[I, I, s]", (json_int_t)bad->file, (json_int_t)bad->line, bad->reason))) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

fm_status fm__data_describe(const struct fm__dataset *data, char **out, size_t *n, struct fm_error *err)
{
    json_t *numbers = numbers_json(data), *labels = labels_json(data), *bad = bad_json(data);
    // "o?" takes the reference and lets NULL through as null, which is no description
    json_t *all = json_pack("{s:o?, s:o?, s:o?}", "numbers", numbers, "labels", labels, "bad", bad);
    *out = all && numbers && labels && bad ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    *n = *out ? strlen(*out) : 0;
    return *out ? FM_OK : fm__fail_nomem(err, "description of the samples", 0);
}

static fm_status restore_numbers(struct fm__dataset *data, const json_t *numbers, struct fm_error *err)
{
    int64_t *places[N_PLAIN];
    numbers_of(data, places);
    if (json_array_size(numbers) != N_PLAIN + FM__SKIP_COUNT)
        return fm__fail(err, FM_E_FORMAT, "its description has %zu numbers", json_array_size(numbers));
    for (int i = 0; i < N_PLAIN; i++) *places[i] = json_integer_value(json_array_get(numbers, (size_t)i));
    for (int i = 0; i < FM__SKIP_COUNT; i++)
        data->counts.skipped[i] = json_integer_value(json_array_get(numbers, (size_t)N_PLAIN + (size_t)i));
    return FM_OK;
}

static fm_status restore_labels(struct fm__dataset *data, const json_t *labels, struct fm_error *err)
{
    for (uint32_t i = 0; i < json_array_size(labels); i++) {
        const json_t *name = json_array_get(labels, i);
        uint32_t same = i;
        if (!json_is_string(name)) return fm__fail(err, FM_E_FORMAT, "label %u is no string", i);
        if (!fm__strtab_add(&data->labels, json_string_value(name), json_string_length(name)) ||
            !fm__strtab_key(&data->labels, i, &same))
            return fm__fail_nomem(err, "labels", json_string_length(name));
        if (same != i) return fm__fail(err, FM_E_FORMAT, "label %u is there twice", i);
    }
    return FM_OK;
}

static fm_status restore_bad(struct fm__dataset *data, const json_t *rows, struct fm_error *err)
{
    for (size_t i = 0; i < json_array_size(rows) && i < FM__BAD_ROWS_KEPT; i++) {
        const json_t *row = json_array_get(rows, i);
        json_int_t file = json_integer_value(json_array_get(row, 0)), line = json_integer_value(json_array_get(row, 1));
        const char *reason = json_string_value(json_array_get(row, 2));
        if (!reason || file < 0 || (uint64_t)file >= data->n_files || line < 0 || line > UINT32_MAX)
            return fm__fail(err, FM_E_FORMAT, "its list of bad rows is malformed");
        struct fm__bad_row *bad = &data->bad[data->n_bad];
        *bad = (struct fm__bad_row){(uint32_t)file, (uint32_t)line, fm__strdup(reason), NULL};
        if (!bad->reason) return fm__fail_nomem(err, "reason of a bad row", strlen(reason));
        data->n_bad++;
    }
    return FM_OK;
}

fm_status fm__data_restore(struct fm__dataset *data, const char *text, size_t n, struct fm_error *err)
{
    json_t *all;
    FM_TRY(fm__json_parse(text, n, NULL, &all, err));
    fm_status status = restore_numbers(data, json_object_get(all, "numbers"), err);
    if (status == FM_OK) status = restore_labels(data, json_object_get(all, "labels"), err);
    if (status == FM_OK) status = restore_bad(data, json_object_get(all, "bad"), err);
    json_decref(all);
    return status;
}

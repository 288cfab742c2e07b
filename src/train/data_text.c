// SPDX-License-Identifier: MIT
// Plain text: every token is to be predicted from those before it in its document. Packed, the documents of all files
// make one stream, cut into samples only when it is read; else a document is a sample.
#include <jansson.h>

#include "base/alloc.h"
#include "base/error.h"
#include "train/data_internal.h"

#define FILE_MAX ((size_t)512 << 20) // what the tokenizer takes at once

static fm_status document(struct fm__builder *b, struct fm_str text, struct fm_error *err)
{
    struct fm__dataset *data = b->data;
    FM_TRY(fm__build_check_text(b, text, err));
    if (!text.n) return fm__bad(b, FM__SKIP_EMPTY, err, "a document without text");
    b->ids.n = 0;
    FM_TRY(fm__build_encode(b, text, FM_ENCODE_ADD_SPECIAL, &b->ids, err));
    if (b->end >= 0) FM_TRY(fm__ids_push(&b->ids, b->end, err));
    if (!data->packed) FM_TRY(fm__build_fit(b, &b->ids, (size_t)data->length + 1, err));
    if (b->ids.n < (data->packed ? 1 : 2))
        return fm__bad(b, FM__SKIP_NO_TARGET, err, "%zu tokens: nothing follows the first", b->ids.n);
    bool joined = data->packed && data->one_slot && data->n_stream > 0;
    for (size_t i = joined ? 0 : 1; i < b->ids.n; i++) b->ids.p[i] |= FM__TOKEN_PREDICTED;
    if (!data->packed) return fm__build_emit(b, &(struct fm__sample){0}, false, err);
    data->counts.tokens += (int64_t)b->ids.n;
    data->counts.targets += (int64_t)b->ids.n - (joined ? 0 : 1);
    data->n_stream += (int64_t)b->ids.n;
    return fm__store_append(data->store, b->ids.p, b->ids.n * sizeof *b->ids.p, err);
}

static fm_status json_document(struct fm__builder *b, struct fm_str line, struct fm_error *err)
{
    json_t *row;
    FM_TRY(fm__build_object(b, line, &row, err));
    json_t *text = json_object_get(row, "text");
    fm_status status =
        json_is_string(text)
            ? document(b, (struct fm_str){json_string_value(text), json_string_length(text)}, err)
            : fm__bad(b, FM__SKIP_FIELD, err, "\"text\" is %s, want a string", text ? "no string" : "missing");
    json_decref(row);
    return status;
}

// The line in which a whole file stops being text, for the error.
static uint32_t line_of_problem(const char *p, size_t n)
{
    size_t at;
    bool zero;
    uint32_t line = 1;
    if (fm__rows_text_ok(p, n, &at, &zero)) return line;
    for (size_t i = 0; i < at; i++) line += p[i] == '\n';
    return line;
}

static fm_status whole_file(struct fm__builder *b, const char *path, struct fm_error *err)
{
    char *text;
    size_t n;
    FM_TRY(fm__file_read_all(path, FILE_MAX, &text, &n, err));
    size_t mark = n >= 3 && text[0] == '\xef' && text[1] == '\xbb' && text[2] == '\xbf' ? 3 : 0;
    b->line = line_of_problem(text, n);
    fm_status status = document(b, (struct fm_str){text + mark, n - mark}, err);
    fm__free(text);
    return fm__build_end_row(b, status, err);
}

fm_status fm__read_text(struct fm__builder *b, const char *path, struct fm_error *err)
{
    if (fm__ends_with(path, ".jsonl")) return fm__build_each(b, path, fm__rows_line, json_document, err);
    if (b->opts->unit == FM__UNIT_FILE) return whole_file(b, path, err);
    return fm__build_each(b, path, b->opts->unit == FM__UNIT_LINE ? fm__rows_line : fm__rows_paragraph, document, err);
}

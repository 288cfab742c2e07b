// SPDX-License-Identifier: MIT
// Rows with a label or a number: CSV, TSV, JSONL. The text (several columns joined) is the document; what the row says
// of it belongs to its last token.
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/quote.h"
#include "train/data_internal.h"

static const char *const text_names[] = {"text",  "sentence", "content",   "question",
                                         "query", "review",   "utterance", NULL};
static const char *const label_names[] = {"label", "labels", "category", "class", "intent", "target", "score", NULL};

// The columns of the file in hand, from 0.
struct columns {
    int text[FM__DATA_TEXT_COLUMNS], n_text, label;
};

static bool among(struct fm_str name, const char *const *names)
{
    for (; *names; names++)
        if (strlen(*names) == name.n && strncasecmp(*names, name.p, name.n) == 0) return true;
    return false;
}

static bool is(struct fm_str name, const char *wanted)
{
    return strlen(wanted) == name.n && memcmp(wanted, name.p, name.n) == 0;
}

// A column asked for by number: from 0; -1: it is a name.
static int by_number(const char *wanted)
{
    char *end;
    long n = strtol(wanted, &end, 10);
    return *wanted >= '0' && *wanted <= '9' && *end == '\0' && n >= 1 && n <= 1 << 16 ? (int)n - 1 : -1;
}

static int by_name(const struct fm__rows *rows, const char *wanted)
{
    for (size_t i = 0; i < rows->n_fields; i++)
        if (is(rows->fields[i], wanted)) return (int)i;
    return -1;
}

static int by_usual_name(const struct fm__rows *rows, const char *const *names)
{
    for (size_t i = 0; i < rows->n_fields; i++)
        if (among(rows->fields[i], names)) return (int)i;
    return -1;
}

// Whether the first row names columns (data.h, struct fm__data_columns).
static bool is_header(const struct fm__builder *b, const struct fm__rows *first)
{
    const struct fm__data_columns *c = &b->opts->columns;
    if (c->header != FM__HEADER_AUTO) return c->header == FM__HEADER_YES;
    bool named = false;
    for (int i = 0; i <= FM__DATA_TEXT_COLUMNS; i++) {
        const char *wanted = i < FM__DATA_TEXT_COLUMNS ? c->text[i] : c->label;
        if (!wanted || by_number(wanted) >= 0) continue;
        named = true;
        if (by_name(first, wanted) >= 0) return true;
    }
    if (named) return true; // a name was asked for: that it is missing is an error, not a row
    return by_usual_name(first, label_names) >= 0 || among(first->fields[0], text_names);
}

static fm_status find(const struct fm__rows *first, const char *wanted, bool header, int *column, struct fm_error *err)
{
    *column = by_number(wanted);
    if (*column >= (int)first->n_fields)
        return fm__fail(err, FM_E_FORMAT, "column %s: the first row has %zu", wanted, first->n_fields);
    if (*column >= 0) return FM_OK;
    if (!header) return fm__fail(err, FM_E_ARG, "column \"%s\": there is no header; give its number", wanted);
    *column = by_name(first, wanted);
    if (*column >= 0) return FM_OK;
    char found[160] = "";
    for (size_t i = 0, at = 0; i < first->n_fields && at < sizeof found - 8; i++) {
        struct fm__quoted name = fm__quote(first->fields[i].p, first->fields[i].n);
        at += (size_t)snprintf(found + at, sizeof found - at, "%s%.30s", i ? ", " : "", name.text);
    }
    return fm__fail(err, FM_E_FORMAT, "no column \"%s\"; the header has %s", wanted, found);
}

static fm_status find_columns(const struct fm__builder *b, const struct fm__rows *first, bool header,
                              struct columns *out, struct fm_error *err)
{
    const struct fm__data_columns *c = &b->opts->columns;
    *out = (struct columns){0};
    for (int i = 0; i < FM__DATA_TEXT_COLUMNS; i++)
        if (c->text[i]) FM_TRY(find(first, c->text[i], header, &out->text[out->n_text++], err));
    if (c->label) {
        FM_TRY(find(first, c->label, header, &out->label, err));
    } else {
        out->label = header ? by_usual_name(first, label_names) : -1;
        if (out->label < 0) out->label = (int)first->n_fields - 1;
    }
    if (!out->n_text) {
        out->text[0] = header ? by_usual_name(first, text_names) : -1;
        if (out->text[0] < 0) out->text[0] = out->label == 0 ? 1 : 0;
        out->n_text = 1;
    }
    if (first->n_fields < 2)
        return fm__fail(err, FM_E_FORMAT,
                        "the first row has one column, want a text and a label (is the delimiter right?)");
    return FM_OK;
}

// --- a sample ---

static fm_status number(struct fm__builder *b, struct fm_str text, float *out, struct fm_error *err)
{
    char copy[64] = "", *end = copy;
    if (text.n && text.n < sizeof copy) {
        memcpy(copy, text.p, text.n);
        copy[text.n] = '\0';
        *out = strtof(copy, &end);
    }
    bool spaced = text.n && (copy[0] == ' ' || copy[0] == '\t');
    if (end == copy || *end || spaced || !isfinite(*out))
        return fm__bad(b, FM__SKIP_LABEL, err, "\"%s\" is no finite number", fm__quote(text.p, text.n).text);
    return FM_OK;
}

static fm_status emit(struct fm__builder *b, struct fm_str text, struct fm_str label, struct fm_error *err)
{
    struct fm__sample sample = {0};
    if (!text.n) return fm__bad(b, FM__SKIP_EMPTY, err, "the text is empty");
    size_t most = (size_t)b->data->length - (b->end >= 0 && b->data->length > 1);
    b->ids.n = 0;
    FM_TRY(fm__build_encode(b, text, FM_ENCODE_ADD_SPECIAL, &b->ids, err));
    FM_TRY(fm__build_fit(b, &b->ids, most, err)); // the end stays: it is where the answer is read
    if (b->end >= 0) FM_TRY(fm__ids_push(&b->ids, b->end, err));
    if (!b->ids.n) return fm__bad(b, FM__SKIP_EMPTY, err, "the text gives no token");
    if (b->data->kind == FM__DATA_REGRESS)
        FM_TRY(number(b, label, &sample.value, err));
    else
        FM_TRY(fm__build_label(b, label, &sample.label, err)); // last: a bad row must leave no label behind
    return fm__build_emit(b, &sample, false, err);
}

// Adds a part of the text to *joined (a string that grows).
static fm_status join(struct fm__builder *b, struct fm_str part, bool first, struct fm__joined *joined,
                      struct fm_error *err)
{
    const char *between = first ? "" : b->opts->columns.join ? b->opts->columns.join : "\n";
    size_t n_between = strlen(between), need = joined->n + n_between + part.n;
    if (need > joined->cap) {
        char *grown = fm__realloc(joined->p, need + need / 2 + 64);
        if (!grown) return fm__fail_nomem(err, "text of a row", need);
        joined->p = grown, joined->cap = need + need / 2 + 64;
    }
    if (n_between) memcpy(joined->p + joined->n, between, n_between);
    if (part.n) memcpy(joined->p + joined->n + n_between, part.p, part.n);
    joined->n = need;
    return FM_OK;
}

// --- CSV and TSV ---

static fm_status table_row(struct fm__builder *b, const struct fm__rows *rows, const struct columns *c,
                           struct fm_error *err)
{
    int last = c->label;
    for (int i = 0; i < c->n_text; i++) last = c->text[i] > last ? c->text[i] : last;
    if ((size_t)last >= rows->n_fields)
        return fm__bad(b, FM__SKIP_SYNTAX, err, "%zu columns, want at least %d", rows->n_fields, last + 1);
    for (size_t i = 0; i < rows->n_fields; i++) FM_TRY(fm__build_check_text(b, rows->fields[i], err));
    b->joined.n = 0;
    for (int i = 0; i < c->n_text; i++) FM_TRY(join(b, rows->fields[c->text[i]], i == 0, &b->joined, err));
    return emit(b, (struct fm_str){b->joined.p, b->joined.n}, rows->fields[c->label], err);
}

// All rows; the first says what the columns are.
static fm_status table_rows(struct fm__builder *b, struct fm__rows *rows, char delimiter, struct fm_error *err)
{
    struct columns c;
    bool got, first = true;
    for (;;) {
        fm_status status = fm__rows_fields(rows, delimiter, &got, err);
        b->line = (uint32_t)rows->line;
        if (status == FM_E_FORMAT) b->skip = FM__SKIP_SYNTAX;
        if (status == FM_OK && !got) return FM_OK;
        if (status == FM_OK && first) {
            first = false;
            bool header = is_header(b, rows);
            status = find_columns(b, rows, header, &c, err);
            if (status != FM_OK) return fm__error_prefix(err, status, "%s:%u", b->data->files[b->file].path, b->line);
            if (header) continue;
        }
        FM_TRY(fm__build_end_row(b, status == FM_OK ? table_row(b, rows, &c, err) : status, err));
    }
}

// --- JSONL ---

// A member as text: a string as it is; an integer, a real (regression) or a boolean as JSON writes it, into `buf`.
static bool member_text(const json_t *value, bool reals, char *buf, size_t size, struct fm_str *out)
{
    if (json_is_string(value)) {
        *out = (struct fm_str){json_string_value(value), json_string_length(value)};
        return true;
    }
    int n = -1;
    if (json_is_integer(value)) n = snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_boolean(value)) n = snprintf(buf, size, "%s", json_is_true(value) ? "true" : "false");
    if (reals && json_is_real(value)) n = snprintf(buf, size, "%.17g", json_real_value(value));
    *out = (struct fm_str){buf, n > 0 ? (size_t)n : 0};
    return n > 0;
}

static const char *usual_member(const json_t *row, const char *const *names)
{
    const char *const *first = names;
    for (; *names; names++)
        if (json_object_get(row, *names)) return *names;
    return *first;
}

static fm_status json_row(struct fm__builder *b, const json_t *row, struct fm_error *err)
{
    const struct fm__data_columns *c = &b->opts->columns;
    struct fm_str part, label;
    char buf[64];
    int n = 0;
    b->joined.n = 0;
    for (int i = 0; i < FM__DATA_TEXT_COLUMNS; i++) {
        const char *name = c->text[i] ? c->text[i] : i == 0 && !c->text[1] ? usual_member(row, text_names) : NULL;
        if (!name) continue;
        if (!json_is_string(json_object_get(row, name)))
            return fm__bad(b, FM__SKIP_FIELD, err, "\"%s\" is missing or no string", name);
        member_text(json_object_get(row, name), false, buf, sizeof buf, &part);
        FM_TRY(join(b, part, n++ == 0, &b->joined, err));
    }
    const char *name = c->label ? c->label : usual_member(row, label_names);
    if (!member_text(json_object_get(row, name), b->data->kind == FM__DATA_REGRESS, buf, sizeof buf, &label))
        return fm__bad(b, FM__SKIP_FIELD, err, "\"%s\" is missing or no %s", name,
                       b->data->kind == FM__DATA_REGRESS ? "number" : "label (a string, an integer, true, false)");
    return emit(b, (struct fm_str){b->joined.p, b->joined.n}, label, err);
}

static fm_status json_line(struct fm__builder *b, struct fm_str line, struct fm_error *err)
{
    json_t *row;
    FM_TRY(fm__build_object(b, line, &row, err));
    fm_status status = json_row(b, row, err);
    json_decref(row);
    return status;
}

fm_status fm__read_table(struct fm__builder *b, const char *path, struct fm_error *err)
{
    if (fm__ends_with(path, ".jsonl")) return fm__build_each(b, path, fm__rows_line, json_line, err);
    bool tabs = fm__ends_with(path, ".tsv") || fm__ends_with(path, ".tab");
    char delimiter = b->opts->columns.delimiter ? b->opts->columns.delimiter : tabs ? '\t' : ',';
    struct fm__rows rows;
    FM_TRY(fm__rows_open(path, &rows, err));
    fm_status status = table_rows(b, &rows, delimiter, err);
    fm__rows_close(&rows);
    return status;
}

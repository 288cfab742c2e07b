// SPDX-License-Identifier: MIT
// Making a dataset: what the readers of all kinds share. A row ends in fm__build_end_row, which decides whether a bad
// one may be skipped; a good one reached the store through fm__build_emit before.
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"
#include "base/quote.h"
#include "fathom/chat.h"
#include "train/data_internal.h"

bool fm__ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcasecmp(path + n - m, ending) == 0;
}

// --- rows ---

// Keeps the reason of a bad row, while there is room.
static fm_status keep_reason(struct fm__builder *b, const char *reason, struct fm_error *err)
{
    struct fm__dataset *data = b->data;
    if (data->n_bad == FM__BAD_ROWS_KEPT) return FM_OK;
    struct fm__bad_row *bad = &data->bad[data->n_bad];
    *bad = (struct fm__bad_row){.file = b->file, .line = b->line, .reason = fm__strdup(reason)};
    if (!bad->reason) return fm__fail_nomem(err, "reason of a skipped row", strlen(reason));
    data->n_bad++;
    return FM_OK;
}

fm_status fm__build_end_row(struct fm__builder *b, fm_status status, struct fm_error *err)
{
    char place[320];
    fm__data_place(b->data, b->file, b->line, place, sizeof place);
    enum fm__data_skip skip = b->skip;
    b->skip = FM__SKIP_NONE;
    struct fm__data_counts *counts = &b->data->counts;
    counts->rows++;
    if (status == FM_OK) {
        counts->used++;
        counts->truncated += b->n_cut, counts->turns += b->n_turns, counts->turns_lost += b->n_turns_lost;
    }
    b->n_cut = b->n_turns = b->n_turns_lost = 0;
    if (status == FM_OK) return FM_OK;
    if (skip == FM__SKIP_NONE || status == FM_E_NOMEM || status == FM_E_IO)
        return fm__error_prefix(err, status, "%s", place);
    counts->skipped[skip]++;
    b->n_bad++;
    if (b->opts->skip_bad < 0 || b->n_bad <= b->opts->skip_bad) return keep_reason(b, err->text, err);
    struct fm_error reason = *err;
    if (b->opts->skip_bad == 0) return fm__fail(err, FM_E_FORMAT, "%s: %s", place, reason.text);
    return fm__fail(err, FM_E_FORMAT, "%s: %s (bad row %" PRId64 ", at most %" PRId64 " may be skipped)", place,
                    reason.text, b->n_bad, b->opts->skip_bad);
}

static bool blank(struct fm_str line)
{
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t') return false;
    return true;
}

fm_status fm__build_each(struct fm__builder *b, const char *path, fm__next_fn *next, fm__row_fn *handle,
                         struct fm_error *err)
{
    struct fm__rows rows;
    FM_TRY(fm__rows_open(path, &rows, err));
    fm_status status = FM_OK;
    while (status == FM_OK) {
        struct fm_str text;
        bool got;
        status = next(&rows, &text, &got, err);
        if (status != FM_OK) fm__error_prefix(err, status, "%s:%" PRIu64, path, rows.line);
        if (status != FM_OK || !got) break;
        b->line = (uint32_t)rows.line;
        if (!blank(text)) status = fm__build_end_row(b, handle(b, text, err), err);
    }
    fm__rows_close(&rows);
    return status;
}

fm_status fm__build_check_text(struct fm__builder *b, struct fm_str text, struct fm_error *err)
{
    size_t at;
    bool zero;
    if (fm__rows_text_ok(text.p, text.n, &at, &zero)) return FM_OK;
    if (zero) return fm__bad(b, FM__SKIP_ZERO, err, "a zero byte (byte %zu of the row), want text", at);
    return fm__bad(b, FM__SKIP_UTF8, err, "byte 0x%02x is no UTF-8 (byte %zu of the row)", (unsigned char)text.p[at],
                   at);
}

fm_status fm__build_object(struct fm__builder *b, struct fm_str line, json_t **out, struct fm_error *err)
{
    *out = NULL;
    FM_TRY(fm__build_check_text(b, line, err));
    fm_status status = fm__json_parse(line.p, line.n, &(struct fm__json_limits){.bytes = FM__ROW_MAX}, out, err);
    if (status != FM_OK) {
        if (status == FM_E_NOMEM) return status;
        b->skip = FM__SKIP_SYNTAX;
        if (line.p[0] != '[') return status;
        return fm__fail(err, FM_E_FORMAT, "begins with [: want one JSON object a line (JSONL), not an array");
    }
    if (json_is_object(*out)) return FM_OK;
    json_decref(*out);
    *out = NULL;
    return fm__bad(b, FM__SKIP_SYNTAX, err, "want one JSON object a line");
}

// --- tokens ---

static fm_status ids_reserve(struct fm__ids *ids, size_t need, struct fm_error *err)
{
    if (need <= ids->cap) return FM_OK;
    size_t cap = need + need / 2 + 64;
    int32_t *grown = fm__realloc(ids->p, cap * sizeof *grown);
    if (!grown) return fm__fail_nomem(err, "tokens of a document", cap * sizeof *grown);
    ids->p = grown, ids->cap = cap;
    return FM_OK;
}

void fm__ids_deinit(struct fm__ids *ids)
{
    fm__free(ids->p);
    *ids = (struct fm__ids){0};
}

fm_status fm__ids_push(struct fm__ids *ids, int32_t id, struct fm_error *err)
{
    FM_TRY(ids_reserve(ids, ids->n + 1, err));
    ids->p[ids->n++] = id;
    return FM_OK;
}

fm_status fm__build_encode(struct fm__builder *b, struct fm_str text, unsigned flags, struct fm__ids *ids,
                           struct fm_error *err)
{
    const struct fm_tokenizer *tok = b->opts->tok;
    struct fm_encode_args args = {.text = text.p, .n = text.n, .flags = flags};
    size_t n;
    FM_TRY(ids_reserve(ids, ids->n + text.n / 2 + 32, err));
    FM_TRY(fm_tokenizer_encode(tok, &args, ids->p + ids->n, ids->cap - ids->n, &n, err));
    if (n > ids->cap - ids->n) {
        FM_TRY(ids_reserve(ids, ids->n + n, err));
        FM_TRY(fm_tokenizer_encode(tok, &args, ids->p + ids->n, ids->cap - ids->n, &n, err));
    }
    if ((flags & FM_ENCODE_ADD_SPECIAL) && fm_tokenizer_adds_eos(tok) && n > 0) n--;
    ids->n += n;
    return FM_OK;
}

fm_status fm__build_fit(struct fm__builder *b, struct fm__ids *ids, size_t most, struct fm_error *err)
{
    if (ids->n <= most) return FM_OK;
    if (b->opts->refuse_long)
        return fm__bad(b, FM__SKIP_LONG, err, "%zu tokens, want at most %zu for length %" PRId64, ids->n, most,
                       b->opts->length);
    ids->n = most;
    b->n_cut++;
    return FM_OK;
}

// --- samples ---

static fm_status index_add(struct fm__builder *b, const struct fm__sample *sample, struct fm_error *err)
{
    struct fm__dataset *data = b->data;
    if (data->n_index == b->cap_index) {
        size_t cap = b->cap_index * 2 + 256, bytes;
        if (cap > UINT32_MAX) return fm__fail(err, FM_E_LIMIT, "more than %zu samples", data->n_index);
        struct fm__sample *grown = fm__mul_size(cap, sizeof *grown, &bytes) ? fm__realloc(data->index, bytes) : NULL;
        if (!grown) return fm__fail_nomem(err, "index of the samples", cap * sizeof *grown);
        data->index = grown, b->cap_index = cap;
    }
    data->index[data->n_index++] = *sample;
    return FM_OK;
}

// The rows of a document of n tokens: the last token of one that is learnt by prediction is only a target.
static int64_t rows_of(enum fm__data_kind kind, size_t n)
{
    return kind == FM__DATA_CLASSIFY || kind == FM__DATA_REGRESS ? (int64_t)n : (int64_t)n - 1;
}

static int64_t count_targets(const struct fm__ids *ids)
{
    int64_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += (ids->p[i] & FM__TOKEN_PREDICTED) != 0;
    return n;
}

fm_status fm__build_emit(struct fm__builder *b, const struct fm__sample *sample, bool pair, struct fm_error *err)
{
    struct fm__dataset *data = b->data;
    struct fm__data_counts *counts = &data->counts;
    struct fm__sample s = *sample;
    size_t bytes = b->ids.n * sizeof *b->ids.p, bytes2 = pair ? b->more.n * sizeof *b->more.p : 0;
    s.at = fm__store_size(data->store);
    s.n[0] = (uint32_t)b->ids.n, s.n[1] = pair ? (uint32_t)b->more.n : 0;
    s.file = b->file, s.line = b->line;
    s.check = fm__hash_bytes((const char *)b->ids.p, bytes);
    if (pair) s.check ^= 31 * fm__hash_bytes((const char *)b->more.p, bytes2);
    int64_t rows = rows_of(data->kind, s.n[0]) + (pair ? rows_of(data->kind, s.n[1]) : 0);
    FM_TRY(fm__store_append(data->store, b->ids.p, bytes, err));
    if (pair) FM_TRY(fm__store_append(data->store, b->more.p, bytes2, err));
    FM_TRY(index_add(b, &s, err));
    counts->tokens += (int64_t)s.n[0] + s.n[1];
    if (rows > counts->longest) counts->longest = rows;
    if (data->kind == FM__DATA_CLASSIFY || data->kind == FM__DATA_REGRESS)
        counts->targets++;
    else
        counts->targets += count_targets(&b->ids) + (pair ? count_targets(&b->more) : 0);
    return FM_OK;
}

fm_status fm__build_emit_bytes(struct fm__builder *b, const struct fm__sample *sample, const void *bytes,
                               struct fm_error *err)
{
    struct fm__dataset *data = b->data;
    struct fm__sample s = *sample;
    s.at = fm__store_size(data->store);
    s.file = b->file, s.line = b->line;
    s.check = fm__hash_bytes(bytes, s.n[0]);
    FM_TRY(fm__store_append(data->store, bytes, s.n[0], err));
    FM_TRY(index_add(b, &s, err));
    data->counts.targets++;
    data->counts.longest = 1;
    return FM_OK;
}

fm_status fm__build_label(struct fm__builder *b, struct fm_str name, int32_t *id, struct fm_error *err)
{
    struct fm__strtab *labels = &b->data->labels;
    if (!name.n) return fm__bad(b, FM__SKIP_LABEL, err, "the label is empty");
    *id = fm__strtab_find(labels, name.p, name.n);
    if (*id >= 0) return FM_OK;
    if (b->opts->labels)
        return fm__bad(b, FM__SKIP_LABEL, err, "unknown label \"%s\", want one of the %zu given",
                       fm__quote(name.p, name.n).text, b->opts->n_labels);
    if (labels->n == FM__MAX_LABELS)
        return fm__fail(err, FM_E_LIMIT, "more than %d different labels: is it the right column?", FM__MAX_LABELS);
    uint32_t same;
    if (!fm__strtab_add(labels, name.p, name.n) || !fm__strtab_key(labels, labels->n - 1, &same))
        return fm__fail_nomem(err, "labels", name.n);
    *id = (int32_t)labels->n - 1;
    return FM_OK;
}

// --- the builder ---

static fm_status give_labels(struct fm__builder *b, struct fm_error *err)
{
    struct fm__strtab *labels = &b->data->labels;
    for (size_t i = 0; i < b->opts->n_labels; i++) {
        const char *name = b->opts->labels[i];
        uint32_t same;
        if (!fm__strtab_add(labels, name, strlen(name)) || !fm__strtab_key(labels, (uint32_t)i, &same))
            return fm__fail_nomem(err, "labels", strlen(name));
        if (same != i) return fm__fail(err, FM_E_ARG, "label \"%s\" is given twice", name);
    }
    return FM_OK;
}

static void role_text(const struct fm_tokenizer *tok, fm_token_role role, char *out, size_t size)
{
    struct fm_str text = fm_tokenizer_token_text(tok, fm_tokenizer_role(tok, role));
    snprintf(out, size, "%.*s", (int)text.n, text.p ? text.p : "");
}

static void read_tokenizer(struct fm__builder *b)
{
    const struct fm_tokenizer *tok = b->opts->tok;
    fm_token_role end = fm_tokenizer_get_style(tok) == FM_TOKENIZER_WORDPIECE ? FM_TOKEN_SEP : FM_TOKEN_EOS;
    if (b->opts->end == FM__END_EOS) b->end = fm_tokenizer_role(tok, end);
    role_text(tok, FM_TOKEN_BOS, b->bos, sizeof b->bos);
    role_text(tok, FM_TOKEN_EOS, b->eos, sizeof b->eos);
    for (int32_t i = 0; i < fm_tokenizer_n_vocab(tok); i++) {
        struct fm_str text = fm_tokenizer_token_text(tok, i);
        if (text.n && fm_tokenizer_token_type(tok, i) == FM_TOKEN_CONTROL)
            b->control_first[(unsigned char)text.p[0]] = true;
    }
}

static fm_status build_files(struct fm__builder *b, struct fm_error *err)
{
    static fm__read_fn *const readers[FM__DATA_KIND_COUNT] = {
        [FM__DATA_TEXT] = fm__read_text,
        [FM__DATA_CHAT] = fm__read_chat,
        [FM__DATA_COMPLETION] = fm__read_completion,
        [FM__DATA_CLASSIFY] = fm__read_table,
        [FM__DATA_REGRESS] = fm__read_table,
        [FM__DATA_PREFERENCE] = fm__read_preference,
        [FM__DATA_IMAGES] = fm__read_images,
    };
    if (b->opts->tok) read_tokenizer(b);
    FM_TRY(give_labels(b, err));
    if (b->opts->chat_template)
        FM_TRY(fm_chat_template_new(b->opts->chat_template, b->opts->n_chat_template, &b->tmpl, err));
    for (size_t i = 0; i < b->data->n_files; i++) {
        b->file = (uint32_t)i, b->line = 0;
        FM_TRY(readers[b->data->kind](b, b->data->files[i].path, err));
    }
    return FM_OK;
}

// The order of labels that were found: integers by value, else bytes. Labels are distinct.
struct named {
    const char *p;
    size_t n;
    int32_t id;
    int64_t value;
};

static int by_bytes(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static int by_value(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return x->value != y->value ? (x->value > y->value) - (x->value < y->value) : by_bytes(a, b);
}

// At most 18 digits, so that it fits.
static bool as_integer(const char *p, size_t n, int64_t *out)
{
    size_t i = n > 1 && p[0] == '-';
    if (i == n || n - i > 18) return false;
    *out = 0;
    for (size_t k = i; k < n; k++) {
        if (p[k] < '0' || p[k] > '9') return false;
        *out = *out * 10 + (p[k] - '0');
    }
    if (i) *out = -*out;
    return true;
}

static fm_status relabel(struct fm__dataset *data, struct named *names, int32_t *new_id, struct fm_error *err)
{
    struct fm__strtab sorted = {0}, *old = &data->labels;
    fm_status status = FM_OK;
    for (uint32_t i = 0; i < old->n && status == FM_OK; i++) {
        uint32_t same;
        new_id[names[i].id] = (int32_t)i;
        if (!fm__strtab_add(&sorted, names[i].p, names[i].n) || !fm__strtab_key(&sorted, i, &same))
            status = fm__fail_nomem(err, "labels", names[i].n);
    }
    if (status != FM_OK) {
        fm__strtab_deinit(&sorted);
        return status;
    }
    for (size_t i = 0; i < data->n_index; i++) data->index[i].label = new_id[data->index[i].label];
    fm__strtab_deinit(old);
    *old = sorted;
    return FM_OK;
}

static fm_status sort_labels(struct fm__dataset *data, struct fm_error *err)
{
    uint32_t n = data->labels.n;
    struct named *names = fm__calloc(n, sizeof *names);
    int32_t *new_id = fm__calloc(n, sizeof *new_id);
    fm_status status = names && new_id ? FM_OK : fm__fail_nomem(err, "labels", n * sizeof *names);
    bool integers = true;
    for (uint32_t i = 0; i < n && status == FM_OK; i++) {
        names[i] = (struct named){data->labels.bytes + data->labels.at[i], data->labels.len[i], (int32_t)i, 0};
        integers = integers && as_integer(names[i].p, names[i].n, &names[i].value);
    }
    if (status == FM_OK) {
        qsort(names, n, sizeof *names, integers ? by_value : by_bytes);
        status = relabel(data, names, new_id, err);
    }
    fm__free(names);
    fm__free(new_id);
    return status;
}

fm_status fm__build(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err)
{
    struct fm__builder b = {.opts = opts, .data = data, .end = -1};
    fm_status status = build_files(&b, err);
    if (status == FM_OK && data->labels.n && !opts->labels) status = sort_labels(data, err);
    fm__ids_deinit(&b.ids);
    fm__ids_deinit(&b.more);
    fm__free(b.joined.p);
    fm_chat_template_free(b.tmpl);
    if (status != FM_OK) return status;
    if (data->counts.used > 0) return FM_OK;
    return fm__fail(err, FM_E_FORMAT, "%s%s: no samples (%" PRId64 " rows, all of them bad or none at all)",
                    data->n_files ? data->files[0].path : "", data->n_files > 1 ? " and others" : "",
                    data->counts.rows);
}

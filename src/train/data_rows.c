// SPDX-License-Identifier: MIT
#include "train/data_rows.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/tok_utf8.h"

enum { STEP = 1 << 16 };

fm_status fm__rows_open(const char *path, struct fm__rows *rows, struct fm_error *err)
{
    *rows = (struct fm__rows){.file = {.fd = -1}, .next_line = 1};
    FM_TRY(fm__file_open(path, &rows->file, err));
    char mark[3];
    if (rows->file.size >= 3) {
        fm_status status = fm__file_pread(&rows->file, 0, mark, 3, err);
        if (status != FM_OK) {
            fm__rows_close(rows);
            return status;
        }
        if (memcmp(mark, "\xef\xbb\xbf", 3) == 0) rows->at = 3;
    }
    return FM_OK;
}

void fm__rows_close(struct fm__rows *rows)
{
    fm__file_close(&rows->file);
    fm__free(rows->buf);
    fm__free(rows->row);
    fm__free(rows->fields);
    *rows = (struct fm__rows){.file = {.fd = -1}};
}

// Makes *p hold at least `need` bytes.
static fm_status grow(char **p, size_t *cap, size_t need, struct fm_error *err)
{
    if (need <= *cap) return FM_OK;
    size_t more = need + need / 2 + 256;
    char *grown = fm__realloc(*p, more);
    if (!grown) return fm__fail_nomem(err, "a row of a data file", more);
    *p = grown, *cap = more;
    return FM_OK;
}

// Reads more of the file behind buf[to); *end when there is none left.
static fm_status fill(struct fm__rows *rows, bool *end, struct fm_error *err)
{
    uint64_t left = rows->file.size - rows->at;
    *end = left == 0;
    if (*end) return FM_OK;
    if (rows->from) {
        memmove(rows->buf, rows->buf + rows->from, rows->to - rows->from);
        rows->to -= rows->from, rows->from = 0;
    }
    if (rows->to > FM__ROW_MAX) return fm__fail(err, FM_E_LIMIT, "a line of more than %d bytes", FM__ROW_MAX);
    size_t step = left < STEP ? (size_t)left : STEP;
    FM_TRY(grow(&rows->buf, &rows->cap, rows->to + step, err));
    FM_TRY(fm__file_pread(&rows->file, rows->at, rows->buf + rows->to, step, err));
    rows->to += step, rows->at += step;
    return FM_OK;
}

// The next line with its end in buf[from … from + *n); *n 0 at the end of the file.
static fm_status whole_line(struct fm__rows *rows, size_t *n, struct fm_error *err)
{
    size_t seen = 0;
    for (bool end = false;;) {
        size_t have = rows->to - rows->from;
        const char *start = have ? rows->buf + rows->from : "",
                   *newline = have > seen ? memchr(start + seen, '\n', have - seen) : NULL;
        if (newline || end) {
            *n = newline ? (size_t)(newline - start) + 1 : have;
            return FM_OK;
        }
        seen = have;
        FM_TRY(fill(rows, &end, err));
    }
}

static size_t without_end(const char *p, size_t n)
{
    if (n && p[n - 1] == '\n') n--;
    if (n && p[n - 1] == '\r') n--;
    return n;
}

fm_status fm__rows_line(struct fm__rows *rows, struct fm_str *line, bool *got, struct fm_error *err)
{
    size_t n;
    rows->line = rows->next_line;
    FM_TRY(whole_line(rows, &n, err));
    *got = n > 0;
    *line = (struct fm_str){n ? rows->buf + rows->from : "", 0};
    line->n = without_end(line->p, n);
    rows->from += n;
    rows->next_line += n > 0;
    return FM_OK;
}

static bool blank(struct fm_str line)
{
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r') return false;
    return true;
}

static fm_status append(struct fm__rows *rows, const char *p, size_t n, struct fm_error *err)
{
    if (rows->n_row + n > FM__ROW_MAX) return fm__fail(err, FM_E_LIMIT, "a row of more than %d bytes", FM__ROW_MAX);
    FM_TRY(grow(&rows->row, &rows->cap_row, rows->n_row + n, err));
    if (n) memcpy(rows->row + rows->n_row, p, n);
    rows->n_row += n;
    return FM_OK;
}

fm_status fm__rows_paragraph(struct fm__rows *rows, struct fm_str *text, bool *got, struct fm_error *err)
{
    struct fm_str line;
    uint64_t first = 0;
    rows->n_row = 0;
    for (;;) {
        FM_TRY(fm__rows_line(rows, &line, got, err));
        bool empty = blank(line);
        if (!*got || (empty && first)) break;
        if (empty) continue;
        if (first) FM_TRY(append(rows, "\n", 1, err));
        if (!first) first = rows->line;
        FM_TRY(append(rows, line.p, line.n, err));
    }
    *got = first > 0;
    if (first) rows->line = first;
    *text = (struct fm_str){rows->row, rows->n_row};
    return FM_OK;
}

static fm_status add_field(struct fm__rows *rows, const char *p, size_t n, struct fm_error *err)
{
    if (rows->n_fields == rows->cap_fields) {
        size_t cap = rows->cap_fields * 2 + 8;
        struct fm_str *grown = fm__realloc(rows->fields, cap * sizeof *grown);
        if (!grown) return fm__fail_nomem(err, "fields of a row", cap * sizeof *grown);
        rows->fields = grown, rows->cap_fields = cap;
    }
    rows->fields[rows->n_fields++] = (struct fm_str){p, n};
    return FM_OK;
}

// A quoted field of row[0 … n_row), found from its opening quote on.
struct quoted {
    size_t length; // unquoted
    size_t next;   // behind the closing quote
    bool well;     // it is closed, and a delimiter or the end follows
};

// Unquotes in place the field whose quote is row[at], if it is well.
static struct quoted unquote(struct fm__rows *rows, size_t at, char delimiter)
{
    char *p = rows->row;
    size_t n = rows->n_row, from = at + 1, i = from;
    while (i < n && (p[i] != '"' || (i + 1 < n && p[i + 1] == '"'))) i += p[i] == '"' ? 2 : 1;
    struct quoted field = {.next = i + 1, .well = i < n && (i + 1 == n || p[i + 1] == delimiter)};
    size_t to = from;
    for (size_t k = from; field.well && k < i; k++) { // a doubled quote counts once
        p[to++] = p[k];
        if (p[k] == '"') k++;
    }
    field.length = to - from;
    return field;
}

enum split { SPLIT_DONE, SPLIT_OPEN, SPLIT_BAD };

// How far a row is scanned; kept while lines are added to it, so that each byte is looked at once.
struct scan {
    size_t i;
    bool quoted; // i is inside a quoted field
};

// Looks for the end of row[0 … n_row). SPLIT_OPEN: a quote is not closed yet; SPLIT_BAD: something follows a closing
// quote, at s->i.
static enum split scan(const struct fm__rows *rows, char delimiter, struct scan *s)
{
    const char *p = rows->row;
    size_t n = rows->n_row;
    for (;;) {
        if (!s->quoted && s->i < n && p[s->i] == '"') s->quoted = true, s->i++;
        if (s->quoted) {
            for (; s->i < n; s->i++) {
                if (p[s->i] != '"') continue;
                if (s->i + 1 == n || p[s->i + 1] != '"') break;
                s->i++;
            }
            if (s->i >= n) return SPLIT_OPEN;
            s->quoted = false;
            if (++s->i < n && p[s->i] != delimiter) return SPLIT_BAD;
        } else {
            const char *end = s->i < n ? memchr(p + s->i, delimiter, n - s->i) : NULL;
            s->i = end ? (size_t)(end - p) : n;
        }
        if (s->i >= n) return SPLIT_DONE;
        s->i++;
    }
}

static fm_status cut(struct fm__rows *rows, char delimiter, struct fm_error *err)
{
    char *p = rows->row;
    size_t n = rows->n_row, i = 0;
    rows->n_fields = 0;
    for (;;) {
        struct quoted field = {0};
        if (i < n && p[i] == '"') field = unquote(rows, i, delimiter);
        if (field.well) {
            FM_TRY(add_field(rows, p + i + 1, field.length, err));
            i = field.next;
        } else {
            const char *end = i < n ? memchr(p + i, delimiter, n - i) : NULL;
            size_t to = end ? (size_t)(end - p) : n;
            FM_TRY(add_field(rows, p + i, to - i, err));
            i = to;
        }
        if (i >= n) return FM_OK;
        i++;
    }
}

fm_status fm__rows_fields(struct fm__rows *rows, char delimiter, bool *got, struct fm_error *err)
{
    struct fm_str line;
    do FM_TRY(fm__rows_line(rows, &line, got, err));
    while (*got && line.n == 0);
    if (!*got) return FM_OK;
    uint64_t first = rows->line, behind = rows->at - (rows->to - rows->from);
    rows->n_row = 0;
    FM_TRY(append(rows, line.p, line.n, err));
    if (delimiter == '\t') return cut(rows, delimiter, err);
    enum split found = SPLIT_OPEN;
    for (struct scan s = {0};;) {
        found = scan(rows, delimiter, &s);
        if (found != SPLIT_OPEN) break;
        FM_TRY(fm__rows_line(rows, &line, got, err));
        if (!*got) break;
        FM_TRY(append(rows, "\n", 1, err));
        FM_TRY(append(rows, line.p, line.n, err));
    }
    rows->line = first;
    if (found == SPLIT_DONE) return cut(rows, delimiter, err);
    // only its first line is bad: the lines behind, which a stray quote would swallow, are read again
    *got = true;
    rows->at = behind, rows->from = rows->to = 0, rows->next_line = first + 1;
    return fm__fail(err, FM_E_FORMAT, "a quoted field %s",
                    found == SPLIT_BAD ? "goes on behind its closing quote" : "is not closed before the file ends");
}

bool fm__rows_text_ok(const char *p, size_t n, size_t *at, bool *zero)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok = true;
        *at = i;
        *zero = p[i] == '\0';
        if (*zero) return false;
        if ((unsigned char)p[i] < 0x80) {
            i++;
            continue;
        }
        i += fm__utf8_decode_strict(p + i, n - i, &cp, &ok);
        if (!ok) return false;
    }
    return true;
}

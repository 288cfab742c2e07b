// SPDX-License-Identifier: MIT
// Rows of text files, one after the other with the number of their first line: lines, paragraphs, and the fields of
// CSV (RFC 4180) and TSV. Memory is that of the longest row.
//
// A row that is malformed gives FM_E_FORMAT and the reader goes on behind its first line with the next call; every
// other failure is final. Texts live until the next call.
#ifndef FM_TRAIN_DATA_ROWS_H
#define FM_TRAIN_DATA_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "fathom/str.h"

enum { FM__ROW_MAX = 64 << 20 }; // bytes of a line or paragraph; a longer one is FM_E_LIMIT

struct fm__rows {
    struct fm__file file;
    uint64_t at; // of the next byte to be read
    char *buf;   // bytes from…to are read and not yet given out
    size_t cap, from, to;
    uint64_t line;      // number, from 1, of the line that the last row began in
    uint64_t next_line; // of the line to come
    char *row;          // paragraphs and quoted rows, which are copied together
    size_t n_row, cap_row;
    struct fm_str *fields;
    size_t n_fields, cap_fields;
};

// Skips a byte order mark. Errors: as fm__file_open.
fm_status fm__rows_open(const char *path, struct fm__rows *rows, struct fm_error *err);
void fm__rows_close(struct fm__rows *rows); // zeroed: fine, if fd is -1

// The next line without its end (\n or \r\n). *got false at the end of the file.
fm_status fm__rows_line(struct fm__rows *rows, struct fm_str *line, bool *got, struct fm_error *err);
// The next run of lines that are not blank, with the line ends between them.
fm_status fm__rows_paragraph(struct fm__rows *rows, struct fm_str *text, bool *got, struct fm_error *err);
// The next row that is not an empty line; rows->fields[0 … n_fields) are its fields, unquoted. A comma, semicolon … as
// delimiter means RFC 4180: a quoted field may hold delimiters, line ends, and quotes doubled; what follows its closing
// quote must be a delimiter or the line's end; a quote inside an unquoted field stands for itself. With a tab a field
// is quoted only where its closing quote comes in the same line and before a tab or the line's end: most TSV files do
// not know quotes.
fm_status fm__rows_fields(struct fm__rows *rows, char delimiter, bool *got, struct fm_error *err);

// What is wrong with a text as UTF-8 (overlong forms and surrogates too) or a zero byte in it. True: nothing; else *at
// is the byte and *zero whether it is a zero.
bool fm__rows_text_ok(const char *p, size_t n, size_t *at, bool *zero);

#endif

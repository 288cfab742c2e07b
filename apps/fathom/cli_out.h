// SPDX-License-Identifier: MIT
// What commands print with: results to stdout (text, or one JSON value a line), everything else to stderr.
#ifndef FM_APP_CLI_OUT_H
#define FM_APP_CLI_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

// Prints a JSON value as one line on stdout and drops the caller's reference. NULL (jansson ran out of memory) prints
// an error. Returns an exit code.
int fm__cli_json(json_t *value);

// A JSON string of any bytes: what is not UTF-8 (a file name, a cut token) becomes U+FFFD. NULL: out of memory.
json_t *fm__cli_text(const char *text, size_t n);

// Says an error on stderr ("fathom CMD: text"), or with json on stdout as {"error": {"code", "text", "where"}}.
// Returns the exit code that belongs to it.
int fm__cli_error(const char *cmd, const struct fm_error *err, bool json);

// "98.4 MB" in powers of 1000, in buf; returns buf.
const char *fm__cli_bytes(char buf[24], uint64_t bytes);

// A progress bar on stderr: drawn only where stderr is a terminal (TERM not "dumb"), at most ten times a second.
struct fm_cli_progress {
    const char *label;
    uint64_t total;          // 0: not known
    double drawn_s, begun_s; // fm__seconds; drawn_s 0: not yet
    uint64_t begun_at;
    bool on;
    bool count; // of things rather than of bytes: set after begin
};
void fm__cli_progress_begin(struct fm_cli_progress *p, const char *label, uint64_t done, uint64_t total);
void fm__cli_progress_update(struct fm_cli_progress *p, uint64_t done);
void fm__cli_progress_end(struct fm_cli_progress *p);

#endif

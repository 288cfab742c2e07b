// SPDX-License-Identifier: MIT
// Reading what the user says: with line editing and a history file at a terminal, plain lines from a pipe. A line that
// ends in a backslash goes on in the next one; a block between lines of """ is one text.
#ifndef FM_APP_CHAT_LINE_H
#define FM_APP_CHAT_LINE_H

#include "cli_text.h"
#include "fathom/status.h"

struct fm_chat_line;

enum fm_chat_read {
    FM_CHAT_TEXT,
    FM_CHAT_INTERRUPT, // Ctrl-C: what was typed is dropped
    FM_CHAT_EOF,
};

fm_status fm__chat_line_open(struct fm_chat_line **out, struct fm_error *err);
void fm__chat_line_close(struct fm_chat_line *line); // NULL is fine; writes the history

// One text, without its last newline, in *text (emptied first; the caller's).
enum fm_chat_read fm__chat_line_read(struct fm_chat_line *line, struct fm_cli_text *text);

#endif

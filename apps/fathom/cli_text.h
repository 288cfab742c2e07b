// SPDX-License-Identifier: MIT
// Bytes that grow, always with a zero after them.
#ifndef FM_APP_CLI_TEXT_H
#define FM_APP_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct fm_cli_text {
    char *p; // NULL until something was added
    size_t n, cap;
};

bool fm__cli_text_add(struct fm_cli_text *text, const void *bytes, size_t n); // false: no memory, text unchanged
void fm__cli_text_drop(struct fm_cli_text *text, size_t n);                   // the first n bytes go
void fm__cli_text_free(struct fm_cli_text *text);                             // empty again

#endif

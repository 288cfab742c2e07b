// SPDX-License-Identifier: MIT
// A growing byte string.
#include "cli_text.h"

#include <stdlib.h>
#include <string.h>

bool fm__cli_text_add(struct fm_cli_text *text, const void *bytes, size_t n)
{
    if (n >= text->cap - text->n || !text->p) {
        size_t cap = 2 * (text->n + n) + 64;
        char *p = realloc(text->p, cap);
        if (!p) return false;
        text->p = p;
        text->cap = cap;
    }
    if (n) memcpy(text->p + text->n, bytes, n);
    text->n += n;
    text->p[text->n] = 0;
    return true;
}

void fm__cli_text_drop(struct fm_cli_text *text, size_t n)
{
    if (n == 0) return;
    text->n -= n;
    memmove(text->p, text->p + n, text->n + 1);
}

void fm__cli_text_free(struct fm_cli_text *text)
{
    free(text->p);
    *text = (struct fm_cli_text){0};
}

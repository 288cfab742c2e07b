// SPDX-License-Identifier: MIT
// Text with its length, as files give it.
#ifndef FATHOM_STR_H
#define FATHOM_STR_H

#include <stddef.h>

// Bytes with a length; not zero terminated by contract (our readers do put a zero after them), not necessarily UTF-8.
struct fm_str {
    const char *p;
    size_t n;
};

#endif

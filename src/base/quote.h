// SPDX-License-Identifier: MIT
// Bytes from a file or the network as they may stand in a one-line message.
#ifndef FM_BASE_QUOTE_H
#define FM_BASE_QUOTE_H

#include <stddef.h>

struct fm__quoted {
    char text[256];
};

// Printable ASCII as it is, other bytes, quotes and backslashes as \xHH, cut after 60 bytes with "...".
struct fm__quoted fm__quote(const char *p, size_t n);

#endif

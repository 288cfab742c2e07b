// SPDX-License-Identifier: MIT
#include "base/quote.h"

#include <stdio.h>

struct fm__quoted fm__quote(const char *p, size_t n)
{
    enum { MOST = 60 }; // times 4 for \xHH, plus "..." fits the text
    struct fm__quoted out;
    size_t to = 0;
    for (size_t i = 0; i < n && i < MOST; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= ' ' && c < 127 && c != '"' && c != '\\')
            out.text[to++] = (char)c;
        else
            to += (size_t)snprintf(out.text + to, sizeof out.text - to, "\\x%02x", c);
    }
    snprintf(out.text + to, sizeof out.text - to, "%s", n > MOST ? "..." : "");
    return out;
}

// SPDX-License-Identifier: MIT
// Reading JSON (RFC 8259) that nobody vouches for: bounded bytes, depth and number of values, checked before the parser
// allocates anything; duplicate keys, invalid UTF-8 and numbers beyond int64_t refused. Values are jansson's.
#ifndef FM_BASE_JSON_H
#define FM_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "fathom/status.h"

// Zero means the default. jansson takes some 100 bytes a value, so `values` bounds the memory.
struct fm__json_limits {
    size_t bytes;  // 100 MB
    size_t values; // 2^22
    int depth;     // 64
};

// *out is a new reference for the caller (json_decref). Any kind of value may be outermost. limits NULL: defaults.
// Errors: FM_E_FORMAT with line, column and byte, FM_E_LIMIT, FM_E_NOMEM.
//
// The first call makes jansson allocate through base/alloc.h, unless the program has set functions of its own: jansson
// 2.14 drops characters of a text when memory runs out in its lexer and goes on, so that this must look out for it.
fm_status fm__json_parse(const char *text, size_t n, const struct fm__json_limits *limits, json_t **out,
                         struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
// Where the bytes of a weight file come from: an open file, or memory that the caller keeps.
#ifndef FM_FORMAT_SOURCE_H
#define FM_FORMAT_SOURCE_H

#include <stdint.h>

#include "base/file.h"

struct fm__source {
    struct fm__file file; // fd -1 for memory
    const uint8_t *bytes; // NULL for a file
    uint64_t size;
};

fm_status fm__source_open(const char *path, struct fm__source *out, struct fm_error *err);
struct fm__source fm__source_of_memory(const void *bytes, size_t n);
void fm__source_close(struct fm__source *source);
// Exactly n bytes from `offset`, else FM_E_IO. Thread safe.
fm_status fm__source_read(const struct fm__source *source, uint64_t offset, void *dst, size_t n, struct fm_error *err);

#endif

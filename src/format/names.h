// SPDX-License-Identifier: MIT
// An index from names to 0, 1, 2 … in the order added: hashed look-up, duplicates found as they come.
// The names' bytes are not copied: they live at least as long as the index.
#ifndef FM_FORMAT_NAMES_H
#define FM_FORMAT_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/quote.h"
#include "fathom/status.h"
#include "fathom/str.h"

// A zeroed struct fm__names is empty.
struct fm__names {
    struct fm_str *names;
    uint32_t *next;  // of the chain, + 1; 0 ends it
    uint32_t *heads; // first of each bucket's chain, + 1
    size_t n, space; // `space` entries and as many buckets (a power of two)
};

// FM_E_FORMAT for a name that is there already, FM_E_LIMIT for a set of names made to collide.
fm_status fm__names_add(struct fm__names *index, struct fm_str name, struct fm_error *err);
int64_t fm__names_find(const struct fm__names *index, const char *p, size_t n); // -1: none
void fm__names_deinit(struct fm__names *index);

#endif

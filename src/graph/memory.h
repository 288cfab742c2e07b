// SPDX-License-Identifier: MIT
// The memory plan: where in one arena each temporary lies, given when it is alive.
#ifndef FM_GRAPH_MEMORY_H
#define FM_GRAPH_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

// Something that needs `bytes` from stage `first` to stage `last`, both included. Two items may share bytes only if
// their stages do not meet: nodes of one stage run side by side.
struct fm__span {
    size_t bytes;
    int32_t first, last;
    size_t offset; // out
};

// Sets every offset (multiples of `alignment`, a power of two) and *total, the arena's size. Greedy by size: the
// largest item first, each at the lowest place where nothing alive overlaps (arXiv 2001.03288, section 4.2).
fm_status fm__memory_plan(struct fm__span *spans, int n, size_t alignment, size_t *total, struct fm_error *err);

// The most bytes alive in one stage, no place thought of; *stage (NULL is fine): the first such stage.
size_t fm__memory_peak(const struct fm__span *spans, int n, int32_t *stage);

#endif

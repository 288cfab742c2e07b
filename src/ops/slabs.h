// SPDX-License-Identifier: MIT
// Sums over rows: slabs of 256 rows, each one chain of ascending rows from 0, the slabs added in order. Fixed by shapes
// alone, so that threads, and processes with whole slabs, get the same bytes.
#ifndef FM_OPS_SLABS_H
#define FM_OPS_SLABS_H

#include <stdint.h>

enum { FM__SLAB_ROWS = 256 };

static inline int64_t fm__slab_end(int64_t begin, int64_t n_rows)
{
    return n_rows - begin < FM__SLAB_ROWS ? n_rows : begin + FM__SLAB_ROWS;
}

#endif

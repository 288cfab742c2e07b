// SPDX-License-Identifier: MIT
// What dropout's kernels share with its reference: which random word belongs to an element, and what is done with it.
#ifndef FM_OPS_DROPOUT_H
#define FM_OPS_DROPOUT_H

#include <math.h>

#include "base/rng.h"
#include "ops/attrs.h"

enum { FM__KEY_SEED_LOW, FM__KEY_SEED_HIGH, FM__KEY_STEP, FM__KEY_ROW, FM__KEY_FIELDS };

// Column c of a row takes word (c / 16) % 4 of Philox with counter {c / 64 * 16 + c % 16, row, step, stream}, so that
// 16 counters side by side in vector lanes give the words of 64 columns in order.
enum { FM__DROPOUT_COLUMNS = 64 };

static inline uint32_t fm__dropout_counter(int64_t column)
{
    return (uint32_t)(column / FM__DROPOUT_COLUMNS * 16 + column % 16);
}

static inline int fm__dropout_word(int64_t column)
{
    return (int)(column / 16 % 4);
}

// Elements whose word is below this are dropped.
static inline uint32_t fm__dropout_threshold(const struct fm__attr_dropout *a)
{
    return (uint32_t)rint((double)a->p * 0x1p32);
}

static inline float fm__dropout_scale(const struct fm__attr_dropout *a)
{
    return (float)(1.0 / (1.0 - (double)a->p));
}

#endif

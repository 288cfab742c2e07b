// SPDX-License-Identifier: MIT
// What adapt's reference and kernels share (ops/adapt.c says what the inputs are).
#ifndef FM_OPS_ADAPT_H
#define FM_OPS_ADAPT_H

#include <stdbool.h>

#include "ops/call.h"

enum {
    FM__ADAPT_Y,
    FM__ADAPT_X,
    FM__ADAPT_ROWS,
    FM__ADAPT_SPANS,
    FM__ADAPT_B,
    FM__ADAPT_A,
    FM__ADAPT_GAIN,
    FM__ADAPT_BIAS
};

static inline bool fm__adapt_has(const struct fm__call *c, int i)
{
    return c->n_in > i && c->in[i].data;
}

// Whether this adapter leaves the product alone: it has no ranks here, and nobody has gains (a gain of 0 still turns -0
// into 0).
static inline bool fm__adapt_is_idle(const struct fm__call *c, int32_t adapter)
{
    const int32_t *span = (const int32_t *)c->in[FM__ADAPT_SPANS].data + (ptrdiff_t)2 * adapter;
    return span[0] == span[1] && !fm__adapt_has(c, FM__ADAPT_GAIN);
}

#endif

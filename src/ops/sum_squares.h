// SPDX-License-Identifier: MIT
// The order of sum_squares: pieces of this many elements, each summed in 16 lanes of double (fm__fn_sum16), the pieces
// added in order. Threads share pieces, so that their number changes no bit.
#ifndef FM_OPS_SUM_SQUARES_H
#define FM_OPS_SUM_SQUARES_H

#include <stddef.h>

#include "ops/call.h"

enum { FM__SQUARES_PIECE = 1 << 15 };

static inline int64_t fm__squares_pieces(const struct fm__call *c)
{
    return (fm_tensor_elements(&c->in[0]) + FM__SQUARES_PIECE - 1) / FM__SQUARES_PIECE;
}

#endif

// SPDX-License-Identifier: MIT
// Recomputation (arXiv 1604.06174): activations that only the backward pass still wants are dropped, and computed again
// right before it reads them. Values stay the same to the bit: a clone runs the same kernel on the same operands, and
// dropout's masks are counted, not drawn.
#ifndef FM_GRAPH_RECOMPUTE_H
#define FM_GRAPH_RECOMPUTE_H

#include "graph/graph.h"

struct fm__recompute {
    int64_t rows;  // what FM__ROWS becomes
    size_t budget; // drop until `measure` is at most this; 1: as far as it goes
    // Bytes of the arena that a graph needs.
    fm_status (*measure)(void *context, const struct fm__graph *g, size_t *bytes, struct fm_error *err);
    void *context;
};

// *out: a new graph, the caller's; NULL where nothing was to be done: it fits as it is, or there is no backward pass.
// A budget that cannot be met gives the smallest found: the caller compares.
//
// The forward part is cut where least lies across (between blocks of layers); what crosses a cut is kept, the rest of a
// segment is dropped by most bytes for least FLOPs, and computed again when the first gradient reaches the segment.
// Where that is not enough, segments are joined (fewer kept values, more at once).
fm_status fm__pass_recompute(const struct fm__graph *g, const struct fm__recompute *r, struct fm__graph **out,
                             struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
// Passes: graph to graph. Each replays a graph into a new one; the old stays as it was.
#ifndef FM_GRAPH_PASSES_H
#define FM_GRAPH_PASSES_H

#include "graph/graph.h"

// Gives linear's x the type that `choose` returns for its weight (FM_F32: as it is); x is cast once a type.
typedef fm_dtype fm__choose_activation(void *context, const struct fm__value *weight);
struct fm__graph *fm__pass_activations(const struct fm__graph *g, fm__choose_activation *choose, void *context);

// Training in bf16: products, forward and back, take rows of bf16 (their weights are rounded by the kernel, their sums
// are f32); everything between them, parameters and their gradients stay f32.
struct fm__graph *fm__pass_bf16(const struct fm__graph *g);

// Takes the angles out of rope: one rope_angles for all ropes of equal rows, factors and scaling.
struct fm__graph *fm__pass_share_angles(const struct fm__graph *g);

// Fuses what has one reader: cast into the op before it (out_dtype), add into linear (residual), linear_dw into what
// accumulates it.
struct fm__graph *fm__pass_fuse(const struct fm__graph *g);

// All return NULL without memory; a failed shape rule sticks to the result (fm__graph_check).
struct fm__graph *fm__pass_drop_dead(const struct fm__graph *g);

#endif

// SPDX-License-Identifier: MIT
// Gradients are graph to graph: reverse accumulation appends ordinary nodes, so that a device needs no backward mode
// and the planner sees saved activations as liveness.
#ifndef FM_GRAPH_GRADIENT_H
#define FM_GRAPH_GRADIENT_H

#include "graph/graph.h"

// Appends to g what computes the gradient of `y`, seeded with ones (the sum of y's elements is differentiated), with
// respect to the n values `of`: f32 weights, states or inputs. out[i]: f32 of the dims of of[i], or FM__NONE where y
// does not depend on it. Call it before anything replaces one of these values. Errors stick to the graph: a value that
// is not f32, an op on the way that has no gradient, no memory.
void fm__graph_gradient(struct fm__graph *g, fm__val y, int n, const fm__val *of, fm__val *out);

// Adds the gradient d to the state acc (both f32 of equal dims) and returns acc's next version; keep: input f32 [1], 0
// assigns instead (FM__NONE: always adds). A d that is a sum is added term by term, and rows that were scattered go
// straight to the state: a table of embeddings that is also the head's would otherwise have three matrices of its size
// alive, one of them through the whole backward pass.
fm__val fm__graph_accumulate(struct fm__graph *g, fm__val acc, fm__val d, fm__val keep);

// --- for the rules of ops ---

struct fm__grad {
    struct fm__graph *g;
    fm__val *sums;         // of each value there was: its gradient so far
    unsigned char *needed; // of each value there was: it depends on one of those asked for
};

// Whether anybody wants the gradient of v; FM__NONE: no. Rules skip the nodes that would feed it.
bool fm__grad_needs(const struct fm__grad *grad, fm__val v);
// Adds d to the gradient of v; nothing where it is not needed. Sums are formed in the order of the calls.
void fm__grad_add(struct fm__grad *grad, fm__val v, fm__val d);

#endif

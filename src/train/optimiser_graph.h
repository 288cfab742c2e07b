// SPDX-License-Identifier: MIT
// The graphs of an optimiser: the norm of the gradients, and a step. Leaves say what states there are.
#ifndef FM_TRAIN_OPTIMISER_GRAPH_H
#define FM_TRAIN_OPTIMISER_GRAPH_H

#include <stdbool.h>

#include "graph/graph.h"
#include "train/optimiser.h"

struct fm__param {
    const char *name;
    int rank;
    int64_t dims[FM_MAX_RANK];
};

// Whether weight decay applies by default: to matrices and kernels that are no embeddings; vectors are norms and
// biases.
bool fm__param_decays(const struct fm__param *p);
// Whether Muon steps it: matrices but for embeddings and the head (K. Jordan's note); AdamW steps the others.
bool fm__param_is_hidden(const struct fm__param *p);

// Outputs: for each parameter, in order, the sum of its gradient's squares, f32 [1]. NULL: no memory; other failures
// stick to the graph.
struct fm__graph *fm__norm_graph(int n, const struct fm__param *params);
// A step. Input: "knobs" f32 [4] (ops/optimiser.h).
struct fm__graph *fm__step_graph(const struct fm__optimiser_opts *opts, int n, const struct fm__param *params);

void fm__optimiser_knobs(const struct fm__optimiser_opts *opts, int64_t step, double rate, double scale,
                         float knobs[4]);

#endif

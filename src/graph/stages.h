// SPDX-License-Identifier: MIT
// When each node runs: nodes of one stage run side by side, stages one after the other.
#ifndef FM_GRAPH_STAGES_H
#define FM_GRAPH_STAGES_H

#include "graph/graph.h"

// Sets stage_of[node] and *n_stages: as early as possible, after those that make what a node reads or waits for and, if
// it changes a state, after all readers of the version it replaces. In graphs with a backward pass nodes then move
// later, up to their first reader, where that keeps fewer bytes alive. `rows` is what FM__ROWS becomes.
fm_status fm__stages(const struct fm__graph *g, int64_t rows, int32_t *stage_of, int32_t *n_stages,
                     struct fm_error *err);

// Bytes of a value with `rows` rows.
size_t fm__value_bytes(const struct fm__value *v, int64_t rows);
bool fm__graph_trains(const struct fm__graph *g); // it has a backward pass

#endif

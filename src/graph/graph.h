// SPDX-License-Identifier: MIT
// The graph: values and the nodes that make them, in topological order. A recipe only: no bytes, no device.
//
// Dims are numbers but for one symbol, FM__ROWS, the number of rows of a step. Building never needs an error check per
// call: the first failure sticks to the graph, later calls return FM__NONE, and fm__graph_check reports it.
// An op that changes state returns the state's next version, which must lie where the old one lay (alias_of).
#ifndef FM_GRAPH_GRAPH_H
#define FM_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "fathom/tensor.h"
#include "ops/attrs.h"
#include "ops/call.h"

typedef int32_t fm__val; // index of a value in its graph
enum { FM__NONE = -1 };
enum { FM__ROWS = -1 }; // the symbolic dim N

enum fm__kind { FM__INPUT, FM__WEIGHT, FM__STATE, FM__TEMP };

enum fm__op_id {
#define X(id, symbol) FM__OP_##id,
#include "ops/ops.def"
#undef X
    FM__OP_COUNT
};

struct fm__value {
    const char *name; // never NULL; temporaries are named after their op
    enum fm__kind kind;
    fm_dtype dtype;
    int rank;
    int64_t dims[FM_MAX_RANK];
    int32_t node;     // that makes it; -1 for inputs, weights and first state versions
    fm__val alias_of; // older version of the same state, or FM__NONE
    bool replaced;    // there is a newer version: nodes that come later may not read this one
};

struct fm__node {
    enum fm__op_id op;
    int n_in, n_out;
    fm__val in[FM__MAX_IN]; // FM__NONE: optional input left out
    fm__val out[FM__MAX_OUT];
    fm__val after; // not before this value is there, though nothing of it is read; FM__NONE: any time
    bool backward; // appended by fm__graph_gradient
    union fm__attrs attrs;
};

struct fm__graph {
    struct fm__arena names;
    struct fm__value *values;
    struct fm__node *nodes;
    fm__val *outputs;
    int n_values, n_nodes, n_outputs;
    int cap_values, cap_nodes, cap_outputs;
    fm_status status; // of the first failure
    struct fm_error error;
};

struct fm__graph *fm__graph_new(void); // NULL: no memory
void fm__graph_free(struct fm__graph *g);
fm_status fm__graph_check(const struct fm__graph *g, struct fm_error *err);
fm_status fm__graph_fail(struct fm__graph *g, const struct fm_error *err); // sticks the first failure

// A leaf. `name` is how the binder finds its tensor. dims outermost first.
fm__val fm__graph_leaf(struct fm__graph *g, enum fm__kind kind, const char *name, fm_dtype dtype, int rank,
                       const int64_t *dims);
// A node with its outputs, checked by the op's shape rule; returns output 0 (the others through fm__graph_out).
fm__val fm__graph_add(struct fm__graph *g, enum fm__op_id op, int n_in, const fm__val *in,
                      const union fm__attrs *attrs);
fm__val fm__graph_out(const struct fm__graph *g, fm__val first, int i); // output i of the node that makes `first`
// The node that makes v waits until `other` is there: an order without a read, to keep memory apart in time. FM__NONE:
// waits for nothing.
void fm__graph_after(struct fm__graph *g, fm__val v, fm__val other);
// Marks a value as wanted after a run; `name` renames it.
void fm__graph_output(struct fm__graph *g, fm__val v, const char *name);

// The text form: one line a leaf, one a node. Golden-tested.
void fm__graph_dump(const struct fm__graph *g, FILE *to);
void fm__graph_print_value(const struct fm__graph *g, fm__val v, FILE *to); // "f32[N,576]"

#endif

// SPDX-License-Identifier: MIT
// A plan: a graph made ready for one device and one bucket of rows. Made once, printed as text, run many times; a run
// allocates nothing.
#ifndef FM_DEVICE_PLAN_H
#define FM_DEVICE_PLAN_H

#include <stdio.h>

#include "device/device.h"
#include "graph/graph.h"

// Gives the tensor (dtype, dims, layout, buffer, offset) that backs a weight or a state of this name; the plan keeps no
// reference: whoever binds outlives the plan. Returns an error that names what is missing.
typedef fm_status fm__bind_fn(void *context, const char *name, struct fm_tensor *out, struct fm_error *err);

struct fm__plan_opts {
    struct fm_device *device;
    int64_t rows; // the bucket: FM__ROWS becomes this number
    fm__bind_fn *bind;
    void *bind_context;
    struct fm_buffer *arena; // shared by plans that never run at once; NULL or too small: the plan makes its own
    int exact_activations;   // 1: linear keeps f32 activations whatever the device prefers (training, references)
    int no_fusion;
    size_t arena_budget; // training: activations are computed again (graph/recompute.h) until the arena is at most
                         // this; 0: never, 1: the smallest arena. What came of it: arena_bytes
};

// Where a value lies.
enum fm__place { FM__PLACE_ARENA, FM__PLACE_BOUND, FM__PLACE_INPUT };

struct fm__plan_value {
    enum fm__place place;
    int32_t input;           // index among the graph's inputs
    struct fm_tensor tensor; // with dims of the full bucket; buffer and offset set, `data` where the host can see it
    int32_t first, last;     // stages it is alive in
};

struct fm__plan_step {
    int32_t node, stage;
    size_t workspace_offset, workspace_bytes; // in the arena
};

struct fm__plan {
    struct fm__plan_opts opts;
    struct fm_device *device;
    struct fm__graph *graph; // after the passes; owned
    struct fm__plan_value *values;
    struct fm__plan_step *steps; // ordered by stage
    int n_steps, n_stages, n_inputs;
    size_t arena_bytes;
    size_t live_bytes; // the most that is alive at once: what a perfect packing would need
    struct fm_buffer *arena;
    struct fm__program *program;
    void (*after)(void *context, int stage); // of fm__run, for the runs to come; NULL at first
    void *after_context;
    void *staging; // closed devices: host copies of the outputs
    size_t *staging_offsets;
};

// Plans `g` (which stays the caller's). Errors: what the graph, the binder, a shape rule or the device refuses.
fm_status fm__plan_new(const struct fm__graph *g, const struct fm__plan_opts *opts, struct fm__plan **out,
                       struct fm_error *err);
void fm__plan_free(struct fm__plan *plan); // NULL is fine

// Runs `rows` (1 … bucket) live rows. inputs: one host address per graph input, in the order of the leaves; each holds
// the live rows only. Outputs are valid until the next run of this plan or of one that shares its arena.
fm_status fm__plan_run(struct fm__plan *plan, int64_t rows, const void *const *inputs, struct fm_error *err);
const void *fm__plan_output(const struct fm__plan *plan, int i); // host address of the graph's output i

// The text form, golden-tested: a line a step with stage, kernel, shapes and place, then the arena's size.
void fm__plan_dump(const struct fm__plan *plan, FILE *to);

// The stage in which most bytes are alive, and the largest values of it, `n` at most: a line each.
void fm__plan_dump_peak(const struct fm__plan *plan, int n, FILE *to);

// Fills a call for step `i` with the bucket's full row count (planning, statistics). `base` is the address of the arena
// on the device, or NULL.
void fm__plan_call(const struct fm__plan *plan, int i, struct fm__call *call);
const struct fm__node *fm__plan_node(const struct fm__plan *plan, int i);

#endif

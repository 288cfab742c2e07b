// SPDX-License-Identifier: MIT
// What trainer.c and trainer_blame.c share.
#ifndef FM_TRAIN_TRAINER_INTERNAL_H
#define FM_TRAIN_TRAINER_INTERNAL_H

#include "train/trainer.h"

struct fm__trainer {
    struct fm__trainer_opts opts;
    struct fm__states states;
    int n_params; // the first states, in the graph's order
    struct fm__plan *train, *eval;
    struct fm__optimiser *optimiser;
    struct fm__exchange *exchange; // of several processes
    struct fm__trainer_counters counters;
    bool fresh; // no gradients yet in this step
};

// What a run of a trainer's graph reads besides a micro-batch's own arrays, in the order of its inputs: tokens, rows,
// key, targets, weights, keep.
struct fm__trainer_inputs {
    int32_t key[4];
    float keep;
    const void *targets;
};
struct fm__trainer_inputs fm__trainer_inputs(const struct fm__trainer *t, const struct fm__microbatch *m, float keep);

#endif

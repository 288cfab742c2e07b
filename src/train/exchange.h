// SPDX-License-Identifier: MIT
// Gradients to the process that owns their parameter, and updated parameters back to all (ZeRO-1, arXiv
// 1910.02054, 5.1). A gradient travels in pieces, in the order in which backward completes it, while backward goes on:
// whoever owns it receives the piece of every other rank and adds them up in the order of the ranks, whatever came
// first.
#ifndef FM_TRAIN_EXCHANGE_H
#define FM_TRAIN_EXCHANGE_H

#include "train/states.h"

struct fm__exchange;

// Deals n parameters of `elements` to `n_ranks` owners, the largest first, each to the rank that has least so far.
fm_status fm__exchange_deal(const int64_t *elements, int n, int n_ranks, int *owners, struct fm_error *err);

// For the first n_params states and their "grad." states. stages: in which stage of the gradients' plan each gradient
// is complete. `states` (with the processes, states->comm) outlives it. All processes call everything here together.
fm_status fm__exchange_new(struct fm__states *states, int n_params, const int *stages, struct fm__exchange **out,
                           struct fm_error *err);
void fm__exchange_free(struct fm__exchange *x); // NULL is fine

// A step's last backward begins: nothing is complete.
void fm__exchange_begin(struct fm__exchange *x);
// Stages up to this one have ended: what is complete begins to travel, what travels moves on. Errors wait for the end.
void fm__exchange_stage(struct fm__exchange *x, int stage);
// All stages have ended; returns when every owner has its sums (other ranks' gradients are then worth nothing).
fm_status fm__exchange_end(struct fm__exchange *x, struct fm_error *err);
// The owners' parameters to all.
fm_status fm__exchange_parameters(struct fm__exchange *x, struct fm_error *err);

#endif

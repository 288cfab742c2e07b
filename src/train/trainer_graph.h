// SPDX-License-Identifier: MIT
// The graphs of a training step, before and after differentiation.
#ifndef FM_TRAIN_TRAINER_GRAPH_H
#define FM_TRAIN_TRAINER_GRAPH_H

#include "train/trainer.h"

// Forward and loss. Inputs in order: tokens, rows, key, targets (regress: values), weights. Outputs: "loss" f32 [1],
// "losses" f32 [N], and with a head "outputs" f32 [N, C]. With `train` there is one more input, keep f32 [1], and
// the gradient of every parameter is accumulated in the state grad.NAME. NULL: no memory.
struct fm__graph *fm__trainer_graph(const struct fm__trainer_opts *opts, bool train);

#endif

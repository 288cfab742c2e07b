// SPDX-License-Identifier: MIT
// The checkpoints of a run in their folder: step-00000120.safetensors, the last few, and best.safetensors.
#ifndef FM_TRAIN_CHECKPOINTS_H
#define FM_TRAIN_CHECKPOINTS_H

#include "train/checkpoint.h"

enum { FM__CHECKPOINT_PATH = 4096 };

struct fm__checkpoints {
    const char *folder;
    int keep;                       // that many last ones, at least 1
    char path[FM__CHECKPOINT_PATH]; // of the last one saved; "": none
};

// Makes the folder where there is none and removes what a killed process left half-written.
fm_status fm__checkpoints_begin(const struct fm__checkpoints *all, struct fm_error *err);

// All processes call this; rank 0 writes. Saves c->steps' checkpoint, also as the best one if `best`; then removes all
// but the last ones.
fm_status fm__checkpoints_save(struct fm__checkpoints *all, const struct fm__states *states,
                               const struct fm__checkpoint *c, bool best, struct fm_error *err);

// Loads the last one; a damaged one is named in `note` (which may be empty afterwards) and the one before it taken.
// FM_E_NOT_FOUND: there is none.
fm_status fm__checkpoints_resume(const char *folder, const struct fm__states *states, const struct fm__checkpoint *want,
                                 struct fm__checkpoint *out, char note[FM__CHECKPOINT_PATH], struct fm_error *err);

// Loads the best one. FM_E_NOT_FOUND: there is none.
fm_status fm__checkpoints_best(const char *folder, const struct fm__states *states, const struct fm__checkpoint *want,
                               struct fm__checkpoint *out, struct fm_error *err);

#endif

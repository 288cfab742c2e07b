// SPDX-License-Identifier: MIT
// Checkpoints: everything that training needs to go on bit for bit, in one safetensors file that is whole or not there
// (temporary file, fsync, rename) and carries a SHA-256 of its data.
#ifndef FM_TRAIN_CHECKPOINT_H
#define FM_TRAIN_CHECKPOINT_H

#include "train/states.h"

// What is no tensor. Hashes say what the states belong to; a checkpoint of something else is refused.
struct fm__checkpoint {
    uint64_t model;         // fm__model_fingerprint of the base
    uint64_t data;          // of the data set
    char settings[17];      // of whatever must not change: task, adapters, optimiser, schedule, sizes; 16 hex digits
    uint64_t steps, micros; // updates done, micro-batches seen
    uint64_t epoch, sample; // where the data goes on
    uint64_t tokens;        // seen since the start
    uint64_t best_step;     // of the best evaluation so far; 0: none
    uint64_t bad_evals;     // evaluations since then
    double best;
    double seconds; // spent so far
};

// Writes all kept states and `c`: rank 0, and the others hand it what only they have, so that the file is the one that
// a single process would write and any number of them can read. Errors: those of writing; nothing is at `path` then
// that was not there before.
fm_status fm__checkpoint_save(const char *path, const struct fm__states *states, const struct fm__checkpoint *c,
                              struct fm_error *err);

// Reads it back. `want` has the hashes that the file's must equal. Everything is checked before the first state
// changes: names, types and dims of all kept states, the data's SHA-256.
// Errors: FM_E_FORMAT for what is no checkpoint, FM_E_VERIFY for damaged data, FM_E_SHAPE, FM_E_NOT_FOUND and FM_E_ARG
// for one of another model, data set or setting; each names what was found and wanted.
fm_status fm__checkpoint_load(const char *path, const struct fm__states *states, const struct fm__checkpoint *want,
                              struct fm__checkpoint *out, struct fm_error *err);

#endif

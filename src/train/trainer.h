// SPDX-License-Identifier: MIT
// A training step: micro-batches of rows through forward, loss and gradients, summed up; then one update of the
// parameters. What is trained (all weights, low-rank detours, a head) is decided here; where rows come from, when to
// stop and what to keep is the caller's business.
#ifndef FM_TRAIN_TRAINER_H
#define FM_TRAIN_TRAINER_H

#include "model/model.h"
#include "train/data.h"
#include "train/optimiser.h"
#include "train/states.h"

enum fm__task { FM__TASK_LM, FM__TASK_CLASSIFY, FM__TASK_REGRESS };

struct fm__lora_opts {
    int rank; // 0: no detours, all weights are trained
    float alpha, dropout;
    bool rank_stabilised; // scale = alpha / sqrt(rank) (arXiv 2312.03732) instead of alpha / rank
    const char *targets;  // comma-separated parts of names, "attn_q,attn_v"; "all-linear": every product of the blocks
    int first_layer, n_layers; // only these; n_layers 0: all
};

struct fm__trainer_opts {
    const struct fm_model *model; // opened for_training; outlives the trainer
    struct fm__comm *comm;        // processes that train together, each with a trainer like this; NULL: one
    enum fm__task task;
    int n_classes;  // classify
    int64_t n_rows; // most rows of a micro-batch
    struct fm__lora_opts lora;
    float dropout; // of what each block adds to the residual stream
    uint64_t seed; // of first values and dropout
    bool bf16;     // products take rows of bf16; parameters stay f32
    struct fm__optimiser_opts optimiser;
    size_t arena_budget; // activations are computed again until a step's arena is at most this; 0: never, 1: the least
};

struct fm__trainer;

fm_status fm__trainer_new(const struct fm__trainer_opts *opts, struct fm__trainer **out, struct fm_error *err);
void fm__trainer_free(struct fm__trainer *t); // NULL is fine
// The last step is done: gives back the memory of activations; from now on only states can be read.
void fm__trainer_rest(struct fm__trainer *t);

// Adds a micro-batch's gradients to those of the step; *loss: the sum of its rows' weighted losses. Without rows: none.
// Of several processes each has its own micro-batches; their gradients travel while the one that ends the step runs.
fm_status fm__trainer_micro(struct fm__trainer *t, const struct fm__microbatch *micro, double *loss,
                            struct fm_error *err);
// The norm of the step's gradients, all parameters together. Several processes call it in each step, after the
// micro-batch that ends it: their gradients are summed up then.
fm_status fm__trainer_norm(struct fm__trainer *t, double *norm, struct fm_error *err);
// Moves the parameters by the step's gradients times `scale` (1 / the rows' weights, and less where they are clipped),
// and ends the step.
fm_status fm__trainer_update(struct fm__trainer *t, double rate, double scale, struct fm_error *err);
// Forgets the step's gradients.
void fm__trainer_drop(struct fm__trainer *t);

// Without gradients and dropout: each row's weighted loss [n], and for classify and regress the head's outputs
// [n, n_classes or 1]; valid until the next call of the trainer.
struct fm__trainer_eval {
    const float *losses, *outputs;
};
fm_status fm__trainer_eval(struct fm__trainer *t, const struct fm__microbatch *micro, struct fm__trainer_eval *out,
                           struct fm_error *err);

// Outputs of the head: classes, or 1; 0 for lm.
int64_t fm__trainer_n_outputs(const struct fm__trainer *t);
int64_t fm__trainer_n_classes(const struct fm__trainer *t); // classify; else 0

// After a loss or gradients that are not finite: the first op and value of this micro-batch's step that are not, as
// text; "" where all are.
void fm__trainer_blame(struct fm__trainer *t, const struct fm__microbatch *micro, char *out, size_t size);

// All that changes: parameters NAME, gradients grad.NAME, the optimiser's states. Steps done are in the counters.
struct fm__states *fm__trainer_states(struct fm__trainer *t);
struct fm__trainer_counters {
    uint64_t steps, micros; // updates done; micro-batches seen since the start, which number the dropout masks
};
struct fm__trainer_counters *fm__trainer_counters(struct fm__trainer *t);

// Parameters in a fixed order: names of states.
int fm__trainer_n_params(const struct fm__trainer *t);
const char *fm__trainer_param(const struct fm__trainer *t, int i);

#endif

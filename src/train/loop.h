// SPDX-License-Identifier: MIT
// The way through a training run: steps, evaluations, checkpoints, resuming, stopping.
#ifndef FM_TRAIN_LOOP_H
#define FM_TRAIN_LOOP_H

#include <signal.h>

#include "train/checkpoint.h"
#include "train/schedule.h"
#include "train/trainer.h"

// What a step was.
struct fm__loop_step {
    uint64_t step, n_steps; // updates done, and to do
    int64_t epoch;
    double loss, norm, rate; // mean over the rows' weights; gradients' norm before clipping
    uint64_t tokens;         // since the run's start
    int64_t rows, targets;   // of this step
    double seconds, total;   // of this step; of the run, earlier sittings included
    bool skipped;            // the loss or the gradients were not finite, the parameters did not move
    bool evaluated, best;    // `eval` holds the validation part's figures; they are the best so far
    struct fm__eval_figures {
        double loss, accuracy; // accuracy: of classes, else 0
        int64_t rows;          // with a loss
    } eval;
    const char *checkpoint; // written after this step; NULL: none
};

// Several processes run one loop together (`comm`, the trainer's): each with a loader of its share, with the same
// figures and decisions; rank 0 alone writes checkpoints and has its callbacks called.
struct fm__loop_opts {
    struct fm__trainer *trainer;
    struct fm__comm *comm;             // NULL: one process
    struct fm__loader *loader, *valid; // valid NULL: no evaluations
    int64_t n_rows;                    // of the largest micro-batch of both
    struct fm__schedule schedule;
    uint64_t n_steps;
    double clip;                     // largest norm of a step's gradients; 0: any
    bool skip_nonfinite;             // go on without a step whose loss or gradients are not finite; else stop
    uint64_t eval_every, save_every; // steps; 0: only at the end
    uint64_t patience;               // evaluations without a better loss that end the run; 0: any number
    const char *folder;              // of checkpoints; NULL: none
    int keep;                        // that many last checkpoints, and the best
    bool resume;                     // go on from the last checkpoint in the folder, if there is one
    struct fm__checkpoint identity;  // hashes of model, data and settings
    volatile sig_atomic_t *stop;     // not 0: save and return; NULL: never
    void (*on_step)(void *context, const struct fm__loop_step *step);
    void (*on_note)(void *context, const char *text); // "resumed at step 120 from …"
    void *context;
};

enum fm__loop_end { FM__LOOP_DONE, FM__LOOP_STOPPED, FM__LOOP_NO_BETTER };
struct fm__loop_result {
    enum fm__loop_end end;
    uint64_t steps, best_step; // best_step 0: nothing was evaluated
    double best;
    char checkpoint[4096]; // the last one written; "" for none
};

// Errors: those of the parts, on the process that has them; FM_E_VERIFY for a loss or a gradient that is not finite
// (step, first op and tensor are named); the checkpoints written so far stay.
fm_status fm__loop_run(const struct fm__loop_opts *opts, struct fm__loop_result *result, struct fm_error *err);

// The figures of one pass over a loader's part, of all processes' shares together.
fm_status fm__loop_evaluate(struct fm__trainer *t, struct fm__loader *valid, struct fm__microbatch *mb,
                            struct fm__eval_figures *out, struct fm_error *err);

// Arrays for a micro-batch of n_rows rows; free with fm__microbatch_deinit.
fm_status fm__microbatch_init(struct fm__microbatch *mb, int64_t n_rows, struct fm_error *err);
void fm__microbatch_deinit(struct fm__microbatch *mb);

#endif

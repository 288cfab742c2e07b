// SPDX-License-Identifier: MIT
// What finetune and train share: data, trainer, loop, result.
#ifndef FM_APP_TRAIN_RUN_H
#define FM_APP_TRAIN_RUN_H

#include "cli_engine.h"
#include "cli_stats.h"
#include "finetune_opts.h"

struct fm_train_run {
    const char *name; // of the command
    bool json;
    struct fm_finetune_opts opts;
    struct fm_cli_engine_args args;
    struct fm_cli_stats stats;
    // Says where the model that is trained lies (args.model), and if `make` makes it where there is none yet; NULL: it
    // is there. `folder`: of checkpoints, made already.
    fm_status (*prepare)(void *context, const char *folder, bool make, struct fm_error *err);
    void *context;
};

// Returns the command's exit code; what is wrong has been said.
int fm__train_run(struct fm_train_run *run);

#endif

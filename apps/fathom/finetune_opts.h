// SPDX-License-Identifier: MIT
// What fathom finetune is told on its command line.
#ifndef FM_APP_FINETUNE_OPTS_H
#define FM_APP_FINETUNE_OPTS_H

#include "cli_opts.h"

enum { FM_FINETUNE_FILES = 64, FM_FINETUNE_OPTS = 16 };

// Options of fathom finetune.
struct fm_finetune_opts {
    const char *files[FM_FINETUNE_FILES], *valid_files[FM_FINETUNE_FILES], *out, *folder, *log_path, *targets;
    struct fm_cli_list positionals, valid_list; // over files and valid_files
    int kind, schedule, optimiser, type; // enum fm__data_kind, fm__schedule_kind, fm__optimiser_kind; 0: f16, 1: f32
    int64_t length, rows, batch, epochs, steps, warmup, eval_every, save_every, keep, patience, skip_bad, seed,
        activations;
    int rank, precision; // precision 1: bf16
    double rate, rate_min, decay, dropout, alpha, lora_dropout, clip, validation;
    bool resume, skip_nonfinite, rs_lora, balance;
};

void fm__finetune_defaults(struct fm_finetune_opts *o);

// The tables with their targets in `o`; each returns how many it wrote.
size_t fm__finetune_data_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS]);
size_t fm__finetune_what_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS]);
size_t fm__finetune_step_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS]);
size_t fm__finetune_rate_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS]);
size_t fm__finetune_run_opts(struct fm_finetune_opts *o, int *threads, struct fm_cli_opt out[FM_FINETUNE_OPTS]);

#endif

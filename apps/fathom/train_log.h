// SPDX-License-Identifier: MIT
// What a training run tells while it runs: a line on the terminal that is drawn again and again, a JSON line a step in
// a file, messages on stderr.
#ifndef FM_APP_TRAIN_LOG_H
#define FM_APP_TRAIN_LOG_H

#include <jansson.h>
#include <stdio.h>

#include "train/loop.h"

struct fm_train_log {
    FILE *file;                // JSON lines; NULL: none
    bool json;                 // the same lines on stdout
    bool line;                 // a status line on stderr (a terminal)
    bool drawn;                // and one stands there
    double operations_per_row; // forward and back; 0: not known
    double peak_operations;    // a second, of this machine; 0: not known
    double drawn_at, loss;     // loss: smoothed, for the eye
    bool failed;               // the file could not be written
};

// path NULL: no file. `append`: a run that goes on.
fm_status fm__train_log_begin(struct fm_train_log *log, const char *path, bool append, struct fm_error *err);
void fm__train_log_step(struct fm_train_log *log, const struct fm__loop_step *step);
void fm__train_log_note(struct fm_train_log *log, const char *text);
// Errors: FM_E_IO where a line was lost.
fm_status fm__train_log_end(struct fm_train_log *log, struct fm_error *err);

#endif

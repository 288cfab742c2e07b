// SPDX-License-Identifier: MIT
// Learning rates: pure functions of the step, so that a resumed run has the rates of one that never stopped.
#ifndef FM_TRAIN_SCHEDULE_H
#define FM_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "fathom/status.h"

// After the warm-up: CONSTANT stays at max; LINEAR and COSINE fall from max to min at the last step; WSD (warm-up,
// stable, decay: arXiv 2404.06395) stays at max and falls linearly to min over the last n_decay steps.
enum fm__schedule_kind { FM__SCHEDULE_CONSTANT, FM__SCHEDULE_LINEAR, FM__SCHEDULE_COSINE, FM__SCHEDULE_WSD };

struct fm__schedule {
    enum fm__schedule_kind kind;
    double max, min;
    int64_t n_steps;  // of the whole run, warm-up included
    int64_t n_warmup; // step s < n_warmup has max (s + 1) / n_warmup
    int64_t n_decay;  // WSD
};

// The rate of step 0, 1, … n_steps - 1; later steps (a run made longer without a new schedule) keep the last one's.
double fm__schedule_rate(const struct fm__schedule *s, int64_t step);

// "constant", "linear", "cosine" or "wsd".
fm_status fm__schedule_parse(const char *name, enum fm__schedule_kind *kind, struct fm_error *err);
const char *fm__schedule_name(enum fm__schedule_kind kind);
// What cannot be: rates that are not finite or below 0, min above max, warm-up and decay longer than the run.
fm_status fm__schedule_check(const struct fm__schedule *s, struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
// inspect --plan: a step's ops with what each must do, what it took, and how near that is to its bound.
#ifndef FM_APP_INSPECT_PLAN_H
#define FM_APP_INSPECT_PLAN_H

#include "cli_engine.h"
#include "cli_stats.h"

struct fm_inspect_plan {
    bool json, dump; // dump: only the plan's text form
    int rows, depth, reps;
    struct fm_cli_stats *stats; // begun; shown at the end
};

fm_status fm__inspect_plan(const struct fm_inspect_plan *what, struct fm_cli_engine_args *args, struct fm_error *err);

#endif

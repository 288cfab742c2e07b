// SPDX-License-Identifier: MIT
// bench --start: what a user sees from outside, measured on processes of this very program: the time from their start
// to the first token, and the most memory they held.
#ifndef FM_APP_BENCH_START_H
#define FM_APP_BENCH_START_H

#include "bench_out.h"
#include "cli_engine.h"

// Two lines, each with the median of `reps`. To be called before a device is opened: children inherit the CPUs that
// this thread may run on, and a device pins it to one.
fm_status fm__bench_start(struct fm_bench_out *out, const struct fm_cli_engine_args *args, int reps,
                          struct fm_error *err);

#endif

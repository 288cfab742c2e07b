// SPDX-License-Identifier: MIT
// --trace FILE: what happened when, in the JSON that Chrome's and Perfetto's viewers read: steps of the batcher, and
// inside them every op of the plan with its kernel.
#ifndef FM_APP_CLI_TRACE_H
#define FM_APP_CLI_TRACE_H

#include <stdint.h>

#include "cli_engine.h"

struct fm__file_writer;

struct fm_cli_trace {
    const char *path; // --trace; NULL: nothing is traced
    struct fm__file_writer *writer;
    double begun;
    int64_t n_events;
    double *seconds; // of a plan's steps
    int n_seconds;
};

enum { FM_CLI_TRACE_OPTS = 1 };
size_t fm__cli_trace_opts(struct fm_cli_trace *trace, struct fm_cli_opt out[FM_CLI_TRACE_OPTS]);

fm_status fm__cli_trace_begin(struct fm_cli_trace *trace, struct fm_error *err);
// A span of the command's own ("load", "tokenize"); times of fm__seconds.
fm_status fm__cli_trace_span(struct fm_cli_trace *trace, const char *name, double from, double to,
                             struct fm_error *err);
// fm_batcher_step, traced.
fm_status fm__cli_trace_step(struct fm_cli_trace *trace, struct fm_cli_engine *e, int *n_rows, struct fm_error *err);
// Steps until nothing is pending, traced.
fm_status fm__cli_trace_run(struct fm_cli_trace *trace, struct fm_cli_engine *e, struct fm_error *err);
// Closes the JSON and puts the file in place; `keep` 0 drops it. Safe to call when nothing was begun.
fm_status fm__cli_trace_end(struct fm_cli_trace *trace, int keep, struct fm_error *err);

#endif

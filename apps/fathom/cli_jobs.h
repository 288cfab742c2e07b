// SPDX-License-Identifier: MIT
// A JSONL file of prompts, several running together, JSONL out in the order of the input.
//
// In, a line each: {"prompt": "…"} or a bare JSON string; members "n" (tokens), "stop" (string or list), "id" (handed
// through), "seed" and "adapter" (a name of those given, or null for the model alone) are optional. Out: {"index",
// "id", "text", …} (docs/cli.md). A line that cannot be run gives
// {"index", "error": …} in its place and the others go on.
#ifndef FM_APP_CLI_JOBS_H
#define FM_APP_CLI_JOBS_H

#include "cli_reply.h"
#include "cli_sampling.h"
#include "cli_stats.h"

struct fm_cli_jobs {
    struct fm_cli_engine *engine; // its batcher has n_together sessions
    const struct fm_cli_sampling *sampling;
    struct fm_cli_trace *trace;
    struct fm_cli_stats *stats;
    struct fm_cli_reply_args reply; // what lines do not set
    int n_together;
    bool no_special;
};

// Errors: those of the machinery (a step, memory, an interrupt). If a line failed, the first one's status after all
// lines are through.
fm_status fm__cli_jobs_run(const struct fm_cli_jobs *jobs, const char *text, size_t n, struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
// Jobs through the sessions of one batcher, as many at once as there are sessions: a step evaluates rows of all of
// them. A session is kept from job to job, so that what a job's tokens share with the last one's is not evaluated
// again. Results do not depend on how many run together.
#ifndef FM_EVAL_TOGETHER_H
#define FM_EVAL_TOGETHER_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/session.h"

struct fm__lane {
    struct fm_session *session; // together's own
    int index;                  // 0 … n_lanes - 1
    int64_t job;
    bool busy;
};

struct fm__together {
    struct fm_batcher *batcher;
    int n_lanes; // at most the batcher's sessions
    int64_t n_jobs;
    // Gives the lane's session the tokens of lane->job. *done (false before the call): nothing was to be evaluated.
    fm_status (*begin)(void *context, struct fm__lane *lane, bool *done, struct fm_error *err);
    // Nothing of the lane is pending any more: takes its results, and adds tokens or sets *done.
    fm_status (*more)(void *context, struct fm__lane *lane, bool *done, struct fm_error *err);
    // A step and what goes with it; NULL: fm_batcher_step. FM_E_CANCELLED ends the run.
    fm_status (*step)(void *context, struct fm_batcher *batcher, struct fm_error *err);
    void *step_context;
    void (*progress)(void *context, int64_t done, int64_t n_jobs); // NULL: none; step_context is its context
    void *context;
    // Tokens that all jobs begin with, or many of them: evaluated once before everything else.
    const int32_t *prefix;
    int n_prefix;
};

fm_status fm__together_run(const struct fm__together *t, struct fm_error *err);

#endif

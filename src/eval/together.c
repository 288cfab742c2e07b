// SPDX-License-Identifier: MIT
// Lanes take jobs in order as they become free.
#include "eval/together.h"

#include "base/alloc.h"
#include "base/error.h"

struct run {
    const struct fm__together *t;
    struct fm__lane *lanes;
    int64_t n_begun, n_done;
};

static fm_status step(const struct fm__together *t, struct fm_error *err)
{
    return t->step ? t->step(t->step_context, t->batcher, err) : fm_batcher_step(t->batcher, NULL, err);
}

static void end_job(struct run *run, struct fm__lane *lane)
{
    lane->busy = false;
    run->n_done++;
    if (run->t->progress) run->t->progress(run->t->step_context, run->n_done, run->t->n_jobs);
}

// Moves a lane on until it waits for a step, or no job is left for it.
static fm_status advance(struct run *run, struct fm__lane *lane, struct fm_error *err)
{
    const struct fm__together *t = run->t;
    for (;;) {
        bool done = false;
        if (!lane->busy) {
            if (run->n_begun == t->n_jobs) return FM_OK;
            lane->job = run->n_begun++;
            lane->busy = true;
            FM_TRY(t->begin(t->context, lane, &done, err));
        } else if (fm_session_pending(lane->session) > 0) {
            return FM_OK;
        } else {
            FM_TRY(t->more(t->context, lane, &done, err));
        }
        if (done) end_job(run, lane);
    }
}

// The first lane evaluates the prefix; the others find its pages when they sync.
static fm_status run_prefix(struct run *run, struct fm_error *err)
{
    const struct fm__together *t = run->t;
    if (t->n_prefix <= 0) return FM_OK;
    FM_TRY(fm_session_sync(run->lanes[0].session, t->prefix, t->n_prefix, err));
    while (fm_session_pending(run->lanes[0].session) > 0) FM_TRY(step(t, err));
    return FM_OK;
}

static fm_status run_all(struct run *run, struct fm_error *err)
{
    const struct fm__together *t = run->t;
    for (int i = 0; i < t->n_lanes; i++) {
        run->lanes[i].index = i;
        FM_TRY(fm_session_new(t->batcher, &run->lanes[i].session, err));
    }
    FM_TRY(run_prefix(run, err));
    while (run->n_done < t->n_jobs) {
        for (int i = 0; i < t->n_lanes; i++) FM_TRY(advance(run, &run->lanes[i], err));
        if (run->n_done < t->n_jobs) FM_TRY(step(t, err));
    }
    return FM_OK;
}

fm_status fm__together_run(const struct fm__together *t, struct fm_error *err)
{
    if (t->n_lanes < 1) return fm__fail(err, FM_E_ARG, "%d sessions together, want at least 1", t->n_lanes);
    struct run run = {.t = t, .lanes = fm__calloc((size_t)t->n_lanes, sizeof *run.lanes)};
    if (!run.lanes) return fm__fail_nomem(err, "sessions", (size_t)t->n_lanes * sizeof *run.lanes);
    fm_status status = run_all(&run, err);
    for (int i = 0; i < t->n_lanes; i++) fm_session_free(run.lanes[i].session);
    fm__free(run.lanes);
    return status;
}

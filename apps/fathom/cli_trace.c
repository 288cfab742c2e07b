// SPDX-License-Identifier: MIT
// The trace writer. Ops are measured by the device (its profile slot: seconds a step of the plan), one after another as
// worker 0 saw them.
#include "cli_trace.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "infer/batcher.h"
#include "ops/op.h"

size_t fm__cli_trace_opts(struct fm_cli_trace *trace, struct fm_cli_opt out[FM_CLI_TRACE_OPTS])
{
    out[0] = (struct fm_cli_opt){.names = "--trace",
                                 .type = FM_CLI_STR,
                                 .arg = "FILE",
                                 .out = &trace->path,
                                 .help = "write what ran when, as JSON for Chrome's trace viewer"};
    return FM_CLI_TRACE_OPTS;
}

fm_status fm__cli_trace_begin(struct fm_cli_trace *trace, struct fm_error *err)
{
    if (!trace->path) return FM_OK;
    static const char head[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
    trace->begun = fm__seconds();
    FM_TRY(fm__file_writer_open(trace->path, &trace->writer, err));
    return fm__file_writer_write(trace->writer, head, sizeof head - 1, err);
}

// tid 1: the command and its steps; tid 2: ops.
static fm_status event(struct fm_cli_trace *trace, const char *name, int tid, double from, double seconds,
                       struct fm_error *err)
{
    char line[256];
    int n = snprintf(line, sizeof line,
                     "%s\n{\"name\":\"%.100s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f}",
                     trace->n_events ? "," : "", name, tid, (from - trace->begun) * 1e6, seconds * 1e6);
    trace->n_events++;
    return fm__file_writer_write(trace->writer, line, (size_t)n, err);
}

fm_status fm__cli_trace_span(struct fm_cli_trace *trace, const char *name, double from, double to, struct fm_error *err)
{
    return trace->writer ? event(trace, name, 1, from, to - from, err) : FM_OK;
}

static fm_status room(struct fm_cli_trace *trace, int n, struct fm_error *err)
{
    if (n <= trace->n_seconds) return FM_OK;
    double *more = realloc(trace->seconds, (size_t)n * sizeof *more);
    if (!more) return fm__fail_nomem(err, "trace", (size_t)n * sizeof *more);
    trace->seconds = more;
    trace->n_seconds = n;
    return FM_OK;
}

// The ops of a plan that ran since it was last asked, laid out from *at on.
static fm_status plan_ops(struct fm_cli_trace *trace, struct fm_batcher *b, const struct fm__plan *plan, double *at,
                          struct fm_error *err)
{
    if (!plan) return FM_OK;
    FM_TRY(room(trace, plan->n_steps, err));
    b->device->v->profile(b->device, plan->program, 1, trace->seconds);
    for (int i = 0; i < plan->n_steps; i++) {
        if (trace->seconds[i] <= 0) continue;
        char name[128];
        const struct fm__node *node = fm__plan_node(plan, i);
        struct fm__call call;
        fm__plan_call(plan, i, &call);
        const char *kernel = b->device->v->kernel_name ? b->device->v->kernel_name(b->device, node, &call) : "";
        snprintf(name, sizeof name, "%s %s", fm__op(node->op)->name, kernel);
        FM_TRY(event(trace, name, 2, *at, trace->seconds[i], err));
        *at += trace->seconds[i];
    }
    return FM_OK;
}

static fm_status arm_plan(struct fm_batcher *b, enum fm__plan_kind kind, int rows, struct fm_error *err)
{
    struct fm__plan *plan;
    FM_TRY(fm__batcher_plan(b, kind, rows, &plan, err));
    b->device->v->profile(b->device, plan->program, 1, NULL);
    return FM_OK;
}

// Makes the plans that the next step will run and switches their clocks on. Where a session wants more than its last
// row's logits, the head may run in any bucket.
static fm_status arm(struct fm_batcher *b, struct fm_error *err)
{
    int rows = 0, sessions = 0;
    bool all_rows = false, hidden = false;
    for (const struct fm_session *s = b->sessions; s; s = s->next) {
        rows += s->n_tokens - s->n_done;
        sessions += s->n_tokens > s->n_done;
        hidden |= s->on_hidden != NULL;
        all_rows |= s->on_logits || s->on_hidden;
    }
    if (rows == 0) return FM_OK;
    FM_TRY(arm_plan(b, FM__TRUNK, rows < b->n_batch ? rows : b->n_batch, err));
    if (!all_rows) return arm_plan(b, FM__HEAD, sessions < FM__HEAD_ROWS ? sessions : FM__HEAD_ROWS, err);
    for (int n = 1; n <= FM__HEAD_ROWS; n *= 2) FM_TRY(arm_plan(b, FM__HEAD, n, err));
    for (int n = 1; n <= FM__HEAD_ROWS && hidden; n *= 2) FM_TRY(arm_plan(b, FM__NORM, n, err));
    return FM_OK;
}

fm_status fm__cli_trace_step(struct fm_cli_trace *trace, struct fm_cli_engine *e, int *n_rows, struct fm_error *err)
{
    struct fm_batcher *b = e->batcher;
    bool ops = trace->writer && b->device->v->profile;
    if (!trace->writer) return fm_batcher_step(b, n_rows, err);
    if (ops) FM_TRY(arm(b, err));
    double from = fm__seconds(), at = from;
    FM_TRY(fm_batcher_step(b, n_rows, err));
    double to = fm__seconds();
    if (*n_rows == 0) return FM_OK;
    char name[64];
    snprintf(name, sizeof name, "step of %d rows", *n_rows);
    FM_TRY(event(trace, name, 1, from, to - from, err));
    for (int i = 0; ops && i < FM__MAX_BUCKETS; i++) FM_TRY(plan_ops(trace, b, b->trunk_plans[i], &at, err));
    for (int i = 0; ops && i < FM__MAX_BUCKETS; i++) FM_TRY(plan_ops(trace, b, b->head_plans[i], &at, err));
    for (int i = 0; ops && i < FM__MAX_BUCKETS; i++) FM_TRY(plan_ops(trace, b, b->norm_plans[i], &at, err));
    return FM_OK;
}

fm_status fm__cli_trace_run(struct fm_cli_trace *trace, struct fm_cli_engine *e, struct fm_error *err)
{
    if (!trace->writer) return fm_batcher_run(e->batcher, err);
    for (int n_rows = 1; n_rows > 0;) FM_TRY(fm__cli_trace_step(trace, e, &n_rows, err));
    return FM_OK;
}

fm_status fm__cli_trace_end(struct fm_cli_trace *trace, int keep, struct fm_error *err)
{
    fm_status status = FM_OK;
    if (trace->writer && keep) {
        status = fm__file_writer_write(trace->writer, "\n]}\n", 4, err);
        if (status == FM_OK) status = fm__file_writer_commit(trace->writer, err);
    }
    fm__file_writer_close(trace->writer);
    free(trace->seconds);
    trace->writer = NULL;
    trace->seconds = NULL;
    return status;
}

// SPDX-License-Identifier: MIT
// Windows through sessions. Sums are kept a window and joined in the windows' order, so that the result does not depend
// on how many ran together.
#include "eval/perplexity.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "eval/logprobs.h"

struct window {
    struct run *run;
    struct fm_session *session;
    int32_t chunk, n_scored;
    double sum, sum_squares;
};

struct run {
    const struct fm__perplexity_args *args;
    int32_t n_chunks;
    struct window *windows;
    int n_windows;
    int32_t *tokens; // [ctx], one window with its BOS
    fm_status status;
    struct fm_error *err;
    double sum, sum_squares;
    int64_t n_scored;
};

struct fm__mean fm__perplexity_of(double sum, double sum_squares, int64_t n)
{
    struct fm__mean m = fm__mean_of(sum, sum_squares, n);
    return (struct fm__mean){exp(m.value), exp(m.value) * m.error};
}

static void on_logits(void *context, struct fm_session *session, int position, const float *logits)
{
    (void)session;
    struct window *w = context;
    const struct fm__perplexity_args *a = w->run->args;
    int32_t i = position - fm__scored_first(a->ctx);
    if (i < 0 || i >= fm__scored_count(a->ctx) || w->run->status != FM_OK) return;
    int32_t next = a->tokens[(int64_t)w->chunk * a->ctx + position + 1];
    struct fm__score score;
    fm__score_row(logits, a->n_vocab, &score);
    double nll = fm__score_nll(&score, logits, next);
    w->sum += nll;
    w->sum_squares += nll * nll;
    w->n_scored++;
    if (a->row) w->run->status = a->row(a->context, w->chunk, i, logits, next, w->run->err);
}

// A fresh session a window, and append rather than sync: no cached page may stand in for a position that must be
// scored.
static fm_status begin_window(struct run *run, struct fm_batcher *batcher, struct window *w, int32_t chunk,
                              struct fm_error *err)
{
    const struct fm__perplexity_args *a = run->args;
    *w = (struct window){.run = run, .chunk = chunk};
    FM_TRY(fm_session_new(batcher, &w->session, err));
    fm_session_on_logits(w->session, fm__scored_first(a->ctx), on_logits, w);
    memcpy(run->tokens, a->tokens + (int64_t)chunk * a->ctx, (size_t)a->ctx * sizeof *run->tokens);
    if (a->bos >= 0) run->tokens[0] = a->bos;
    return fm_session_append(w->session, run->tokens, a->ctx, err);
}

static void end_windows(struct run *run)
{
    for (int i = 0; i < run->n_windows; i++) {
        fm_session_free(run->windows[i].session);
        run->windows[i].session = NULL;
    }
}

static fm_status run_group(struct run *run, struct fm_batcher *batcher, int32_t first, int n, struct fm_error *err)
{
    for (int i = 0; i < n; i++) FM_TRY(begin_window(run, batcher, &run->windows[i], first + i, err));
    FM_TRY(run->args->run ? run->args->run(run->args->context, batcher, err) : fm_batcher_run(batcher, err));
    FM_TRY(run->status);
    for (int i = 0; i < n; i++) {
        const struct window *w = &run->windows[i];
        if (w->n_scored != fm__scored_count(run->args->ctx))
            return fm__fail(err, FM_E_DEVICE, "window %d: %d positions scored, want %d", w->chunk, w->n_scored,
                            fm__scored_count(run->args->ctx));
        run->sum += w->sum;
        run->sum_squares += w->sum_squares;
        run->n_scored += w->n_scored;
    }
    return FM_OK;
}

static fm_status run_all(struct run *run, struct fm_batcher *batcher, struct fm_error *err)
{
    const struct fm__perplexity_args *a = run->args;
    for (int32_t chunk = 0; chunk < run->n_chunks;) {
        int n = run->n_chunks - chunk < run->n_windows ? run->n_chunks - chunk : run->n_windows;
        fm_status status = run_group(run, batcher, chunk, n, err);
        end_windows(run);
        FM_TRY(status);
        chunk += n;
        if (a->progress)
            a->progress(a->context, chunk, run->n_chunks, fm__perplexity_of(run->sum, run->sum_squares, run->n_scored));
    }
    return FM_OK;
}

fm_status fm__perplexity(struct fm_batcher *batcher, const struct fm__perplexity_args *args,
                         struct fm__perplexity_result *out, struct fm_error *err)
{
    *out = (struct fm__perplexity_result){0};
    if (args->ctx < 4) return fm__fail(err, FM_E_ARG, "windows of %d tokens, want at least 4", args->ctx);
    int64_t whole = args->n_tokens / args->ctx;
    if (whole < 1 || whole > INT32_MAX)
        return fm__fail(err, FM_E_ARG, "the text has %lld tokens, want at least a window of %d",
                        (long long)args->n_tokens, args->ctx);
    struct run run = {.args = args, .err = err, .n_windows = args->n_sessions > 0 ? args->n_sessions : 1};
    run.n_chunks = args->n_chunks > 0 && args->n_chunks < whole ? args->n_chunks : (int32_t)whole;
    run.windows = fm__calloc((size_t)run.n_windows, sizeof *run.windows);
    run.tokens = fm__calloc((size_t)args->ctx, sizeof *run.tokens);
    fm_status status =
        run.windows && run.tokens ? run_all(&run, batcher, err) : fm__fail_nomem(err, "windows", (size_t)args->ctx * 4);
    fm__free(run.windows);
    fm__free(run.tokens);
    if (status != FM_OK) return status;
    *out = (struct fm__perplexity_result){.ppl = fm__perplexity_of(run.sum, run.sum_squares, run.n_scored),
                                          .n_scored = run.n_scored,
                                          .n_chunks = run.n_chunks};
    return FM_OK;
}

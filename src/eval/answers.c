// SPDX-License-Identifier: MIT
// Greedy decoding in lanes, stop strings found in the text as it grows.
#include "eval/answers.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

struct lane_state {
    struct fm_detok *detok;
    size_t cap; // of the question's answer
};

struct run {
    struct fm__answers *a;
    struct lane_state *lanes;
    int32_t n_vocab;
};

static fm_status add_text(struct fm__question *q, size_t *cap, struct fm_str text, struct fm_error *err)
{
    if (!q->answer || q->n_answer + text.n >= *cap) {
        size_t more = 2 * (q->n_answer + text.n) + 64;
        char *p = fm__realloc(q->answer, more);
        if (!p) return fm__fail_nomem(err, "answer", more);
        q->answer = p;
        *cap = more;
    }
    if (text.n) memcpy(q->answer + q->n_answer, text.p, text.n);
    q->n_answer += text.n;
    q->answer[q->n_answer] = 0;
    return FM_OK;
}

// Cuts the answer before the first stop that reaches into the bytes from `from` on.
static bool stopped(const struct fm__answers *a, struct fm__question *q, size_t from)
{
    size_t first = q->n_answer + 1;
    for (int i = 0; i < a->n_stops; i++) {
        size_t n = strlen(a->stops[i]);
        size_t begin = from >= n ? from - n + 1 : 0;
        for (size_t at = begin; n && at + n <= q->n_answer && at < first; at++)
            if (!memcmp(q->answer + at, a->stops[i], n)) first = at;
    }
    if (first > q->n_answer) return false;
    q->n_answer = first;
    q->answer[first] = 0;
    return true;
}

static int32_t first_choice(const float *logits, int32_t n_vocab)
{
    int32_t top = 0;
    for (int32_t i = 1; i < n_vocab; i++)
        if (logits[i] > logits[top]) top = i;
    return top;
}

static fm_status begin(void *context, struct fm__lane *lane, bool *done, struct fm_error *err)
{
    struct run *run = context;
    struct fm__question *q = &run->a->questions[lane->job];
    struct lane_state *state = &run->lanes[lane->index];
    if (!state->detok) FM_TRY(fm_detok_new(run->a->tok, FM_DETOK_VALID | FM_DETOK_KEEP_PREFIX, &state->detok, err));
    fm_detok_finish(state->detok);
    if (q->n < 1 || q->n >= run->a->n_ctx)
        return fm__fail(err, q->n < 1 ? FM_E_ARG : FM_E_LIMIT, "example %lld: a prompt of %d tokens, want 1 to %d",
                        (long long)lane->job, q->n, run->a->n_ctx - 1);
    state->cap = 0;
    FM_TRY(add_text(q, &state->cap, (struct fm_str){"", 0}, err));
    *done = run->a->n_predict < 1;
    return *done ? FM_OK : fm_session_sync(lane->session, q->tokens, q->n, err);
}

static fm_status more(void *context, struct fm__lane *lane, bool *done, struct fm_error *err)
{
    struct run *run = context;
    struct fm__question *q = &run->a->questions[lane->job];
    struct lane_state *state = &run->lanes[lane->index];
    int32_t token = first_choice(fm_session_logits(lane->session), run->n_vocab);
    q->n_made++;
    bool end = fm_tokenizer_is_eog(run->a->tok, token);
    size_t from = q->n_answer;
    struct fm_str text = {"", 0};
    if (!end) FM_TRY(fm_detok_push(state->detok, token, &text, err));
    FM_TRY(add_text(q, &state->cap, text, err));
    if (stopped(run->a, q, from)) {
        *done = true;
        return FM_OK;
    }
    *done = end || q->n_made >= run->a->n_predict || q->n + q->n_made >= run->a->n_ctx;
    if (*done) return add_text(q, &state->cap, fm_detok_finish(state->detok), err);
    return fm_session_append(lane->session, &token, 1, err);
}

fm_status fm__answers_run(struct fm__answers *a, struct fm_error *err)
{
    struct fm__together together = a->together;
    int n_lanes = together.n_lanes > 0 ? together.n_lanes : 1;
    int32_t known = fm_tokenizer_n_vocab(a->tok);
    struct run run = {a, fm__calloc((size_t)n_lanes, sizeof *run.lanes), known < a->n_vocab ? known : a->n_vocab};
    if (!run.lanes) return fm__fail_nomem(err, "lanes", (size_t)n_lanes * sizeof *run.lanes);
    together.n_jobs = a->n;
    together.begin = begin;
    together.more = more;
    together.context = &run;
    fm_status status = fm__together_run(&together, err);
    for (int i = 0; i < n_lanes; i++) fm_detok_free(run.lanes[i].detok);
    fm__free(run.lanes);
    return status;
}

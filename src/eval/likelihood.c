// SPDX-License-Identifier: MIT
// One lane a context: the context first, whose last logits score every continuation's first token; then continuation by
// continuation, the session rewound to the context between them.
#include "eval/likelihood.h"

#include "base/alloc.h"
#include "base/error.h"
#include "eval/score.h"

enum { SHORTEST_PREFIX = 64 }; // a page of the cache: what lanes can take over from each other

struct lane_state {
    struct run *run;
    int64_t job;
    int i; // continuation under way; -1: the context
};

struct run {
    struct fm__likelihood *l;
    struct lane_state *lanes;
};

static void score_token(struct fm__continuation *c, int at, const struct fm__score *score, const float *logits)
{
    c->log_p -= fm__score_nll(score, logits, c->tokens[at]);
    c->greedy = c->greedy && score->top == c->tokens[at];
    if (c->top) c->top[at] = score->top;
}

static void score_first(const struct fm__likelihood *l, const struct fm__context *context, const float *logits)
{
    struct fm__score score;
    if (context->n_continuations < 1) return;
    fm__score_row(logits, l->n_vocab, &score);
    for (int i = 0; i < context->n_continuations; i++) score_token(&context->continuations[i], 0, &score, logits);
}

static void on_logits(void *context, struct fm_session *session, int position, const float *logits)
{
    (void)session;
    struct lane_state *lane = context;
    const struct fm__likelihood *l = lane->run->l;
    const struct fm__context *c = &l->contexts[lane->job];
    if (lane->i < 0) {
        if (position == c->n - 1) score_first(l, c, logits);
        return;
    }
    struct fm__score score;
    fm__score_row(logits, l->n_vocab, &score);
    score_token(&c->continuations[lane->i], position - c->n + 1, &score, logits);
}

static void on_hidden(void *context, struct fm_session *session, int position, const float *hidden)
{
    (void)session;
    struct lane_state *lane = context;
    const struct fm__likelihood *l = lane->run->l;
    if (lane->i < 0 && position == l->contexts[lane->job].n - 1) l->hidden(l->hidden_context, lane->job, hidden);
}

static fm_status begin(void *context, struct fm__lane *lane, bool *done, struct fm_error *err)
{
    (void)done;
    struct run *run = context;
    struct fm__likelihood *l = run->l;
    const struct fm__context *c = &l->contexts[lane->job];
    struct lane_state *state = &run->lanes[lane->index];
    *state = (struct lane_state){run, lane->job, -1};
    for (int i = 0; i < c->n_continuations; i++) {
        c->continuations[i].log_p = 0;
        c->continuations[i].greedy = true;
    }
    fm_session_on_logits(lane->session, c->n - 1, c->n_continuations ? on_logits : NULL, state);
    fm_session_on_hidden(lane->session, c->n - 1, l->hidden ? on_hidden : NULL, state);
    FM_TRY(fm_session_sync(lane->session, c->tokens, c->n, err));
    if (fm_session_pending(lane->session) > 0) return FM_OK;
    // the very tokens of the job before, evaluated already: no step will call back
    if (c->n_continuations) score_first(l, c, fm_session_logits(lane->session));
    if (l->hidden) l->hidden(l->hidden_context, lane->job, fm_session_hidden(lane->session));
    return FM_OK;
}

static fm_status more(void *context, struct fm__lane *lane, bool *done, struct fm_error *err)
{
    struct run *run = context;
    const struct fm__context *c = &run->l->contexts[lane->job];
    struct lane_state *state = &run->lanes[lane->index];
    do state->i++;
    while (state->i < c->n_continuations && c->continuations[state->i].n == 1);
    *done = state->i >= c->n_continuations;
    if (*done) return FM_OK;
    const struct fm__continuation *next = &c->continuations[state->i];
    FM_TRY(fm_session_rewind(lane->session, c->n, err));
    fm_session_on_logits(lane->session, c->n, on_logits, state);
    return fm_session_append(lane->session, next->tokens, next->n - 1, err);
}

static fm_status check(const struct fm__likelihood *l, struct fm_error *err)
{
    for (int64_t i = 0; i < l->n; i++) {
        const struct fm__context *c = &l->contexts[i];
        if (c->n < 1) return fm__fail(err, FM_E_ARG, "example %lld: a context without tokens", (long long)i);
        for (int j = 0; j < c->n_continuations; j++) {
            for (int k = 0; k < c->continuations[j].n; k++)
                if (c->continuations[j].tokens[k] < 0 || c->continuations[j].tokens[k] >= l->n_vocab)
                    return fm__fail(err, FM_E_ARG, "example %lld: token %d, want 0 to %d", (long long)i,
                                    c->continuations[j].tokens[k], l->n_vocab - 1);
            if (c->continuations[j].n < 1)
                return fm__fail(err, FM_E_ARG, "example %lld: continuation %d without tokens", (long long)i, j);
        }
    }
    return FM_OK;
}

// What all contexts begin with.
static int common_prefix(const struct fm__likelihood *l)
{
    if (l->n < 2) return 0;
    int n = l->contexts[0].n - 1;
    for (int64_t i = 1; i < l->n && n >= SHORTEST_PREFIX; i++) {
        const struct fm__context *c = &l->contexts[i];
        int same = 0;
        while (same < n && same < c->n && c->tokens[same] == l->contexts[0].tokens[same]) same++;
        n = same;
    }
    return n >= SHORTEST_PREFIX ? n : 0;
}

fm_status fm__likelihood_run(struct fm__likelihood *l, struct fm_error *err)
{
    FM_TRY(check(l, err));
    struct fm__together together = l->together;
    struct run run = {l, fm__calloc((size_t)(together.n_lanes > 0 ? together.n_lanes : 1), sizeof *run.lanes)};
    if (!run.lanes) return fm__fail_nomem(err, "lanes", (size_t)together.n_lanes * sizeof *run.lanes);
    together.n_jobs = l->n;
    together.begin = begin;
    together.more = more;
    together.context = &run;
    together.n_prefix = common_prefix(l);
    together.prefix = together.n_prefix ? l->contexts[0].tokens : NULL;
    fm_status status = fm__together_run(&together, err);
    fm__free(run.lanes);
    return status;
}

int fm__likelihood_room(const struct fm__context *contexts, int64_t n)
{
    int most = 1;
    for (int64_t i = 0; i < n; i++) {
        if (contexts[i].n > most) most = contexts[i].n;
        for (int j = 0; j < contexts[i].n_continuations; j++)
            if (contexts[i].n + contexts[i].continuations[j].n - 1 > most)
                most = contexts[i].n + contexts[i].continuations[j].n - 1;
    }
    return most;
}

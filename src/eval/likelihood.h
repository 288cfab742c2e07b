// SPDX-License-Identifier: MIT
// How likely a model finds continuations of a context: log p of each, and whether it would have written it itself.
// A context is evaluated once for all its continuations, what contexts share is evaluated once too, and the last token
// of a continuation never: its logits tell about nothing. Continuations of one token cost nothing beyond the context.
#ifndef FM_EVAL_LIKELIHOOD_H
#define FM_EVAL_LIKELIHOOD_H

#include <stdbool.h>
#include <stdint.h>

#include "eval/together.h"

struct fm__continuation {
    const int32_t *tokens;
    int n;        // >= 1
    double log_p; // out, nats
    bool greedy;  // out: every token is the model's first choice
    int32_t *top; // out [n], the model's first choice at each place; NULL: nobody asks
};

struct fm__context {
    const int32_t *tokens;
    int n; // >= 1
    struct fm__continuation *continuations;
    int n_continuations; // 0: only the hidden state
};

struct fm__likelihood {
    struct fm__together together; // batcher, n_lanes, step, progress are the caller's; the rest is filled in
    struct fm__context *contexts;
    int64_t n;
    int32_t n_vocab;
    // The hidden state [D] after the context's last token (behind the final norm). NULL: nobody asks.
    void (*hidden)(void *context, int64_t index, const float *hidden);
    void *hidden_context;
};

// Errors: FM_E_ARG (an empty context or continuation), FM_E_LIMIT (one longer than the batcher's n_ctx).
fm_status fm__likelihood_run(struct fm__likelihood *likelihood, struct fm_error *err);

// Tokens that the longest job takes of a session.
int fm__likelihood_room(const struct fm__context *contexts, int64_t n);

#endif

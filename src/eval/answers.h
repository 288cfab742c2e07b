// SPDX-License-Identifier: MIT
// What a model writes after a prompt when it always takes its first choice: answers for exact match.
#ifndef FM_EVAL_ANSWERS_H
#define FM_EVAL_ANSWERS_H

#include <stdint.h>

#include "eval/together.h"
#include "fathom/tokenizer.h"

struct fm__question {
    const int32_t *tokens; // the prompt
    int n;
    char *answer; // out: zero-terminated, without the stop; drop with fm__free
    size_t n_answer;
    int n_made; // out: tokens
};

struct fm__answers {
    struct fm__together together; // batcher, n_lanes, step, progress are the caller's; the rest is filled in
    const struct fm_tokenizer *tok;
    struct fm__question *questions;
    int64_t n;
    int n_predict; // tokens at most
    // An answer ends before the first of these, at an end-of-generation token, or where the context is full.
    const char *const *stops;
    int n_stops;
    int n_ctx;
    int32_t n_vocab; // of the logits; tokens that the tokenizer does not know are not chosen
};

// Errors: FM_E_ARG, FM_E_LIMIT (a prompt that fills the context); answers made so far stay the questions'.
fm_status fm__answers_run(struct fm__answers *answers, struct fm_error *err);

#endif

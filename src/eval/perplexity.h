// SPDX-License-Identifier: MIT
// Perplexity of a text: its tokens cut into windows of ctx, each run alone; only the second half of a window is scored
// (positions ctx/2 … ctx-2: 255 of 512), so that every scored token has a context behind it. llama.cpp's windowing.
#ifndef FM_EVAL_PERPLEXITY_H
#define FM_EVAL_PERPLEXITY_H

#include <stdint.h>

#include "eval/kl.h"
#include "fathom/session.h"

struct fm__perplexity_args {
    const int32_t *tokens; // the whole text
    int64_t n_tokens;
    int32_t ctx;      // >= 4, at most the batcher's n_ctx
    int32_t n_chunks; // 0: all the whole windows that the text has; more than it has means all
    int32_t bos;      // takes the place of each window's first token; -1: nothing does
    int32_t n_vocab;
    int n_sessions; // windows evaluated together, at most the batcher's sessions; 0: 1
    // A scored position (NULL: nobody asks): logits [V] of position ctx/2 + i of window `chunk`, and the token that
    // follows. In order of (chunk, i) where n_sessions is 1. An error ends the run with it.
    fm_status (*row)(void *context, int32_t chunk, int32_t i, const float *logits, int32_t next, struct fm_error *err);
    // Evaluates what is pending in the batcher; NULL: fm_batcher_run.
    fm_status (*run)(void *context, struct fm_batcher *batcher, struct fm_error *err);
    void (*progress)(void *context, int32_t done, int32_t n_chunks, struct fm__mean so_far); // NULL: none
    void *context;
};

struct fm__perplexity_result {
    struct fm__mean ppl;
    int64_t n_scored;
    int32_t n_chunks;
};

// Errors: FM_E_ARG (text shorter than a window, ctx), what sessions and `row` give, FM_E_CANCELLED.
fm_status fm__perplexity(struct fm_batcher *batcher, const struct fm__perplexity_args *args,
                         struct fm__perplexity_result *out, struct fm_error *err);

// exp of the mean of n numbers -log p, with its standard error.
struct fm__mean fm__perplexity_of(double sum, double sum_squares, int64_t n);

#endif

// SPDX-License-Identifier: MIT
// Two models on one text, window by window: divergence and both perplexities (eval/kl.h), without a file between.
#ifndef FM_EVAL_COMPARE_H
#define FM_EVAL_COMPARE_H

#include "eval/kl.h"
#include "fathom/session.h"

struct fm__compare_args {
    struct fm_batcher *base, *other; // the same vocabulary; each with room for a session of ctx tokens
    const int32_t *tokens;           // the whole text
    int64_t n_tokens;
    int32_t ctx, n_vocab; // as in eval/perplexity.h
    int32_t bos;          // takes the place of each window's first token; -1: nothing does
    void (*progress)(void *context, int32_t done, int32_t n_chunks); // NULL: none
    void *context;
};

// Errors: FM_E_ARG (a text shorter than a window), what sessions give, FM_E_NOMEM.
fm_status fm__compare(const struct fm__compare_args *args, struct fm__kl_result *out, struct fm_error *err);

#endif

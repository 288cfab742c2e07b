// SPDX-License-Identifier: MIT
// From examples to tokens: contexts and continuations that a model can be asked about. Text and continuation are
// encoded together and cut where the context's own tokens end, spaces at the context's end going over to the
// continuation, as EleutherAI's lm-evaluation-harness does, so that scores compare.
#ifndef FM_EVAL_PREPARE_H
#define FM_EVAL_PREPARE_H

#include "eval/examples.h"
#include "eval/likelihood.h"
#include "fathom/tokenizer.h"

enum fm__prepare_as {
    FM__AS_TEXT,      // the text alone (its tokens where the example has them): for a classifier's head, for answers
    FM__AS_CHOICES,   // the text, then the example's choices
    FM__AS_LABELS,    // the text, then every label of the set
    FM__AS_LAST_WORD, // LAMBADA
    FM__AS_PASSAGE,   // everything scored, in windows of n_ctx
};

struct fm__prepare_args {
    const struct fm_tokenizer *tok;
    const struct fm__examples *examples;
    enum fm__prepare_as as;
    const struct fm__text *labels; // FM__AS_LABELS: what labels are called, by place; NULL: their names
    int n_ctx;                     // tokens a session may have
    int room;                      // of them kept free for an answer (FM__AS_TEXT)
    const char *before, *after;    // put around the text; NULL: nothing
    const char *delimiter;         // between text and continuation; NULL: a space
    bool parse_special;            // markers written in before and after are tokens; in texts they never are
};

struct fm__prepared {
    struct fm__context *contexts; // one an example, in order; FM__AS_PASSAGE: as many as windows
    int64_t *example;             // [n] which example a context belongs to
    int64_t n, cap, n_tokens;
    int64_t n_truncated; // contexts whose beginning was cut off
    struct fm__arena arena;
};

// A context too long loses its first tokens. Errors: FM_E_LIMIT (a continuation that does not fit), FM_E_ARG (a text
// without tokens and a model without BOS), each with the example's line.
fm_status fm__prepare(const struct fm__prepare_args *args, struct fm__prepared *out, struct fm_error *err);
void fm__prepared_deinit(struct fm__prepared *prepared); // a zeroed one is fine

#endif

// SPDX-License-Identifier: MIT
// What a model made of each example, and the scores of all of them with their intervals.
#ifndef FM_EVAL_OUTCOMES_H
#define FM_EVAL_OUTCOMES_H

#include <stdbool.h>
#include <stdint.h>

#include "eval/examples.h"
#include "eval/interval.h"
#include "eval/likelihood.h"

struct fm__outcome {
    int64_t example;          // which of the set
    int32_t gold, predicted;  // classify, choice: places
    int32_t by_length;        // choice: the place with the best log p a character
    bool correct;             // classify, choice: predicted is gold; LAMBADA: every token; generate: the answers match
    double confidence;        // classify, choice: the predicted one's share of the probability of all
    double log_p;             // LAMBADA: of the last word; perplexity: of the window
    int64_t n_tokens;         // that log_p is of
    int64_t n_bytes;          // perplexity: that those tokens stand for
    double value, gold_value; // regress
    double *scores;           // classify: log p or logit a class; choice: log p a choice
    int n_scores;
    struct fm__text text; // LAMBADA, generate: what the model wrote
};

// classify and choice: takes log p (or logits) of the options and sets predicted, confidence, correct. `lengths` (may
// be NULL: by_length is predicted) are the options' characters. The first of equal ones wins.
void fm__outcome_pick(struct fm__outcome *outcome, const double *lengths);

int64_t fm__count_characters(const struct fm__text *text); // code points of UTF-8

struct fm__measure {
    const char *name; // "accuracy"
    double value;
    struct fm__interval interval;
    const char *method; // "wilson", "clopper-pearson", "bootstrap"
};

enum { FM__MEASURES_MAX = 4 };

struct fm__measures {
    struct fm__measure items[FM__MEASURES_MAX];
    int n;
    int64_t *confusion; // classify: [C, C], gold by row; NULL: the task has none
    int32_t n_classes;
};

struct fm__measure_args {
    enum fm__eval_task task;
    const struct fm__outcome *outcomes;
    int64_t n;
    int32_t n_classes; // classify
    double confidence; // of the intervals, 0: 0.95
    bool exact;        // shares: Clopper and Pearson's interval instead of Wilson's
    int n_resamples;   // 0: 1000
    uint64_t seed;
};

// By task, in this order. classify: accuracy, macro_f1, matthews. choice: accuracy, accuracy_norm (by log p a
// character). lambada: accuracy, perplexity (of the last words). perplexity: perplexity (a token), bits_per_byte.
// generate: exact_match. regress: spearman, pearson, rmse.
fm_status fm__measure_all(const struct fm__measure_args *args, struct fm__measures *out, struct fm_error *err);
void fm__measures_deinit(struct fm__measures *measures); // a zeroed one is fine

#endif

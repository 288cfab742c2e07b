// SPDX-License-Identifier: MIT
// Scores of predictions against gold answers. Confusion counts are [C, C], gold by row, predicted by column; weights
// say how often an example counts (a bootstrap's resample), NULL: once each.
#ifndef FM_EVAL_METRICS_H
#define FM_EVAL_METRICS_H

#include <stdint.h>

#include "fathom/status.h"

// Adds n examples to counts; gold and predicted are in 0 … C - 1.
struct fm__labels {
    const int32_t *gold, *predicted; // [n]
    int64_t n;
    int32_t n_classes;
};
void fm__confusion(const struct fm__labels *labels, const int32_t *weights, int64_t *counts);

double fm__accuracy(const int64_t *counts, int32_t n_classes); // 0 of no example
// Mean of F1 = 2 tp / (2 tp + fp + fn) over the classes that occur, as gold or as prediction.
double fm__macro_f1(const int64_t *counts, int32_t n_classes);
// Matthews' correlation, for C > 2 Gorodkin's R_K (2004); 0 where gold or predictions are all of one class.
double fm__matthews(const int64_t *counts, int32_t n_classes);

// Pairs of numbers: predicted x against gold y.
struct fm__pairs {
    const double *x, *y; // [n]
    int64_t n;
    // for Spearman's: indices 0 … n - 1 by ascending x and by ascending y, and room for ranks; see fm__pairs_sort
    int32_t *by_x, *by_y;
    double *rank_x, *rank_y;
};
// Pearson's correlation; 0 where x or y is constant.
double fm__pearson(const struct fm__pairs *pairs, const int32_t *weights);
// Of the ranks, equal values sharing the mean of theirs.
double fm__spearman(const struct fm__pairs *pairs, const int32_t *weights);
double fm__mean_square_error(const struct fm__pairs *pairs, const int32_t *weights);
// Makes the four arrays of Spearman's. Errors: FM_E_NOMEM (nothing to free then).
fm_status fm__pairs_sort(struct fm__pairs *pairs, struct fm_error *err);
void fm__pairs_deinit(struct fm__pairs *pairs); // frees those four; zeroed ones are fine

#endif

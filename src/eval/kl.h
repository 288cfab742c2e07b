// SPDX-License-Identifier: MIT
// How far a model (Q) is from a base (P) whose log-probabilities were kept: mean and percentiles of the
// Kullback–Leibler divergence D(P‖Q), same top token, change of the probability of the text's own token, both
// perplexities and their ratio. The statistics are those of llama.cpp's tool, so that numbers compare.
#ifndef FM_EVAL_KL_H
#define FM_EVAL_KL_H

#include <stdint.h>

#include "eval/score.h"
#include "fathom/status.h"

struct fm__mean {
    double value, error; // standard error
};

// mean of n numbers from their sum and the sum of their squares
struct fm__mean fm__mean_of(double sum, double sum_squares, int64_t n);

struct fm__kl {
    float *kl, *dp; // per scored token: divergence, p(token) of Q less that of P. Owned; dropped by fm__kl_deinit
    float *scratch; // [V]
    int64_t n, cap, n_same_top;
    int32_t window; // positions scored a window
    int32_t n_vocab;
    double nll, nll2, base, base2, cross; // sums of -log p of Q, of P, of their products
    double sum_kl, sum_kl2, sum_dp, sum_dp2, sum_dp4;
};

// Room for n_windows windows of `window` scored positions each, added window by window, in order.
fm_status fm__kl_init(struct fm__kl *kl, int32_t n_vocab, int32_t n_windows, int32_t window, struct fm_error *err);
void fm__kl_deinit(struct fm__kl *kl); // a zeroed one is fine

// Adds a position: the model's logits [V], the base's row (eval/logprobs.h), the token that really comes next.
void fm__kl_add(struct fm__kl *kl, const float *logits, const void *base_row, int32_t token);

enum { FM__KL_PERCENTILES = 9, FM__KL_RANGES = 8 };
extern const double fm__kl_percentiles[FM__KL_PERCENTILES]; // 0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 1

struct fm__kl_result {
    int64_t n;
    struct fm__mean ppl, ppl_base, log_ratio, kl, dp, dp_rms, same_top; // dp and same_top as fractions, not percent
    double correlation;                                                 // of the two models' -log p
    double kl_at[FM__KL_PERCENTILES], dp_at[FM__KL_PERCENTILES];
    // By depth: the mean over the scored positions range_begin[i] … range_begin[i + 1] - 1 of all windows.
    double kl_range[FM__KL_RANGES];
    int32_t range_begin[FM__KL_RANGES + 1];
};

// Sorts what was collected: ends the adding.
void fm__kl_finish(struct fm__kl *kl, struct fm__kl_result *out);

#endif

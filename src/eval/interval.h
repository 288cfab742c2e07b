// SPDX-License-Identifier: MIT
// How far a score measured on n examples may be off: binomial intervals for shares, the bootstrap for everything else.
#ifndef FM_EVAL_INTERVAL_H
#define FM_EVAL_INTERVAL_H

#include <stdint.h>

#include "fathom/status.h"

struct fm__interval {
    double low, high;
};

// Of a share: hits among n trials, confidence in (0, 1). n 0 gives 0 … 1.
struct fm__interval fm__wilson(int64_t hits, int64_t n, double confidence);          // Wilson 1927
struct fm__interval fm__clopper_pearson(int64_t hits, int64_t n, double confidence); // exact: covers at least as often

// A score of the examples, each counting weights[i] times; weights [n] sum to n.
typedef double fm__statistic_fn(const void *context, const int32_t *weights);

enum { FM__BOOTSTRAP_RESAMPLES = 1000 };
struct fm__bootstrap_args {
    int64_t n;       // examples, below 2^31; 0 gives 0 … 0
    int n_resamples; // 0: 1000
    uint64_t seed;
    double confidence;
    fm__statistic_fn *statistic;
    const void *context;
};

// The percentile bootstrap (Efron 1979): the statistic of n_resamples resamples of n draws with replacement, and the
// quantiles (1 ∓ confidence) / 2 of what came out, linear between neighbours. Draw j of resample r is number j of
// Philox's stream r, times n, of its upper 32 bits: the same seed gives the same interval.
// Errors: FM_E_NOMEM, FM_E_LIMIT.
fm_status fm__bootstrap(const struct fm__bootstrap_args *args, struct fm__interval *out, struct fm_error *err);

// Σ w·above / Σ w·below: means and rates; with `exponential` exp of that. For perplexity: -log p and tokens.
struct fm__ratio {
    const double *above, *below; // [n]; below NULL: 1 each
    int64_t n;
    int exponential;
};
double fm__ratio(const void *ratio, const int32_t *weights);

#endif

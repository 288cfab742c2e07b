// SPDX-License-Identifier: MIT
// One row of logits: its maximum, its log-sum-exp, and what a token costs under it.
#ifndef FM_EVAL_SCORE_H
#define FM_EVAL_SCORE_H

#include <stdint.h>

struct fm__score {
    float max, min;
    int32_t top;   // index of the first maximum
    float log_sum; // log of sum over i of exp(logits[i] - max)
};

// logits [V], V >= 1, finite. O(V), two passes.
void fm__score_row(const float *logits, int32_t n_vocab, struct fm__score *out);

// -log p(token) in nats.
static inline double fm__score_nll(const struct fm__score *s, const float *logits, int32_t token)
{
    return (double)s->max + (double)s->log_sum - (double)logits[token];
}

// exp for x in (-inf, 0], within 2 ulp of expf; below -87 it is 0. Here because libm's is a call an element, and a
// vocabulary has 262,144 of them a row.
float fm__exp_negative(float x);

#endif

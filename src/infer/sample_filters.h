// SPDX-License-Identifier: MIT
// The parts of a sampler that are functions of their arguments alone: selection, filters, penalties. No allocation.
#ifndef FM_INFER_SAMPLE_FILTERS_H
#define FM_INFER_SAMPLE_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/sample.h"

// Candidates: v[0 … n_sorted) are the most likely in order (larger logit first, then lower id), the rest is in no
// order.
struct fm__candidates {
    struct fm_token_prob *v;
    size_t n, n_sorted;
};

// Index of the largest logit, the first of equals; −1 when none is above −infinity.
int32_t fm__sample_argmax(const float *logits, int32_t n_vocab);
// The k most likely of all, sorted; k may be n_vocab. Entries that are NaN or −infinity are left out.
void fm__sample_top_k(struct fm__candidates *c, const float *logits, int32_t n_vocab, int32_t k);
// All entries above −infinity, in order of id.
void fm__sample_all(struct fm__candidates *c, const float *logits, int32_t n_vocab);
// Sorts so that n_sorted ≥ k (at most n).
void fm__sample_sort(struct fm__candidates *c, size_t k);

void fm__sample_softmax(struct fm__candidates *c); // fills p
void fm__sample_top_p(struct fm__candidates *c, float p);
void fm__sample_min_p(struct fm__candidates *c, float p);
void fm__sample_typical(struct fm__candidates *c, float p, struct fm_token_prob *scratch); // scratch [n]
void fm__sample_temperature(struct fm__candidates *c, float temperature);
// Keeps those whose surprise −log2 p is at most mu; the most likely one always.
void fm__sample_mirostat(struct fm__candidates *c, float mu);

// The last `n` tokens of a text, newest first: at(0) is the last one.
struct fm__history {
    const int32_t *ring;
    int32_t cap, head; // head: where the next token goes
    int32_t n;
};
static inline int32_t fm__history_at(const struct fm__history *h, int32_t i)
{
    int32_t at = h->head - 1 - i;
    return h->ring[at < 0 ? at + h->cap : at];
}

struct fm__penalties {
    float repeat, frequency, presence;
};
// `count` [n_vocab] must be zero and is zero again afterwards.
void fm__sample_penalize(float *logits, const struct fm__history *h, const struct fm__penalties *p, int32_t *count);

struct fm__dry {
    float multiplier, base;
    int32_t allowed;
    const int32_t *breakers;
    size_t n_breakers;
};
// `count` as above, `lengths` [h->n].
void fm__sample_dry(float *logits, const struct fm__history *h, const struct fm__dry *d, int32_t *count,
                    int32_t *lengths);

#endif

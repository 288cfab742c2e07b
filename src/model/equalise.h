// SPDX-License-Identifier: MIT
// Equal channels for the cache: keys divided and queries multiplied by the same factor a channel. Products of queries
// and keys stay what they are, but no channel of a key is so large that 8 bits with one scale leave nothing to the
// others.
//
// Both channels of a RoPE pair share a factor, so that it commutes with the rotation (and with context shift); factors
// are powers of two, so that nothing rounds: with an f32 cache the logits are the same bytes.
#ifndef FM_MODEL_EQUALISE_H
#define FM_MODEL_EQUALISE_H

#include <stdbool.h>

#include "fathom/gguf.h"
#include "fathom/status.h"

struct fm__hparams;

struct fm__equal {
    char q_name[40],
        k_name[40]; // of the tensors below: the norms', or "blk.N.attn_q.equal" that the graph multiplies by
    float *q, *k;   // factors; owned. NULL: the layer stays as it is
    int64_t n_q, n_k;
    bool in_norms; // folded into the weights of the norms of q and k: no op in the graph
};

struct fm__equaliser {
    struct fm__equal *layers; // [n_layers]
    int64_t n_layers;
    double noise; // expected square error of a score (q·k, scaled) in an int8 cache, the layers' mean
    bool unknown; // keys have biases that are not told apart here (a joint product): anything may be in them
};

// Sizes of channels are told from the norms of q and k, or where k has a bias from biases and weights. Other models are
// left alone: nothing in their weights makes single channels large. Errors: those of reading, FM_E_NOMEM.
fm_status fm__equaliser_init(struct fm__equaliser *e, const struct fm__hparams *hp, const struct fm_gguf *gguf,
                             struct fm_error *err);
void fm__equaliser_deinit(struct fm__equaliser *e);

// Factors of the tensor of this name, *n of them; NULL: none.
const float *fm__equaliser_find(const struct fm__equaliser *e, const char *name, int64_t *n);

// Whether an int8 cache keeps its divergence from f16 within 0.002 (see equalise.c), so that it may be the default.
bool fm__equaliser_allows_int8(const struct fm__equaliser *e);

// One head's factors s [head_dim] from mean squares of its channels, all 1 where it is as good as it is. Returns what
// error is left: max q² · sum k² + max k² · sum q².
struct fm__attr_rope;
double fm__equalise_head(const struct fm__attr_rope *rope, int head_dim, const double *q2, const double *k2, float *s);

#endif

// SPDX-License-Identifier: MIT
// Adapters made ready to run: what graphs, binders and session files of a model ask of a set.
//
// For each weight that any choice changes there is one group of tensors on the device, for all choices together:
//   NAME.lora_a f32 [R, K] (not of the embedding) · NAME.lora_b f32 [O, R], scales and DoRA's gains multiplied in ·
//   NAME.lora_spans i32 [M, 2] · NAME.lora_gain f32 [M, O], where any choice is DoRA's
// Ranks of a choice begin at a multiple of 16, filled up with zeros. ops/adapt.c takes them.
#ifndef FM_MODEL_ADAPTER_SET_H
#define FM_MODEL_ADAPTER_SET_H

#include <stdbool.h>

#include "fathom/adapter.h"
#include "graph/graph.h"

// The product or embedding y of weight NAME, adapted: y itself where no choice changes NAME (set NULL: likewise).
// x: what the product was of, or the tokens for "token_embd.weight". rows: the graph's. bias: FM__NONE where none.
struct fm__adapt_args {
    const char *name;
    fm__val y, x, rows, bias;
};
fm__val fm__adapter_set_apply(const struct fm_adapter_set *set, struct fm__graph *g, const struct fm__adapt_args *args);

bool fm__adapter_set_has(const struct fm_adapter_set *set, const char *name); // set NULL: false

// The device tensor of a leaf that fm__adapter_set_apply made; false: it is none of them.
bool fm__adapter_set_bind(const struct fm_adapter_set *set, const char *leaf, struct fm_tensor *out);

// 32 bytes that tell choice i from others (adapters and factors); all zeros for i -1, no adapter.
enum { FM__ADAPTER_ID = 32 };
void fm__adapter_set_id(const struct fm_adapter_set *set, int i, uint8_t id[FM__ADAPTER_ID]);

#endif

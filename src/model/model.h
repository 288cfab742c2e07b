// SPDX-License-Identifier: MIT
// What lower callers of a model (batcher, trainer) use beside the public header: its graphs and its tensors.
#ifndef FM_MODEL_MODEL_H
#define FM_MODEL_MODEL_H

#include "fathom/model.h"
#include "graph/graph.h"
#include "model/arch.h"

const struct fm__hparams *fm__model_hparams(const struct fm_model *model);
struct fm_device *fm__model_device(const struct fm_model *model);

// Sizes that graphs with a cache need.
struct fm__cache_dims {
    int kv_format;
    int64_t n_slots, n_slot_pages, n_pages;
    const struct fm_adapter_set *adapters; // NULL: none
};
// Graphs, the caller's to free; NULL outputs never: errors stick to the graph. Inputs in order: tokens, rows, pages
// for the trunk (output "x"); hidden for the head (outputs "logits", "normed"), then rows where adapters change logits.
struct fm__graph *fm__model_trunk(const struct fm_model *model, const struct fm__cache_dims *dims);
struct fm__graph *fm__model_head(const struct fm_model *model, const struct fm_adapter_set *adapters);
struct fm__graph *fm__model_norm(const struct fm_model *model); // the head's "normed" alone

// The graph of training: tokens to hidden states after the final norm, and logits = cap(normed head^T), which are dead
// unless somebody reads them.
// Inputs in order: tokens i32 [N], rows i32 [N, 4], key i32 [4]; what comes after is the caller's to append.
struct fm__training_graph {
    struct fm__graph *g; // NULL: no memory
    fm__val normed, logits, head;
    float softcap; // of the logits; 0: none
};
struct fm__training_graph fm__model_training(const struct fm_model *model, const struct fm__training *training);

// The device tensor of a weight (a fm__bind_fn with the model as context).
fm_status fm__model_bind(void *model, const char *name, struct fm_tensor *out, struct fm_error *err);

// The cache format for who asks for none: int8 where its divergence from f16 is small, else f16.
int fm__model_kv_format(const struct fm_model *model);

// 64 bits that tell one model's weights and recipe from another's (for saved sessions): metadata shapes and a sample of
// every tensor's bytes.
uint64_t fm__model_fingerprint(const struct fm_model *model);

#endif

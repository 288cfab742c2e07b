// SPDX-License-Identifier: MIT
// What readers and writers of adapters share (adapter_peft.c, adapter_peft_write.c, adapter_gguf.c) with
// adapter_set.c and adapter_merge.c.
#ifndef FM_MODEL_ADAPTER_FILE_H
#define FM_MODEL_ADAPTER_FILE_H

#include <stdbool.h>
#include <string.h>

#include "fathom/adapter.h"

// Dims of the model's tensor (columns 1 where it has one dim); "output.weight" of a tied model is its embedding.
fm_status fm__adapter_base_dims(const struct fm_gguf *base, const char *name, int64_t dims[2], int *rank,
                                struct fm_error *err);

// Rows [n_rows, n] of the tensor `name` between Hugging Face's order and the model file's (llama's q and k): `to` gets
// them all, changed or not. from and to do not overlap.
struct fm__adapter_rows {
    const char *name;
    int64_t n_rows, n;
    bool to_gguf;
};
fm_status fm__adapter_rows(const struct fm_gguf *base, const struct fm__adapter_rows *rows, const float *from,
                           float *to, struct fm_error *err);

// to [n_columns, n_rows] = from [n_rows, n_columns] turned.
void fm__adapter_turn(const float *from, int64_t n_rows, int64_t n_columns, float *to);

// row [n_in] += s b[o] a: row o of the changed weight, before DoRA's gain. Ascending ranks.
void fm__adapter_add_row(const struct fm_adapter_target *t, float s, int64_t o, float *row);

static inline bool fm__adapter_is_embedding(const char *tensor)
{
    return !strcmp(tensor, "token_embd.weight");
}

#endif

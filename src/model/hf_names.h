// SPDX-License-Identifier: MIT
// Names and layouts on both sides: the same tensor in a GGUF file and in a Hugging Face checkpoint.
#ifndef FM_MODEL_HF_NAMES_H
#define FM_MODEL_HF_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/gguf.h"
#include "fathom/status.h"

enum { FM__HF_NAME = 128 };

// How the values of a tensor differ: Hugging Face's on one side, the GGUF file's on the other.
struct fm__hf_layout {
    int64_t head_rows;  // rows of q and k stand in pairs within heads of so many (llama: RoPE of neighbours); 0: alike
    bool transposed;    // GPT-2's Conv1D holds its weight as [in, out]
    float value_offset; // GGUF's value is Hugging Face's plus this (Gemma's norms: 1)
};

// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight". False: no such name in this architecture.
bool fm__hf_from_gguf(const char *arch, const char *tensor, char out[FM__HF_NAME]);
// And back; the prefixes of checkpoints with a vision part are known too ("model.language_model.layers.…").
bool fm__hf_to_gguf(const char *arch, const char *name, char out[FM__HF_NAME]);

// "general.architecture" of a model file, checked to be one that has names here; errors say which have.
fm_status fm__hf_arch(const struct fm_gguf *base, const char **arch, struct fm_error *err);
fm_status fm__hf_layout(const struct fm_gguf *base, const char *tensor, struct fm__hf_layout *out,
                        struct fm_error *err);

// Moves rows of `n` floats between the two orders of q and k: GGUF's rows 2 i, 2 i + 1 of a head are Hugging Face's
// i, i + head_rows / 2. from and to do not overlap; n_rows is a multiple of head_rows.
struct fm__hf_rows {
    int64_t n_rows, n, head_rows;
};
void fm__hf_rows_to_gguf(const struct fm__hf_rows *rows, const float *from, float *to);
void fm__hf_rows_from_gguf(const struct fm__hf_rows *rows, const float *from, float *to);

#endif

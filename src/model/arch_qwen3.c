// SPDX-License-Identifier: MIT
// qwen3: qwen2 without biases, with a norm over each head of q and k before RoPE (arXiv 2505.09388).
#include "model/arch.h"

static fm_status hparams(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err)
{
    (void)hp, (void)gguf, (void)err;
    return FM_OK;
}

static const char *const optional[] = {"attn_q_norm.weight", "attn_k_norm.weight", NULL};

const struct fm__arch fm__arch_qwen3 = {
    .name = "qwen3", .hparams = hparams, .trunk = fm__trunk_pre_norm, .head = fm__head_rmsnorm, .optional = optional};

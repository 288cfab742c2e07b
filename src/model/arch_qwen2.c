// SPDX-License-Identifier: MIT
// qwen2 (and 2.5): llama with biases on q, k and v, RoPE on halves (arXiv 2407.10671).
#include "model/arch.h"

static fm_status hparams(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err)
{
    (void)hp, (void)gguf, (void)err;
    return FM_OK;
}

static const char *const optional[] = {"attn_q.bias", "attn_k.bias", "attn_v.bias", NULL};

const struct fm__arch fm__arch_qwen2 = {
    .name = "qwen2", .hparams = hparams, .trunk = fm__trunk_pre_norm, .head = fm__head_rmsnorm, .optional = optional};

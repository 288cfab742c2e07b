// SPDX-License-Identifier: MIT
// llama: pre-norm, RoPE on adjacent pairs, grouped queries, SwiGLU (arXiv 2302.13971). Also mistral and SmolLM, whose
// files carry the same name.
#include "model/arch.h"

static fm_status hparams(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err)
{
    (void)gguf, (void)err;
    hp->rope.neox = 0; // the converter stores q and k rows permuted, so that pairs are adjacent
    return FM_OK;
}

const struct fm__arch fm__arch_llama = {
    .name = "llama", .hparams = hparams, .trunk = fm__trunk_pre_norm, .head = fm__head_rmsnorm};

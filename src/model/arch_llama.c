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

static fm__val trunk(struct fm__builder *b)
{
    const struct fm__hparams *hp = b->hp;
    fm__val x = fm__block_embed(b);
    for (int i = 0; i < hp->n_layers; i++) {
        fm__val h = fm__block_rmsnorm(b, x, "blk.%d.attn_norm.weight", i, hp->d_model);
        x = fm__add(b, fm__block_attention(b, h, i), x);
        h = fm__block_rmsnorm(b, x, "blk.%d.ffn_norm.weight", i, hp->d_model);
        x = fm__add(b, fm__block_gated_ffn(b, h, i, FM__ACT_SILU), x);
    }
    return x;
}

static fm__val head(struct fm__builder *b, fm__val *normed)
{
    *normed = fm__block_rmsnorm(b, b->hidden, "output_norm.weight", 0, b->hp->d_model);
    return fm__block_lm_head(b, *normed);
}

const struct fm__arch fm__arch_llama = {.name = "llama", .hparams = hparams, .trunk = trunk, .head = head};

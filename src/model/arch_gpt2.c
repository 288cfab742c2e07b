// SPDX-License-Identifier: MIT
// gpt2: learned positions, layer norms with biases, one product for q, k and v, plain GELU feed-forward.
#include "base/error.h"
#include "model/arch.h"

static fm_status hparams(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err)
{
    (void)gguf, (void)err;
    hp->rope.n_rot = 0; // positions are added, keys cannot be turned
    return FM_OK;
}

static fm__val slice(struct fm__builder *b, fm__val x, int64_t begin, int64_t count)
{
    union fm__attrs attrs = {.slice = {.begin = begin, .count = count}};
    return fm__graph_add(b->g, FM__OP_SLICE, 1, &x, &attrs);
}

static fm__val attention(struct fm__builder *b, fm__val h, int i)
{
    int64_t d = b->hp->d_model;
    fm__val qkv = fm__block_linear(b, h, "blk.%d.attn_qkv", i, 3 * d, d);
    fm__val o = fm__block_attend(b, slice(b, qkv, 0, d), slice(b, qkv, d, d), slice(b, qkv, 2 * d, d), i);
    return fm__block_dropout(b, fm__block_linear(b, o, "blk.%d.attn_output", i, d, d));
}

static fm__val feed_forward(struct fm__builder *b, fm__val h, int i)
{
    union fm__attrs attrs = {.act = {.act = FM__ACT_GELU_TANH, .out_dtype = FM_F32}};
    h = fm__block_linear(b, h, "blk.%d.ffn_up", i, b->hp->n_ff, b->hp->d_model);
    h = fm__graph_add(b->g, FM__OP_ACT, 1, &h, &attrs);
    return fm__block_dropout(b, fm__block_linear(b, h, "blk.%d.ffn_down", i, b->hp->d_model, b->hp->n_ff));
}

static fm__val trunk(struct fm__builder *b)
{
    const struct fm__hparams *hp = b->hp;
    fm__val positions = fm__weight(b, "position_embd.weight", 0, 2, hp->n_ctx_train, hp->d_model);
    fm__val at = fm__graph_add(b->g, FM__OP_POSITIONS, 1, &b->rows, NULL);
    fm__val x = fm__add(b, fm__block_embed(b), fm__graph_add(b->g, FM__OP_EMBED, 2, (fm__val[]){positions, at}, NULL));
    x = fm__block_dropout(b, x);
    for (int i = 0; i < hp->n_layers; i++) {
        x = fm__add(b, attention(b, fm__block_layernorm(b, x, "blk.%d.attn_norm", i), i), x);
        x = fm__add(b, feed_forward(b, fm__block_layernorm(b, x, "blk.%d.ffn_norm", i), i), x);
    }
    return x;
}

static fm__val head(struct fm__builder *b, fm__val *normed)
{
    *normed = fm__block_layernorm(b, b->hidden, "output_norm", 0);
    return fm__block_lm_head(b, *normed);
}

static const char *const optional[] = {"attn_qkv.bias", "attn_output.bias", "ffn_up.bias", "ffn_down.bias", NULL};

const struct fm__arch fm__arch_gpt2 = {
    .name = "gpt2", .hparams = hparams, .trunk = trunk, .head = head, .optional = optional};

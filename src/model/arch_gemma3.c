// SPDX-License-Identifier: MIT
// gemma3: norms before and after each half, norms over the heads of q and k, GeGLU, embeddings scaled by sqrt(D), five
// local layers with a window and their own RoPE base to each global one (arXiv 2503.19786).
#include <math.h>

#include "base/error.h"
#include "model/arch.h"

static fm_status hparams(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err)
{
    int64_t window = 0, period = 6; // five to one in every published size
    FM_TRY(fm__hp_want_i64(hp, gguf, "attention.sliding_window", &window, err));
    fm__hp_get_i64(hp, gguf, "attention.sliding_window_pattern", &period);
    if (window < 0 || window > INT32_MAX || period < 1 || period > 1024)
        return fm__fail(err, FM_E_FORMAT, "gemma3.attention: sliding window %lld with period %lld", (long long)window,
                        (long long)period);
    hp->window = (int)window;
    hp->window_period = (int)period;
    hp->rope_base_local = 10000.0f;
    fm__hp_get_f32(hp, gguf, "rope.freq_base_swa", &hp->rope_base_local);
    fm__hp_get_f32(hp, gguf, "final_logit_softcapping", &hp->softcap_logits);
    if (hp->n_layers == 62) hp->attn_scale = 1.0f / sqrtf((float)hp->d_model / (float)hp->n_heads); // 27B alone
    return FM_OK;
}

static fm__val trunk(struct fm__builder *b)
{
    const struct fm__hparams *hp = b->hp;
    fm__val x = fm__scale(b, fm__block_embed(b), sqrtf((float)hp->d_model));
    for (int i = 0; i < hp->n_layers; i++) {
        fm__val h = fm__block_rmsnorm(b, x, "blk.%d.attn_norm.weight", i, hp->d_model);
        h = fm__block_attention(b, h, i);
        x = fm__add(b, fm__block_rmsnorm(b, h, "blk.%d.post_attention_norm.weight", i, hp->d_model), x);
        h = fm__block_rmsnorm(b, x, "blk.%d.ffn_norm.weight", i, hp->d_model);
        h = fm__block_gated_ffn(b, h, i, FM__ACT_GELU_TANH);
        x = fm__add(b, fm__block_rmsnorm(b, h, "blk.%d.post_ffw_norm.weight", i, hp->d_model), x);
    }
    return x;
}

static const char *const optional[] = {"attn_q_norm.weight", "attn_k_norm.weight", NULL};

const struct fm__arch fm__arch_gemma3 = {
    .name = "gemma3", .hparams = hparams, .trunk = trunk, .head = fm__head_rmsnorm, .optional = optional};

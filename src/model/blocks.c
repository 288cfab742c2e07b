// SPDX-License-Identifier: MIT
// Blocks that architectures are made of: leaves checked against the file, attention, feed-forward.
// (Not the block formats of weights: those are in tensor/blocks.h.)
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/arch.h"
#include "ops/kv_format.h"

// "blk.%d.x" with the layer in the place of %d; without it the format is the name.
static void leaf_name(char name[128], const char *format, int layer)
{
    const char *at = strstr(format, "%d");
    if (at)
        snprintf(name, 128, "%.*s%d%s", (int)(at - format), format, layer, at + 2);
    else
        snprintf(name, 128, "%s", format);
}

static bool new_model_has(const struct fm__new_model *fresh, const char *name)
{
    if (!strcmp(name, "output.weight")) return fresh->untied;
    for (int i = 0; fresh->optional && fresh->optional[i]; i++)
        if (strstr(name, fresh->optional[i])) return true;
    return false;
}

bool fm__has_weight(const struct fm__builder *b, const char *format, int layer)
{
    char name[128];
    leaf_name(name, format, layer);
    return b->fresh ? new_model_has(b->fresh, name) : fm_gguf_find_tensor(b->gguf, name) != NULL;
}

// A weight that two nodes use (tied embeddings, RoPE factors) is one leaf.
static fm__val find_leaf(const struct fm__graph *g, const char *name)
{
    for (int i = g->n_values - 1; i >= 0; i--)
        if (g->values[i].node < 0 && !strcmp(g->values[i].name, name)) return i;
    return FM__NONE;
}

static bool is_trained(const struct fm__builder *b, const char *name)
{
    return b->training && b->training->trains(b->training->context, name);
}

fm__val fm__weight(struct fm__builder *b, const char *format, int layer, int rank, int64_t d0, int64_t d1)
{
    char name[128];
    leaf_name(name, format, layer);
    fm__val leaf = find_leaf(b->g, name);
    if (leaf != FM__NONE) return leaf;
    struct fm_error err;
    int64_t want[2] = {d0, d1};
    if (b->fresh) return fm__graph_leaf(b->g, FM__WEIGHT, name, FM_F32, rank, want);
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(b->gguf, name);
    if (!t) {
        fm__fail(&err, FM_E_NOT_FOUND, "%s: tensor is missing", name);
        fm__graph_fail(b->g, &err);
        return FM__NONE;
    }
    bool same = t->view.rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->view.dims[i] == want[i];
    if (!same) {
        fm__fail(&err, FM_E_SHAPE, "%s: shape [%lld, %lld] of rank %d, want [%lld, %lld] of rank %d", name,
                 (long long)t->view.dims[0], (long long)t->view.dims[1], t->view.rank, (long long)d0, (long long)d1,
                 rank);
        fm__graph_fail(b->g, &err);
        return FM__NONE;
    }
    if (is_trained(b, name)) return fm__graph_leaf(b->g, FM__STATE, name, FM_F32, rank, want);
    return fm__graph_leaf(b->g, FM__WEIGHT, name, t->view.dtype, rank, want);
}

fm__val fm__weight_or_none(struct fm__builder *b, const char *format, int layer, int rank, int64_t d0, int64_t d1)
{
    return fm__has_weight(b, format, layer) ? fm__weight(b, format, layer, rank, d0, d1) : FM__NONE;
}

fm__val fm__add(struct fm__builder *b, fm__val x, fm__val y)
{
    return fm__graph_add(b->g, FM__OP_ADD, 2, (fm__val[]){x, y}, NULL);
}

fm__val fm__scale(struct fm__builder *b, fm__val x, float factor)
{
    union fm__attrs attrs = {.scale = {.factor = factor}};
    return fm__graph_add(b->g, FM__OP_SCALE, 1, &x, &attrs);
}

fm__val fm__block_embed(struct fm__builder *b)
{
    fm__val w = fm__weight(b, "token_embd.weight", 0, 2, b->hp->n_vocab, b->hp->d_model);
    fm__val x = fm__graph_add(b->g, FM__OP_EMBED, 2, (fm__val[]){w, b->tokens}, NULL);
    const struct fm__adapt_args args = {"token_embd.weight", x, b->tokens, b->rows, FM__NONE};
    return fm__adapter_set_apply(b->adapters, b->g, &args);
}

fm__val fm__block_rmsnorm(struct fm__builder *b, fm__val x, const char *weight, int layer, int64_t n)
{
    union fm__attrs attrs = {.norm = {.eps = b->hp->norm_eps, .out_dtype = FM_F32}};
    fm__val w = fm__weight(b, weight, layer, 1, n, 0);
    return fm__graph_add(b->g, FM__OP_RMSNORM, 2, (fm__val[]){x, w}, &attrs);
}

fm__val fm__block_layernorm(struct fm__builder *b, fm__val x, const char *name, int layer)
{
    char format[128];
    union fm__attrs attrs = {.norm = {.eps = b->hp->norm_eps, .out_dtype = FM_F32}};
    snprintf(format, sizeof format, "%s.weight", name);
    fm__val w = fm__weight(b, format, layer, 1, b->hp->d_model, 0);
    snprintf(format, sizeof format, "%s.bias", name);
    fm__val bias = fm__weight(b, format, layer, 1, b->hp->d_model, 0);
    return fm__graph_add(b->g, FM__OP_LAYERNORM, 3, (fm__val[]){x, w, bias}, &attrs);
}

static fm__val dropout(struct fm__builder *b, fm__val x, float p)
{
    if (!(p > 0)) return x;
    const union fm__attrs attrs = {.dropout = {.p = p, .stream = b->n_dropouts++}};
    return fm__graph_add(b->g, FM__OP_DROPOUT, 2, (fm__val[]){x, b->key}, &attrs);
}

fm__val fm__block_dropout(struct fm__builder *b, fm__val x)
{
    return b->training ? dropout(b, x, b->training->dropout) : x;
}

// y + scale * dropout(x) A^T B^T, where training gives the weight `name` a detour.
static fm__val detour(struct fm__builder *b, fm__val x, fm__val y, const char *name, const int64_t dims[2])
{
    const struct fm__lora lora = b->training ? b->training->lora(b->training->context, name) : (struct fm__lora){0};
    char leaf[128];
    if (lora.rank == 0) return y;
    snprintf(leaf, sizeof leaf, "%.110s.lora_a", name);
    const fm__val low = fm__graph_leaf(b->g, FM__STATE, leaf, FM_F32, 2, (int64_t[]){lora.rank, dims[1]});
    snprintf(leaf, sizeof leaf, "%.110s.lora_b", name);
    const fm__val high = fm__graph_leaf(b->g, FM__STATE, leaf, FM_F32, 2, (int64_t[]){dims[0], lora.rank});
    x = dropout(b, x, lora.dropout);
    x = fm__graph_add(b->g, FM__OP_LINEAR, 2, (fm__val[]){x, low}, NULL);
    x = fm__graph_add(b->g, FM__OP_LINEAR, 2, (fm__val[]){fm__scale(b, x, lora.scale), high}, NULL);
    return fm__add(b, x, y);
}

fm__val fm__block_linear(struct fm__builder *b, fm__val x, const char *name, int layer, int64_t n_out, int64_t n_in)
{
    char format[128], target[128];
    snprintf(format, sizeof format, "%s.weight", name);
    fm__val w = fm__weight(b, format, layer, 2, n_out, n_in);
    leaf_name(target, format, layer);
    snprintf(format, sizeof format, "%s.bias", name);
    fm__val bias = fm__weight_or_none(b, format, layer, 1, n_out, 0);
    fm__val y = fm__graph_add(b->g, FM__OP_LINEAR, bias == FM__NONE ? 2 : 3, (fm__val[]){x, w, bias}, NULL);
    if (!strcmp(name, "token_embd")) strcpy(target, "output.weight"); // tied: adapters tell logits from embeddings
    y = detour(b, x, y, target, (int64_t[]){n_out, n_in});
    return fm__adapter_set_apply(b->adapters, b->g, &(struct fm__adapt_args){target, y, x, b->rows, bias});
}

bool fm__layer_is_local(const struct fm__hparams *hp, int layer)
{
    return hp->window > 0 && (hp->window_period == 0 || (layer + 1) % hp->window_period != 0);
}

struct fm__attr_rope fm__layer_rope(const struct fm__hparams *hp, int layer)
{
    struct fm__attr_rope rope = hp->rope;
    if (fm__layer_is_local(hp, layer) && hp->rope_base_local > 0) {
        rope.base = hp->rope_base_local; // local layers never see beyond their window: no scaling either
        rope.scaling = FM__ROPE_NONE;
        rope.factor = 0;
    }
    return rope;
}

fm__val fm__block_rope(struct fm__builder *b, fm__val x, int64_t head_dim, int layer)
{
    union fm__attrs attrs = {.rope = fm__layer_rope(b->hp, layer)};
    attrs.rope.head_dim = (int)head_dim;
    if (attrs.rope.n_rot == 0) return x;
    fm__val factors = fm__weight_or_none(b, "rope_freqs.weight", layer, 1, attrs.rope.n_rot / 2, 0);
    return fm__graph_add(b->g, FM__OP_ROPE, factors == FM__NONE ? 2 : 3, (fm__val[]){x, b->rows, factors}, &attrs);
}

fm__val fm__block_attend(struct fm__builder *b, fm__val q, fm__val k, fm__val v, int layer)
{
    const struct fm__hparams *hp = b->hp;
    union fm__attrs attrs = {.attention = {.scale = hp->attn_scale,
                                           .softcap = hp->softcap_attn,
                                           .window = fm__layer_is_local(hp, layer) ? hp->window : 0,
                                           .kv_format = b->kv_format,
                                           .n_kv = (int)hp->n_kv,
                                           .head_k = (int)hp->head_k,
                                           .head_v = (int)hp->head_v,
                                           .out_dtype = FM_F32}};
    if (b->training) return fm__graph_add(b->g, FM__OP_ATTENTION_ROWS, 4, (fm__val[]){q, k, v, b->rows}, &attrs);
    char name[32];
    snprintf(name, sizeof name, "kv.%d", layer);
    int64_t dims[2] = {b->n_pages, fm__kv_page_bytes(b->kv_format, (int)hp->n_kv, (int)hp->head_k, (int)hp->head_v)};
    fm__val cache = fm__graph_leaf(b->g, FM__STATE, name, FM_I8, 2, dims);
    cache = fm__graph_add(b->g, FM__OP_KV_WRITE, 5, (fm__val[]){cache, k, v, b->rows, b->pages}, &attrs);
    return fm__graph_add(b->g, FM__OP_ATTENTION, 4, (fm__val[]){q, cache, b->rows, b->pages}, &attrs);
}

// x times the factors that make channels alike (model/equalise.h), where the layer has any.
static fm__val equalise(struct fm__builder *b, fm__val x, const char *format, int layer)
{
    char name[128];
    int64_t n;
    leaf_name(name, format, layer);
    if (!b->equaliser || !fm__equaliser_find(b->equaliser, name, &n)) return x;
    fm__val factors = fm__graph_leaf(b->g, FM__WEIGHT, name, FM_F32, 1, &n);
    return fm__graph_add(b->g, FM__OP_MUL, 2, (fm__val[]){x, factors}, NULL);
}

fm__val fm__block_attention(struct fm__builder *b, fm__val x, int layer)
{
    const struct fm__hparams *hp = b->hp;
    fm__val q = fm__block_linear(b, x, "blk.%d.attn_q", layer, hp->n_heads * hp->head_k, hp->d_model);
    fm__val k = fm__block_linear(b, x, "blk.%d.attn_k", layer, hp->n_kv * hp->head_k, hp->d_model);
    fm__val v = fm__block_linear(b, x, "blk.%d.attn_v", layer, hp->n_kv * hp->head_v, hp->d_model);
    if (fm__has_weight(b, "blk.%d.attn_q_norm.weight", layer)) {
        q = fm__block_rmsnorm(b, q, "blk.%d.attn_q_norm.weight", layer, hp->head_k);
        k = fm__block_rmsnorm(b, k, "blk.%d.attn_k_norm.weight", layer, hp->head_k);
    }
    q = equalise(b, q, "blk.%d.attn_q.equal", layer);
    k = equalise(b, k, "blk.%d.attn_k.equal", layer);
    q = fm__block_rope(b, q, hp->head_k, layer);
    k = fm__block_rope(b, k, hp->head_k, layer);
    fm__val o = fm__block_attend(b, q, k, v, layer);
    o = fm__block_linear(b, o, "blk.%d.attn_output", layer, hp->d_model, hp->n_heads * hp->head_v);
    return fm__block_dropout(b, o);
}

fm__val fm__block_gated_ffn(struct fm__builder *b, fm__val x, int layer, int act)
{
    union fm__attrs attrs = {.act = {.act = act, .out_dtype = FM_F32}};
    fm__val gate = fm__block_linear(b, x, "blk.%d.ffn_gate", layer, b->hp->n_ff, b->hp->d_model);
    fm__val up = fm__block_linear(b, x, "blk.%d.ffn_up", layer, b->hp->n_ff, b->hp->d_model);
    fm__val h = fm__graph_add(b->g, FM__OP_ACT_MUL, 2, (fm__val[]){gate, up}, &attrs);
    h = fm__block_linear(b, h, "blk.%d.ffn_down", layer, b->hp->d_model, b->hp->n_ff);
    return fm__block_dropout(b, h);
}

static const char *lm_name(const struct fm__builder *b)
{
    return fm__has_weight(b, "output.weight", 0) ? "output" : "token_embd";
}

fm__val fm__block_lm_weight(struct fm__builder *b)
{
    char format[32];
    snprintf(format, sizeof format, "%s.weight", lm_name(b));
    return fm__weight(b, format, 0, 2, b->hp->n_vocab, b->hp->d_model);
}

fm__val fm__block_lm_head(struct fm__builder *b, fm__val x)
{
    fm__val logits = fm__block_linear(b, x, lm_name(b), 0, b->hp->n_vocab, b->hp->d_model);
    if (b->hp->softcap_logits > 0) {
        union fm__attrs attrs = {.scale = {.factor = b->hp->softcap_logits}};
        logits = fm__graph_add(b->g, FM__OP_SOFTCAP, 1, &logits, &attrs);
    }
    return logits;
}

fm__val fm__trunk_pre_norm(struct fm__builder *b)
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

fm__val fm__head_rmsnorm(struct fm__builder *b, fm__val *normed)
{
    *normed = fm__block_rmsnorm(b, b->hidden, "output_norm.weight", 0, b->hp->d_model);
    return fm__block_lm_head(b, *normed);
}

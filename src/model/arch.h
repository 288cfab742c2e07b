// SPDX-License-Identifier: MIT
// An architecture: one file that declares weights and builds graphs. What such a file may use.
//
// Building is also declaring: fm__weight takes dtype and dims from the model file, checks them against what the
// architecture expects, and makes the leaf; the loader then loads exactly the leaves.
#ifndef FM_MODEL_ARCH_H
#define FM_MODEL_ARCH_H

#include "fathom/gguf.h"
#include "fathom/model.h"
#include "graph/graph.h"
#include "model/adapter_set.h"
#include "model/equalise.h"

struct fm__hparams {
    const char *arch; // prefix of the metadata keys
    int64_t n_layers, d_model, n_heads, n_kv, head_k, head_v, n_ff, n_vocab, n_ctx_train;
    float norm_eps;
    float attn_scale;          // multiplies q·k
    int window, window_period; // window of local layers; every window_period-th layer is global (0: all)
    struct fm__attr_rope rope; // of global layers
    float rope_base_local;     // of local layers; 0: as global
    float softcap_attn, softcap_logits;
};

// How training changes a graph; src/train fills it in.
struct fm__lora {
    int rank; // 0: none
    float scale, dropout;
};
struct fm__training {
    void *context;
    bool (*trains)(void *context, const char *name); // this weight is a parameter: an f32 state
    // The low-rank detour of the product with this weight: y += scale * dropout(x) A^T B^T, with the states
    // NAME.lora_a [rank, K] and NAME.lora_b [O, rank].
    struct fm__lora (*lora)(void *context, const char *name);
    float dropout; // of what each block adds to the residual stream
};

// A model that is in no file yet (model/init.h): every weight that is asked for is there, of those that not all models
// of an architecture have only the ones listed.
struct fm__new_model {
    bool untied;                 // output.weight
    const char *const *optional; // parts of names, "attn_q.bias"; ends with NULL
};

// Where a graph is being built.
struct fm__builder {
    struct fm__graph *g;
    const struct fm__hparams *hp;
    const struct fm_gguf *gguf;
    int kv_format;
    const struct fm__equaliser *equaliser; // NULL: none
    const struct fm_adapter_set *adapters; // NULL: none
    const struct fm__training *training;   // NULL: inference. Else attention is among the rows, without a cache
    const struct fm__new_model *fresh;     // NULL: weights are those of gguf
    fm__val key;                           // of dropout: i32 [4]
    int n_dropouts;
    int64_t n_slots, n_slot_pages, n_pages; // dims of page table and caches
    fm__val tokens, rows, pages;            // inputs of the trunk: i32 [N], i32 [N, 4], i32 [S, P]
    fm__val hidden;                         // input of the head: f32 [N, D]; it has rows where adapters change it
};

struct fm__arch {
    const char *name;
    // Fills what differs from fm__hparams_read's common keys.
    fm_status (*hparams)(struct fm__hparams *hp, const struct fm_gguf *gguf, struct fm_error *err);
    fm__val (*trunk)(struct fm__builder *b);                 // tokens -> f32 [N, D], before the final norm
    fm__val (*head)(struct fm__builder *b, fm__val *normed); // hidden -> logits f32 [N, V]; *normed: after the norm
    const char *const *optional; // what a new model of it has of the weights that a file may lack; NULL: none
};

#define X(symbol) extern const struct fm__arch fm__arch_##symbol;
#include "model/archs.def"
#undef X

const struct fm__arch *fm__arch_find(const char *name); // NULL: none
const struct fm__arch *fm__arch_at(int i);              // NULL after the last
fm_status fm__arch_of(const struct fm_gguf *gguf, const struct fm__arch **out,
                      struct fm_error *err); // as the file says

// Common keys ("ARCH.embedding_length", …) with their defaults; then the architecture's own; then checks.
fm_status fm__hparams_read(const struct fm__arch *arch, const struct fm_gguf *gguf, struct fm__hparams *hp,
                           struct fm_error *err);
// Applies what the user asked about positions (model.h: rope_scaling, rope_scale, rope_freq_base).
fm_status fm__hparams_rope(struct fm__hparams *hp, const struct fm_model_opts *opts, struct fm_error *err);

// Typed keys below the architecture's prefix. want: fails with FM_E_NOT_FOUND naming the key; get: leaves *out alone.
fm_status fm__hp_want_i64(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, int64_t *out,
                          struct fm_error *err);
bool fm__hp_get_i64(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, int64_t *out);
bool fm__hp_get_f32(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, float *out);

// --- leaves: names are printf formats with the layer number ("blk.%d.attn_q.weight") ---
bool fm__has_weight(const struct fm__builder *b, const char *format, int layer);
fm__val fm__weight(struct fm__builder *b, const char *format, int layer, int rank, int64_t d0, int64_t d1);
fm__val fm__weight_or_none(struct fm__builder *b, const char *format, int layer, int rank, int64_t d0, int64_t d1);

// --- blocks shared by architectures ---
fm__val fm__block_embed(struct fm__builder *b); // f32 [N, D]
fm__val fm__block_rmsnorm(struct fm__builder *b, fm__val x, const char *weight, int layer, int64_t n);
fm__val fm__block_layernorm(struct fm__builder *b, fm__val x, const char *name, int layer); // NAME.weight, NAME.bias
fm__val fm__block_linear(struct fm__builder *b, fm__val x, const char *name, int layer, int64_t n_out, int64_t n_in);
fm__val fm__block_rope(struct fm__builder *b, fm__val x, int64_t head_dim, int layer);
// Stores k and v, attends q: [N, H*E]. Window and rope base follow the layer.
fm__val fm__block_attend(struct fm__builder *b, fm__val q, fm__val k, fm__val v, int layer);
// q, k, v products (with biases where the file has them), norms of q and k where the file has them, RoPE, attention,
// output product.
fm__val fm__block_attention(struct fm__builder *b, fm__val x, int layer);
fm__val fm__block_gated_ffn(struct fm__builder *b, fm__val x, int layer, int act); // ffn_gate, ffn_up, ffn_down
fm__val fm__block_lm_weight(struct fm__builder *b);          // output.weight, or the tied token_embd.weight
fm__val fm__block_lm_head(struct fm__builder *b, fm__val x); // the product with it, capped
// The trunk of most models: x += attention(norm(x)); x += swiglu(norm(x)). And the head that goes with it.
fm__val fm__trunk_pre_norm(struct fm__builder *b);
fm__val fm__head_rmsnorm(struct fm__builder *b, fm__val *normed);
fm__val fm__add(struct fm__builder *b, fm__val x, fm__val y);
fm__val fm__scale(struct fm__builder *b, fm__val x, float factor);

fm__val fm__block_dropout(struct fm__builder *b, fm__val x); // of what joins the residual stream; x outside of training

// RoPE of this layer's keys and queries; n_rot 0: none.
struct fm__attr_rope fm__layer_rope(const struct fm__hparams *hp, int layer);
bool fm__layer_is_local(const struct fm__hparams *hp, int layer); // has a window

#endif

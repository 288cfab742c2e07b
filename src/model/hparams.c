// SPDX-License-Identifier: MIT
// Hyper-parameters from metadata: the keys all architectures share, and how positions are made to fit longer contexts.
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/arch.h"

// No model has more; a file that says so is broken, and products of these must stay far from overflow.
enum { MAX_DIM = 1 << 24, MAX_LAYERS = 4096 };

static const struct fm_gguf_kv *find(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, char *full)
{
    snprintf(full, 128, "%s.%s", hp->arch, key);
    return fm_gguf_find(g, full);
}

bool fm__hp_get_i64(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, int64_t *out)
{
    char full[128];
    const struct fm_gguf_kv *kv = find(hp, g, key, full);
    return kv && fm_gguf_kv_i64_at(kv, 0, out);
}

bool fm__hp_get_f32(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, float *out)
{
    char full[128];
    double value;
    const struct fm_gguf_kv *kv = find(hp, g, key, full);
    if (!kv || !fm_gguf_kv_f64_at(kv, 0, &value)) return false;
    *out = (float)value;
    return true;
}

fm_status fm__hp_want_i64(const struct fm__hparams *hp, const struct fm_gguf *g, const char *key, int64_t *out,
                          struct fm_error *err)
{
    char full[128];
    const struct fm_gguf_kv *kv = find(hp, g, key, full);
    if (!kv) return fm__fail(err, FM_E_NOT_FOUND, "%s: metadata key is missing", full);
    if (fm_gguf_kv_i64_at(kv, 0, out)) return FM_OK;
    return fm__fail(err, FM_E_FORMAT, "%s: metadata type %d, want an integer", full, (int)kv->type);
}

static fm_status check_range(const char *what, int64_t value, int64_t low, int64_t high, struct fm_error *err)
{
    if (value >= low && value <= high) return FM_OK;
    return fm__fail(err, FM_E_FORMAT, "%s: %lld, want %lld to %lld", what, (long long)value, (long long)low,
                    (long long)high);
}

// A key that may be absent must still hold a number when it is there: a default in place of a string would be a guess.
static fm_status check_optional(const struct fm__hparams *hp, const struct fm_gguf *g, struct fm_error *err)
{
    static const struct {
        const char *key;
        bool is_integer;
    } optional[] = {{"attention.head_count_kv", true},
                    {"attention.key_length", true},
                    {"attention.value_length", true},
                    {"attention.sliding_window_pattern", true},
                    {"rope.dimension_count", true},
                    {"rope.scaling.original_context_length", true},
                    {"vocab_size", true},
                    {"attention.layer_norm_rms_epsilon", false},
                    {"attention.layer_norm_epsilon", false},
                    {"final_logit_softcapping", false},
                    {"rope.freq_base", false},
                    {"rope.freq_base_swa", false},
                    {"rope.scale_linear", false},
                    {"rope.scaling.factor", false},
                    {"rope.scaling.attn_factor", false}};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        char full[128];
        int64_t integer;
        double number;
        const struct fm_gguf_kv *kv = find(hp, g, optional[i].key, full);
        if (!kv) continue;
        if (optional[i].is_integer ? !fm_gguf_kv_i64_at(kv, 0, &integer) : !fm_gguf_kv_f64_at(kv, 0, &number))
            return fm__fail(err, FM_E_FORMAT, "%s: metadata type %d, want %s", full, (int)kv->type,
                            optional[i].is_integer ? "an integer" : "a number");
        if (!optional[i].is_integer && !(number >= 0 && number <= FLT_MAX))
            return fm__fail(err, FM_E_FORMAT, "%s: %g, want a finite number, 0 or more", full, number);
    }
    return FM_OK;
}

static fm_status read_rope(struct fm__hparams *hp, const struct fm_gguf *g, struct fm_error *err)
{
    struct fm__attr_rope *r = &hp->rope;
    int64_t n_rot = hp->head_k, n_ctx_orig = hp->n_ctx_train;
    fm__hp_get_i64(hp, g, "rope.dimension_count", &n_rot);
    fm__hp_get_i64(hp, g, "rope.scaling.original_context_length", &n_ctx_orig);
    FM_TRY(check_range("rope.dimension_count", n_rot, 0, hp->head_k, err));
    *r = (struct fm__attr_rope){.head_dim = (int)hp->head_k,
                                .n_rot = (int)n_rot,
                                .neox = 1,
                                .base = 10000.0f,
                                .n_ctx_orig = (int)n_ctx_orig,
                                .beta_fast = 32, // YaRN's own constants, section 3.4
                                .beta_slow = 1,
                                .ext_factor = 1};
    fm__hp_get_f32(hp, g, "rope.freq_base", &r->base);
    fm__hp_get_f32(hp, g, "rope.scale_linear", &r->factor); // written by old converters
    if (r->factor > 0) r->scaling = FM__ROPE_LINEAR;
    fm__hp_get_f32(hp, g, "rope.scaling.factor", &r->factor);
    fm__hp_get_f32(hp, g, "rope.scaling.attn_factor", &r->attn_factor);
    char key[128];
    struct fm_str type;
    snprintf(key, sizeof key, "%s.rope.scaling.type", hp->arch);
    if (fm_gguf_get_str(g, key, &type)) {
        if (type.n == 6 && !memcmp(type.p, "linear", 6))
            r->scaling = FM__ROPE_LINEAR;
        else if (type.n == 4 && !memcmp(type.p, "yarn", 4))
            r->scaling = FM__ROPE_YARN;
        else if (type.n == 4 && !memcmp(type.p, "none", 4))
            r->scaling = FM__ROPE_NONE, r->factor = 0;
        else
            return fm__fail(err, FM_E_UNSUPPORTED, "%s: \"%.*s\", want none, linear or yarn", key,
                            (int)(type.n < 40 ? type.n : 40), type.p);
    }
    if (!(r->base > 1) || r->factor < 0 || !isfinite(r->base) || !isfinite(r->factor))
        return fm__fail(err, FM_E_FORMAT, "%s.rope: base %g, factor %g: want base > 1 and factor >= 0", hp->arch,
                        (double)r->base, (double)r->factor);
    return FM_OK;
}

// The vocabulary's size: its own key, or the token list, or the embedding's rows.
static void read_vocab(struct fm__hparams *hp, const struct fm_gguf *g)
{
    if (fm__hp_get_i64(hp, g, "vocab_size", &hp->n_vocab)) return;
    const struct fm_gguf_kv *tokens = fm_gguf_find(g, "tokenizer.ggml.tokens");
    const struct fm_gguf_tensor *embd = fm_gguf_find_tensor(g, "token_embd.weight");
    if (embd && embd->view.rank == 2)
        hp->n_vocab = embd->view.dims[0];
    else if (tokens)
        hp->n_vocab = (int64_t)tokens->n;
}

static fm_status read_common(struct fm__hparams *hp, const struct fm_gguf *g, struct fm_error *err)
{
    FM_TRY(check_optional(hp, g, err));
    FM_TRY(fm__hp_want_i64(hp, g, "block_count", &hp->n_layers, err));
    FM_TRY(fm__hp_want_i64(hp, g, "embedding_length", &hp->d_model, err));
    FM_TRY(fm__hp_want_i64(hp, g, "attention.head_count", &hp->n_heads, err));
    FM_TRY(fm__hp_want_i64(hp, g, "context_length", &hp->n_ctx_train, err));
    FM_TRY(fm__hp_want_i64(hp, g, "feed_forward_length", &hp->n_ff, err));
    FM_TRY(check_range("block_count", hp->n_layers, 1, MAX_LAYERS, err));
    FM_TRY(check_range("embedding_length", hp->d_model, 1, MAX_DIM, err));
    FM_TRY(check_range("attention.head_count", hp->n_heads, 1, 65536, err));
    FM_TRY(check_range("context_length", hp->n_ctx_train, 1, INT32_MAX, err));
    FM_TRY(check_range("feed_forward_length", hp->n_ff, 1, MAX_DIM, err));
    hp->n_kv = hp->n_heads;
    fm__hp_get_i64(hp, g, "attention.head_count_kv", &hp->n_kv);
    FM_TRY(check_range("attention.head_count_kv", hp->n_kv, 1, hp->n_heads, err));
    hp->head_k = hp->head_v = hp->d_model / hp->n_heads;
    fm__hp_get_i64(hp, g, "attention.key_length", &hp->head_k);
    fm__hp_get_i64(hp, g, "attention.value_length", &hp->head_v);
    FM_TRY(check_range("attention.key_length", hp->head_k, 1, 512, err));
    FM_TRY(check_range("attention.value_length", hp->head_v, 1, 512, err));
    hp->norm_eps = 1e-5f;
    if (!fm__hp_get_f32(hp, g, "attention.layer_norm_rms_epsilon", &hp->norm_eps))
        fm__hp_get_f32(hp, g, "attention.layer_norm_epsilon", &hp->norm_eps);
    hp->attn_scale = 1.0f / sqrtf((float)hp->head_k);
    read_vocab(hp, g);
    return check_range("vocabulary", hp->n_vocab, 1, MAX_DIM, err);
}

fm_status fm__hparams_read(const struct fm__arch *arch, const struct fm_gguf *gguf, struct fm__hparams *hp,
                           struct fm_error *err)
{
    *hp = (struct fm__hparams){.arch = arch->name};
    FM_TRY(read_common(hp, gguf, err));
    FM_TRY(read_rope(hp, gguf, err));
    FM_TRY(arch->hparams(hp, gguf, err));
    if (hp->n_heads % hp->n_kv)
        return fm__fail(err, FM_E_FORMAT, "%s: %lld heads over %lld kv heads, want whole groups", hp->arch,
                        (long long)hp->n_heads, (long long)hp->n_kv);
    return FM_OK;
}

fm_status fm__hparams_rope(struct fm__hparams *hp, const struct fm_model_opts *opts, struct fm_error *err)
{
    struct fm__attr_rope *r = &hp->rope;
    double scale = opts->rope_scale > 0 ? opts->rope_scale : r->factor > 0 ? r->factor : 1;
    if (opts->rope_freq_base > 0) r->base = (float)opts->rope_freq_base;
    if (opts->rope_scale < 0 || opts->rope_freq_base < 0)
        return fm__fail(err, FM_E_ARG, "rope scale %g, base %g: want positive numbers", opts->rope_scale,
                        opts->rope_freq_base);
    int scaling = opts->rope_scaling;
    if (scaling == FM_ROPE_FROM_MODEL && opts->rope_scale > 0 && r->scaling == FM__ROPE_NONE) scaling = FM_ROPE_LINEAR;
    switch (scaling) {
    case FM_ROPE_FROM_MODEL:
        r->factor = r->scaling == FM__ROPE_NONE ? r->factor : (float)scale;
        break;
    case FM_ROPE_NO_SCALING:
        r->scaling = FM__ROPE_NONE, r->factor = 0;
        break;
    case FM_ROPE_LINEAR:
        r->scaling = FM__ROPE_LINEAR, r->factor = (float)scale;
        break;
    case FM_ROPE_YARN:
        r->scaling = FM__ROPE_YARN, r->factor = (float)scale;
        break;
    case FM_ROPE_NTK: // base * s^(d / (d - 2)): the lowest frequency is interpolated, the highest kept
        r->scaling = FM__ROPE_NONE, r->factor = 0;
        if (r->n_rot > 2) r->base *= (float)pow(scale, (double)r->n_rot / (r->n_rot - 2));
        break;
    default:
        return fm__fail(err, FM_E_ARG, "rope scaling %d, want one of FM_ROPE_*", scaling);
    }
    return FM_OK;
}

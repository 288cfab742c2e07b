// SPDX-License-Identifier: MIT
// Tables of names, one an architecture. %d stands for the layer; ".weight" and ".bias" are the same on both sides.
#include "model/hf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/arch.h"

struct pair {
    const char *gguf, *hf;
};

// Llama's own names, which Qwen 2 and 3 share.
static const struct pair llama_names[] = {
    {"blk.%d.attn_q", "model.layers.%d.self_attn.q_proj"},
    {"blk.%d.attn_k", "model.layers.%d.self_attn.k_proj"},
    {"blk.%d.attn_v", "model.layers.%d.self_attn.v_proj"},
    {"blk.%d.attn_output", "model.layers.%d.self_attn.o_proj"},
    {"blk.%d.attn_q_norm", "model.layers.%d.self_attn.q_norm"},
    {"blk.%d.attn_k_norm", "model.layers.%d.self_attn.k_norm"},
    {"blk.%d.ffn_gate", "model.layers.%d.mlp.gate_proj"},
    {"blk.%d.ffn_up", "model.layers.%d.mlp.up_proj"},
    {"blk.%d.ffn_down", "model.layers.%d.mlp.down_proj"},
    {"blk.%d.attn_norm", "model.layers.%d.input_layernorm"},
    {"blk.%d.ffn_norm", "model.layers.%d.post_attention_layernorm"},
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {NULL, NULL},
};

// Gemma 3 puts a norm after each half too, and gives post_attention_layernorm to the first of them.
static const struct pair gemma3_names[] = {
    {"blk.%d.attn_q", "model.layers.%d.self_attn.q_proj"},
    {"blk.%d.attn_k", "model.layers.%d.self_attn.k_proj"},
    {"blk.%d.attn_v", "model.layers.%d.self_attn.v_proj"},
    {"blk.%d.attn_output", "model.layers.%d.self_attn.o_proj"},
    {"blk.%d.attn_q_norm", "model.layers.%d.self_attn.q_norm"},
    {"blk.%d.attn_k_norm", "model.layers.%d.self_attn.k_norm"},
    {"blk.%d.ffn_gate", "model.layers.%d.mlp.gate_proj"},
    {"blk.%d.ffn_up", "model.layers.%d.mlp.up_proj"},
    {"blk.%d.ffn_down", "model.layers.%d.mlp.down_proj"},
    {"blk.%d.attn_norm", "model.layers.%d.input_layernorm"},
    {"blk.%d.post_attention_norm", "model.layers.%d.post_attention_layernorm"},
    {"blk.%d.ffn_norm", "model.layers.%d.pre_feedforward_layernorm"},
    {"blk.%d.post_ffw_norm", "model.layers.%d.post_feedforward_layernorm"},
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {NULL, NULL},
};

static const struct pair gpt2_names[] = {
    {"blk.%d.attn_qkv", "transformer.h.%d.attn.c_attn"},
    {"blk.%d.attn_output", "transformer.h.%d.attn.c_proj"},
    {"blk.%d.ffn_up", "transformer.h.%d.mlp.c_fc"},
    {"blk.%d.ffn_down", "transformer.h.%d.mlp.c_proj"},
    {"blk.%d.attn_norm", "transformer.h.%d.ln_1"},
    {"blk.%d.ffn_norm", "transformer.h.%d.ln_2"},
    {"token_embd", "transformer.wte"},
    {"position_embd", "transformer.wpe"},
    {"output_norm", "transformer.ln_f"},
    {"output", "lm_head"},
    {NULL, NULL},
};

static const struct {
    const char *arch;
    const struct pair *names;
} tables[] = {{"llama", llama_names},
              {"qwen2", llama_names},
              {"qwen3", llama_names},
              {"gemma3", gemma3_names},
              {"gpt2", gpt2_names}};

static const struct pair *names_of(const char *arch)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!strcmp(tables[i].arch, arch)) return tables[i].names;
    return NULL;
}

// Length of "name" without ".weight" or ".bias"; 0: it ends in neither.
static size_t stem_length(const char *name)
{
    static const char *const ends[] = {".weight", ".bias"};
    const size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        const size_t end = strlen(ends[i]);
        if (n > end && !strcmp(name + n - end, ends[i])) return n - end;
    }
    return 0;
}

// Whether the n bytes of a name are `pattern` with a number in the place of %d.
static bool matches(const char *pattern, const char *name, size_t n, int *layer)
{
    const char *at = strstr(pattern, "%d");
    if (!at) return strlen(pattern) == n && !memcmp(pattern, name, n);
    const size_t before = (size_t)(at - pattern), after = strlen(at + 2);
    if (n <= before + after || memcmp(name, pattern, before) || memcmp(name + n - after, at + 2, after)) return false;
    *layer = 0;
    for (size_t i = before; i < n - after; i++) {
        if (name[i] < '0' || name[i] > '9' || *layer > 99999) return false;
        *layer = 10 * *layer + (name[i] - '0');
    }
    return name[before] != '0' || n - after - before == 1; // one spelling a layer
}

static void put(char out[FM__HF_NAME], const char *pattern, int layer, const char *end)
{
    const char *at = strstr(pattern, "%d");
    if (at)
        snprintf(out, FM__HF_NAME, "%.*s%d%s%s", (int)(at - pattern), pattern, layer, at + 2, end);
    else
        snprintf(out, FM__HF_NAME, "%s%s", pattern, end);
}

bool fm__hf_from_gguf(const char *arch, const char *tensor, char out[FM__HF_NAME])
{
    const size_t n = stem_length(tensor);
    int layer = 0;
    for (const struct pair *p = names_of(arch); n && p && p->gguf; p++)
        if (matches(p->gguf, tensor, n, &layer)) {
            put(out, p->hf, layer, tensor + n);
            return true;
        }
    return false;
}

bool fm__hf_to_gguf(const char *arch, const char *name, char out[FM__HF_NAME])
{
    static const char *const prefixes[][2] = {{"model.language_model.", "model."}, {"language_model.model.", "model."}};
    char plain[FM__HF_NAME];
    if (strlen(name) >= sizeof plain) return false;
    snprintf(plain, sizeof plain, "%s", name);
    for (int i = 0; i < 2; i++) {
        const size_t length = strlen(prefixes[i][0]);
        if (!strncmp(name, prefixes[i][0], length))
            snprintf(plain, sizeof plain, "%s%s", prefixes[i][1], name + length);
    }
    const size_t n = stem_length(plain);
    int layer = 0;
    for (const struct pair *p = names_of(arch); n && p && p->gguf; p++)
        if (matches(p->hf, plain, n, &layer)) {
            put(out, p->gguf, layer, plain + n);
            return true;
        }
    return false;
}

fm_status fm__hf_arch(const struct fm_gguf *base, const char **arch, struct fm_error *err)
{
    struct fm_str text = {"", 0};
    char known[128] = "";
    fm_gguf_get_str(base, "general.architecture", &text);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const size_t n = strlen(known);
        if (strlen(tables[i].arch) == text.n && !memcmp(tables[i].arch, text.p, text.n)) {
            *arch = tables[i].arch;
            return FM_OK;
        }
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", tables[i].arch);
    }
    return fm__fail(err, FM_E_UNSUPPORTED,
                    "architecture \"%.*s\": its Hugging Face names are not known, want one of %s",
                    text.n < 40 ? (int)text.n : 40, text.p, known);
}

static bool has(const char *tensor, const char *part)
{
    return strstr(tensor, part) != NULL;
}

fm_status fm__hf_layout(const struct fm_gguf *base, const char *tensor, struct fm__hf_layout *out, struct fm_error *err)
{
    const char *arch;
    *out = (struct fm__hf_layout){0};
    FM_TRY(fm__hf_arch(base, &arch, err));
    if (!strcmp(arch, "gemma3") && has(tensor, "_norm.weight")) out->value_offset = 1;
    if (!strcmp(arch, "gpt2"))
        out->transposed = has(tensor, ".weight") && (has(tensor, ".attn_qkv.") || has(tensor, ".attn_output.") ||
                                                     has(tensor, ".ffn_up.") || has(tensor, ".ffn_down."));
    if (strcmp(arch, "llama") || !(has(tensor, ".attn_q.") || has(tensor, ".attn_k."))) return FM_OK;
    struct fm__hparams hp;
    FM_TRY(fm__hparams_read(fm__arch_find(arch), base, &hp, err));
    out->head_rows = hp.head_k;
    return FM_OK;
}

// GGUF's row 2 i + j of a head is row i + j E / 2 of Hugging Face's.
static int64_t hf_row(const struct fm__hf_rows *rows, int64_t row)
{
    const int64_t in_head = row % rows->head_rows;
    return row - in_head + in_head / 2 + in_head % 2 * (rows->head_rows / 2);
}

void fm__hf_rows_to_gguf(const struct fm__hf_rows *rows, const float *from, float *to)
{
    for (int64_t row = 0; row < rows->n_rows; row++)
        memcpy(to + row * rows->n, from + hf_row(rows, row) * rows->n, (size_t)rows->n * sizeof *to);
}

void fm__hf_rows_from_gguf(const struct fm__hf_rows *rows, const float *from, float *to)
{
    for (int64_t row = 0; row < rows->n_rows; row++)
        memcpy(to + hf_row(rows, row) * rows->n, from + row * rows->n, (size_t)rows->n * sizeof *to);
}

// SPDX-License-Identifier: MIT
// Making a tokenizer from metadata, encoding, and the accessors. (Decoding: tok_decode.c.)
#include <math.h>

#include "text/tok_internal.h"
#include "text/tok_pre.h"

#define TEXT_MAX ((size_t)512 << 20)

void *fm__buf_reserve(struct fm__buf *buf, size_t bytes, struct fm_error *err)
{
    if (bytes <= buf->cap && buf->p) return buf->p;
    size_t cap = bytes + bytes / 2 + 1024;
    fm__free(buf->p);
    buf->p = fm__malloc(cap);
    buf->cap = buf->p ? cap : 0;
    if (!buf->p) fm__fail_nomem(err, "encoding a text", cap);
    return buf->p;
}

// --- loading ---

static const struct style {
    const char *model;
    fm_tokenizer_style style;
    bool add_bos, add_eos, add_space_prefix;
    int32_t bos, eos, unk, sep, pad, mask; // where the file does not say
} styles[] = {
    {"gpt2", FM_TOKENIZER_BPE, false, false, false, -1, -1, -1, -1, -1, -1},
    {"llama", FM_TOKENIZER_SPM, true, false, true, 1, 2, 0, -1, -1, -1},
    {"t5", FM_TOKENIZER_UNIGRAM, false, true, false, -1, 1, 2, -1, 0, -1},
    {"bert", FM_TOKENIZER_WORDPIECE, true, true, false, 101, -1, 100, 102, 0, 103},
};

static fm_status load_style(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    struct fm_str model;
    if (!fm_gguf_get_str(g, "tokenizer.ggml.model", &model))
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.model: missing, want gpt2, llama, t5 or bert");
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        const struct style *s = &styles[i];
        if (strlen(s->model) != model.n || memcmp(s->model, model.p, model.n) != 0) continue;
        tok->style = s->style;
        tok->add_bos = s->add_bos, tok->add_eos = s->add_eos, tok->add_space_prefix = s->add_space_prefix;
        for (int r = 0; r < FM_TOKEN_ROLE_COUNT; r++) tok->roles[r] = -1;
        tok->roles[FM_TOKEN_BOS] = s->bos, tok->roles[FM_TOKEN_EOS] = s->eos, tok->roles[FM_TOKEN_UNK] = s->unk;
        tok->roles[FM_TOKEN_SEP] = s->sep, tok->roles[FM_TOKEN_PAD] = s->pad, tok->roles[FM_TOKEN_MASK] = s->mask;
        return FM_OK;
    }
    return fm__fail(err, FM_E_UNSUPPORTED, "tokenizer.ggml.model: \"%.*s\", want gpt2, llama, t5 or bert",
                    model.n > 60 ? 60 : (int)model.n, model.p);
}

// An array of the vocabulary's length, or NULL where the key is absent.
static fm_status find_array(const struct fm_tokenizer *tok, const struct fm_gguf *g, const char *key,
                            const struct fm_gguf_kv **out, struct fm_error *err)
{
    const struct fm_gguf_kv *kv = *out = fm_gguf_find(g, key);
    if (!kv) return FM_OK;
    if (kv->type != FM_GGUF_ARRAY) return fm__fail(err, FM_E_FORMAT, "%s: no array", key);
    if (kv->n < (uint64_t)tok->n_vocab)
        return fm__fail(err, FM_E_FORMAT, "%s: %llu entries, want %d, one a token", key, (unsigned long long)kv->n,
                        tok->n_vocab);
    return FM_OK;
}

static uint16_t attr_of_type(int64_t type)
{
    static const uint16_t attrs[] = {
        0, FM__ATTR_NORMAL, FM__ATTR_UNKNOWN, FM__ATTR_CONTROL, FM__ATTR_USER, FM__ATTR_UNUSED, FM__ATTR_BYTE};
    return type >= 1 && type <= 6 ? attrs[type] : 0;
}

static fm_status load_texts(struct fm_tokenizer *tok, const struct fm_gguf_kv *kv, struct fm_error *err)
{
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++) {
        struct fm_str text;
        if (!fm_gguf_kv_str_at(kv, i, &text))
            return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.tokens[%u]: no string", i);
        if (text.n > FM__TOKEN_MAX)
            return fm__fail(err, FM_E_LIMIT, "tokenizer.ggml.tokens[%u]: %zu bytes, want at most %d", i, text.n,
                            FM__TOKEN_MAX);
        uint32_t same = i;
        if (!fm__strtab_add(&tok->text, text.p, text.n) ||
            (text.n && tok->style != FM_TOKENIZER_BPE && !fm__strtab_key(&tok->text, i, &same)))
            return fm__fail_nomem(err, "tokenizer.ggml.tokens", text.n);
        if (same != i)
            return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.tokens: %u and %u are both \"%.*s\"", same, i,
                            text.n > 40 ? 40 : (int)text.n, text.p);
    }
    return FM_OK;
}

static fm_status load_tokens(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    const struct fm_gguf_kv *tokens = fm_gguf_find(g, "tokenizer.ggml.tokens"), *scores, *types;
    if (!tokens || tokens->type != FM_GGUF_ARRAY || tokens->array_type != FM_GGUF_STRING || !tokens->n)
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.tokens: %s, want an array of strings",
                        tokens ? "empty or of another type" : "missing");
    if (tokens->n > (uint64_t)1 << 24) // a trie's nodes have 24 bits; the largest vocabularies have 2^18 tokens
        return fm__fail(err, FM_E_LIMIT, "tokenizer.ggml.tokens: %llu entries", (unsigned long long)tokens->n);
    tok->n_vocab = (int32_t)tokens->n;
    FM_TRY(find_array(tok, g, "tokenizer.ggml.scores", &scores, err));
    FM_TRY(find_array(tok, g, "tokenizer.ggml.token_type", &types, err));
    size_t n = (size_t)tok->n_vocab;
    tok->score = fm__calloc(n, sizeof *tok->score);
    tok->attr = fm__calloc(n, sizeof *tok->attr);
    tok->whole = fm__calloc(n, sizeof *tok->whole);
    if (!tok->score || !tok->attr || !tok->whole) return fm__fail_nomem(err, "tokenizer.ggml.tokens", 7 * n);
    for (size_t i = 0; i < n; i++) {
        double score = 0;
        int64_t type = 1;
        if (scores && (!fm_gguf_kv_f64_at(scores, i, &score) || !isfinite(score)))
            return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.scores[%zu]: no finite number", i);
        if (types && !fm_gguf_kv_i64_at(types, i, &type))
            return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.token_type[%zu]: no integer", i);
        tok->score[i] = (float)score;
        tok->attr[i] = attr_of_type(type);
    }
    return load_texts(tok, tokens, err);
}

static void load_byte_tokens(struct fm_tokenizer *tok)
{
    tok->byte_fallback = true;
    for (unsigned b = 0; b < 256; b++) {
        static const char hex[] = "0123456789ABCDEF";
        char text[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'}, byte[2] = {(char)b, 0};
        tok->byte_token[b] = fm__strtab_find(&tok->text, text, 6);
        if (tok->byte_token[b] < 0) tok->byte_fallback = false;
        if (tok->byte_token[b] < 0 && tok->style == FM_TOKENIZER_SPM)
            tok->byte_token[b] = fm__strtab_find(&tok->text, byte, 1);
    }
}

static void load_flags(struct fm_tokenizer *tok, const struct fm_gguf *g)
{
    if (tok->style != FM_TOKENIZER_BPE) // which never adds one, whatever the file says
        fm_gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &tok->add_space_prefix);
    fm_gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &tok->merge_spaces);
    if (tok->style != FM_TOKENIZER_WORDPIECE) { // which always has CLS and SEP
        fm_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &tok->add_bos);
        fm_gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &tok->add_eos);
    }
    tok->lowercase = true;
    fm_gguf_get_bool(g, "tokenizer.ggml.normalizer.lowercase", &tok->lowercase);
    tok->strip_accents = tok->lowercase;
    fm_gguf_get_bool(g, "tokenizer.ggml.normalizer.strip_accents", &tok->strip_accents);
}

static fm_status load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    FM_TRY(load_style(tok, g, err));
    FM_TRY(load_tokens(tok, g, err));
    if (tok->style == FM_TOKENIZER_BPE) FM_TRY(fm__bpe_load(tok, g, err));
    load_flags(tok, g);
    load_byte_tokens(tok);
    FM_TRY(fm__special_load(tok, g, err));
    if (tok->style == FM_TOKENIZER_SPM) FM_TRY(fm__spm_load(tok, err));
    if (tok->style == FM_TOKENIZER_UNIGRAM) FM_TRY(fm__unigram_load(tok, g, err));
    if (tok->style == FM_TOKENIZER_WORDPIECE) FM_TRY(fm__wordpiece_load(tok, err));
    int32_t end = tok->roles[tok->style == FM_TOKENIZER_WORDPIECE ? FM_TOKEN_SEP : FM_TOKEN_EOS];
    if ((tok->add_bos && tok->roles[FM_TOKEN_BOS] < 0) || (tok->add_eos && end < 0))
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.add_%s_token is true, but there is no such token",
                        tok->add_eos && end < 0 ? "eos" : "bos");
    return fm__pieces_load(tok, err);
}

fm_status fm_tokenizer_new(const struct fm_gguf *gguf, struct fm_tokenizer **out, struct fm_error *err)
{
    if (!out) return fm__fail(err, FM_E_ARG, "fm_tokenizer_new: out is NULL");
    *out = NULL;
    if (!gguf) return fm__fail(err, FM_E_ARG, "fm_tokenizer_new: gguf is NULL");
    struct fm_tokenizer *tok = fm__calloc(1, sizeof *tok);
    if (!tok) return fm__fail_nomem(err, "tokenizer", sizeof *tok);
    fm_status status = load(tok, gguf, err);
    if (status != FM_OK) {
        fm_tokenizer_free(tok);
        return status;
    }
    *out = tok;
    return FM_OK;
}

void fm_tokenizer_free(struct fm_tokenizer *tok)
{
    if (!tok) return;
    fm__strtab_deinit(&tok->text), fm__strtab_deinit(&tok->piece), fm__strtab_deinit(&tok->key);
    fm__trie_deinit(&tok->special), fm__trie_deinit(&tok->user_special), fm__trie_deinit(&tok->matcher);
    fm__free(tok->score), fm__free(tok->attr), fm__free(tok->whole), fm__free(tok->pairs);
    fm__free(tok->charsmap), fm__free(tok->replacements);
    fm__pre_free(tok->pre);
    fm__free(tok);
}

// --- encoding ---

static fm_status encode(struct fm__run *run, const struct fm_encode_args *args)
{
    static fm__encode_fn *const encoders[] = {
        [FM_TOKENIZER_BPE] = fm__bpe_encode,
        [FM_TOKENIZER_SPM] = fm__spm_encode,
        [FM_TOKENIZER_UNIGRAM] = fm__unigram_encode,
        [FM_TOKENIZER_WORDPIECE] = fm__wordpiece_encode,
    };
    const struct fm_tokenizer *tok = run->tok;
    bool special = args->flags & FM_ENCODE_ADD_SPECIAL;
    if (special && tok->add_bos) fm__emit(run, tok->roles[FM_TOKEN_BOS]);
    FM_TRY(fm__special_encode(run, args, encoders[tok->style]));
    fm_token_role end = tok->style == FM_TOKENIZER_WORDPIECE ? FM_TOKEN_SEP : FM_TOKEN_EOS;
    if (special && tok->add_eos) fm__emit(run, tok->roles[end]);
    return FM_OK;
}

fm_status fm_tokenizer_encode(const struct fm_tokenizer *tok, const struct fm_encode_args *args, int32_t *ids,
                              size_t cap, size_t *n_ids, struct fm_error *err)
{
    if (n_ids) *n_ids = 0;
    if (!tok || !args || !n_ids || (!ids && cap) || (!args->text && args->n))
        return fm__fail(err, FM_E_ARG, "fm_tokenizer_encode: a NULL argument");
    if (args->n > TEXT_MAX) return fm__fail(err, FM_E_LIMIT, "text of %zu bytes, want at most %zu", args->n, TEXT_MAX);
    struct fm__run run = {.tok = tok, .ids = ids, .cap = cap, .add_prefix = true, .err = err};
    fm_status status = encode(&run, args);
    fm__free(run.text.p), fm__free(run.symbols.p), fm__free(run.heap.p);
    fm__free(run.classes.p), fm__free(run.lattice.p);
    fm__pre_run_free(run.pre);
    if (status == FM_OK) *n_ids = run.n;
    return status;
}

// --- accessors ---

fm_tokenizer_style fm_tokenizer_get_style(const struct fm_tokenizer *tok)
{
    return tok->style;
}

int32_t fm_tokenizer_n_vocab(const struct fm_tokenizer *tok)
{
    return tok->n_vocab;
}

int32_t fm_tokenizer_role(const struct fm_tokenizer *tok, fm_token_role role)
{
    return (unsigned)role < FM_TOKEN_ROLE_COUNT ? tok->roles[role] : -1;
}

static bool in_vocab(const struct fm_tokenizer *tok, int32_t id)
{
    return id >= 0 && id < tok->n_vocab;
}

bool fm_tokenizer_is_eog(const struct fm_tokenizer *tok, int32_t id)
{
    return in_vocab(tok, id) && (tok->attr[id] & FM__ATTR_EOG);
}

bool fm_tokenizer_adds_bos(const struct fm_tokenizer *tok)
{
    return tok->add_bos;
}

bool fm_tokenizer_adds_eos(const struct fm_tokenizer *tok)
{
    return tok->add_eos;
}

struct fm_str fm_tokenizer_token_text(const struct fm_tokenizer *tok, int32_t id)
{
    if (!in_vocab(tok, id)) return (struct fm_str){"", 0};
    return (struct fm_str){tok->text.bytes + tok->text.at[id], tok->text.len[id]};
}

struct fm_str fm_tokenizer_token_bytes(const struct fm_tokenizer *tok, int32_t id)
{
    if (!in_vocab(tok, id)) return (struct fm_str){"", 0};
    return (struct fm_str){tok->piece.bytes + tok->piece.at[id], tok->piece.len[id]};
}

float fm_tokenizer_token_score(const struct fm_tokenizer *tok, int32_t id)
{
    return in_vocab(tok, id) ? tok->score[id] : 0;
}

fm_token_type fm_tokenizer_token_type(const struct fm_tokenizer *tok, int32_t id)
{
    uint16_t attr = in_vocab(tok, id) ? tok->attr[id] : 0;
    if (attr & FM__ATTR_CONTROL) return FM_TOKEN_CONTROL; // corrected types may be two at once
    if (attr & FM__ATTR_UNKNOWN) return FM_TOKEN_UNKNOWN;
    if (attr & FM__ATTR_USER) return FM_TOKEN_USER_DEFINED;
    if (attr & FM__ATTR_BYTE) return FM_TOKEN_BYTE;
    return attr & FM__ATTR_NORMAL ? FM_TOKEN_NORMAL : FM_TOKEN_UNUSED;
}

int32_t fm_tokenizer_find(const struct fm_tokenizer *tok, struct fm_str text)
{
    if (!text.n || text.n > FM__TOKEN_MAX) return -1;
    if (tok->style != FM_TOKENIZER_BPE) return fm__strtab_find(&tok->text, text.p, text.n);
    char bytes[FM__TOKEN_MAX];
    size_t n;
    if (fm__bpe_unalphabet(text.p, text.n, bytes, &n)) {
        int32_t id = fm__strtab_find(&tok->key, bytes, n);
        return id < tok->n_vocab ? id : -1;
    }
    // outside the alphabet of bytes: only a few special tokens are, and they are not hashed
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++)
        if (tok->text.len[i] == text.n && !memcmp(tok->text.bytes + tok->text.at[i], text.p, text.n)) return (int32_t)i;
    return -1;
}

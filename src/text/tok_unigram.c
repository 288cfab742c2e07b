// SPDX-License-Identifier: MIT
// SentencePiece unigram: normalise, then find the segmentation with the highest sum of scores. Scores are summed in the
// precision that sentencepiece sums them in (double sums, rounded to float at every node), so that ties and near ties
// go the same way.
#include <float.h>

#include "text/tok_internal.h"
#include "text/tok_utf8.h"

#define UNKNOWN_PENALTY 10.0f // sentencepiece's kUnkPenalty: below the worst token by this much
#define USER_SCORE 0.1f       // of an added word, a byte beyond the first: found in how sentencepiece 0.2.3 breaks ties
#define EXPANSION_MAX 32      // bytes of normalised text a byte of text; NFKC's worst is 11

// --- loading ---

// The table is a uint32 length, a double array of that many bytes, and the zero-terminated strings it leads to.
static fm_status load_charsmap(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    const struct fm_gguf_kv *kv = fm_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    if (!kv || !kv->n) return FM_OK;
    if (kv->type != FM_GGUF_ARRAY || (kv->array_type != FM_GGUF_U8 && kv->array_type != FM_GGUF_I8))
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.precompiled_charsmap: another type, want an array of bytes");
    const unsigned char *p = kv->data;
    uint32_t n_units_bytes = 0;
    if (kv->n >= 4) memcpy(&n_units_bytes, p, 4);
    if (kv->n < 5 || n_units_bytes % 4 || n_units_bytes < 4 || n_units_bytes > kv->n - 5 || p[kv->n - 1])
        return fm__fail(err, FM_E_FORMAT,
                        "tokenizer.ggml.precompiled_charsmap: %llu bytes that begin with the length %u, want a shorter "
                        "multiple of 4 and a zero at the end",
                        (unsigned long long)kv->n, n_units_bytes);
    tok->n_charsmap = n_units_bytes / 4;
    tok->n_replacements = (size_t)kv->n - 4 - n_units_bytes;
    tok->charsmap = fm__malloc(n_units_bytes);
    tok->replacements = fm__malloc(tok->n_replacements);
    if (!tok->charsmap || !tok->replacements) return fm__fail_nomem(err, "tokenizer.ggml.precompiled_charsmap", kv->n);
    memcpy(tok->charsmap, p + 4, n_units_bytes);
    memcpy(tok->replacements, p + 4 + n_units_bytes, tok->n_replacements);
    return FM_OK;
}

fm_status fm__unigram_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    if (tok->roles[FM_TOKEN_UNK] < 0)
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml: no unknown token, which a unigram model needs");
    float least = FLT_MAX;
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++) {
        if (!(tok->attr[i] & (FM__ATTR_NORMAL | FM__ATTR_USER))) continue;
        if (!fm__trie_insert(&tok->matcher, tok->text.bytes + tok->text.at[i], tok->text.len[i], (int32_t)i))
            return fm__fail_nomem(err, "tokenizer.ggml.tokens", tok->text.n_bytes);
        if (tok->attr[i] & FM__ATTR_NORMAL && tok->score[i] < least) least = tok->score[i];
    }
    tok->unknown_score = least - UNKNOWN_PENALTY;
    return load_charsmap(tok, g, err);
}

// --- normalising ---

struct normal { // the text so far
    char *p;
    size_t n, cap, limit;
};

static fm_status append(struct fm__run *run, struct normal *out, const char *p, size_t n)
{
    if (n > out->limit - out->n)
        return fm__fail(run->err, FM_E_FORMAT, "tokenizer.ggml.precompiled_charsmap: a text grows more than %d times",
                        EXPANSION_MAX);
    if (n > out->cap - out->n) {
        size_t cap = (out->n + n) * 2 + 64;
        char *grown = fm__realloc(out->p, cap);
        if (!grown) return fm__fail_nomem(run->err, "normalised text", cap);
        out->p = grown;
        out->cap = cap;
    }
    memcpy(out->p + out->n, p, n);
    out->n += n;
    return FM_OK;
}

// Walks the double array (darts-clone: Yata et al. 2008) along p: length of the longest match, 0 for none.
static fm_status find_replacement(struct fm__run *run, const char *p, size_t n, size_t *length, struct fm_str *to)
{
    const struct fm_tokenizer *tok = run->tok;
    *length = 0;
    if (!tok->n_charsmap) return FM_OK;
    uint32_t unit = tok->charsmap[0], at = (unit >> 10) << ((unit & 1u << 9) >> 6), value = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)p[i];
        at ^= byte;
        if (at >= tok->n_charsmap) break;
        unit = tok->charsmap[at];
        if ((unit & 0x800000ffu) != byte) break;
        at ^= (unit >> 10) << ((unit & 1u << 9) >> 6);
        if (!(unit >> 8 & 1)) continue;
        if (at >= tok->n_charsmap || (tok->charsmap[at] & 0x7fffffffu) >= tok->n_replacements)
            return fm__fail(run->err, FM_E_FORMAT,
                            "tokenizer.ggml.precompiled_charsmap: a link leads to unit %u of %zu", at, tok->n_charsmap);
        value = tok->charsmap[at] & 0x7fffffffu;
        *length = i + 1;
    }
    to->p = tok->replacements + value;
    to->n = *length ? strlen(to->p) : 0; // the last byte of the table is zero
    return FM_OK;
}

// Normalises the beginning of p: what it becomes, and how many bytes of p that was.
static fm_status normalise_prefix(struct fm__run *run, const char *p, size_t n, size_t *used, struct fm_str *to)
{
    const struct fm_tokenizer *tok = run->tok;
    if (tok->user_special.first[(unsigned char)*p] && fm__trie_longest(&tok->user_special, p, n, used) >= 0) {
        *to = (struct fm_str){p, *used}; // added words are left alone
        return FM_OK;
    }
    FM_TRY(find_replacement(run, p, n, used, to));
    if (*used) return FM_OK;
    uint32_t cp;
    bool ok;
    *used = fm__utf8_decode_strict(p, n, &cp, &ok);
    *to = ok ? (struct fm_str){p, *used} : (struct fm_str){"\xef\xbf\xbd", 3};
    return FM_OK;
}

static fm_status normalise(struct fm__run *run, const char *p, size_t n, struct normal *out)
{
    const struct fm_tokenizer *tok = run->tok;
    bool after_space = tok->merge_spaces, begun = false;
    for (size_t i = 0, used; i < n; i += used) {
        struct fm_str to = {"", 0};
        FM_TRY(normalise_prefix(run, p + i, n - i, &used, &to));
        if (!begun && tok->merge_spaces && to.n == 1 && *to.p == ' ') continue;
        if (!begun && tok->add_space_prefix) FM_TRY(append(run, out, FM__SPACE_MARK, 3));
        begun = true;
        while (after_space && to.n && *to.p == ' ') to.p++, to.n--;
        if (!to.n) continue;
        for (size_t k = 0; k < to.n; k++)
            FM_TRY(to.p[k] == ' ' ? append(run, out, FM__SPACE_MARK, 3) : append(run, out, to.p + k, 1));
        after_space = tok->merge_spaces && to.p[to.n - 1] == ' ';
    }
    while (tok->merge_spaces && out->n >= 3 && !memcmp(out->p + out->n - 3, FM__SPACE_MARK, 3)) out->n -= 3;
    return FM_OK;
}

// --- the best path ---

struct node { // the best segmentation that ends at a byte
    float score;
    uint32_t begin; // of its last token; UINT32_MAX: not reached
    int32_t id;
};

static void offer(struct node *node, float score, uint32_t begin, int32_t id)
{
    if (node->begin != UINT32_MAX && !(score > node->score)) return;
    *node = (struct node){score, begin, id};
}

static void best_path(const struct fm_tokenizer *tok, const char *p, size_t n, struct node *nodes)
{
    for (size_t i = 0; i <= n; i++) nodes[i] = (struct node){0, UINT32_MAX, -1};
    for (size_t i = 0, width; i < n; i += width) {
        width = fm__utf8_announced((unsigned char)p[i]);
        if (width > n - i) width = n - i;
        bool covered = false; // some token is just this character
        uint32_t state = 0;
        for (size_t k = i; k < n && (state = fm__trie_step(&tok->matcher, state, (unsigned char)p[k])) != 0; k++) {
            int32_t id = tok->matcher.value[state];
            if (id < 0) continue;
            size_t length = k + 1 - i;
            float score = tok->attr[id] & FM__ATTR_USER ? USER_SCORE * (float)(length - 1) : tok->score[id];
            offer(&nodes[k + 1], score + nodes[i].score, (uint32_t)i, id);
            covered |= length == width;
        }
        if (!covered)
            offer(&nodes[i + width], tok->unknown_score + nodes[i].score, (uint32_t)i, tok->roles[FM_TOKEN_UNK]);
    }
}

// Emits the path from its beginning: the links are turned round first.
static void emit_path(struct fm__run *run, const char *p, size_t n, struct node *nodes)
{
    const struct fm_tokenizer *tok = run->tok;
    int32_t unknown = tok->roles[FM_TOKEN_UNK];
    for (uint32_t end = (uint32_t)n, next = UINT32_MAX; end;) {
        uint32_t begin = nodes[end].begin;
        nodes[end].begin = next; // from here on: the end of the token that follows
        next = end;
        end = begin;
        if (!end) nodes[0].begin = next;
    }
    bool after_unknown = false;
    uint32_t begin = 0;
    for (uint32_t end = nodes[0].begin; end != UINT32_MAX; begin = end, end = nodes[end].begin) {
        bool is_unknown = nodes[end].id == unknown;
        if (is_unknown && tok->byte_fallback)
            for (uint32_t i = begin; i < end; i++) fm__emit(run, tok->byte_token[(unsigned char)p[i]]);
        else if (!(is_unknown && after_unknown)) // a run of unknown characters is one token
            fm__emit(run, nodes[end].id);
        after_unknown = is_unknown;
    }
}

fm_status fm__unigram_encode(struct fm__run *run, const char *p, size_t n)
{
    struct normal text = {.limit = n * EXPANSION_MAX + 64};
    fm_status status = normalise(run, p, n, &text);
    struct node *nodes = NULL;
    if (status == FM_OK && text.n) {
        nodes = fm__buf_reserve(&run->lattice, (text.n + 1) * sizeof *nodes, run->err);
        if (!nodes) status = FM_E_NOMEM;
    }
    if (nodes) {
        best_path(run->tok, text.p, text.n, nodes);
        emit_path(run, text.p, text.n, nodes);
    }
    fm__free(text.p);
    return status;
}

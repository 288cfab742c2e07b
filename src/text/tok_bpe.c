// SPDX-License-Identifier: MIT
// Byte-level BPE. A symbol is a number: ids below n_vocab are tokens, those above are strings that only merges know. A
// piece is looked up whole first; short pieces are merged in arrays on the stack, long ones with a heap.
#include <limits.h>

#include "text/tok_internal.h"
#include "text/tok_merge.h"
#include "text/tok_pre.h"
#include "text/tok_utf8.h"

// Up to this many bytes a piece is merged by scanning for the best pair; beyond, the heap is faster.
#define SCAN_MAX 48

// --- the alphabet ---
// GPT-2 writes bytes as visible characters: those of Latin-1 that are visible as themselves, the other 68, in order, as
// U+0100 … U+0143. Source: the encoder published with GPT-2.
static int byte_of(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff)) return (int)cp;
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7f);
    return cp == 0x143 ? 0xad : -1;
}

bool fm__bpe_unalphabet(const char *p, size_t n, char *out, size_t *n_out)
{
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode(p + i, n - i, &cp, &ok);
        int byte = ok ? byte_of(cp) : -1;
        if (byte < 0) return false;
        out[written++] = (char)byte;
    }
    *n_out = written;
    return true;
}

// --- loading ---

// The symbol of some bytes, a new one if need be; -1: no memory.
static int32_t intern(struct fm_tokenizer *tok, const char *p, size_t n)
{
    int32_t found = fm__strtab_find(&tok->key, p, n);
    uint32_t same;
    if (found >= 0) return found;
    if (!fm__strtab_add(&tok->key, p, n) || !fm__strtab_key(&tok->key, tok->key.n - 1, &same)) return -1;
    return (int32_t)same;
}

static uint32_t pair_slot(const struct fm_tokenizer *tok, uint64_t key)
{
    return (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (tok->n_pairs - 1);
}

static fm_status add_merge(struct fm_tokenizer *tok, uint32_t rank, struct fm_str text, char *bytes,
                           struct fm_error *err)
{
    const char *space = text.n > 1 ? memchr(text.p + 1, ' ', text.n - 1) : NULL;
    if (!space)
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.merges[%u]: \"%.40s\", want two symbols and a space", rank,
                        text.p);
    size_t n_left = (size_t)(space - text.p), n_right = text.n - n_left - 1;
    if (!fm__bpe_unalphabet(text.p, n_left, bytes, &n_left)) return FM_OK; // no text can contain it
    if (!fm__bpe_unalphabet(space + 1, n_right, bytes + n_left, &n_right)) return FM_OK;
    int32_t left = intern(tok, bytes, n_left), right = intern(tok, bytes + n_left, n_right);
    int32_t merged = intern(tok, bytes, n_left + n_right);
    if (left < 0 || right < 0 || merged < 0) return fm__fail_nomem(err, "tokenizer.ggml.merges", text.n);
    uint64_t key = (uint64_t)(uint32_t)left << 32 | ((uint32_t)right + 1);
    uint32_t slot = pair_slot(tok, key);
    while (tok->pairs[slot].key && tok->pairs[slot].key != key) slot = (slot + 1) & (tok->n_pairs - 1);
    if (!tok->pairs[slot].key)
        tok->pairs[slot] = (struct fm__pair){key, rank, (uint32_t)merged}; // the first one counts
    return FM_OK;
}

static fm_status load_merges(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    const struct fm_gguf_kv *kv = fm_gguf_find(g, "tokenizer.ggml.merges");
    if (!kv || kv->type != FM_GGUF_ARRAY || (kv->array_type != FM_GGUF_STRING && kv->n))
        return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.merges: %s, want an array of strings",
                        kv ? "another type" : "missing");
    if (kv->n > INT_MAX / 4)
        return fm__fail(err, FM_E_LIMIT, "tokenizer.ggml.merges: %llu entries", (unsigned long long)kv->n);
    tok->n_pairs = 16;
    while (tok->n_pairs < kv->n * 2) tok->n_pairs *= 2;
    tok->pairs = fm__calloc(tok->n_pairs, sizeof *tok->pairs);
    char *bytes = fm__malloc(2 * FM__TOKEN_MAX);
    if (!tok->pairs || !bytes) {
        fm__free(bytes);
        return fm__fail_nomem(err, "tokenizer.ggml.merges", tok->n_pairs * sizeof *tok->pairs);
    }
    fm_status status = FM_OK;
    for (uint64_t i = 0; i < kv->n && status == FM_OK; i++) {
        struct fm_str text;
        if (!fm_gguf_kv_str_at(kv, i, &text) || text.n > 2 * FM__TOKEN_MAX)
            status = fm__fail(err, FM_E_LIMIT, "tokenizer.ggml.merges[%llu]: longer than %d bytes",
                              (unsigned long long)i, 2 * FM__TOKEN_MAX);
        else
            status = add_merge(tok, (uint32_t)i, text, bytes, err);
    }
    fm__free(bytes);
    return status;
}

static fm_status load_keys(struct fm_tokenizer *tok, struct fm_error *err)
{
    char *bytes = fm__malloc(FM__TOKEN_MAX);
    if (!bytes) return fm__fail_nomem(err, "tokenizer.ggml.tokens", FM__TOKEN_MAX);
    fm_status status = FM_OK;
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab && status == FM_OK; i++) {
        const char *p = tok->text.bytes + tok->text.at[i];
        size_t n = tok->text.len[i], n_bytes = 0;
        bool plain = n && fm__bpe_unalphabet(p, n, bytes, &n_bytes);
        uint32_t same = i;
        if (!fm__strtab_add(&tok->key, plain ? bytes : "", plain ? n_bytes : 0) ||
            (plain && !fm__strtab_key(&tok->key, i, &same)))
            status = fm__fail_nomem(err, "tokenizer.ggml.tokens", n);
        else if (same != i)
            status = fm__fail(err, FM_E_FORMAT, "tokenizer.ggml.tokens: %u and %u are both \"%.*s\"", same, i,
                              n > 40 ? 40 : (int)n, p);
    }
    fm__free(bytes);
    return status;
}

fm_status fm__bpe_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    struct fm_str name = {"default", 7};
    fm_gguf_get_str(g, "tokenizer.ggml.pre", &name);
    const struct fm__pre_entry *entry = fm__pre_find(name);
    if (!entry)
        return fm__fail(err, FM_E_UNSUPPORTED, "tokenizer.ggml.pre: unknown pre-tokenizer \"%.*s\"",
                        name.n > 60 ? 60 : (int)name.n, name.p);
    tok->pre_name = entry->name;
    tok->ignore_merges = entry->flags & FM__PRE_IGNORE_MERGES;
    tok->add_bos = entry->flags & FM__PRE_ADD_BOS;
    FM_TRY(load_keys(tok, err));
    FM_TRY(load_merges(tok, g, err));
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        tok->byte_symbol[b] = intern(tok, &byte, 1);
        if (tok->byte_symbol[b] < 0) return fm__fail_nomem(err, "tokenizer.ggml.tokens", 1);
    }
    return fm__pre_new(entry, &tok->pre, err); // last, because it takes longest
}

// --- encoding ---

static inline bool find_pair(const struct fm_tokenizer *tok, int32_t left, int32_t right, uint32_t *rank,
                             int32_t *merged)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | ((uint32_t)right + 1);
    for (uint32_t slot = pair_slot(tok, key);; slot = (slot + 1) & (tok->n_pairs - 1)) {
        const struct fm__pair *pair = &tok->pairs[slot];
        if (pair->key == key) {
            *rank = pair->rank;
            *merged = (int32_t)pair->merged;
            return true;
        }
        if (!pair->key) return false;
    }
}

static inline bool bpe_pair(const struct fm_tokenizer *tok, const char *text, const struct fm__symbol *l,
                            const struct fm__symbol *r, uint32_t *priority, int32_t *merged)
{
    (void)text;
    return find_pair(tok, l->id, r->id, priority, merged);
}

// A symbol that merging has left over. One that is no token is spelt in bytes, as far as the vocabulary has tokens for
// visible ASCII: the others are lost, which is what llama.cpp does with such incomplete vocabularies.
static void emit_symbol(struct fm__run *run, int32_t symbol)
{
    const struct fm_tokenizer *tok = run->tok;
    if (symbol < tok->n_vocab) {
        fm__emit(run, symbol);
        return;
    }
    const char *p = tok->key.bytes + tok->key.at[symbol];
    for (uint32_t i = 0; i < tok->key.len[symbol]; i++) {
        int32_t token = p[i] >= 0x21 && p[i] <= 0x7e ? tok->byte_symbol[(unsigned char)p[i]] : tok->n_vocab;
        if (token < tok->n_vocab) fm__emit(run, token);
    }
}

// Merges n ≤ SCAN_MAX symbols in place; returns how many are left.
static size_t merge_short(const struct fm_tokenizer *tok, int32_t *symbol, size_t n)
{
    uint32_t rank[SCAN_MAX]; // of the pair (i, i + 1)
    int32_t merged[SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++)
        if (!find_pair(tok, symbol[i], symbol[i + 1], &rank[i], &merged[i])) rank[i] = UINT32_MAX;
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == UINT32_MAX) break;
        symbol[best] = merged[best];
        n--;
        for (size_t i = best + 1; i < n; i++) symbol[i] = symbol[i + 1];
        for (size_t i = best; i + 1 < n; i++) rank[i] = rank[i + 1], merged[i] = merged[i + 1];
        if (best + 1 < n && !find_pair(tok, symbol[best], symbol[best + 1], &rank[best], &merged[best]))
            rank[best] = UINT32_MAX;
        if (best && !find_pair(tok, symbol[best - 1], symbol[best], &rank[best - 1], &merged[best - 1]))
            rank[best - 1] = UINT32_MAX;
    }
    return n;
}

static fm_status encode_long(struct fm__run *run, const char *p, size_t n)
{
    const struct fm_tokenizer *tok = run->tok;
    struct fm__symbol *symbols = fm__buf_reserve(&run->symbols, n * sizeof *symbols, run->err);
    struct fm__candidate *heap = symbols ? fm__buf_reserve(&run->heap, 2 * n * sizeof *heap, run->err) : NULL;
    if (!heap) return FM_E_NOMEM;
    for (size_t i = 0; i < n; i++)
        symbols[i] = (struct fm__symbol){(int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1, (uint32_t)i, 1,
                                         tok->byte_symbol[(unsigned char)p[i]]};
    struct fm__merge merge = {tok, p, symbols, heap, 0};
    fm__merge_all(&merge, n, bpe_pair);
    for (int32_t i = 0; i >= 0; i = symbols[i].next) emit_symbol(run, symbols[i].id);
    return FM_OK;
}

static fm_status encode_piece(struct fm__run *run, const char *p, size_t n)
{
    const struct fm_tokenizer *tok = run->tok;
    int32_t id = fm__strtab_find(&tok->key, p, n);
    bool is_token = id >= 0 && id < tok->n_vocab;
    if (is_token &&
        (tok->ignore_merges || atomic_load_explicit(&tok->whole[id], memory_order_relaxed) == FM__WHOLE_YES)) {
        fm__emit(run, id);
        return FM_OK;
    }
    if (n > SCAN_MAX) return encode_long(run, p, n);
    int32_t symbol[SCAN_MAX];
    for (size_t i = 0; i < n; i++) symbol[i] = tok->byte_symbol[(unsigned char)p[i]];
    size_t left = merge_short(tok, symbol, n);
    if (is_token)
        atomic_store_explicit(&tok->whole[id], left == 1 && symbol[0] == id ? FM__WHOLE_YES : FM__WHOLE_NO,
                              memory_order_relaxed);
    for (size_t i = 0; i < left; i++) emit_symbol(run, symbol[i]);
    return FM_OK;
}

struct pieces {
    struct fm__run *run;
    const char *next; // the text not yet cut off
    bool ascii;
};

static fm_status take_piece(void *user, size_t n_code_points)
{
    struct pieces *pieces = user;
    const char *begin = pieces->next, *end = begin;
    if (pieces->ascii)
        end += n_code_points;
    else
        for (size_t i = 0; i < n_code_points; i++) end += fm__utf8_announced((unsigned char)*end);
    pieces->next = end;
    return encode_piece(pieces->run, begin, (size_t)(end - begin));
}

fm_status fm__bpe_encode(struct fm__run *run, const char *p, size_t n)
{
    if (!run->pre) FM_TRY(fm__pre_run_new(run->tok->pre, &run->pre, run->err));
    struct pieces pieces = {run, p, fm__is_ascii(p, n)};
    const unsigned char *subject = (const unsigned char *)p;
    size_t n_subject = n;
    if (!pieces.ascii) {
        if (!fm__utf8_is_canonical(p, n)) {
            char *text = fm__buf_reserve(&run->text, 3 * n, run->err);
            if (!text) return FM_E_NOMEM;
            n = fm__utf8_canonical(p, n, text);
            pieces.next = p = text;
        }
        unsigned char *classes = fm__buf_reserve(&run->classes, n, run->err);
        if (!classes) return FM_E_NOMEM;
        n_subject = fm__pre_classes(run->tok->pre, p, n, classes);
        subject = classes;
    }
    struct fm__piece_sink sink = {take_piece, &pieces};
    return fm__pre_split(run->pre, subject, n_subject, &sink, run->err);
}

// SPDX-License-Identifier: MIT
// Special tokens: which token has which role, which end a generation, and cutting a text at them.
//
// Files are often silent or wrong about roles and types, so texts of well-known tokens decide too, as in llama.cpp: the
// tables below are those conventions.
#include <ctype.h>

#include "text/tok_heap.h"
#include "text/tok_internal.h"

// --- roles ---

static const struct {
    fm_token_role role;
    const char *key;
} role_keys[] = {
    {FM_TOKEN_BOS, "tokenizer.ggml.bos_token_id"},
    {FM_TOKEN_EOS, "tokenizer.ggml.eos_token_id"},
    {FM_TOKEN_EOT, "tokenizer.ggml.eot_token_id"},
    {FM_TOKEN_EOM, "tokenizer.ggml.eom_token_id"},
    {FM_TOKEN_UNK, "tokenizer.ggml.unknown_token_id"},
    {FM_TOKEN_SEP, "tokenizer.ggml.seperator_token_id"}, // spelt so in files
    {FM_TOKEN_PAD, "tokenizer.ggml.padding_token_id"},
    {FM_TOKEN_MASK, "tokenizer.ggml.mask_token_id"},
    {FM_TOKEN_FIM_PREFIX, "tokenizer.ggml.fim_pre_token_id"},
    {FM_TOKEN_FIM_SUFFIX, "tokenizer.ggml.fim_suf_token_id"},
    {FM_TOKEN_FIM_MIDDLE, "tokenizer.ggml.fim_mid_token_id"},
    {FM_TOKEN_FIM_PAD, "tokenizer.ggml.fim_pad_token_id"},
    {FM_TOKEN_FIM_REPO, "tokenizer.ggml.fim_rep_token_id"},
    {FM_TOKEN_FIM_FILE, "tokenizer.ggml.fim_sep_token_id"},
    {FM_TOKEN_FIM_PREFIX, "tokenizer.ggml.prefix_token_id"}, // older names
    {FM_TOKEN_FIM_SUFFIX, "tokenizer.ggml.suffix_token_id"},
    {FM_TOKEN_FIM_MIDDLE, "tokenizer.ggml.middle_token_id"},
};

// Roles by text, for files that do not say. The first that is in the vocabulary gets the role, and becomes control.
static const struct {
    fm_token_role role;
    const char *text;
} role_texts[] = {
    {FM_TOKEN_EOT, "<|eot_id|>"},
    {FM_TOKEN_EOT, "<|im_end|>"},
    {FM_TOKEN_EOT, "<|end|>"},
    {FM_TOKEN_EOT, "<end_of_turn>"},
    {FM_TOKEN_EOT, "<|endoftext|>"},
    {FM_TOKEN_EOT, "<|end_of_text|>"},
    {FM_TOKEN_EOT, "<EOT>"},
    {FM_TOKEN_EOT, "_<EOT>"},
    {FM_TOKEN_EOT, "[EOT]"},
    {FM_TOKEN_EOT, "<｜end▁of▁sentence｜>"},
    {FM_TOKEN_EOT, "<end_of_utterance>"},
    {FM_TOKEN_EOM, "<|eom_id|>"},
    {FM_TOKEN_FIM_PREFIX, "<|fim_prefix|>"},
    {FM_TOKEN_FIM_PREFIX, "<fim-prefix>"},
    {FM_TOKEN_FIM_PREFIX, "<fim_prefix>"},
    {FM_TOKEN_FIM_PREFIX, "<｜fim▁begin｜>"},
    {FM_TOKEN_FIM_PREFIX, "<PRE>"},
    {FM_TOKEN_FIM_PREFIX, "▁<PRE>"},
    {FM_TOKEN_FIM_PREFIX, "<|code_prefix|>"},
    {FM_TOKEN_FIM_PREFIX, "<|prefix|>"},
    {FM_TOKEN_FIM_SUFFIX, "<|fim_suffix|>"},
    {FM_TOKEN_FIM_SUFFIX, "<fim-suffix>"},
    {FM_TOKEN_FIM_SUFFIX, "<fim_suffix>"},
    {FM_TOKEN_FIM_SUFFIX, "<｜fim▁hole｜>"},
    {FM_TOKEN_FIM_SUFFIX, "<SUF>"},
    {FM_TOKEN_FIM_SUFFIX, "▁<SUF>"},
    {FM_TOKEN_FIM_SUFFIX, "<|code_suffix|>"},
    {FM_TOKEN_FIM_SUFFIX, "<|suffix|>"},
    {FM_TOKEN_FIM_MIDDLE, "<|fim_middle|>"},
    {FM_TOKEN_FIM_MIDDLE, "<fim-middle>"},
    {FM_TOKEN_FIM_MIDDLE, "<fim_middle>"},
    {FM_TOKEN_FIM_MIDDLE, "<｜fim▁end｜>"},
    {FM_TOKEN_FIM_MIDDLE, "<MID>"},
    {FM_TOKEN_FIM_MIDDLE, "▁<MID>"},
    {FM_TOKEN_FIM_MIDDLE, "<|code_middle|>"},
    {FM_TOKEN_FIM_MIDDLE, "<|middle|>"},
    {FM_TOKEN_FIM_PAD, "<|fim_pad|>"},
    {FM_TOKEN_FIM_PAD, "<fim-pad>"},
    {FM_TOKEN_FIM_PAD, "<fim_pad>"},
    {FM_TOKEN_FIM_PAD, "<PAD>"},
    {FM_TOKEN_FIM_PAD, "[PAD]"},
    {FM_TOKEN_FIM_REPO, "<|fim_repo|>"},
    {FM_TOKEN_FIM_REPO, "<|repo_name|>"},
    {FM_TOKEN_FIM_REPO, "<fim-repo>"},
    {FM_TOKEN_FIM_REPO, "<REPO>"},
    {FM_TOKEN_FIM_REPO, "<reponame>"},
    {FM_TOKEN_FIM_FILE, "<|file_sep|>"},
};

// Tokens that end a generation whatever the file says.
static const char *const eog_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};

static int32_t find_text(const struct fm_tokenizer *tok, const char *text)
{
    return fm_tokenizer_find(tok, (struct fm_str){text, strlen(text)});
}

static void load_roles(struct fm_tokenizer *tok, const struct fm_gguf *g)
{
    for (size_t i = 0; i < sizeof role_keys / sizeof *role_keys; i++) {
        int64_t id;
        // an id that is none (files write 4294967295 for "none") leaves the default
        if (fm_gguf_get_i64(g, role_keys[i].key, &id) && id >= 0 && id < tok->n_vocab)
            tok->roles[role_keys[i].role] = (int32_t)id;
    }
    for (int r = 0; r < FM_TOKEN_ROLE_COUNT; r++)
        if (tok->roles[r] >= tok->n_vocab) tok->roles[r] = -1; // a default of the style that this vocabulary has not
    for (size_t i = 0; i < sizeof role_texts / sizeof *role_texts; i++) {
        int32_t *role = &tok->roles[role_texts[i].role];
        int32_t id = *role < 0 ? find_text(tok, role_texts[i].text) : -1;
        if (id < 0) continue;
        *role = id;
        tok->attr[id] |= FM__ATTR_CONTROL;
    }
}

static bool is_eog(const struct fm_tokenizer *tok, int32_t id)
{
    return id >= 0 && (tok->attr[id] & FM__ATTR_EOG);
}

static void load_eog(struct fm_tokenizer *tok)
{
    static const fm_token_role ending[] = {FM_TOKEN_FIM_PAD, FM_TOKEN_FIM_REPO, FM_TOKEN_FIM_FILE,
                                           FM_TOKEN_EOS,     FM_TOKEN_EOT,      FM_TOKEN_EOM};
    for (size_t i = 0; i < sizeof eog_texts / sizeof *eog_texts; i++) {
        int32_t id = find_text(tok, eog_texts[i]);
        if (id >= 0) tok->attr[id] |= FM__ATTR_EOG | FM__ATTR_CONTROL;
    }
    // gpt-oss marks channels with these; they are part of what is shown
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    for (int i = 0; i < 4; i++) {
        int32_t id = find_text(tok, shown[i]);
        if (id >= 0) tok->attr[id] = FM__ATTR_USER;
    }
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        if (tok->roles[ending[i]] >= 0) tok->attr[tok->roles[ending[i]]] |= FM__ATTR_EOG;
    // where <|return|> and <|call|> end an answer, <|end|> only ends one of its parts
    int32_t end = find_text(tok, "<|end|>");
    bool calls = is_eog(tok, find_text(tok, "<|call|>")) || is_eog(tok, find_text(tok, "<|calls|>"));
    bool other = is_eog(tok, find_text(tok, "<|return|>")) || is_eog(tok, find_text(tok, "<|flush|>"));
    if (calls && other && is_eog(tok, end)) tok->attr[end] = FM__ATTR_USER;
    int32_t slash_s = find_text(tok, "</s>");
    bool ordinary = is_eog(tok, find_text(tok, "<|tool_response>")) || is_eog(tok, find_text(tok, "<|plamo:eos|>"));
    if (ordinary && is_eog(tok, slash_s)) tok->attr[slash_s] = FM__ATTR_NORMAL;
}

// --- tokens that swallow white space: files do not say it, so the model's name has to ---

static bool lower_contains(struct fm_str text, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= text.n; i++) {
        size_t k = 0;
        while (k < n && tolower((unsigned char)text.p[i + k]) == part[k]) k++;
        if (k == n) return true;
    }
    return false;
}

static void set_attr(struct fm_tokenizer *tok, const char *text, uint16_t attr, bool on)
{
    int32_t id = find_text(tok, text);
    if (id >= 0) tok->attr[id] = on ? tok->attr[id] | attr : (uint16_t)(tok->attr[id] & ~attr);
}

static void load_strips(struct fm_tokenizer *tok, const struct fm_gguf *g)
{
    struct fm_str name = {"", 0}, pre = {"", 0}, arch = {"", 0};
    fm_gguf_get_str(g, "general.name", &name);
    fm_gguf_get_str(g, "tokenizer.ggml.pre", &pre);
    fm_gguf_get_str(g, "general.architecture", &arch);
    if (lower_contains(pre, "jina-v2-de") || lower_contains(pre, "jina-v2-es") || lower_contains(pre, "jina-v2-code") ||
        lower_contains(arch, "nomic-bert-moe") || lower_contains(arch, "jina-bert-v3")) {
        set_attr(tok, "<mask>", FM__ATTR_LSTRIP, true);
    } else if (lower_contains(name, "phi-3") || lower_contains(name, "phi3")) {
        for (int32_t i = 0; i < tok->n_vocab; i++)
            if (tok->attr[i] & (FM__ATTR_CONTROL | FM__ATTR_USER | FM__ATTR_UNKNOWN)) tok->attr[i] |= FM__ATTR_RSTRIP;
        set_attr(tok, "</s>", FM__ATTR_RSTRIP, true);
        set_attr(tok, "<unk>", FM__ATTR_RSTRIP, false);
        set_attr(tok, "<s>", FM__ATTR_RSTRIP, false);
        set_attr(tok, "<|endoftext|>", FM__ATTR_RSTRIP, false);
    } else if (lower_contains(name, "modern-bert")) {
        set_attr(tok, "[MASK]", FM__ATTR_LSTRIP, true);
    }
}

fm_status fm__special_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err)
{
    load_roles(tok, g);
    load_eog(tok);
    load_strips(tok, g);
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++) {
        const char *p = tok->text.bytes + tok->text.at[i];
        size_t n = tok->text.len[i];
        bool control = tok->attr[i] & (FM__ATTR_CONTROL | FM__ATTR_UNKNOWN), user = tok->attr[i] & FM__ATTR_USER;
        if (!n || !(control || user)) continue;
        // unigram models find added words in their lattice, where sentencepiece looks for them
        bool cut = tok->style != FM_TOKENIZER_UNIGRAM || control;
        if ((cut && !fm__trie_insert(&tok->special, p, n, (int32_t)i)) ||
            (user && !control && !fm__trie_insert(&tok->user_special, p, n, (int32_t)i)))
            return fm__fail_nomem(err, "special tokens", n);
    }
    return FM_OK;
}

// --- cutting ---
// Longer tokens go first: each takes its occurrences, from the left, in what longer ones have left over. Candidates
// (the longest token at each place) wait in a heap by falling length; one whose place is partly taken comes back with
// the next shorter token there.

struct cuts {
    const struct fm__trie *trie;
    const char *p;
    size_t n;
    unsigned char *taken;
    struct fm__candidate *candidates, *accepted;
    size_t n_candidates, n_accepted;
};

static void add_candidate(struct cuts *c, size_t at, size_t length_max)
{
    size_t length;
    if (length_max > c->n - at) length_max = c->n - at;
    int32_t id = fm__trie_longest(c->trie, c->p + at, length_max, &length);
    if (id < 0) return;
    fm__heap_push(c->candidates, &c->n_candidates,
                  (struct fm__candidate){(uint64_t)(FM__TOKEN_MAX - length) << 32 | at, 0, (uint32_t)length, id});
}

static void settle(struct cuts *c, const struct fm_tokenizer *tok)
{
    while (c->n_candidates) {
        struct fm__candidate it = fm__heap_pop(c->candidates, &c->n_candidates);
        size_t begin = (uint32_t)it.key, end = begin + it.bytes;
        if (c->taken[begin]) continue;
        // what is taken is at least as long as this, so it shows at one of the ends
        if (c->taken[end - 1]) {
            add_candidate(c, begin, it.bytes - 1);
            continue;
        }
        if (tok->attr[it.id] & FM__ATTR_LSTRIP)
            while (begin && !c->taken[begin - 1] && isspace((unsigned char)c->p[begin - 1])) begin--;
        if (tok->attr[it.id] & FM__ATTR_RSTRIP)
            while (end < c->n && !c->taken[end] && isspace((unsigned char)c->p[end])) end++;
        memset(c->taken + begin, 1, end - begin);
        fm__heap_push(c->accepted, &c->n_accepted, (struct fm__candidate){begin, (uint32_t)end, 0, it.id});
    }
}

static fm_status encode_between(struct fm__run *run, struct cuts *c, fm__encode_fn *encode)
{
    size_t done = 0;
    while (c->n_accepted) {
        struct fm__candidate it = fm__heap_pop(c->accepted, &c->n_accepted);
        if (it.key > done) FM_TRY(encode(run, c->p + done, (size_t)it.key - done));
        fm__emit(run, it.id);
        run->add_prefix = true;
        done = it.right;
    }
    return done < c->n ? encode(run, c->p + done, c->n - done) : FM_OK;
}

fm_status fm__special_encode(struct fm__run *run, const struct fm_encode_args *args, fm__encode_fn *encode)
{
    const struct fm_tokenizer *tok = run->tok;
    struct cuts c = {.p = args->text, .n = args->n};
    bool parse = args->flags & FM_ENCODE_PARSE_SPECIAL, unigram = tok->style == FM_TOKENIZER_UNIGRAM;
    c.trie = parse ? &tok->special : &tok->user_special;
    size_t places = 0, length;
    if (parse || !unigram)
        for (size_t i = 0; i < c.n; i++)
            if (c.trie->first[(unsigned char)c.p[i]] && fm__trie_longest(c.trie, c.p + i, c.n - i, &length) >= 0)
                places++;
    if (!places) return c.n ? encode(run, c.p, c.n) : FM_OK;
    c.taken = fm__calloc(c.n, 1);
    c.candidates = fm__malloc(places * sizeof *c.candidates);
    c.accepted = fm__malloc(places * sizeof *c.accepted);
    fm_status status = FM_E_NOMEM;
    if (c.taken && c.candidates && c.accepted) {
        for (size_t i = 0; i < c.n; i++)
            if (c.trie->first[(unsigned char)c.p[i]]) add_candidate(&c, i, c.n - i);
        settle(&c, tok);
        status = encode_between(run, &c, encode);
    } else {
        fm__fail_nomem(run->err, "special tokens in a text", places * 2 * sizeof *c.candidates + c.n);
    }
    fm__free(c.taken), fm__free(c.candidates), fm__free(c.accepted);
    return status;
}

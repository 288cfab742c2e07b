// SPDX-License-Identifier: MIT
// Counting pieces, and the vocabularies of bytes and characters.
#include "text/tok_train.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "text/tok_internal.h"
#include "text/tok_pre.h"
#include "text/tok_utf8.h"

enum { BLOCK = 8 << 20, CODE_POINTS = 0x110000 };

// --- counting ---

static fm_status count_piece(struct fm__tok_trainer *t, const char *p, size_t n, struct fm_error *err)
{
    int32_t found = fm__strtab_find(&t->pieces, p, n);
    t->n_pieces++;
    if (found >= 0) {
        t->counts[found]++;
        return FM_OK;
    }
    uint32_t same, i = t->pieces.n;
    if (i >= t->cap_counts) {
        size_t cap = 2 * t->cap_counts + 1024;
        int64_t *counts = fm__realloc(t->counts, cap * sizeof *counts);
        if (!counts) return fm__fail_nomem(err, "pieces", cap * sizeof *counts);
        t->counts = counts;
        t->cap_counts = cap;
    }
    if (!fm__strtab_add(&t->pieces, p, n) || !fm__strtab_key(&t->pieces, i, &same))
        return fm__fail_nomem(err, "pieces", t->pieces.n_bytes);
    t->counts[i] = 1;
    return FM_OK;
}

struct cutting {
    struct fm__tok_trainer *trainer;
    const char *next;
    bool ascii;
    struct fm_error *err;
};

static fm_status take_piece(void *user, size_t n_code_points)
{
    struct cutting *c = user;
    const char *begin = c->next, *end = begin;
    if (c->ascii)
        end += n_code_points;
    else
        for (size_t i = 0; i < n_code_points; i++) end += fm__utf8_announced((unsigned char)*end);
    c->next = end;
    return count_piece(c->trainer, begin, (size_t)(end - begin), c->err);
}

static fm_status reserve(void *pointer, size_t *cap, size_t bytes, struct fm_error *err)
{
    void *p;
    if (bytes <= *cap) return FM_OK;
    p = fm__malloc(bytes + bytes / 4);
    if (!p) return fm__fail_nomem(err, "text", bytes);
    void *old;
    memcpy(&old, pointer, sizeof old);
    fm__free(old);
    memcpy(pointer, &p, sizeof p);
    *cap = bytes + bytes / 4;
    return FM_OK;
}

static fm_status count_pieces(struct fm__tok_trainer *t, const char *p, size_t n, bool ascii, struct fm_error *err)
{
    const unsigned char *subject = (const unsigned char *)p;
    size_t n_subject = n;
    if (!ascii) {
        FM_TRY(reserve(&t->classes, &t->cap_classes, n, err));
        n_subject = fm__pre_classes(t->pre, p, n, t->classes);
        subject = t->classes;
    }
    struct cutting cutting = {t, p, ascii, err};
    struct fm__piece_sink sink = {take_piece, &cutting};
    return fm__pre_split(t->pre_run, subject, n_subject, &sink, err);
}

static void mark_characters(struct fm__tok_trainer *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode(p + i, n - i, &cp, &ok);
        t->characters[cp >> 3] |= (uint8_t)(1u << (cp & 7));
        t->n_pieces++;
    }
}

fm_status fm__tok_trainer_add(struct fm__tok_trainer *t, const char *text, size_t n, struct fm_error *err)
{
    t->n_bytes += n;
    if (!n || t->args.kind == FM__TOK_BYTE) return FM_OK;
    bool ascii = fm__is_ascii(text, n);
    if (!ascii && !fm__utf8_is_canonical(text, n)) {
        size_t room;
        if (!fm__mul_size(n, 3, &room)) return fm__fail(err, FM_E_LIMIT, "text of %zu bytes", n);
        FM_TRY(reserve(&t->text, &t->cap_text, room, err));
        n = fm__utf8_canonical(text, n, t->text);
        text = t->text;
    }
    if (t->args.kind == FM__TOK_BPE) return count_pieces(t, text, n, ascii, err);
    mark_characters(t, text, n);
    return FM_OK;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Where a block of n bytes may end: behind a newline between letters; else behind any newline; else at its end, but
// not inside a character.
static size_t block_end(const char *p, size_t n)
{
    for (size_t i = n; i > 2; i--)
        if (p[i - 2] == '\n' && is_letter(p[i - 1]) && is_letter(p[i - 3])) return i - 1;
    for (size_t i = n; i > 0; i--)
        if (p[i - 1] == '\n') return i;
    size_t end = n;
    while (end > 1 && n - end < 4 && ((unsigned char)p[end - 1] & 0xc0) == 0x80) end--;
    return end > 1 && (unsigned char)p[end - 1] >= 0xc0 ? end - 1 : n;
}

static fm_status add_blocks(struct fm__tok_trainer *t, const struct fm__file *file, char *block, struct fm_error *err)
{
    size_t have = 0;
    for (uint64_t at = 0; at < file->size || have;) {
        size_t more = file->size - at < BLOCK - have ? (size_t)(file->size - at) : BLOCK - have;
        FM_TRY(fm__file_pread(file, at, block + have, more, err));
        at += more;
        have += more;
        size_t n = at < file->size ? block_end(block, have) : have;
        FM_TRY(fm__tok_trainer_add(t, block, n, err));
        memmove(block, block + n, have - n);
        have -= n;
        if (t->args.progress && !t->args.progress(t->args.context, at, file->size))
            return fm__fail(err, FM_E_CANCELLED, "cancelled");
    }
    return FM_OK;
}

fm_status fm__tok_trainer_add_file(struct fm__tok_trainer *t, const char *path, struct fm_error *err)
{
    struct fm__file file;
    FM_TRY(fm__file_open(path, &file, err));
    char *block = fm__malloc(BLOCK);
    fm_status status = block ? add_blocks(t, &file, block, err) : fm__fail_nomem(err, "block", BLOCK);
    fm__free(block);
    fm__file_close(&file);
    return status == FM_OK || status == FM_E_CANCELLED ? status : fm__error_prefix(err, status, "%s", path);
}

// --- vocabularies ---

fm_status fm__tok_train_add_merge(struct fm__tok_trainer *t, struct fm__tok_merge merge, struct fm_error *err)
{
    if (t->n_merges == t->cap_merges) {
        size_t cap = 2 * t->cap_merges + 1024;
        struct fm__tok_merge *merges = fm__realloc(t->merges, cap * sizeof *merges);
        if (!merges) return fm__fail_nomem(err, "merges", cap * sizeof *merges);
        t->merges = merges;
        t->cap_merges = cap;
    }
    t->merges[t->n_merges++] = merge;
    return FM_OK;
}

// Adds a token; *id is the one that is there already where there is one.
static fm_status add_token(struct fm__tok_trainer *t, const char *p, size_t n, int32_t *id, struct fm_error *err)
{
    int32_t found = fm__strtab_find(&t->tokens, p, n);
    uint32_t same = 0;
    if (found < 0 && (!fm__strtab_add(&t->tokens, p, n) || !fm__strtab_key(&t->tokens, t->tokens.n - 1, &same)))
        return fm__fail_nomem(err, "tokens", n);
    if (id) *id = found >= 0 ? found : (int32_t)same;
    return FM_OK;
}

static fm_status add_special(struct fm__tok_trainer *t, struct fm_error *err)
{
    t->first_special = (int32_t)t->tokens.n;
    for (int i = 0; i < t->args.n_special; i++) {
        const char *text = t->args.special[i];
        size_t n = strlen(text);
        if (!n || n > FM__TOKEN_MAX || fm__strtab_find(&t->tokens, text, n) >= 0)
            return fm__fail(err, FM_E_ARG, "special token \"%.60s\": empty, too long, or there already", text);
        FM_TRY(add_token(t, text, n, NULL, err));
    }
    return FM_OK;
}

// The order that sorting GPT-2's visible alphabet gives: bytes that are visible as themselves, then the others.
static bool is_visible(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static fm_status add_bytes(struct fm__tok_trainer *t, int32_t byte_token[256], struct fm_error *err)
{
    for (int turn = 0; turn < 2; turn++)
        for (int b = 0; b < 256; b++) {
            char byte = (char)b;
            if (is_visible(b) == (turn == 0)) FM_TRY(add_token(t, &byte, 1, &byte_token[b], err));
        }
    return FM_OK;
}

static size_t put_utf8(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | cp);
    return n;
}

// Merges that put a character of several bytes together, left to right. Beginnings of characters are symbols of merges
// only, not tokens: they are kept behind the vocabulary and written nowhere but in the merges.
static fm_status add_character_merges(struct fm__tok_trainer *t, const char *p, size_t n, struct fm_error *err)
{
    struct fm__tok_merge merge;
    FM_TRY(add_token(t, p, 1, &merge.left, err));
    for (size_t i = 1; i < n; i++) {
        bool known = fm__strtab_find(&t->tokens, p, i + 1) >= 0 && i + 1 < n;
        FM_TRY(add_token(t, p + i, 1, &merge.right, err));
        FM_TRY(add_token(t, p, i + 1, &merge.merged, err));
        if (!known) FM_TRY(fm__tok_train_add_merge(t, merge, err));
        merge.left = merge.merged;
    }
    return FM_OK;
}

static fm_status train_characters(struct fm__tok_trainer *t, struct fm_error *err)
{
    char text[4];
    int32_t unused[256];
    FM_TRY(add_special(t, err));
    if (t->args.all_bytes) FM_TRY(add_bytes(t, unused, err));
    for (uint32_t cp = 0; cp < CODE_POINTS; cp++)
        if (t->characters[cp >> 3] & 1u << (cp & 7)) FM_TRY(add_token(t, text, put_utf8(cp, text), NULL, err));
    t->n_tokens = (int32_t)t->tokens.n;
    for (uint32_t cp = 0x80; cp < CODE_POINTS; cp++)
        if (t->characters[cp >> 3] & 1u << (cp & 7)) FM_TRY(add_character_merges(t, text, put_utf8(cp, text), err));
    return FM_OK;
}

static fm_status train_bpe(struct fm__tok_trainer *t, struct fm_error *err)
{
    int32_t byte_token[256];
    FM_TRY(add_special(t, err));
    FM_TRY(add_bytes(t, byte_token, err));
    FM_TRY(fm__tok_train_bpe(t, byte_token, err));
    t->n_tokens = (int32_t)t->tokens.n;
    return FM_OK;
}

fm_status fm__tok_trainer_train(struct fm__tok_trainer *t, struct fm_error *err)
{
    if (!t->n_bytes && t->args.kind != FM__TOK_BYTE) return fm__fail(err, FM_E_ARG, "no text to learn from");
    if (t->args.kind == FM__TOK_BPE) return train_bpe(t, err);
    if (t->args.kind == FM__TOK_CHAR) return train_characters(t, err);
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        FM_TRY(add_token(t, &byte, 1, NULL, err));
    }
    FM_TRY(add_special(t, err));
    t->n_tokens = (int32_t)t->tokens.n;
    return FM_OK;
}

// --- the trainer ---

static fm_status check_args(const struct fm__tok_train_args *args, struct fm_error *err)
{
    int64_t least = 256 + (int64_t)args->n_special;
    if (args->kind == FM__TOK_BPE && (args->vocab_size < least || args->vocab_size > 1 << 24))
        return fm__fail(err, FM_E_ARG, "a vocabulary of %d, want %lld (bytes and special tokens) to %d",
                        args->vocab_size, (long long)least, 1 << 24);
    return FM_OK;
}

fm_status fm__tok_trainer_new(const struct fm__tok_train_args *args, struct fm__tok_trainer **out, struct fm_error *err)
{
    *out = NULL;
    FM_TRY(check_args(args, err));
    const char *name = args->pre ? args->pre : "gpt-2";
    const struct fm__pre_entry *entry = fm__pre_find((struct fm_str){name, strlen(name)});
    if (!entry) return fm__fail(err, FM_E_ARG, "pre-tokeniser \"%.60s\" is not known, want gpt-2, llama-bpe, …", name);
    struct fm__tok_trainer *t = fm__calloc(1, sizeof *t);
    if (!t) return fm__fail_nomem(err, "trainer", sizeof *t);
    t->args = *args;
    t->args.pre = name;
    t->characters = fm__calloc(CODE_POINTS / 8, 1);
    fm_status status = t->characters ? FM_OK : fm__fail_nomem(err, "trainer", CODE_POINTS / 8);
    if (status == FM_OK) status = fm__pre_new(entry, &t->pre, err);
    if (status == FM_OK) status = fm__pre_run_new(t->pre, &t->pre_run, err);
    if (status != FM_OK) {
        fm__tok_trainer_free(t);
        return status;
    }
    *out = t;
    return FM_OK;
}

void fm__tok_trainer_free(struct fm__tok_trainer *t)
{
    if (!t) return;
    fm__pre_run_free(t->pre_run);
    fm__pre_free(t->pre);
    fm__strtab_deinit(&t->pieces);
    fm__strtab_deinit(&t->tokens);
    fm__free(t->counts);
    fm__free(t->characters);
    fm__free(t->text);
    fm__free(t->classes);
    fm__free(t->merges);
    fm__free(t);
}

// SPDX-License-Identifier: MIT
// A trained tokenizer as GGUF metadata.
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "fathom/gguf.h"
#include "fathom/tokenizer.h"
#include "text/tok_train.h"

// GPT-2's visible character of a byte: itself, or the next of U+0100 … in the order of the bytes that are not visible.
static uint32_t character_of(unsigned char byte)
{
    if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xad ? 0x143u : 0x121u + byte - 0x7f;
}

static size_t put_visible(const char *bytes, size_t n, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t cp = character_of((unsigned char)bytes[i]);
        if (cp < 0x80) {
            out[written++] = (char)cp;
        } else {
            out[written++] = (char)(0xc0 | cp >> 6);
            out[written++] = (char)(0x80 | (cp & 0x3f));
        }
    }
    return written;
}

struct writing {
    const struct fm__tok_trainer *t;
    struct fm_gguf_writer *w;
    struct fm__arena arena;
    struct fm_error *err;
};

static struct fm_str to_str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

static fm_status put_text(struct writing *s, const char *key, const char *text)
{
    struct fm_str value = to_str(text);
    struct fm_gguf_kv kv = {.key = to_str(key), .type = FM_GGUF_STRING, .n = 1, .data = &value};
    return fm_gguf_writer_kv(s->w, &kv, s->err);
}

static fm_status put_strings(struct writing *s, const char *key, const struct fm_str *texts, size_t n)
{
    struct fm_gguf_kv kv = {
        .key = to_str(key), .type = FM_GGUF_ARRAY, .array_type = FM_GGUF_STRING, .n = n, .data = texts};
    return fm_gguf_writer_kv(s->w, &kv, s->err);
}

static bool is_special(const struct fm__tok_trainer *t, int32_t id)
{
    return id >= t->first_special && id < t->first_special + t->args.n_special;
}

// A symbol in visible characters; special tokens as they are.
static fm_status spell(struct writing *s, int32_t id, struct fm_str *out)
{
    const struct fm__strtab *tokens = &s->t->tokens;
    const char *bytes = tokens->bytes + tokens->at[id];
    size_t n = tokens->len[id];
    char *text = fm__arena_alloc(&s->arena, 2 * n + 1);
    if (!text) return fm__fail_nomem(s->err, "tokens", 2 * n);
    if (is_special(s->t, id))
        memcpy(text, bytes, n);
    else
        n = put_visible(bytes, n, text);
    *out = (struct fm_str){text, n};
    return FM_OK;
}

static fm_status put_tokens(struct writing *s)
{
    size_t n = (size_t)s->t->n_tokens;
    struct fm_str *texts = fm__arena_alloc(&s->arena, n * sizeof *texts);
    int32_t *types = fm__arena_alloc(&s->arena, n * sizeof *types);
    if (!texts || !types) return fm__fail_nomem(s->err, "tokens", n * sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        FM_TRY(spell(s, (int32_t)i, &texts[i]));
        types[i] = is_special(s->t, (int32_t)i) ? FM_TOKEN_CONTROL : FM_TOKEN_NORMAL;
    }
    FM_TRY(put_strings(s, "tokenizer.ggml.tokens", texts, n));
    struct fm_gguf_kv kv = {.key = to_str("tokenizer.ggml.token_type"),
                            .type = FM_GGUF_ARRAY,
                            .array_type = FM_GGUF_I32,
                            .n = n,
                            .data = types};
    return fm_gguf_writer_kv(s->w, &kv, s->err);
}

static fm_status put_merges(struct writing *s)
{
    size_t n = s->t->n_merges;
    struct fm_str *texts = fm__arena_alloc(&s->arena, (n + 1) * sizeof *texts);
    if (!texts) return fm__fail_nomem(s->err, "merges", n * sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        struct fm_str left, right;
        FM_TRY(spell(s, s->t->merges[i].left, &left));
        FM_TRY(spell(s, s->t->merges[i].right, &right));
        char *text = fm__arena_alloc(&s->arena, left.n + right.n + 1);
        if (!text) return fm__fail_nomem(s->err, "merges", left.n + right.n);
        memcpy(text, left.p, left.n);
        text[left.n] = ' ';
        memcpy(text + left.n + 1, right.p, right.n);
        texts[i] = (struct fm_str){text, left.n + right.n + 1};
    }
    return put_strings(s, "tokenizer.ggml.merges", texts, n);
}

// The first special token begins and ends texts. Without one llama.cpp takes token 11 for both: GGUF cannot say "none".
static fm_status put_roles(struct writing *s)
{
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"};
    static const char *const flags[] = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"};
    uint32_t id = (uint32_t)s->t->first_special;
    uint8_t no = 0;
    for (int i = 0; i < 2; i++) {
        struct fm_gguf_kv role = {.key = to_str(keys[i]), .type = FM_GGUF_U32, .n = 1, .data = &id};
        struct fm_gguf_kv flag = {.key = to_str(flags[i]), .type = FM_GGUF_BOOL, .n = 1, .data = &no};
        if (s->t->args.n_special > 0) FM_TRY(fm_gguf_writer_kv(s->w, &role, s->err));
        FM_TRY(fm_gguf_writer_kv(s->w, &flag, s->err));
    }
    return FM_OK;
}

static fm_status put_all(struct writing *s)
{
    static const char *const kinds[] = {[FM__TOK_BPE] = "bpe", [FM__TOK_CHAR] = "char", [FM__TOK_BYTE] = "byte"};
    FM_TRY(put_text(s, "general.architecture", "gpt2"));
    FM_TRY(put_text(s, "general.name", s->t->args.name ? s->t->args.name : "tokenizer"));
    FM_TRY(put_text(s, "fathom.tokenizer.kind", kinds[s->t->args.kind]));
    FM_TRY(put_text(s, "tokenizer.ggml.model", "gpt2"));
    FM_TRY(put_text(s, "tokenizer.ggml.pre", s->t->args.pre));
    FM_TRY(put_tokens(s));
    FM_TRY(put_merges(s));
    FM_TRY(put_roles(s));
    return fm_gguf_writer_finish(s->w, s->err);
}

fm_status fm__tok_trainer_write(const struct fm__tok_trainer *t, const char *path, struct fm_error *err)
{
    struct writing s = {.t = t, .err = err};
    if (t->n_tokens < 1) return fm__fail(err, FM_E_ARG, "nothing was trained yet");
    FM_TRY(fm_gguf_writer_new(path, &s.w, err));
    fm_status status = put_all(&s);
    fm_gguf_writer_free(s.w);
    fm__arena_deinit(&s.arena);
    return status;
}

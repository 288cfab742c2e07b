// SPDX-License-Identifier: MIT
// Encoding contexts and continuations, truncation, windows of passages.
#include "eval/prepare.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

struct ids {
    int32_t *p;
    size_t n, cap;
};

struct joined { // a text being put together
    char *p;
    size_t n, cap;
};

struct preparing {
    const struct fm__prepare_args *args;
    struct fm__prepared *out;
    struct fm_error *err;
    struct ids context, whole;
    struct joined text;
};

static fm_status add_bytes(struct preparing *s, const char *p, size_t n)
{
    struct joined *t = &s->text;
    if (!t->p || t->n + n >= t->cap) {
        size_t cap = 2 * (t->n + n) + 256;
        char *more = fm__realloc(t->p, cap);
        if (!more) return fm__fail_nomem(s->err, "text", cap);
        t->p = more;
        t->cap = cap;
    }
    if (n) memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = 0;
    return FM_OK;
}

static fm_status encode(struct preparing *s, const char *p, size_t n, unsigned flags, struct ids *ids)
{
    size_t count = 0, at = ids->n;
    for (;;) {
        size_t want = at + n + 16;
        if (count > n + 16) want = at + count;
        if (ids->cap < want) {
            int32_t *more = fm__realloc(ids->p, 2 * want * sizeof *more);
            if (!more) return fm__fail_nomem(s->err, "tokens", 2 * want * sizeof *more);
            ids->p = more;
            ids->cap = 2 * want;
        }
        struct fm_encode_args args = {.text = p, .n = n, .flags = flags};
        FM_TRY(fm_tokenizer_encode(s->args->tok, &args, ids->p + at, ids->cap - at, &count, s->err));
        if (at + count <= ids->cap) break;
    }
    ids->n = at + count;
    return FM_OK;
}

static bool is_marked(const struct preparing *s)
{
    return s->args->parse_special && (s->args->before || s->args->after);
}

// Tokens of the text in s->text[0 … n), the end-of-text token that some models add left off.
static fm_status encode_whole(struct preparing *s, size_t n, struct ids *ids)
{
    unsigned flags = FM_ENCODE_ADD_SPECIAL | (is_marked(s) ? FM_ENCODE_PARSE_SPECIAL : 0U);
    ids->n = 0;
    FM_TRY(encode(s, s->text.p, n, flags, ids));
    if (fm_tokenizer_adds_eos(s->args->tok) && ids->n > 0) ids->n--;
    return FM_OK;
}

static fm_status take_tokens(struct preparing *s, const struct fm__example *e)
{
    struct ids *ids = &s->context;
    size_t n = (size_t)e->n_tokens;
    if (ids->cap < n) {
        int32_t *more = fm__realloc(ids->p, n * sizeof *more);
        if (!more) return fm__fail_nomem(s->err, "tokens", n * sizeof *more);
        ids->p = more;
        ids->cap = n;
    }
    memcpy(ids->p, e->tokens, n * sizeof *ids->p);
    ids->n = n;
    return FM_OK;
}

// The text with what goes around it, encoded. An empty one is the token that begins (or ends) texts.
static fm_status encode_context(struct preparing *s, const struct fm__example *e)
{
    if (s->args->as == FM__AS_TEXT && e->n_tokens > 0) return take_tokens(s, e);
    const char *before = s->args->before ? s->args->before : "", *after = s->args->after ? s->args->after : "";
    s->text.n = 0;
    FM_TRY(add_bytes(s, before, strlen(before)));
    FM_TRY(add_bytes(s, e->text.p, e->text.n));
    FM_TRY(add_bytes(s, after, strlen(after)));
    size_t n = s->text.n;
    bool continued = s->args->as != FM__AS_TEXT && s->args->as != FM__AS_PASSAGE;
    while (continued && n && (s->text.p[n - 1] == ' ' || s->text.p[n - 1] == '\n')) n--;
    FM_TRY(encode_whole(s, n, &s->context));
    if (s->context.n) return FM_OK;
    int32_t begin = fm_tokenizer_role(s->args->tok, FM_TOKEN_BOS);
    if (begin < 0) begin = fm_tokenizer_role(s->args->tok, FM_TOKEN_EOS);
    if (begin < 0) return fm__fail(s->err, FM_E_ARG, "a text without tokens, and the model has none that begins one");
    if (!s->context.cap) return fm__fail_nomem(s->err, "tokens", sizeof begin);
    s->context.p[s->context.n++] = begin;
    return FM_OK;
}

static int32_t *keep(struct preparing *s, const int32_t *ids, size_t n)
{
    int32_t *p = fm__arena_alloc(&s->out->arena, (n ? n : 1) * sizeof *p);
    if (p && n) memcpy(p, ids, n * sizeof *p);
    return p;
}

// The continuation's tokens: those of text and continuation together beyond the context's.
static fm_status encode_continuation(struct preparing *s, const struct fm__text *text, struct fm__continuation *out)
{
    size_t n = s->text.n;
    const char *delimiter = s->args->as == FM__AS_LAST_WORD ? "" : s->args->delimiter ? s->args->delimiter : " ";
    FM_TRY(add_bytes(s, delimiter, strlen(delimiter)));
    FM_TRY(add_bytes(s, text->p, text->n));
    FM_TRY(encode_whole(s, s->text.n, &s->whole));
    s->text.n = n;
    if (s->whole.n <= s->context.n)
        return fm__fail(s->err, FM_E_ARG, "continuation \"%.60s\" has no tokens of its own", text->p);
    size_t count = s->whole.n - s->context.n;
    if (count > (size_t)s->args->n_ctx)
        return fm__fail(s->err, FM_E_LIMIT, "continuation \"%.60s\" has %zu tokens, the context holds %d", text->p,
                        count, s->args->n_ctx);
    out->n = (int)count;
    out->tokens = keep(s, s->whole.p + s->context.n, count);
    if (s->args->as == FM__AS_LAST_WORD) out->top = keep(s, s->whole.p + s->context.n, count);
    if (!out->tokens || (s->args->as == FM__AS_LAST_WORD && !out->top))
        return fm__fail_nomem(s->err, "tokens", 4 * count);
    s->out->n_tokens += out->n;
    return FM_OK;
}

static fm_status new_context(struct preparing *s, int64_t i_example, struct fm__context **out)
{
    struct fm__prepared *p = s->out;
    if (p->n == p->cap) {
        int64_t cap = 2 * p->cap + 256;
        struct fm__context *contexts = fm__realloc(p->contexts, (size_t)cap * sizeof *contexts);
        if (contexts) p->contexts = contexts;
        int64_t *example = fm__realloc(p->example, (size_t)cap * sizeof *example);
        if (example) p->example = example;
        if (!contexts || !example) return fm__fail_nomem(s->err, "contexts", (size_t)cap * sizeof *contexts);
        p->cap = cap;
    }
    p->example[p->n] = i_example;
    *out = &p->contexts[p->n++];
    **out = (struct fm__context){0};
    return FM_OK;
}

static fm_status set_context(struct preparing *s, struct fm__context *c)
{
    int longest = 1;
    for (int i = 0; i < c->n_continuations; i++)
        if (c->continuations[i].n > longest) longest = c->continuations[i].n;
    size_t room = (size_t)(s->args->n_ctx - (longest - 1) - s->args->room), n = s->context.n;
    if (s->args->n_ctx - (longest - 1) - s->args->room < 1)
        return fm__fail(s->err, FM_E_LIMIT, "no token of context has room beside the answer in %d", s->args->n_ctx);
    if (n > room) n = room, s->out->n_truncated++;
    c->n = (int)n;
    c->tokens = keep(s, s->context.p + (s->context.n - n), n);
    s->out->n_tokens += c->n;
    return c->tokens ? FM_OK : fm__fail_nomem(s->err, "tokens", 4 * n);
}

static fm_status prepare_one(struct preparing *s, int64_t i_example)
{
    const struct fm__examples *examples = s->args->examples;
    const struct fm__example *e = &examples->items[i_example];
    const struct fm__text *texts = NULL;
    struct fm__context *c;
    FM_TRY(encode_context(s, e));
    FM_TRY(new_context(s, i_example, &c));
    if (s->args->as == FM__AS_CHOICES) texts = e->choices, c->n_continuations = e->n_choices;
    if (s->args->as == FM__AS_LABELS) texts = s->args->labels ? s->args->labels : examples->labels;
    if (s->args->as == FM__AS_LABELS) c->n_continuations = examples->n_labels;
    if (s->args->as == FM__AS_LAST_WORD) texts = &e->answer, c->n_continuations = 1;
    if (c->n_continuations) {
        size_t bytes = (size_t)c->n_continuations * sizeof *c->continuations;
        c->continuations = fm__arena_alloc(&s->out->arena, bytes);
        if (!c->continuations) return fm__fail_nomem(s->err, "continuations", bytes);
    }
    for (int i = 0; texts && i < c->n_continuations; i++) FM_TRY(encode_continuation(s, &texts[i], &c->continuations[i]));
    return set_context(s, c);
}

// Windows that overlap by one token: each token but the first is scored once, a BOS before the first makes it scored.
static fm_status prepare_passage(struct preparing *s, int64_t i_example)
{
    FM_TRY(encode_context(s, &s->args->examples->items[i_example]));
    const int32_t *ids = keep(s, s->context.p, s->context.n);
    if (!ids) return fm__fail_nomem(s->err, "tokens", 4 * s->context.n);
    if (s->context.n < 2) return fm__fail(s->err, FM_E_ARG, "a passage of %zu tokens, want at least 2", s->context.n);
    size_t length = (size_t)s->args->n_ctx;
    for (size_t at = 0; at + 1 < s->context.n; at += length) {
        struct fm__context *c;
        size_t left = s->context.n - at - 1;
        FM_TRY(new_context(s, i_example, &c));
        c->continuations = fm__arena_alloc(&s->out->arena, sizeof *c->continuations);
        if (!c->continuations) return fm__fail_nomem(s->err, "continuations", sizeof *c->continuations);
        c->n_continuations = 1;
        c->tokens = ids + at;
        c->n = 1;
        c->continuations->tokens = ids + at + 1;
        c->continuations->n = (int)(left < length ? left : length);
        s->out->n_tokens += c->continuations->n + 1;
    }
    return FM_OK;
}

fm_status fm__prepare(const struct fm__prepare_args *args, struct fm__prepared *out, struct fm_error *err)
{
    *out = (struct fm__prepared){0};
    struct preparing s = {.args = args, .out = out, .err = err};
    fm_status status = FM_OK;
    for (int64_t i = 0; status == FM_OK && i < args->examples->n; i++) {
        status = args->as == FM__AS_PASSAGE ? prepare_passage(&s, i) : prepare_one(&s, i);
        if (status != FM_OK)
            status = fm__error_prefix(err, status, "example of line %lld", (long long)args->examples->items[i].line);
    }
    fm__free(s.context.p);
    fm__free(s.whole.p);
    fm__free(s.text.p);
    if (status != FM_OK) fm__prepared_deinit(out);
    return status;
}

void fm__prepared_deinit(struct fm__prepared *prepared)
{
    fm__free(prepared->contexts);
    fm__free(prepared->example);
    fm__arena_deinit(&prepared->arena);
    *prepared = (struct fm__prepared){0};
}

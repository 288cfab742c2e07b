// SPDX-License-Identifier: MIT
// Ids to text: the bytes of every token, whole texts, and the stream decoder.
#include "text/tok_internal.h"
#include "text/tok_utf8.h"

// --- the bytes of a token ---

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// Writes the bytes that text p stands for; out has room for n. Returns their number.
static size_t token_bytes(const struct fm_tokenizer *tok, uint16_t attr, struct fm_str text, char *out)
{
    const char *p = text.p;
    size_t n = 0;
    if (attr & (FM__ATTR_CONTROL | FM__ATTR_UNKNOWN | FM__ATTR_USER)) {
        memcpy(out, p, text.n);
        return text.n;
    }
    if (attr & FM__ATTR_BYTE && text.n == 6 && hex_digit(p[3]) >= 0 && hex_digit(p[4]) >= 0) {
        out[0] = (char)(hex_digit(p[3]) << 4 | hex_digit(p[4]));
        return 1;
    }
    if (!(attr & (FM__ATTR_NORMAL | FM__ATTR_BYTE))) return 0; // never to be seen
    if (tok->style == FM_TOKENIZER_BPE) {
        if (fm__bpe_unalphabet(p, text.n, out, &n)) return n;
        memcpy(out, p, text.n); // not written in the alphabet: it must mean itself
        return text.n;
    }
    for (size_t i = 0; i < text.n;) {
        bool mark = text.n - i >= 3 && !memcmp(p + i, FM__SPACE_MARK, 3);
        out[n++] = mark ? ' ' : p[i];
        i += mark ? 3 : 1;
    }
    return n;
}

fm_status fm__pieces_load(struct fm_tokenizer *tok, struct fm_error *err)
{
    char *bytes = fm__malloc(FM__TOKEN_MAX);
    bool whole = bytes != NULL;
    for (int32_t i = 0; whole && i < tok->n_vocab; i++) {
        size_t n = token_bytes(tok, tok->attr[i], fm_tokenizer_token_text(tok, i), bytes);
        whole = fm__strtab_add(&tok->piece, bytes, n);
    }
    fm__free(bytes);
    return whole ? FM_OK : fm__fail_nomem(err, "tokenizer.ggml.tokens", tok->text.n_bytes);
}

// The bytes of a token in a text. `begins`: the text begins here, or goes on behind a token that encoding cuts out;
// there encoding puts a space, which goes again.
static fm_status bytes_in_text(const struct fm_tokenizer *tok, int32_t id, unsigned flags, bool *begins,
                               struct fm_str *out, struct fm_error *err)
{
    *out = (struct fm_str){"", 0};
    if (id < 0 || id >= tok->n_vocab)
        return fm__fail(err, FM_E_ARG, "token %d is outside the vocabulary of %d", id, tok->n_vocab);
    bool special = tok->attr[id] & (FM__ATTR_CONTROL | FM__ATTR_UNKNOWN);
    bool cut = special || (tok->attr[id] & FM__ATTR_USER && tok->style != FM_TOKENIZER_UNIGRAM);
    bool strip = *begins && !cut && !(flags & FM_DECODE_KEEP_PREFIX) &&
                 (tok->add_space_prefix || tok->style == FM_TOKENIZER_WORDPIECE);
    if (cut || tok->piece.len[id]) *begins = cut;
    if (special && !(flags & FM_DECODE_SPECIAL)) return FM_OK;
    *out = fm_tokenizer_token_bytes(tok, id);
    if (strip && out->n && *out->p == ' ') out->p++, out->n--;
    return FM_OK;
}

fm_status fm_tokenizer_decode(const struct fm_tokenizer *tok, const struct fm_decode_args *args, char *text, size_t cap,
                              size_t *n_bytes, struct fm_error *err)
{
    if (n_bytes) *n_bytes = 0;
    if (!tok || !args || !n_bytes || (!text && cap) || (!args->ids && args->n))
        return fm__fail(err, FM_E_ARG, "fm_tokenizer_decode: a NULL argument");
    size_t n = 0;
    bool begins = true;
    for (size_t i = 0; i < args->n; i++) {
        struct fm_str bytes;
        FM_TRY(bytes_in_text(tok, args->ids[i], args->flags, &begins, &bytes, err));
        size_t room = n < cap ? cap - n : 0;
        if (room) memcpy(text + n, bytes.p, bytes.n < room ? bytes.n : room);
        n += bytes.n;
    }
    *n_bytes = n;
    return FM_OK;
}

// --- streaming ---

struct fm_detok {
    const struct fm_tokenizer *tok;
    unsigned flags;
    bool begins;    // see bytes_in_text
    size_t n_held;  // bytes at the start of `text` that begin a character
    size_t n_shown; // bytes given out by the last call, to be dropped by the next
    size_t cap;
    char *text;  // what is held back, and the bytes of one token
    char *valid; // FM_DETOK_VALID: the same with U+FFFD, three times as large
};

fm_status fm_detok_new(const struct fm_tokenizer *tok, unsigned flags, struct fm_detok **out, struct fm_error *err)
{
    if (!out) return fm__fail(err, FM_E_ARG, "fm_detok_new: out is NULL");
    *out = NULL;
    if (!tok) return fm__fail(err, FM_E_ARG, "fm_detok_new: tok is NULL");
    size_t longest = 0;
    for (int32_t i = 0; i < tok->n_vocab; i++)
        if (tok->piece.len[i] > longest) longest = tok->piece.len[i];
    size_t cap = longest + 4;
    struct fm_detok *d = fm__calloc(1, sizeof *d + cap + 3 * cap);
    if (!d) return fm__fail_nomem(err, "stream decoder", sizeof *d + 4 * cap);
    *d = (struct fm_detok){.tok = tok, .flags = flags, .begins = true, .cap = cap, .text = (char *)(d + 1)};
    d->valid = d->text + cap;
    *out = d;
    return FM_OK;
}

void fm_detok_free(struct fm_detok *d)
{
    fm__free(d);
}

// How many bytes at the end of p could yet become a character: 0 … 3.
static size_t unfinished(const char *p, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)p[n - back];
        if (c < 0x80) return 0;
        if (c < 0xc0) continue; // a continuation: its lead is further left
        if (c >= 0xf5 || c < 0xc2) return 0;
        if (fm__utf8_announced(c) <= back) return 0;
        if (back == 1) return 1;
        // the second byte of these leads is restricted; one outside cannot be completed
        unsigned char second = (unsigned char)p[n - back + 1];
        bool wrong = (c == 0xe0 && second < 0xa0) || (c == 0xed && second >= 0xa0) || (c == 0xf0 && second < 0x90) ||
                     (c == 0xf4 && second >= 0x90);
        return wrong ? 0 : back;
    }
    return 0;
}

static struct fm_str shown(struct fm_detok *d, size_t n)
{
    if (!(d->flags & FM_DETOK_VALID)) return (struct fm_str){d->text, n};
    size_t n_valid = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode_strict(d->text + i, n - i, &cp, &ok);
        n_valid += fm__utf8_encode(cp, d->valid + n_valid);
    }
    return (struct fm_str){d->valid, n_valid};
}

// Drops what the last call gave out.
static void forget_shown(struct fm_detok *d)
{
    memmove(d->text, d->text + d->n_shown, d->n_held);
    d->n_shown = 0;
}

fm_status fm_detok_push(struct fm_detok *d, int32_t id, struct fm_str *out, struct fm_error *err)
{
    struct fm_str bytes;
    *out = (struct fm_str){"", 0};
    FM_TRY(bytes_in_text(d->tok, id, d->flags, &d->begins, &bytes, err));
    forget_shown(d);
    memcpy(d->text + d->n_held, bytes.p, bytes.n);
    size_t n = d->n_held + bytes.n;
    d->n_held = unfinished(d->text, n);
    d->n_shown = n - d->n_held;
    *out = shown(d, d->n_shown);
    return FM_OK;
}

struct fm_str fm_detok_finish(struct fm_detok *d)
{
    forget_shown(d);
    d->n_shown = d->n_held;
    d->n_held = 0;
    d->begins = true;
    return shown(d, d->n_shown);
}

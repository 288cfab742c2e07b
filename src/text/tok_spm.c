// SPDX-License-Identifier: MIT
// SentencePiece BPE: characters are symbols, the union with the highest score is joined first, what is no token falls
// back to byte tokens. The whole text is one unit in principle; it is cut where no token can reach across, which
// changes nothing but keeps the heap small.
#include "text/tok_internal.h"
#include "text/tok_merge.h"
#include "text/tok_utf8.h"

fm_status fm__spm_load(struct fm_tokenizer *tok, struct fm_error *err)
{
    (void)err;
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++) {
        const char *p = tok->text.bytes + tok->text.at[i];
        for (uint32_t k = 1; k + 3 <= tok->text.len[i]; k++)
            if (!memcmp(p + k, FM__SPACE_MARK, 3)) tok->crosses[(unsigned char)p[k - 1]] = true;
    }
    return FM_OK;
}

// Ascending order of the result is descending order of scores; equal scores (0.0 and -0.0 too) give equal results.
static uint32_t priority_of(float score)
{
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, 4);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

static inline bool spm_pair(const struct fm_tokenizer *tok, const char *text, const struct fm__symbol *l,
                            const struct fm__symbol *r, uint32_t *priority, int32_t *merged)
{
    int32_t id = fm__strtab_find(&tok->text, text + l->at, l->n + r->n);
    if (id < 0) return false;
    *priority = priority_of(tok->score[id]);
    *merged = id;
    return true;
}

static void emit_symbol(struct fm__run *run, const char *text, const struct fm__symbol *symbol)
{
    const struct fm_tokenizer *tok = run->tok;
    if (symbol->id >= 0) {
        fm__emit(run, symbol->id);
        return;
    }
    for (uint32_t i = 0; i < symbol->n; i++) {
        int32_t token = tok->byte_token[(unsigned char)text[symbol->at + i]];
        if (token < 0) token = tok->roles[FM_TOKEN_UNK];
        if (token >= 0) fm__emit(run, token);
    }
}

// Encodes text[0 … n), whose characters no merge joins with what lies around.
static fm_status encode_unit(struct fm__run *run, const char *text, size_t n)
{
    const struct fm_tokenizer *tok = run->tok;
    int32_t whole = fm__strtab_find(&tok->text, text, n);
    if (whole >= 0 && atomic_load_explicit(&tok->whole[whole], memory_order_relaxed) == FM__WHOLE_YES) {
        fm__emit(run, whole);
        return FM_OK;
    }
    struct fm__symbol *symbols = fm__buf_reserve(&run->symbols, n * sizeof *symbols, run->err);
    struct fm__candidate *heap = symbols ? fm__buf_reserve(&run->heap, 2 * n * sizeof *heap, run->err) : NULL;
    if (!heap) return FM_E_NOMEM;
    int32_t n_symbols = 0;
    for (size_t at = 0; at < n; n_symbols++) {
        size_t length = fm__utf8_announced((unsigned char)text[at]);
        if (length > n - at) length = n - at;
        symbols[n_symbols] = (struct fm__symbol){n_symbols - 1, at + length < n ? n_symbols + 1 : -1, (uint32_t)at,
                                                 (uint32_t)length, fm__strtab_find(&tok->text, text + at, length)};
        at += length;
    }
    struct fm__merge merge = {tok, text, symbols, heap, 0};
    fm__merge_all(&merge, (size_t)n_symbols, spm_pair);
    if (whole >= 0)
        atomic_store_explicit(&tok->whole[whole], symbols[0].next < 0 ? FM__WHOLE_YES : FM__WHOLE_NO,
                              memory_order_relaxed);
    for (int32_t i = 0; i >= 0; i = symbols[i].next) emit_symbol(run, text, &symbols[i]);
    return FM_OK;
}

fm_status fm__spm_encode(struct fm__run *run, const char *p, size_t n)
{
    const struct fm_tokenizer *tok = run->tok;
    char *text = fm__buf_reserve(&run->text, 3 * (n + 1), run->err);
    if (!text) return FM_E_NOMEM;
    size_t n_text = 0;
    if (tok->add_space_prefix && run->add_prefix) n_text = fm__put_space_mark(text);
    for (size_t i = 0; i < n; i++) {
        if (p[i] != ' ') {
            text[n_text++] = p[i];
            continue;
        }
        n_text += fm__put_space_mark(text + n_text);
    }
    size_t begin = 0;
    for (size_t at = 0; at < n_text;) {
        if (at > begin && n_text - at >= 3 && !memcmp(text + at, FM__SPACE_MARK, 3) &&
            !tok->crosses[(unsigned char)text[at - 1]]) {
            FM_TRY(encode_unit(run, text + begin, at - begin));
            begin = at;
        }
        at += fm__utf8_announced((unsigned char)text[at]);
    }
    return begin < n_text ? encode_unit(run, text + begin, n_text - begin) : FM_OK;
}

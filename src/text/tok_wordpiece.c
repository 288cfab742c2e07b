// SPDX-License-Identifier: MIT
// WordPiece as BERT has it: words at white space, punctuation and Chinese characters; each word, with U+2581 put before
// it, is covered by the longest tokens from the left, or is the unknown token as a whole.
#include "text/tok_internal.h"
#include "text/tok_utf8.h"

fm_status fm__wordpiece_load(struct fm_tokenizer *tok, struct fm_error *err)
{
    static const fm_token_role needed[] = {FM_TOKEN_BOS, FM_TOKEN_SEP, FM_TOKEN_UNK};
    static const char *const names[] = {"bos (CLS)", "seperator", "unknown"}; // the key is spelt so
    for (int i = 0; i < 3; i++)
        if (tok->roles[needed[i]] < 0)
            return fm__fail(err, FM_E_FORMAT, "tokenizer.ggml: no %s token, which WordPiece needs", names[i]);
    for (uint32_t i = 0; i < (uint32_t)tok->n_vocab; i++)
        if (!fm__trie_insert(&tok->matcher, tok->text.bytes + tok->text.at[i], tok->text.len[i], (int32_t)i))
            return fm__fail_nomem(err, "tokenizer.ggml.tokens", tok->text.n_bytes);
    return FM_OK;
}

// The blocks that BERT's tokenizer takes for Chinese. 2B920 should be 2B820, but models were trained with this.
static bool is_chinese(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf) || (cp >= 0x20000 && cp <= 0x2a6df) ||
           (cp >= 0x2a700 && cp <= 0x2b73f) || (cp >= 0x2b740 && cp <= 0x2b81f) || (cp >= 0x2b920 && cp <= 0x2ceaf) ||
           (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x2f800 && cp <= 0x2fa1f);
}

static void encode_word(struct fm__run *run, const char *word, size_t n)
{
    size_t before = run->n;
    for (size_t i = 0; i < n;) {
        size_t length;
        int32_t id = fm__trie_longest(&run->tok->matcher, word + i, n - i, &length);
        if (id < 0) {
            run->n = before;
            fm__emit(run, run->tok->roles[FM_TOKEN_UNK]);
            return;
        }
        fm__emit(run, id);
        i += length;
    }
}

fm_status fm__wordpiece_encode(struct fm__run *run, const char *p, size_t n)
{
    const struct fm_tokenizer *tok = run->tok;
    char *word = fm__buf_reserve(&run->text, 4 * n + 8, run->err); // lower case may be longer, 2 bytes → 3
    if (!word) return FM_E_NOMEM;
    size_t n_word = fm__put_space_mark(word);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode(p + i, n - i, &cp, &ok);
        if (tok->strip_accents) cp = fm__cp_base(cp);
        fm__category_set category = FM__CAT(fm__cp_category(cp));
        bool space = fm__cp_is_space(cp);
        if (!space && (cp == 0 || cp == FM__REPLACEMENT || (category & FM__CAT_C))) continue;
        if (!space && tok->strip_accents && (category & FM__CAT_M)) continue;
        bool alone = !space && ((category & FM__CAT_P) || (cp < 0x7f && (category & FM__CAT_S)) || is_chinese(cp));
        if ((space || alone) && n_word > 3) {
            encode_word(run, word, n_word);
            n_word = 3;
        }
        if (space) continue;
        n_word += fm__utf8_encode(tok->lowercase ? fm__cp_lower(cp) : cp, word + n_word);
        if (!alone) continue;
        encode_word(run, word, n_word);
        n_word = 3;
    }
    if (n_word > 3) encode_word(run, word, n_word);
    return FM_OK;
}

// SPDX-License-Identifier: MIT
// Text for tokenizers of every style, and metadata for new ones. The first byte of the input chooses: its low 3 bits
// the tokenizer (4 … 7: one made from the input), the next two the flags of encoding. What encodes must decode, and
// byte-level BPE must give canonical UTF-8 back.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/support/gguf_bytes.h"
#include "fathom/tokenizer.h"
#include "text/tok_utf8.h"

#define STR(s)           \
    {                    \
        s, sizeof(s) - 1 \
    }

static void must(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "fuzz_tokenizer: %s\n", what);
    abort();
}

static struct fm_tokenizer *finish(struct gguf_bytes *bytes, int valid)
{
    struct fm_gguf *g;
    struct fm_tokenizer *tok = NULL;
    struct fm_error err;
    if (gguf_bytes_open(bytes, &g, &err) == FM_OK) {
        fm_tokenizer_new(g, &tok, &err);
        fm_gguf_close(g);
    }
    must(!valid || tok, "a built-in vocabulary does not load");
    free(bytes->p);
    return tok;
}

// All bytes, a few words, special tokens that overlap.
static struct fm_tokenizer *make(int style)
{
    static const char *const models[] = {"gpt2", "llama", "t5", "bert"};
    static const struct fm_str words[] = {STR("<unk>"),
                                          STR("<s>"),
                                          STR("</s>"),
                                          STR("<a>"),
                                          STR("<a><b>"),
                                          STR("<b><c><d>"),
                                          STR("th"),
                                          STR("the"),
                                          STR("he"),
                                          STR("an"),
                                          STR("and"),
                                          STR("11"),
                                          STR("aa"),
                                          STR("aaaa"),
                                          STR("\xe2\x96\x81"),
                                          STR("\xe2\x96\x81th"),
                                          STR("\xe2\x96\x81the"),
                                          STR("\xc4\xa0t"),
                                          STR("\xc4\xa0th"),
                                          STR("\xc4\xa0the")};
    static const int32_t kinds[] = {2, 3, 3, 3, 4, 4};
    static const struct fm_str merges[] = {STR("t h"), STR("\xc4\xa0 t"), STR("\xc4\xa0t h"), STR("\xc4\xa0th e"),
                                           STR("h e"), STR("a a"),        STR("aa aa"),       STR("1 1"),
                                           STR("a n"), STR("an d")};
    enum { WORDS = sizeof words / sizeof *words, ALL = WORDS + 256 };
    struct fm_str tokens[ALL];
    int32_t types[ALL];
    float scores[ALL];
    static char names[256][8];
    for (int i = 0; i < ALL; i++) {
        int byte = i - WORDS;
        types[i] = i < 6 ? kinds[i] : 1;
        scores[i] = (float)-(i % 13);
        if (byte < 0) {
            tokens[i] = words[i];
            continue;
        }
        if (style == 1 || style == 2) {
            types[i] = 6;
            tokens[i] = (struct fm_str){names[byte], (size_t)snprintf(names[byte], 8, "<0x%02X>", byte)};
        } else { // the alphabet of bytes; for WordPiece just characters
            uint32_t shifted = byte <= 0x20                   ? 0x100 + byte
                               : byte >= 0x7f && byte <= 0xa0 ? 0x121 + byte - 0x7f
                               : byte == 0xad                 ? 0x143
                                                              : byte;
            tokens[i] = (struct fm_str){names[byte], fm__utf8_encode((uint32_t)shifted, names[byte])};
        }
    }
    struct gguf_bytes bytes = {0};
    gguf_add_str(&bytes, "tokenizer.ggml.model", models[style]);
    gguf_add_str(&bytes, "tokenizer.ggml.pre", "llama-bpe");
    gguf_add_strs(&bytes, "tokenizer.ggml.tokens", tokens, ALL);
    gguf_add_array(&bytes, "tokenizer.ggml.token_type", FM_GGUF_I32, types, ALL);
    gguf_add_array(&bytes, "tokenizer.ggml.scores", FM_GGUF_F32, scores, ALL);
    gguf_add_strs(&bytes, "tokenizer.ggml.merges", merges, sizeof merges / sizeof *merges);
    gguf_add_u32(&bytes, "tokenizer.ggml.unknown_token_id", 0);
    gguf_add_u32(&bytes, "tokenizer.ggml.bos_token_id", 1);
    gguf_add_u32(&bytes, "tokenizer.ggml.eos_token_id", 2);
    gguf_add_u32(&bytes, "tokenizer.ggml.seperator_token_id", 2);
    gguf_add_bool(&bytes, "tokenizer.ggml.add_space_prefix", 1);
    return finish(&bytes, 1);
}

// A vocabulary from the input: a byte of length, a byte of type and score, then the token; 0 ends it. What is left over
// is the normalisation table and, again, the text.
static struct fm_tokenizer *make_from(int style, const uint8_t **data, size_t *n)
{
    static const char *const models[] = {"gpt2", "llama", "t5", "bert"};
    struct fm_str tokens[256];
    int32_t types[256];
    float scores[256];
    uint64_t count = 0;
    while (count < 256 && *n >= 2 && (*data)[0]) {
        size_t length = (*data)[0] & 31;
        types[count] = (*data)[1] & 7;
        scores[count] = (float)((*data)[1] >> 3) - 20;
        *data += 2, *n -= 2;
        if (length > *n) length = *n;
        tokens[count++] = (struct fm_str){(const char *)*data, length};
        *data += length, *n -= length;
    }
    struct gguf_bytes bytes = {0};
    gguf_add_str(&bytes, "tokenizer.ggml.model", models[style]);
    gguf_add_strs(&bytes, "tokenizer.ggml.tokens", tokens, count);
    gguf_add_array(&bytes, "tokenizer.ggml.token_type", FM_GGUF_I32, types, count);
    gguf_add_array(&bytes, "tokenizer.ggml.scores", FM_GGUF_F32, scores, count);
    gguf_add_strs(&bytes, "tokenizer.ggml.merges", tokens, count / 2);
    gguf_add_u32(&bytes, "tokenizer.ggml.unknown_token_id", 0);
    gguf_add_u32(&bytes, "tokenizer.ggml.bos_token_id", 1);
    gguf_add_u32(&bytes, "tokenizer.ggml.eos_token_id", 1);
    gguf_add_u32(&bytes, "tokenizer.ggml.seperator_token_id", 1);
    gguf_add_array(&bytes, "tokenizer.ggml.precompiled_charsmap", FM_GGUF_U8, *data, *n);
    gguf_add_bool(&bytes, "tokenizer.ggml.remove_extra_whitespaces", count & 1);
    return finish(&bytes, 0);
}

static void check(const struct fm_tokenizer *tok, const uint8_t *data, size_t n, unsigned flags)
{
    struct fm_error err;
    struct fm_encode_args args = {(const char *)data, n, flags};
    size_t n_ids, again, n_text, n_stream = 0;
    if (fm_tokenizer_encode(tok, &args, NULL, 0, &n_ids, &err) != FM_OK) return;
    int32_t *ids = malloc(n_ids * sizeof *ids + 1);
    must(ids && fm_tokenizer_encode(tok, &args, ids, n_ids, &again, &err) == FM_OK && again == n_ids,
         "encodes otherwise");
    struct fm_decode_args back = {ids, n_ids, FM_DECODE_SPECIAL};
    must(fm_tokenizer_decode(tok, &back, NULL, 0, &n_text, &err) == FM_OK, "does not decode");
    char *text = malloc(n_text + 1);
    must(text && fm_tokenizer_decode(tok, &back, text, n_text, &again, &err) == FM_OK && again == n_text,
         "decodes otherwise");
    if (n_ids && fm_tokenizer_get_style(tok) == FM_TOKENIZER_BPE && fm_tokenizer_n_vocab(tok) > 256 && !(flags & 1) &&
        fm__utf8_is_canonical((const char *)data, n))
        must(n_text == n && !memcmp(text, data, n), "does not come back");
    struct fm_detok *d;
    struct fm_str part;
    must(fm_detok_new(tok, FM_DETOK_SPECIAL, &d, &err) == FM_OK, "no stream");
    for (size_t i = 0; i <= n_ids; i++) {
        if (i < n_ids)
            must(fm_detok_push(d, ids[i], &part, &err) == FM_OK, "stream stops");
        else
            part = fm_detok_finish(d);
        must(n_stream + part.n <= n_text && !memcmp(text + n_stream, part.p, part.n), "stream differs");
        n_stream += part.n;
    }
    must(n_stream == n_text, "stream is short");
    fm_detok_free(d);
    free(ids), free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fm_tokenizer *ready[4]; // for the life of the process
    if (!size) return 0;
    int choice = data[0] & 7;
    unsigned flags = data[0] >> 3 & 3;
    data++, size--;
    if (choice < 4) {
        if (!ready[choice]) ready[choice] = make(choice);
        check(ready[choice], data, size, flags);
        return 0;
    }
    struct fm_tokenizer *tok = make_from(choice - 4, &data, &size);
    if (tok) check(tok, data, size, flags);
    fm_tokenizer_free(tok);
    return 0;
}

// SPDX-License-Identifier: MIT
// Tokenizers against the vectors of tests/data/tokenizers (what llama.cpp and sentencepiece encode), back again, in
// streams, on hostile text and wrong metadata, without memory, and from several threads.
#include "support/support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fathom/tokenizer.h"
#include "support/gguf_bytes.h"
#include "text/tok_pre.h"

static struct fm_tokenizer *load(const char *name, const char *override)
{
    struct fm_error err = {0};
    struct fm_gguf *g;
    struct fm_tokenizer *tok;
    char path[128];
    snprintf(path, sizeof path, "tokenizers/%s.gguf", name);
    struct fm_gguf_open_opts opts = {.vocab_only = true};
    assert_ok(fm_gguf_open(test_data(path), &opts, &g, &err), err);
    if (override) assert_ok(fm_gguf_override(g, override, &err), err);
    assert_ok(fm_tokenizer_new(g, &tok, &err), err);
    fm_gguf_close(g); // the tokenizer keeps nothing of it
    return tok;
}

// The ids of a text; the caller frees. Asks for the number first, as a caller without a bound would.
static int32_t *encode(const struct fm_tokenizer *tok, struct fm_str text, unsigned flags, size_t *n)
{
    struct fm_error err = {0};
    struct fm_encode_args args = {text.p, text.n, flags};
    size_t again;
    assert_ok(fm_tokenizer_encode(tok, &args, NULL, 0, n, &err), err);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    assert_non_null(ids);
    ids[*n] = -7;
    assert_ok(fm_tokenizer_encode(tok, &args, ids, *n, &again, &err), err);
    assert_int_equal(again, *n);
    assert_int_equal(ids[*n], -7);
    return ids;
}

static struct fm_str decode(const struct fm_tokenizer *tok, const int32_t *ids, size_t n, unsigned flags)
{
    struct fm_error err = {0};
    struct fm_decode_args args = {ids, n, flags};
    size_t n_bytes, again;
    assert_ok(fm_tokenizer_decode(tok, &args, NULL, 0, &n_bytes, &err), err);
    char *text = malloc(n_bytes + 1);
    assert_non_null(text);
    text[n_bytes] = 'z';
    assert_ok(fm_tokenizer_decode(tok, &args, text, n_bytes, &again, &err), err);
    assert_int_equal(again, n_bytes);
    assert_int_equal(text[n_bytes], 'z');
    return (struct fm_str){text, n_bytes};
}

// --- vectors ---

struct vector {
    unsigned flags;
    char text[4096];
    size_t n_text, n_ids;
    int32_t ids[4096];
};

// Reads one line "flags hex: ids"; false at the end.
static bool read_vector(FILE *f, struct vector *v)
{
    static char line[65536];
    if (!fgets(line, sizeof line, f)) return false;
    char *at = line;
    v->flags = (unsigned)strtoul(at, &at, 10);
    v->n_text = v->n_ids = 0;
    at++;
    if (*at == '-') at++;
    for (; *at != ':'; at += 2) {
        unsigned byte;
        assert_int_equal(sscanf(at, "%2x", &byte), 1);
        v->text[v->n_text++] = (char)byte;
    }
    for (at++; *at == ' ';) v->ids[v->n_ids++] = (int32_t)strtol(at, &at, 10);
    return true;
}

static FILE *open_vectors(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "tokenizers/%s.txt", name);
    FILE *f = fopen(test_data(path), "r");
    if (!f) fail_msg("%s: cannot open", path);
    return f;
}

static void check_vectors(const struct fm_tokenizer *tok, const char *name)
{
    static struct vector v;
    FILE *f = open_vectors(name);
    int n_vectors = 0;
    for (; read_vector(f, &v); n_vectors++) {
        size_t n;
        int32_t *ids = encode(tok, (struct fm_str){v.text, v.n_text}, v.flags, &n);
        for (size_t i = 0; i < n && i < v.n_ids; i++)
            if (ids[i] != v.ids[i])
                fail_msg("%s, vector %d: id %zu is %d, want %d; text \"%.*s\"", name, n_vectors, i, ids[i], v.ids[i],
                         (int)v.n_text, v.text);
        if (n != v.n_ids) fail_msg("%s, vector %d: %zu ids, want %zu", name, n_vectors, n, v.n_ids);
        free(ids);
    }
    fclose(f);
    assert_true(n_vectors >= 20);
}

static const char *const vocabularies[] = {"bpe", "spm", "unigram", "unigram_bytes", "wordpiece"};
enum { N_VOCABULARIES = 5 };

static void vectors_match(void **state)
{
    (void)state;
    for (int i = 0; i < N_VOCABULARIES; i++) {
        struct fm_tokenizer *tok = load(vocabularies[i], NULL);
        check_vectors(tok, vocabularies[i]);
        check_vectors(tok, vocabularies[i]); // again, with the memo of whole tokens filled
        fm_tokenizer_free(tok);
    }
    struct fm_tokenizer *phi = load("spm", "general.name=str:Phi-3-fixture");
    check_vectors(phi, "spm_phi-3");
    fm_tokenizer_free(phi);
}

static void pre_vectors_match(void **state)
{
    (void)state;
    static const char *const names[] = {"default",    "gpt-2",      "smollm",       "falcon",         "llama-bpe",
                                        "jais-2",     "qwen2",      "qwen35",       "minicpm5",       "bailingmoe",
                                        "seed-coder", "exaone-moe", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                                        "bloom",      "viking",     "chameleon",    "tekken",         "gpt-4o"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char override[96], vectors[96];
        snprintf(override, sizeof override, "tokenizer.ggml.pre=str:%s", names[i]);
        snprintf(vectors, sizeof vectors, "pre_%s", names[i]);
        struct fm_tokenizer *tok = load("bpe", override);
        check_vectors(tok, vectors);
        fm_tokenizer_free(tok);
    }
}

// Every name of the table compiles, and its pieces cover a text that has everything in it.
static void every_pre_covers(void **state)
{
    (void)state;
    const char text[] = "It's 12345 x\t\r\n  \n\"é\xcc\x81中文 αβ 한국어 <sentinel:1> IMGIMGABZ  ÀB/\n";
    int n_names = 0;
    for (const struct fm__pre_entry *e; (e = fm__pre_at((size_t)n_names)) != NULL; n_names++) {
        char override[96];
        snprintf(override, sizeof override, "tokenizer.ggml.pre=str:%s", e->name);
        struct fm_tokenizer *tok = load("bpe", override);
        size_t n;
        int32_t *ids = encode(tok, (struct fm_str){text, sizeof text - 1}, 0, &n);
        struct fm_str back = decode(tok, ids, n, 0);
        if (back.n != sizeof text - 1 || memcmp(back.p, text, back.n) != 0)
            fail_msg("%s: \"%.*s\"", e->name, (int)back.n, back.p);
        free(ids), free((char *)back.p);
        fm_tokenizer_free(tok);
    }
    assert_true(n_names > 60);
}

// --- there and back ---

static bool is_valid_utf8(struct fm_str s)
{
    for (size_t i = 0; i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        if (!n || i + n > s.n) return false;
        for (size_t k = 1; k < n; k++)
            if (((unsigned char)s.p[i + k] & 0xc0) != 0x80) return false;
        unsigned char second = n > 2 ? (unsigned char)s.p[i + 1] : 0; // overlong, surrogates, beyond U+10FFFF
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second >= 0xa0) || (c == 0xf0 && second < 0x90) ||
            (c == 0xf4 && second >= 0x90))
            return false;
        i += n;
    }
    return true;
}

// BPE and SPM give any valid text back byte for byte.
static void round_trips(void **state)
{
    (void)state;
    static struct vector v;
    for (int i = 0; i < 2; i++) {
        struct fm_tokenizer *tok = load(vocabularies[i], i ? NULL : "tokenizer.ggml.add_space_prefix=bool:true");
        FILE *f = open_vectors(vocabularies[i]);
        int n_texts = 0;
        while (read_vector(f, &v)) {
            // broken text becomes U+FFFD, or, in SPM, its lead bytes swallow the mark of a space (as in llama.cpp); and
            // U+2581 is a space to SPM
            if (!is_valid_utf8((struct fm_str){v.text, v.n_text}) || memmem(v.text, v.n_text, "\xe2\x96\x81", 3))
                continue;
            // special tokens come back when they are asked for, but then BOS and EOS do too
            unsigned flags = v.flags & FM_ENCODE_PARSE_SPECIAL ? FM_DECODE_SPECIAL : 0;
            if (flags && v.flags & FM_ENCODE_ADD_SPECIAL) continue;
            struct fm_str back = decode(tok, v.ids, v.n_ids, flags);
            if (back.n != v.n_text || memcmp(back.p, v.text, back.n) != 0)
                fail_msg("%s: flags %u \"%.*s\" came back as \"%.*s\"", vocabularies[i], v.flags, (int)v.n_text, v.text,
                         (int)back.n, back.p);
            n_texts++;
            free((char *)back.p);
        }
        fclose(f);
        assert_true(n_texts > 40);
        fm_tokenizer_free(tok);
    }
}

static void decoding_strips_one_space(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = load("spm", NULL);
    size_t n;
    int32_t *ids = encode(tok, (struct fm_str){"  two", 5}, 0, &n);
    struct fm_str plain = decode(tok, ids, n, 0), kept = decode(tok, ids, n, FM_DECODE_KEEP_PREFIX);
    assert_int_equal(plain.n, 5);
    assert_memory_equal(plain.p, "  two", 5);
    assert_int_equal(kept.n, 6);
    assert_memory_equal(kept.p, "   two", 6);
    free(ids), free((char *)plain.p), free((char *)kept.p);
    struct fm_error err;
    int32_t outside = fm_tokenizer_n_vocab(tok);
    struct fm_decode_args args = {&outside, 1, 0};
    assert_int_equal(fm_tokenizer_decode(tok, &args, NULL, 0, &n, &err), FM_E_ARG);
    fm_tokenizer_free(tok);
}

static void few_ids_fit(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = load("bpe", NULL);
    struct fm_error err = {0};
    struct fm_encode_args args = {"the quick brown fox", 19, FM_ENCODE_ADD_SPECIAL};
    size_t n, n_all;
    int32_t *all = encode(tok, (struct fm_str){args.text, args.n}, args.flags, &n_all);
    for (size_t cap = 0; cap <= n_all; cap++) {
        int32_t ids[64];
        memset(ids, 0x55, sizeof ids);
        assert_ok(fm_tokenizer_encode(tok, &args, ids, cap, &n, &err), err);
        assert_int_equal(n, n_all);
        assert_memory_equal(ids, all, cap * sizeof *ids);
        assert_int_equal(ids[cap], 0x55555555);
    }
    assert_int_equal(all[0], fm_tokenizer_role(tok, FM_TOKEN_BOS));
    assert_int_equal(all[n_all - 1], fm_tokenizer_role(tok, FM_TOKEN_EOS));
    free(all);
    fm_tokenizer_free(tok);
}

// --- streams ---

static void check_stream(const struct fm_tokenizer *tok, const int32_t *ids, size_t n_ids, unsigned flags)
{
    struct fm_error err = {0};
    struct fm_detok *d;
    static char all[65536];
    size_t n = 0;
    struct fm_str want = decode(tok, ids, n_ids, flags & 3), part;
    assert_ok(fm_detok_new(tok, flags, &d, &err), err);
    for (int round = 0; round < 2; round++) { // finish starts anew
        n = 0;
        bool valid_text = is_valid_utf8(want);
        for (size_t i = 0; i <= n_ids; i++) {
            if (i < n_ids)
                assert_ok(fm_detok_push(d, ids[i], &part, &err), err);
            else
                part = fm_detok_finish(d);
            if (valid_text || flags & FM_DETOK_VALID) assert_true(is_valid_utf8(part));
            memcpy(all + n, part.p, part.n);
            n += part.n;
        }
        if (valid_text || !(flags & FM_DETOK_VALID)) {
            assert_int_equal(n, want.n);
            assert_memory_equal(all, want.p, n);
        }
    }
    assert_int_equal(fm_detok_push(d, -1, &part, &err), FM_E_ARG);
    fm_detok_free(d);
    free((char *)want.p);
}

static void streams_hold_back(void **state)
{
    (void)state;
    static struct vector v;
    for (int i = 0; i < N_VOCABULARIES; i++) {
        struct fm_tokenizer *tok = load(vocabularies[i], NULL);
        FILE *f = open_vectors(vocabularies[i]);
        while (read_vector(f, &v))
            for (unsigned flags = 0; flags < 8; flags++) check_stream(tok, v.ids, v.n_ids, flags);
        fclose(f);
        // bytes in an order that no text has
        int32_t bytes[512];
        unsigned seed = 1;
        for (int k = 0; k < 512; k++) bytes[k] = (int32_t)((seed = seed * 1103515245 + 12345) >> 16) % 256;
        check_stream(tok, bytes, 512, 0);
        check_stream(tok, bytes, 512, FM_DETOK_VALID);
        fm_tokenizer_free(tok);
    }
}

static void stream_waits_for_the_last_byte(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = load("bpe", NULL);
    struct fm_error err = {0};
    struct fm_detok *d;
    struct fm_str out;
    assert_ok(fm_detok_new(tok, FM_DETOK_VALID, &d, &err), err);
    const char *smile[4] = {"ð", "Ł", "ĺ", "Ģ"}; // F0 9F 98 80 in the alphabet of bytes
    for (int i = 0; i < 4; i++) {
        int32_t id = fm_tokenizer_find(tok, (struct fm_str){smile[i], 2});
        assert_true(id >= 0);
        assert_ok(fm_detok_push(d, id, &out, &err), err);
        assert_int_equal(out.n, i == 3 ? 4 : 0);
    }
    assert_memory_equal(out.p, "\xf0\x9f\x98\x80", 4);
    assert_ok(fm_detok_push(d, fm_tokenizer_find(tok, (struct fm_str){smile[0], 2}), &out, &err), err);
    out = fm_detok_finish(d);
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.p, "\xef\xbf\xbd", 3);
    fm_detok_free(d);
    fm_tokenizer_free(tok);
}

// --- hostile text: each case would take hours, or all memory, if anything were quadratic ---

static void long_texts_end(void **state)
{
    (void)state;
    static const char *const units[] = {
        "a",   " ",      "\n",     "ab", " \n", "1",        "\xe4\xb8\xad", "\xff",
        "<a>", "<a><b>", "<b><c>", "A",  "'",   "\xcc\x81", "\xe3\x80\x80", "\xe2\x96\x81"};
    size_t n = 1 << 20;
    char *text = malloc(n + 2);
    assert_non_null(text);
    for (int i = 0; i < N_VOCABULARIES; i++) {
        struct fm_tokenizer *tok = load(vocabularies[i], i ? NULL : "tokenizer.ggml.pre=str:deepseek-llm");
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t width = strlen(units[u]), n_ids;
            for (size_t at = 0; at + width <= n; at += width) memcpy(text + at, units[u], width);
            size_t n_text = n - n % width;
            text[n_text++] = 'x'; // so that no run is at the end
            struct fm_error err = {0};
            struct fm_encode_args args = {text, n_text, FM_ENCODE_PARSE_SPECIAL};
            assert_ok(fm_tokenizer_encode(tok, &args, NULL, 0, &n_ids, &err), err);
            assert_true(n_ids >= 1 && n_ids <= 3 * n_text + 2);
        }
        fm_tokenizer_free(tok);
    }
    free(text);
}

// The other pre-tokenisers on the texts that are worst for patterns.
static void long_texts_end_in_every_pattern(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2",  "llama-bpe",   "qwen35", "tekken", "gpt-4o",   "exaone-moe",
                                        "jais-2", "deepseek-v3", "youtu",  "bloom",  "chameleon"};
    static const char *const units[] = {" ", "A", "a b ", "\n ", "1", "! "};
    size_t n = 1 << 18;
    char *text = malloc(n + 2);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char override[96];
        snprintf(override, sizeof override, "tokenizer.ggml.pre=str:%s", names[i]);
        struct fm_tokenizer *tok = load("bpe", override);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t width = strlen(units[u]), n_ids;
            for (size_t at = 0; at + width <= n; at += width) memcpy(text + at, units[u], width);
            struct fm_error err = {0};
            struct fm_encode_args args = {text, n - n % width + 1, 0};
            text[args.n - 1] = 'x';
            assert_ok(fm_tokenizer_encode(tok, &args, NULL, 0, &n_ids, &err), err);
        }
        fm_tokenizer_free(tok);
    }
    free(text);
}

// --- wrong metadata ---

struct wrong {
    const char *what, *names; // part of the error's text
    fm_status code;
};

#define STR(s)           \
    {                    \
        s, sizeof(s) - 1 \
    }

static void put_vocabulary(struct gguf_bytes *g, int wrong)
{
    static const struct fm_str tokens[] = {STR("a"), STR("b"), STR("ab"), STR("<unk>")};
    static const struct fm_str doubled[] = {STR("a"), STR("b"), STR("a"), STR("<unk>")};
    static const struct fm_str merges[] = {STR("a b")}, no_space[] = {STR("ab")};
    static const float scores[] = {0, 0, 1, 0}, infinite[] = {0, 0, 1e30f * 1e30f, 0};
    static const int32_t types[] = {1, 1, 1, 2};
    static char longest[20000];
    struct fm_str too_long[4] = {{longest, sizeof longest}, STR("b"), STR("ab"), STR("<unk>")};
    memset(longest, 'x', sizeof longest);
    gguf_add_str(g, "general.architecture", "llama");
    if (wrong != 0)
        gguf_add_str(g, "tokenizer.ggml.model",
                     wrong == 1    ? "rot13"
                     : wrong == 9  ? "t5"
                     : wrong == 11 ? "bert"
                                   : "gpt2");
    if (wrong == 2) gguf_add_str(g, "tokenizer.ggml.pre", "no-such-pre");
    if (wrong == 4)
        gguf_add_array(g, "tokenizer.ggml.tokens", FM_GGUF_I32, types, 4);
    else if (wrong != 3)
        gguf_add_strs(g, "tokenizer.ggml.tokens", wrong == 5 ? doubled : wrong == 12 ? too_long : tokens, 4);
    gguf_add_array(g, "tokenizer.ggml.scores", FM_GGUF_F32, wrong == 10 ? infinite : scores, wrong == 6 ? 3 : 4);
    gguf_add_array(g, "tokenizer.ggml.token_type", FM_GGUF_I32, types, 4);
    if (wrong != 7) gguf_add_strs(g, "tokenizer.ggml.merges", wrong == 8 ? no_space : merges, 1);
    if (wrong == 9) {
        gguf_add_u32(g, "tokenizer.ggml.unknown_token_id", 3);
        gguf_add_array(g, "tokenizer.ggml.precompiled_charsmap", FM_GGUF_U8, "\xff\xff\xff\x7f trie", 9);
    }
    if (wrong == 13) gguf_add_bool(g, "tokenizer.ggml.add_bos_token", 1);
}

static void wrong_metadata_is_named(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {"no model", "tokenizer.ggml.model: missing", FM_E_FORMAT},
        {"unknown model", "\"rot13\"", FM_E_UNSUPPORTED},
        {"unknown pre", "\"no-such-pre\"", FM_E_UNSUPPORTED},
        {"no tokens", "tokenizer.ggml.tokens: missing", FM_E_FORMAT},
        {"tokens of another type", "tokenizer.ggml.tokens", FM_E_FORMAT},
        {"two equal tokens", "0 and 2 are both \"a\"", FM_E_FORMAT},
        {"too few scores", "tokenizer.ggml.scores: 3 entries, want 4", FM_E_FORMAT},
        {"no merges", "tokenizer.ggml.merges: missing", FM_E_FORMAT},
        {"a merge without a space", "merges[0]", FM_E_FORMAT},
        {"a table longer than itself", "precompiled_charsmap", FM_E_FORMAT},
        {"infinite score", "scores[2]", FM_E_FORMAT},
        {"WordPiece without its tokens", "WordPiece needs", FM_E_FORMAT},
        {"a token too long", "20000 bytes", FM_E_LIMIT},
        {"BOS without a BOS", "add_bos_token", FM_E_FORMAT},
    };
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases) + 1; i++) {
        struct gguf_bytes bytes = {0};
        struct fm_error err = {0};
        struct fm_gguf *g;
        struct fm_tokenizer *tok;
        put_vocabulary(&bytes, i);
        assert_ok(gguf_bytes_open(&bytes, &g, &err), err);
        fm_status status = fm_tokenizer_new(g, &tok, &err);
        if (i == sizeof cases / sizeof *cases) { // nothing wrong
            assert_ok(status, err);
            size_t n;
            int32_t *ids = encode(tok, (struct fm_str){"abba", 4}, 0, &n);
            assert_int_equal(n, 3);
            assert_int_equal(ids[0], 2);
            free(ids);
        } else {
            if (status != cases[i].code || !strstr(err.text, cases[i].names))
                fail_msg("%s: %d %s", cases[i].what, status, err.text);
            assert_null(tok);
        }
        fm_tokenizer_free(tok);
        fm_gguf_close(g);
        free(bytes.p);
    }
}

// What the vectors' vocabularies are too regular to show.

static struct fm_tokenizer *small(const char *model, const char *pre, const struct fm_str tokens[5])
{
    static const int32_t types[] = {2, 1, 1, 1, 1};
    static const float scores[] = {0, -1, -2, -5, -6};
    static const struct fm_str merges[] = {STR("a b")};
    struct gguf_bytes bytes = {0};
    struct fm_error err = {0};
    struct fm_gguf *g;
    struct fm_tokenizer *tok;
    gguf_add_str(&bytes, "tokenizer.ggml.model", model);
    gguf_add_str(&bytes, "tokenizer.ggml.pre", pre);
    gguf_add_strs(&bytes, "tokenizer.ggml.tokens", tokens, 5);
    gguf_add_array(&bytes, "tokenizer.ggml.token_type", FM_GGUF_I32, types, 5);
    gguf_add_array(&bytes, "tokenizer.ggml.scores", FM_GGUF_F32, scores, 5);
    gguf_add_strs(&bytes, "tokenizer.ggml.merges", merges, 1);
    gguf_add_u32(&bytes, "tokenizer.ggml.unknown_token_id", 0);
    gguf_add_bool(&bytes, "tokenizer.ggml.add_bos_token", 0);
    assert_ok(gguf_bytes_open(&bytes, &g, &err), err);
    assert_ok(fm_tokenizer_new(g, &tok, &err), err);
    fm_gguf_close(g);
    free(bytes.p);
    return tok;
}

static void expect(struct fm_tokenizer *tok, const char *text, size_t n_want, const int32_t *want)
{
    size_t n;
    for (int round = 0; round < 2; round++) { // the second with the memo of whole tokens
        int32_t *ids = encode(tok, (struct fm_str){text, strlen(text)}, 0, &n);
        assert_int_equal(n, n_want);
        assert_memory_equal(ids, want, n * sizeof *ids);
        free(ids);
    }
    fm_tokenizer_free(tok);
}

static void a_token_that_no_merge_makes(void **state)
{
    (void)state;
    static const struct fm_str tokens[5] = {STR("a"), STR("b"), STR("c"), STR("ab"), STR("abc")};
    expect(small("gpt2", "gpt-2", tokens), "abc", 2, (const int32_t[]){3, 2});
    expect(small("gpt2", "llama-bpe", tokens), "abc", 1, (const int32_t[]){4}); // it says so: merges are ignored
}

static void an_unknown_character_costs_most(void **state)
{
    (void)state;
    static const struct fm_str tokens[5] = {STR("<unk>"), STR("y"), STR("z"), STR("xy"), STR("zy")};
    expect(small("t5", "", tokens), "xy", 1, (const int32_t[]){3});          // -5, not unknown and -1
    expect(small("t5", "", tokens), "zyqqx", 3, (const int32_t[]){2, 1, 0}); // -3, not -6; a run is one unknown
}

static void null_arguments_are_refused(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_tokenizer *tok = load("bpe", NULL), *none = tok;
    size_t n = 9;
    int32_t id;
    assert_int_equal(fm_tokenizer_new(NULL, &none, &err), FM_E_ARG);
    assert_null(none);
    assert_int_equal(fm_tokenizer_encode(tok, NULL, &id, 1, &n, &err), FM_E_ARG);
    assert_int_equal(n, 0);
    struct fm_encode_args args = {NULL, 1, 0}, huge = {"x", (size_t)1 << 40, 0}, empty = {NULL, 0, 0};
    assert_int_equal(fm_tokenizer_encode(tok, &args, &id, 1, &n, &err), FM_E_ARG);
    assert_int_equal(fm_tokenizer_encode(tok, &huge, &id, 1, &n, &err), FM_E_LIMIT);
    assert_int_equal(fm_tokenizer_encode(tok, &empty, NULL, 0, &n, &err), FM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(fm_tokenizer_token_text(tok, -1).n, 0);
    assert_int_equal(fm_tokenizer_token_type(tok, 1 << 30), FM_TOKEN_UNUSED);
    fm_tokenizer_free(tok);
    fm_tokenizer_free(NULL);
    fm_detok_free(NULL);
}

// --- roles ---

static void roles_and_types(void **state)
{
    (void)state;
    struct fm_tokenizer *tok = load("bpe", NULL);
    int32_t end = fm_tokenizer_find(tok, (struct fm_str)STR("<|im_end|>"));
    int32_t think = fm_tokenizer_find(tok, (struct fm_str)STR("<think>"));
    assert_int_equal(end, fm_tokenizer_role(tok, FM_TOKEN_EOS));
    assert_int_equal(end, fm_tokenizer_role(tok, FM_TOKEN_EOT)); // by its text
    assert_int_equal(fm_tokenizer_role(tok, FM_TOKEN_PAD), -1);
    assert_true(fm_tokenizer_is_eog(tok, end));
    assert_true(fm_tokenizer_is_eog(tok, fm_tokenizer_find(tok, (struct fm_str)STR("<|endoftext|>"))));
    assert_false(fm_tokenizer_is_eog(tok, think));
    assert_int_equal(fm_tokenizer_token_type(tok, end), FM_TOKEN_CONTROL);
    assert_int_equal(fm_tokenizer_token_type(tok, think), FM_TOKEN_USER_DEFINED);
    int32_t the = fm_tokenizer_find(tok, (struct fm_str)STR("\xc4\xa0the"));
    struct fm_str bytes = fm_tokenizer_token_bytes(tok, the);
    assert_int_equal(bytes.n, 4);
    assert_memory_equal(bytes.p, " the", 4);
    assert_int_equal(fm_tokenizer_find(tok, (struct fm_str)STR("no such token")), -1);
    assert_int_equal(fm_tokenizer_get_style(tok), FM_TOKENIZER_BPE);
    assert_true(fm_tokenizer_adds_bos(tok) && fm_tokenizer_adds_eos(tok));
    fm_tokenizer_free(tok);
}

// --- the n-th allocation fails ---

static void no_memory_is_clean(void **state)
{
    (void)state;
    static const char text[] = "It's <think> 12 \xe4\xb8\xad\xff "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa <|user|> <sep>x";
    for (int i = 0; i < N_VOCABULARIES; i++) {
        char path[128];
        struct fm_error err = {0};
        struct fm_gguf *g;
        struct fm_gguf_open_opts opts = {.vocab_only = true};
        snprintf(path, sizeof path, "tokenizers/%s.gguf", vocabularies[i]);
        assert_ok(fm_gguf_open(test_data(path), &opts, &g, &err), err);
        int failures = 0;
        for (int64_t nth = 0;; nth++) {
            struct fm_tokenizer *tok = NULL;
            struct fm_detok *d = NULL;
            int32_t ids[512];
            size_t n;
            struct fm_encode_args args = {text, sizeof text - 1, FM_ENCODE_PARSE_SPECIAL};
            fm__alloc_fail_after(nth, false);
            fm_status status = fm_tokenizer_new(g, &tok, &err);
            if (status == FM_OK) status = fm_tokenizer_encode(tok, &args, ids, 512, &n, &err);
            if (status == FM_OK) status = fm_detok_new(tok, 0, &d, &err);
            fm__alloc_fail_after(-1, false);
            fm_detok_free(d);
            fm_tokenizer_free(tok);
            if (status == FM_OK) break;
            if (status != FM_E_NOMEM) fail_msg("%s, allocation %d: %s", vocabularies[i], (int)nth, err.text);
            failures++;
        }
        assert_true(failures > 10);
        fm_gguf_close(g);
    }
}

// --- threads ---

static void *encode_often(void *arg)
{
    const struct fm_tokenizer *tok = arg;
    static const char text[] = "the and ing of to in that the that of ing ed er";
    for (int i = 0; i < 200; i++) {
        int32_t ids[128];
        size_t n;
        struct fm_encode_args args = {text + i % 7, sizeof text - 1 - (size_t)(i % 7), 0};
        if (fm_tokenizer_encode(tok, &args, ids, 128, &n, NULL) != FM_OK) return (void *)1;
    }
    return NULL;
}

static void threads_share(void **state)
{
    (void)state;
    for (int i = 0; i < N_VOCABULARIES; i++) {
        struct fm_tokenizer *tok = load(vocabularies[i], NULL);
        pthread_t threads[4];
        for (int t = 0; t < 4; t++) assert_int_equal(pthread_create(&threads[t], NULL, encode_often, tok), 0);
        for (int t = 0; t < 4; t++) {
            void *failed;
            pthread_join(threads[t], &failed);
            assert_null(failed);
        }
        fm_tokenizer_free(tok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_match),
        cmocka_unit_test(pre_vectors_match),
        cmocka_unit_test(every_pre_covers),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(decoding_strips_one_space),
        cmocka_unit_test(few_ids_fit),
        cmocka_unit_test(streams_hold_back),
        cmocka_unit_test(stream_waits_for_the_last_byte),
        cmocka_unit_test(long_texts_end),
        cmocka_unit_test(long_texts_end_in_every_pattern),
        cmocka_unit_test(wrong_metadata_is_named),
        cmocka_unit_test(null_arguments_are_refused),
        cmocka_unit_test(roles_and_types),
        cmocka_unit_test(a_token_that_no_merge_makes),
        cmocka_unit_test(an_unknown_character_costs_most),
        cmocka_unit_test(no_memory_is_clean),
        cmocka_unit_test(threads_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

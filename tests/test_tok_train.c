// SPDX-License-Identifier: MIT
// Trained tokenizers: merges of small texts worked out by hand and of a longer one by the definition (count all pairs
// anew after every merge), files that the tokenizer loads and that give every text back, blocks that cut no piece,
// refusals, no memory.
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fathom/gguf.h"
#include "fathom/tokenizer.h"
#include "text/tok_train.h"

static struct fm_error err;
static const char *const specials[] = {"<|endoftext|>", "<|user|>"};

static struct fm__tok_trainer *train(const struct fm__tok_train_args *args, const char *text, size_t n)
{
    struct fm__tok_trainer *t;
    assert_ok(fm__tok_trainer_new(args, &t, &err), err);
    assert_ok(fm__tok_trainer_add(t, text, n, &err), err);
    assert_ok(fm__tok_trainer_train(t, &err), err);
    return t;
}

static void assert_token(const struct fm__tok_trainer *t, int32_t id, const char *want)
{
    assert_int_equal(t->tokens.len[id], strlen(want));
    assert_memory_equal(t->tokens.bytes + t->tokens.at[id], want, strlen(want));
}

static void by_hand(void **unused)
{
    (void)unused;
    // pieces: "low" 5, "lower" 2, "newest" 6, "widest" 3 (Sennrich's example, each on a line of its own)
    static char text[512];
    static const struct {
        const char *word;
        int n;
    } words[] = {{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
    for (int w = 0; w < 4; w++)
        for (int i = 0; i < words[w].n; i++) strcat(strcat(text, words[w].word), "\n");
    struct fm__tok_train_args args = {.vocab_size = 256 + 2 + 5, .special = specials, .n_special = 2};
    struct fm__tok_trainer *t = train(&args, text, strlen(text));
    assert_int_equal(t->n_tokens, 263);
    assert_int_equal(t->n_merges, 5);
    assert_token(t, 0, "<|endoftext|>");
    assert_token(t, 2, "!"); // bytes in the order of GPT-2's alphabet
    assert_token(t, 2 + 93, "~");
    // "es" and "st" both occur 9 times: the id of e is smaller than that of s
    static const char *const want[] = {"es", "est", "lo", "low", "ew"};
    for (int i = 0; i < 5; i++) assert_token(t, 258 + i, want[i]);
    fm__tok_trainer_free(t);

    // overlapping pairs: aaaaa is aa aa a; (aa, aa) and (aa, a) are left
    args = (struct fm__tok_train_args){.vocab_size = 260, .min_count = 1};
    t = train(&args, "aaaaa", 5);
    assert_token(t, 256, "aa");
    assert_token(t, 257, "aaa"); // (aa, a) before (aa, aa): a has the smaller id
    assert_token(t, 258, "aaaaa");
    assert_int_equal(t->n_tokens, 259);
    fm__tok_trainer_free(t);
}

// --- by the definition ---

enum { MOST_WORDS = 4096, MOST_SYMBOLS = 64 };
struct word {
    int32_t symbols[MOST_SYMBOLS];
    int n;
};

static int64_t count_pair(const struct fm__tok_trainer *t, const struct word *words, int32_t left, int32_t right)
{
    int64_t count = 0;
    for (uint32_t w = 0; w < t->pieces.n; w++)
        for (int i = 0; i + 1 < words[w].n; i++)
            if (words[w].symbols[i] == left && words[w].symbols[i + 1] == right) count += t->counts[w];
    return count;
}

static void join(struct word *word, const struct fm__tok_merge *m)
{
    int n = 0;
    for (int i = 0; i < word->n; i++) {
        bool here = i + 1 < word->n && word->symbols[i] == m->left && word->symbols[i + 1] == m->right;
        word->symbols[n++] = here ? m->merged : word->symbols[i];
        i += here;
    }
    word->n = n;
}

// Every merge must be of a pair with the greatest count at that time, the smallest ids among equals.
static void check_merges(const struct fm__tok_trainer *t, int64_t least)
{
    static struct word words[MOST_WORDS];
    assert_true(t->pieces.n <= MOST_WORDS);
    for (uint32_t w = 0; w < t->pieces.n; w++) {
        words[w].n = (int)t->pieces.len[w];
        assert_true(words[w].n <= MOST_SYMBOLS);
        for (int i = 0; i < words[w].n; i++)
            words[w].symbols[i] = fm__strtab_find(&t->tokens, t->pieces.bytes + t->pieces.at[w] + i, 1);
    }
    for (size_t m = 0; m <= t->n_merges; m++) {
        int64_t best = 0;
        int32_t left = 0, right = 0;
        for (uint32_t w = 0; w < t->pieces.n; w++)
            for (int i = 0; i + 1 < words[w].n; i++) {
                int32_t a = words[w].symbols[i], b = words[w].symbols[i + 1];
                int64_t count = count_pair(t, words, a, b);
                bool sooner = a < left || (a == left && b < right);
                if (count > best || (count == best && sooner)) best = count, left = a, right = b;
            }
        if (m == t->n_merges) { // why it ended
            assert_true(t->n_tokens == t->args.vocab_size || best < least);
            return;
        }
        assert_true(best >= least);
        assert_int_equal(t->merges[m].left, left);
        assert_int_equal(t->merges[m].right, right);
        for (uint32_t w = 0; w < t->pieces.n; w++) join(&words[w], &t->merges[m]);
    }
}

static uint32_t state = 3;
static uint32_t random_below(uint32_t n)
{
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % n;
}

// Words over few letters, so that one token comes of several merges and pairs overlap.
static size_t make_text(char *text, size_t n, uint32_t letters)
{
    size_t at = 0;
    while (at + 20 < n) {
        for (uint32_t k = 1 + random_below(9); k; k--) text[at++] = (char)('a' + random_below(letters));
        text[at++] = random_below(5) ? ' ' : '\n';
    }
    return at;
}

static void by_the_definition(void **unused)
{
    (void)unused;
    static char text[1500];
    for (uint32_t letters = 1; letters <= 4; letters++) {
        size_t n = make_text(text, sizeof text, letters);
        struct fm__tok_train_args args = {.vocab_size = 256 + 60, .min_count = letters};
        struct fm__tok_trainer *t = train(&args, text, n);
        check_merges(t, letters);
        fm__tok_trainer_free(t);
    }
}

// --- files ---

static struct fm_tokenizer *reopen(const struct fm__tok_trainer *t)
{
    char path[4096];
    struct fm_gguf *g;
    struct fm_tokenizer *tok;
    snprintf(path, sizeof path, "%s/made.gguf", test_tmpdir());
    assert_ok(fm__tok_trainer_write(t, path, &err), err);
    assert_ok(fm_gguf_open(path, &(struct fm_gguf_open_opts){.vocab_only = true}, &g, &err), err);
    assert_ok(fm_tokenizer_new(g, &tok, &err), err);
    fm_gguf_close(g);
    assert_int_equal(fm_tokenizer_n_vocab(tok), t->n_tokens);
    return tok;
}

static size_t round_trip(const struct fm_tokenizer *tok, const char *text, size_t n)
{
    static int32_t ids[4096];
    static char back[8192];
    size_t n_ids, n_back;
    struct fm_encode_args encode = {.text = text, .n = n};
    assert_ok(fm_tokenizer_encode(tok, &encode, ids, 4096, &n_ids, &err), err);
    struct fm_decode_args decode = {.ids = ids, .n = n_ids};
    assert_ok(fm_tokenizer_decode(tok, &decode, back, sizeof back, &n_back, &err), err);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    return n_ids;
}

static const char mixed[] =
    "na\xc3\xafve caf\xc3\xa9 \xe2\x82\xac 5, \xf0\x9f\x98\x80 \xf0\x9f\x98\x81!\n\xe4\xbd\xa0\xe5\xa5\xbd \t x";

static void files(void **unused)
{
    (void)unused;
    static const enum fm__tok_kind kinds[] = {FM__TOK_BPE, FM__TOK_CHAR, FM__TOK_BYTE};
    size_t n = sizeof mixed - 1, characters = 0;
    for (size_t i = 0; i < n; i++) characters += ((unsigned char)mixed[i] & 0xc0) != 0x80;
    for (int k = 0; k < 3; k++) {
        struct fm__tok_train_args args = {
            .kind = kinds[k], .vocab_size = 300, .min_count = 1, .special = specials, .n_special = 2};
        struct fm__tok_trainer *t = train(&args, mixed, n);
        struct fm_tokenizer *tok = reopen(t);
        size_t n_ids = round_trip(tok, mixed, n);
        if (kinds[k] == FM__TOK_CHAR) assert_int_equal(n_ids, characters);
        if (kinds[k] == FM__TOK_BYTE) assert_int_equal(n_ids, n);
        if (kinds[k] == FM__TOK_BPE) assert_true(n_ids < n);
        int32_t first = fm_tokenizer_find(tok, (struct fm_str){specials[0], strlen(specials[0])});
        assert_int_equal(first, kinds[k] == FM__TOK_BYTE ? 256 : 0);
        assert_int_equal(fm_tokenizer_role(tok, FM_TOKEN_EOS), first);
        assert_true(fm_tokenizer_is_eog(tok, first));
        assert_int_equal(fm_tokenizer_token_type(tok, first + 1), FM_TOKEN_CONTROL);
        // a marker in a text is no token of it unless asked for
        struct fm_encode_args encode = {.text = "<|user|>", .n = 8, .flags = FM_ENCODE_PARSE_SPECIAL};
        int32_t ids[8];
        assert_ok(fm_tokenizer_encode(tok, &encode, ids, 8, &n_ids, &err), err);
        assert_true(n_ids == 1 && ids[0] == first + 1);
        fm_tokenizer_free(tok);
        fm__tok_trainer_free(t);
    }
}

static void characters(void **unused)
{
    (void)unused;
    struct fm__tok_train_args args = {.kind = FM__TOK_CHAR};
    struct fm__tok_trainer *t = train(&args, "banana\n", 7);
    assert_int_equal(t->n_tokens, 4); // by code point
    assert_token(t, 0, "\n");
    assert_token(t, 3, "n");
    assert_int_equal(t->n_merges, 0);
    fm__tok_trainer_free(t);
    // with all bytes, what the text has not is spelt out
    args.all_bytes = true;
    t = train(&args, "banana\xc3\xa9", 8);
    assert_int_equal(t->n_tokens, 257);
    struct fm_tokenizer *tok = reopen(t);
    assert_int_equal(round_trip(tok, "b\xc3\xa9\xf0\x9f\x98\x80", 7), 2 + 4);
    fm_tokenizer_free(tok);
    fm__tok_trainer_free(t);
}

// A file of several blocks gives what its text gives in one piece.
static void blocks(void **unused)
{
    (void)unused;
    size_t n = (17u << 20) + 12345, at = 0;
    char *text = malloc(n + 64), path[4096];
    assert_non_null(text);
    static const char *const lines[] = {"the quick brown fox\n", "caf\xc3\xa9 \xe4\xbd\xa0\n",
                                        "  indented,  twice  \n\n", "x1 22 333\n"};
    while (at < n) {
        const char *line = lines[random_below(4)];
        size_t length = strlen(line);
        memcpy(text + at, line, length);
        at += length;
    }
    snprintf(path, sizeof path, "%s/long.txt", test_tmpdir());
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, at, f), at);
    fclose(f);
    struct fm__tok_train_args args = {.vocab_size = 300};
    struct fm__tok_trainer *whole = train(&args, text, at), *cut;
    assert_ok(fm__tok_trainer_new(&args, &cut, &err), err);
    assert_ok(fm__tok_trainer_add_file(cut, path, &err), err);
    assert_int_equal(cut->n_bytes, at);
    assert_int_equal(cut->pieces.n, whole->pieces.n);
    assert_memory_equal(cut->pieces.bytes, whole->pieces.bytes, whole->pieces.n_bytes);
    assert_memory_equal(cut->counts, whole->counts, whole->pieces.n * sizeof *whole->counts);
    fm__tok_trainer_free(whole);
    fm__tok_trainer_free(cut);
    free(text);
}

static bool stop(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return false;
}

static void refused(void **unused)
{
    (void)unused;
    struct fm__tok_trainer *t;
    struct fm__tok_train_args args = {.vocab_size = 255};
    assert_int_equal(fm__tok_trainer_new(&args, &t, &err), FM_E_ARG);
    args = (struct fm__tok_train_args){.vocab_size = 300, .pre = "no such"};
    assert_int_equal(fm__tok_trainer_new(&args, &t, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "no such"));
    args = (struct fm__tok_train_args){.vocab_size = 300};
    assert_ok(fm__tok_trainer_new(&args, &t, &err), err);
    assert_int_equal(fm__tok_trainer_write(t, "/nonexistent", &err), FM_E_ARG);
    assert_int_equal(fm__tok_trainer_train(t, &err), FM_E_ARG); // no text
    assert_int_equal(fm__tok_trainer_add_file(t, "/nonexistent", &err), FM_E_NOT_FOUND);
    fm__tok_trainer_free(t);
    static const char *const twice[] = {"<a>", "<a>"};
    args = (struct fm__tok_train_args){.vocab_size = 300, .special = twice, .n_special = 2};
    assert_ok(fm__tok_trainer_new(&args, &t, &err), err);
    assert_ok(fm__tok_trainer_add(t, "abc", 3, &err), err);
    assert_int_equal(fm__tok_trainer_train(t, &err), FM_E_ARG);
    fm__tok_trainer_free(t);
    // a merge that would spell a special token is left out
    static const char *const spelt[] = {"abab"};
    args = (struct fm__tok_train_args){.vocab_size = 262, .min_count = 1, .special = spelt, .n_special = 1};
    t = train(&args, "abab abab abab", 14);
    for (int32_t i = 257; i < t->n_tokens; i++)
        assert_false(t->tokens.len[i] == 4 && !memcmp(t->tokens.bytes + t->tokens.at[i], "abab", 4));
    for (size_t m = 0; m < t->n_merges; m++) assert_int_not_equal(t->merges[m].merged, 0);
    fm_tokenizer_free(reopen(t));
    fm__tok_trainer_free(t);
    char path[4096];
    snprintf(path, sizeof path, "%s/some.txt", test_tmpdir());
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs("some text", f);
    fclose(f);
    args = (struct fm__tok_train_args){.vocab_size = 300, .progress = stop};
    assert_ok(fm__tok_trainer_new(&args, &t, &err), err);
    assert_int_equal(fm__tok_trainer_add_file(t, path, &err), FM_E_CANCELLED);
    fm__tok_trainer_free(t);
}

static void no_memory(void **unused)
{
    (void)unused;
    char path[4096];
    snprintf(path, sizeof path, "%s/nomem.gguf", test_tmpdir());
    for (int kind = FM__TOK_BPE; kind <= FM__TOK_BYTE; kind++) {
        struct fm__tok_train_args args = {
            .kind = (enum fm__tok_kind)kind, .vocab_size = 270, .special = specials, .n_special = 2};
        for (int64_t n = 0;; n++) {
            struct fm__tok_trainer *t = NULL;
            fm__alloc_fail_after(n, true);
            fm_status status = fm__tok_trainer_new(&args, &t, &err);
            if (status == FM_OK) status = fm__tok_trainer_add(t, mixed, sizeof mixed - 1, &err);
            if (status == FM_OK) status = fm__tok_trainer_train(t, &err);
            if (status == FM_OK) status = fm__tok_trainer_write(t, path, &err);
            fm__alloc_fail_after(-1, false);
            fm__tok_trainer_free(t);
            if (status == FM_OK) break;
            assert_int_equal(status, FM_E_NOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),   cmocka_unit_test(by_the_definition),
        cmocka_unit_test(files),     cmocka_unit_test(characters),
        cmocka_unit_test(blocks),    cmocka_unit_test(refused),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

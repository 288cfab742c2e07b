// SPDX-License-Identifier: MIT
// The tokenizer at a pipe, for scripts that compare it with others (scripts/check_tokenizers.py):
//   tok_tool MODEL.gguf encode FLAGS [OVERRIDE…]   texts in, ids out
//   tok_tool MODEL.gguf decode FLAGS [OVERRIDE…]   ids in, texts out
//   tok_tool MODEL.gguf tokens [OVERRIDE…]         bytes of each token, then a byte: type | 128 where it ends
//   generation tok_tool MODEL.gguf bench FLAGS FILE SECONDS   encodes FILE again and again; prints the median speed
// A text is a 32-bit count of bytes and the bytes; ids are a 32-bit count and that many 32-bit numbers. OVERRIDE is
// KEY=TYPE:VALUE as in --override-kv.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fathom/tokenizer.h"

static void die(const char *what, const struct fm_error *err)
{
    fprintf(stderr, "tok_tool: %s: %s\n", what, err ? err->text : "failed");
    exit(1);
}

// Reads a counted record of `size`-byte elements; NULL at the end of input.
static void *read_record(uint32_t *n, size_t size)
{
    if (fread(n, 4, 1, stdin) != 1) return NULL;
    void *p = malloc((size_t)*n * size + 1);
    if (!p || fread(p, size, *n, stdin) != *n) die("short input", NULL);
    return p;
}

static void write_record(const void *p, size_t n, size_t size)
{
    uint32_t count = (uint32_t)n;
    if (fwrite(&count, 4, 1, stdout) != 1 || fwrite(p, size, n, stdout) != n) die("cannot write", NULL);
}

static void encode_all(const struct fm_tokenizer *tok, unsigned flags)
{
    struct fm_error err;
    uint32_t n;
    for (char *text; (text = read_record(&n, 1)) != NULL; free(text)) {
        size_t n_ids, cap = 4 * (size_t)n + 16;
        int32_t *ids = malloc(cap * sizeof *ids);
        struct fm_encode_args args = {text, n, flags};
        if (!ids || fm_tokenizer_encode(tok, &args, ids, cap, &n_ids, &err) != FM_OK) die("encode", &err);
        if (n_ids > cap) die("more ids than expected", NULL);
        write_record(ids, n_ids, sizeof *ids);
        free(ids);
    }
}

static void decode_all(const struct fm_tokenizer *tok, unsigned flags)
{
    struct fm_error err;
    uint32_t n;
    for (int32_t *ids; (ids = read_record(&n, sizeof *ids)) != NULL; free(ids)) {
        struct fm_decode_args args = {ids, n, flags};
        size_t n_bytes;
        if (fm_tokenizer_decode(tok, &args, NULL, 0, &n_bytes, &err) != FM_OK) die("decode", &err);
        char *text = malloc(n_bytes + 1);
        if (!text || fm_tokenizer_decode(tok, &args, text, n_bytes, &n_bytes, &err) != FM_OK) die("decode", &err);
        write_record(text, n_bytes, 1);
        free(text);
    }
}

static void list_tokens(const struct fm_tokenizer *tok)
{
    for (int32_t i = 0; i < fm_tokenizer_n_vocab(tok); i++) {
        struct fm_str bytes = fm_tokenizer_token_bytes(tok, i);
        write_record(bytes.p, bytes.n, 1);
        putchar((int)fm_tokenizer_token_type(tok, i) | (fm_tokenizer_is_eog(tok, i) ? 128 : 0));
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench(const struct fm_tokenizer *tok, unsigned flags, const char *path, double seconds)
{
    FILE *f = fopen(path, "rb");
    if (!f) die(path, NULL);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f), n_ids = 0;
    rewind(f);
    char *text = malloc(n + 1);
    int32_t *ids = malloc((n + 16) * sizeof *ids);
    if (!text || !ids || fread(text, 1, n, f) != n) die(path, NULL);
    fclose(f);
    struct fm_encode_args args = {text, n, flags};
    struct fm_error err;
    double speed[1000], begin = now();
    int runs = 0;
    while (runs < 1000 && (runs < 3 || now() - begin < seconds)) {
        double t = now();
        if (fm_tokenizer_encode(tok, &args, ids, n + 16, &n_ids, &err) != FM_OK) die("encode", &err);
        speed[runs++] = (double)n / 1e6 / (now() - t);
    }
    double first = speed[0];
    qsort(speed, (size_t)runs, sizeof *speed, by_value);
    printf("bytes=%zu ids=%zu runs=%d first_MB_per_s=%.1f median_MB_per_s=%.1f\n", n, n_ids, runs, first,
           speed[runs / 2]);
    free(text);
    free(ids);
}

int main(int argc, char **argv)
{
    if (argc < 3) die("usage: tok_tool MODEL encode|decode|tokens|bench …", NULL);
    struct fm_error err;
    struct fm_gguf *g;
    struct fm_tokenizer *tok;
    const char *mode = argv[2];
    int i = strcmp(mode, "tokens") == 0 ? 3 : 4;
    unsigned flags = i == 4 && argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    struct fm_gguf_open_opts opts = {.vocab_only = true};
    if (fm_gguf_open(argv[1], &opts, &g, &err) != FM_OK) die(argv[1], &err);
    for (; strcmp(mode, "bench") != 0 && i < argc; i++)
        if (fm_gguf_override(g, argv[i], &err) != FM_OK) die(argv[i], &err);
    double t = now();
    if (fm_tokenizer_new(g, &tok, &err) != FM_OK) die(argv[1], &err);
    if (!strcmp(mode, "bench")) printf("load_ms=%.1f ", (now() - t) * 1e3);
    fm_gguf_close(g);
    if (!strcmp(mode, "encode"))
        encode_all(tok, flags);
    else if (!strcmp(mode, "decode"))
        decode_all(tok, flags);
    else if (!strcmp(mode, "tokens"))
        list_tokens(tok);
    else if (!strcmp(mode, "bench") && argc == 6)
        bench(tok, flags, argv[4], atof(argv[5]));
    else
        die("usage: tok_tool MODEL encode|decode|tokens|bench …", NULL);
    fm_tokenizer_free(tok);
    return fflush(stdout) ? 1 : 0;
}

// SPDX-License-Identifier: MIT
#include "support/train_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fm_tokenizer *test_byte_tokenizer(void)
{
    struct fm_error err = {0};
    struct fm_tokenizer *tok;
    assert_ok(byte_tokenizer_new(&tok, &err), err);
    return tok;
}

const char *test_write(const char *name, const char *bytes, size_t n)
{
    static char paths[64][300];
    static int n_paths;
    char wanted[300], *path = NULL;
    snprintf(wanted, sizeof wanted, "%s/%s", test_tmpdir(), name);
    for (int i = 0; i < n_paths && !path; i++)
        if (strcmp(paths[i], wanted) == 0) path = paths[i];
    if (!path) {
        assert_true(n_paths < 64);
        path = memcpy(paths[n_paths++], wanted, sizeof wanted);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) fail_msg("%s: cannot write", path);
    return path;
}

const char *test_write_text(const char *name, const char *text)
{
    return test_write(name, text, strlen(text));
}

struct fm__microbatch test_microbatch(int64_t rows, int64_t n_features)
{
    size_t n = (size_t)rows;
    struct fm__microbatch mb = {.cap = rows,
                                .tokens = calloc(n, 4),
                                .targets = calloc(n, 4),
                                .values = calloc(n, 4),
                                .weights = calloc(n, 4),
                                .rows = calloc(n, 16),
                                .samples = calloc(n, 8),
                                .ends = calloc(n, 4),
                                .features = n_features ? calloc(n * (size_t)n_features, 4) : NULL};
    assert_true(mb.tokens && mb.targets && mb.values && mb.weights && mb.rows && mb.samples && mb.ends);
    return mb;
}

void test_microbatch_deinit(struct fm__microbatch *mb)
{
    free(mb->tokens), free(mb->targets), free(mb->values), free(mb->weights), free(mb->rows);
    free(mb->samples), free(mb->ends), free(mb->features);
}

const char *test_predicted(const struct fm_tokenizer *tok, const struct fm__microbatch *mb, int64_t document)
{
    static char out[4096];
    size_t n = 0;
    bool run = false, any = false;
    int32_t from = document ? mb->ends[document - 1] : 0;
    for (int32_t r = from; r < mb->ends[document]; r++) {
        int32_t id = mb->targets[r];
        if (id >= 0 && !run && any) n += (size_t)snprintf(out + n, sizeof out - n, "…");
        run = id >= 0;
        if (!run) continue;
        any = true;
        bool control = fm_tokenizer_token_type(tok, id) == FM_TOKEN_CONTROL;
        struct fm_str text = control ? fm_tokenizer_token_text(tok, id) : fm_tokenizer_token_bytes(tok, id);
        assert_true(n + text.n + 8 < sizeof out);
        memcpy(out + n, text.p, text.n);
        n += text.n;
    }
    out[n] = '\0';
    return out;
}

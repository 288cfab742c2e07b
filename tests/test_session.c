// SPDX-License-Identifier: MIT
// Models and sessions end to end on tiny random models: logits equal llama.cpp's (tests/data/tiny, see
// scripts/make_tiny_models.py), on the cpu and on sim; the same bytes however a prompt is cut, alone or in a batch;
// prefix sharing, rewind, fork; limits.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/session.h"
#include "infer/batcher.h"
#include "tensor/buffer.h"

enum { N_TOKENS = 300, N_VOCAB = 288, N_POSITIONS = 11, D_MODEL = 64 }; // of tiny/llama*.gguf
static const int positions[N_POSITIONS] = {0, 1, 6, 7, 63, 64, 127, 128, 191, 255, 299};
static int32_t tokens[N_TOKENS];

struct run {
    struct fm_device *device;
    struct fm_model *model;
    struct fm_batcher *batcher;
};

static struct run open_run(const char *name, const char *device, uint64_t seed, int threads,
                           const struct fm_batcher_opts *opts)
{
    struct run r;
    struct fm_error err;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_data(name));
    assert_ok(fm_device_open(device, &(struct fm_device_opts){.seed = seed, .threads = threads}, &r.device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = r.device}, &r.model, &err), err);
    assert_ok(fm_batcher_new(r.model, opts, &r.batcher, &err), err);
    return r;
}

static void close_run(struct run *r)
{
    fm_batcher_free(r->batcher);
    fm_model_free(r->model);
    fm_device_close(r->device);
}

static void keep_logits(void *context, struct fm_session *s, int position, const float *logits)
{
    (void)s;
    memcpy((float *)context + (size_t)position * N_VOCAB, logits, N_VOCAB * sizeof *logits);
}

// Logits [N_TOKENS, N_VOCAB] of the whole timeline, fed in pieces of `chunk`.
static void evaluate(struct run *r, int chunk, float *all)
{
    struct fm_session *s;
    struct fm_error err;
    assert_ok(fm_session_new(r->batcher, &s, &err), err);
    fm_session_on_logits(s, 0, keep_logits, all);
    for (int at = 0; at < N_TOKENS; at += chunk) {
        int n = N_TOKENS - at < chunk ? N_TOKENS - at : chunk;
        assert_ok(fm_session_append(s, tokens + at, n, &err), err);
        assert_ok(fm_batcher_run(r->batcher, &err), err);
    }
    assert_memory_equal(all + (N_TOKENS - 1) * N_VOCAB, fm_session_logits(s), N_VOCAB * sizeof *all);
    fm_session_free(s);
}

// Largest difference to llama.cpp's logits over the largest logit.
static double distance(const char *name, const float *all)
{
    char file[64];
    size_t size;
    snprintf(file, sizeof file, "tiny/%s.logits", name);
    float *golden = (float *)test_read_file(test_data(file), &size);
    assert_int_equal(size, N_POSITIONS * N_VOCAB * sizeof *golden);
    double worst = 0, largest = 0;
    for (int p = 0; p < N_POSITIONS; p++)
        for (int v = 0; v < N_VOCAB; v++) {
            double want = golden[p * N_VOCAB + v], got = all[positions[p] * N_VOCAB + v];
            if (!(fabs(got - want) <= worst)) worst = fabs(got - want);
            if (fabs(want) > largest) largest = fabs(want);
        }
    free(golden);
    return worst / largest;
}

// llama.cpp reads GELU from a table of half-precision numbers: its own values are off by up to 2^-11 = 4.9e-4. Models
// without GELU have only f32 rounding between us.
static const struct {
    const char *name;
    double tolerance;
} f32_models[] = {{"llama", 1e-5}, {"llama-tied", 1e-5}, {"qwen2", 1e-5},
                  {"qwen3", 1e-5}, {"gemma3", 4.9e-4},   {"gpt2", 4.9e-4}};

static void logits_equal_llama_cpp(void **state)
{
    (void)state;
    float *all = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all),
          *again = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all);
    for (size_t i = 0; i < sizeof f32_models / sizeof *f32_models; i++) {
        char file[64];
        snprintf(file, sizeof file, "tiny/%s.gguf", f32_models[i].name);
        struct run r = open_run(file, "cpu", 0, 2, &(struct fm_batcher_opts){.kv_format = "f32", .n_batch = 128});
        evaluate(&r, 128, all);
        double d = distance(f32_models[i].name, all);
        printf("%s: max |dlogit| / max |logit| = %.2g\n", f32_models[i].name, d);
        assert_true(d <= f32_models[i].tolerance);
        close_run(&r); // a fresh cache each time: pages of the first run would serve the second
        static const int chunks[] = {1, 7};
        for (size_t c = 0; c < 2; c++) {
            r = open_run(file, "cpu", 0, 1 + (int)c * 2, &(struct fm_batcher_opts){.kv_format = "f32"});
            evaluate(&r, chunks[c], again);
            assert_memory_equal(again, all, (size_t)N_TOKENS * N_VOCAB * sizeof *all);
            close_run(&r);
        }
    }
    free(all), free(again);
}

// Positions scaled by 4 on request, as llama.cpp scales them.
static void scaled_positions_equal_llama_cpp(void **state)
{
    (void)state;
    static const struct {
        const char *golden;
        int scaling;
    } cases[] = {{"llama-linear", FM_ROPE_LINEAR}, {"llama-yarn", FM_ROPE_YARN}};
    struct fm_error err;
    float *all = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all);
    for (int i = 0; i < 2; i++) {
        struct run r;
        char path[4096];
        snprintf(path, sizeof path, "%s", test_data("tiny/llama.gguf"));
        assert_ok(fm_device_open("cpu", NULL, &r.device, &err), err);
        struct fm_model_opts opts = {.device = r.device, .rope_scaling = cases[i].scaling, .rope_scale = 4};
        assert_ok(fm_model_open(path, &opts, &r.model, &err), err);
        assert_ok(fm_batcher_new(r.model, &(struct fm_batcher_opts){.kv_format = "f32"}, &r.batcher, &err), err);
        evaluate(&r, N_TOKENS, all);
        double d = distance(cases[i].golden, all);
        printf("%s: max |dlogit| / max |logit| = %.2g\n", cases[i].golden, d);
        assert_true(d <= 1e-5);
        close_run(&r);
    }
    free(all);
}

// llama.cpp rounds activations to 8 bits (1/254 of a block's largest); over two layers of random weights that moves
// logits by some 4 % of the largest. A dropped minimum or scale moves them by more than 50 %.
static void q4_1_close_to_llama_cpp(void **state)
{
    (void)state;
    float *all = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all);
    struct run r = open_run("tiny/llama-q4_1.gguf", "cpu", 0, 2, &(struct fm_batcher_opts){.kv_format = "f32"});
    evaluate(&r, N_TOKENS, all);
    double d = distance("llama-q4_1", all);
    printf("llama-q4_1: max |dlogit| / max |logit| = %.2g\n", d);
    assert_true(d <= 0.08);
    close_run(&r);
    free(all);
}

static void sim_agrees_under_seeds(void **state)
{
    (void)state;
    float *all = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const char *name = f32_models[seed % 6].name;
        char file[64];
        snprintf(file, sizeof file, "tiny/%s.gguf", name);
        struct run r = open_run(file, "sim", seed, 0, &(struct fm_batcher_opts){.kv_format = "f32", .n_ctx = 300});
        evaluate(&r, 100, all);
        assert_true(distance(name, all) <= f32_models[seed % 6].tolerance);
        close_run(&r);
    }
    free(all);
}

static void batch_mates_change_nothing(void **state)
{
    (void)state;
    static const char *const formats[] = {"f32", "f16", "int8"};
    struct fm_error err;
    for (int f = 0; f < 3; f++) {
        float alone[7][N_VOCAB];
        struct fm_session *s[7];
        struct fm_batcher_opts opts = {.kv_format = formats[f], .n_sessions = 7, .n_ctx = 300, .n_batch = 64};
        for (int i = 0; i < 7; i++) {
            struct run r = open_run("tiny/llama-q4_1.gguf", "cpu", 0, 1, &opts);
            assert_ok(fm_session_new(r.batcher, &s[0], &err), err);
            assert_ok(fm_session_sync(s[0], tokens + i, 20 + 37 * i, &err), err);
            assert_ok(fm_batcher_run(r.batcher, &err), err);
            memcpy(alone[i], fm_session_logits(s[0]), sizeof alone[i]);
            fm_session_free(s[0]);
            close_run(&r);
        }
        struct run r = open_run("tiny/llama-q4_1.gguf", "cpu", 0, 2, &opts);
        for (int i = 0; i < 7; i++) {
            assert_ok(fm_session_new(r.batcher, &s[i], &err), err);
            assert_ok(fm_session_sync(s[i], tokens + i, 20 + 37 * i, &err), err);
        }
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        for (int i = 0; i < 7; i++) assert_memory_equal(fm_session_logits(s[i]), alone[i], sizeof alone[i]);
        for (int i = 0; i < 7; i++) fm_session_free(s[i]);
        close_run(&r);
    }
}

static void prefixes_are_shared(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_session *a, *b, *c;
    float want[N_VOCAB];
    struct fm_batcher_stats stats;
    struct run r = open_run("tiny/llama.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_sessions = 3, .n_ctx = 300});
    assert_ok(fm_session_new(r.batcher, &a, &err), err);
    assert_ok(fm_session_sync(a, tokens, 200, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    memcpy(want, fm_session_logits(a), sizeof want);
    assert_ok(fm_session_new(r.batcher, &b, &err), err);
    assert_ok(fm_session_sync(b, tokens, 200, &err), err);
    assert_int_equal(fm_session_pending(b), 200 - 192); // three pages of 64 are there
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_memory_equal(fm_session_logits(b), want, sizeof want);
    // a fork and its parent part ways inside a shared page
    assert_ok(fm_session_fork(a, &c, &err), err);
    assert_memory_equal(fm_session_logits(c), want, sizeof want);
    assert_ok(fm_session_append(c, tokens + 250, 30, &err), err);
    assert_ok(fm_session_append(a, tokens + 200, 30, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    float of_a[N_VOCAB];
    memcpy(of_a, fm_session_logits(a), sizeof of_a);
    assert_memory_not_equal(fm_session_logits(c), of_a, sizeof of_a);
    // rewound and grown again: the same bytes
    assert_ok(fm_session_rewind(a, 100, &err), err);
    assert_ok(fm_session_append(a, tokens + 100, 130, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_memory_equal(fm_session_logits(a), of_a, sizeof of_a);
    // sync to what is there already still has logits to give
    assert_ok(fm_session_sync(a, tokens, 230, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_memory_equal(fm_session_logits(a), of_a, sizeof of_a);
    fm_session_free(a), fm_session_free(b), fm_session_free(c);
    fm_batcher_get_stats(r.batcher, &stats);
    assert_int_equal(stats.kv_bytes, 0);
    assert_true(stats.n_rows_reused >= 192);
    close_run(&r);
}

static void files_bring_sessions_back(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu", "sim"};
    struct fm_error err;
    char path[512];
    snprintf(path, sizeof path, "%s/session", test_tmpdir());
    for (int d = 0; d < 2; d++) {
        struct fm_session *s;
        float want[N_VOCAB];
        struct fm_batcher_opts opts = {.n_ctx = 256, .kv_format = "int8"};
        struct run r = open_run("tiny/gemma3.gguf", devices[d], 3, 1, &opts);
        assert_ok(fm_session_new(r.batcher, &s, &err), err);
        assert_ok(fm_session_sync(s, tokens, 150, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        assert_ok(fm_session_save(s, path, &err), err);
        assert_ok(fm_session_append(s, tokens + 150, 20, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        memcpy(want, fm_session_logits(s), sizeof want);
        fm_session_free(s);
        close_run(&r);

        r = open_run("tiny/gemma3.gguf", devices[d], 4, 1, &opts);
        assert_ok(fm_session_new(r.batcher, &s, &err), err);
        assert_ok(fm_session_sync(s, tokens + 9, 30, &err), err); // something else is there before
        assert_ok(fm_session_load(s, path, &err), err);
        assert_int_equal(fm_session_pending(s), 1);
        assert_ok(fm_session_append(s, tokens + 150, 20, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        assert_memory_equal(fm_session_logits(s), want, sizeof want);
        fm_session_free(s);
        close_run(&r);
    }
}

// Every damage is one clear error and leaves the session as it was.
static void damaged_files_are_refused(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_session *s;
    char path[512];
    int n;
    size_t size;
    snprintf(path, sizeof path, "%s/session", test_tmpdir());
    struct run r = open_run("tiny/llama.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_ctx = 256});
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_ok(fm_session_sync(s, tokens, 70, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_ok(fm_session_save(s, path, &err), err);
    uint8_t *bytes = test_read_file(path, &size);
    for (size_t at = 0; at < size; at += at < 400 ? 1 : 1009) {
        FILE *f = fopen(path, "wb");
        bytes[at] ^= 0x10;
        fwrite(bytes, 1, size, f);
        bytes[at] ^= 0x10;
        fclose(f);
        fm_status status = fm_session_load(s, path, &err);
        assert_true(status == FM_E_VERIFY || status == FM_E_FORMAT);
        f = fopen(path, "wb");
        fwrite(bytes, 1, at, f);
        fclose(f);
        status = fm_session_load(s, path, &err);
        assert_true(status == FM_E_VERIFY || status == FM_E_FORMAT);
    }
    fm_session_tokens(s, &n);
    assert_int_equal(n, 70);
    assert_int_equal(fm_session_pending(s), 0);
    assert_int_equal(fm_session_load(s, "/nowhere/file", &err), FM_E_NOT_FOUND);
    free(bytes);
    fm_session_free(s);
    close_run(&r);
    // another model's file
    r = open_run("tiny/llama.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_ctx = 256});
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_ok(fm_session_sync(s, tokens, 70, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_ok(fm_session_save(s, path, &err), err);
    fm_session_free(s);
    close_run(&r);
    r = open_run("tiny/qwen3.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_ctx = 256});
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_int_equal(fm_session_load(s, path, &err), FM_E_VERIFY);
    fm_session_free(s);
    close_run(&r);
}

// Largest difference of the first layer's keys and values of two sessions of `n` tokens, over the largest element.
// These depend on their own token and position alone, so a shifted timeline must have the keys of a fresh one.
static double first_layer_distance(const struct run *r, const struct fm_session *a, const struct fm_session *b, int n)
{
    const struct fm__hparams *hp = fm__model_hparams(r->model);
    const struct fm__kv_format *format = fm__kv_format(FM__KV_F32);
    struct fm__kv_dims dims = {.head_k = (int)hp->head_k, .head_v = (int)hp->head_v};
    size_t head_bytes = format->block_bytes(&dims);
    double worst = 0, largest = 0;
    for (int i = 0; i < n; i++)
        for (int h = 0; h < hp->n_kv; h++) {
            float x[2][64], v[2][64];
            const struct fm_session *sessions[2] = {a, b};
            for (int k = 0; k < 2; k++) {
                const char *page = (const char *)r->batcher->kv->host +
                                   (size_t)sessions[k]->pages[i / FM__KV_BLOCK] * r->batcher->page_bytes;
                format->decode(&dims, page + (size_t)h * head_bytes, i % FM__KV_BLOCK, x[k], v[k]);
            }
            for (int e = 0; e < hp->head_k; e++) {
                worst = fmax(worst, fabs((double)x[0][e] - x[1][e]));
                largest = fmax(largest, fabs((double)x[0][e]));
                assert_true(v[0][e] == v[1][e]);
            }
        }
    return worst / largest;
}

// A shift of 64 equals two of 32, and moves the right tokens. (A shifted timeline has no simpler twin: the moved keys
// of later layers remember what was forgotten.)
static void shifts_compose(void **state)
{
    (void)state;
    static const char *const models[] = {"tiny/llama.gguf", "tiny/gemma3.gguf", "tiny/qwen2.gguf"};
    struct fm_error err;
    int32_t shifted[136];
    memcpy(shifted, tokens, 10 * sizeof *shifted);
    memcpy(shifted + 10, tokens + 74, 126 * sizeof *shifted);
    for (int m = 0; m < 3; m++) {
        struct run r = open_run(models[m], "cpu", 0, 1,
                                &(struct fm_batcher_opts){.n_ctx = 300, .n_sessions = 3, .kv_format = "f32"});
        struct fm_session *a, *b, *fresh;
        assert_ok(fm_session_new(r.batcher, &a, &err), err);
        assert_ok(fm_session_sync(a, tokens, 200, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        assert_ok(fm_session_fork(a, &b, &err), err);
        assert_ok(fm_session_shift(a, 10, 64, &err), err);
        assert_ok(fm_session_shift(b, 10, 32, &err), err);
        assert_ok(fm_session_shift(b, 10, 32, &err), err);
        int n;
        const int32_t *now = fm_session_tokens(a, &n);
        assert_int_equal(n, 136);
        assert_memory_equal(now, shifted, sizeof shifted);
        assert_ok(fm_session_new(r.batcher, &fresh, &err), err);
        assert_ok(fm_session_sync(fresh, shifted, n, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        assert_true(first_layer_distance(&r, a, fresh, n) <= 1e-5); // 2^-24 * a dozen roundings of angles near 200
        assert_true(first_layer_distance(&r, b, fresh, n) <= 1e-5);
        assert_ok(fm_session_append(a, tokens + 200, 5, &err), err);
        assert_ok(fm_session_append(b, tokens + 200, 5, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        const float *la = fm_session_logits(a), *lb = fm_session_logits(b);
        double worst = 0, largest = 0;
        for (int v = 0; v < N_VOCAB; v++) {
            worst = fmax(worst, fabs((double)la[v] - lb[v]));
            largest = fmax(largest, fabs((double)la[v]));
        }
        assert_true(worst <= 1e-4 * largest);
        assert_int_equal(fm_session_shift(a, 0, 1000, &err), FM_E_ARG);
        fm_session_free(a), fm_session_free(b), fm_session_free(fresh);
        close_run(&r);
    }
    struct run r = open_run("tiny/gpt2.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_ctx = 100});
    struct fm_session *s;
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_ok(fm_session_sync(s, tokens, 50, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_int_equal(fm_session_shift(s, 4, 10, &err), FM_E_UNSUPPORTED);
    fm_session_free(s);
    close_run(&r);
}

static void keep_hidden(void *context, struct fm_session *s, int position, const float *hidden)
{
    (void)s;
    memcpy((float *)context + (size_t)position * D_MODEL, hidden, D_MODEL * sizeof *hidden);
}

// Hidden states of every token, however they were cut; the last one is what the session itself keeps, logits or not.
static void hidden_states_of_every_token(void **state)
{
    enum { FROM = 10 }; // not the first of a piece of 7
    (void)state;
    struct fm_error err;
    float *want = calloc((size_t)N_TOKENS * D_MODEL, sizeof *want),
          *all = malloc((size_t)N_TOKENS * D_MODEL * sizeof *all);
    static const int chunks[] = {1, 7, 128};
    for (size_t c = 0; c < 3; c++) {
        struct run r = open_run("tiny/llama-q4_1.gguf", "cpu", 0, 2, &(struct fm_batcher_opts){.n_batch = 128});
        struct fm_session *s;
        assert_ok(fm_session_new(r.batcher, &s, &err), err);
        memset(all, 0x55, (size_t)N_TOKENS * D_MODEL * sizeof *all);
        if (c) fm_session_on_hidden(s, FROM, keep_hidden, all);
        for (int at = 0; at < N_TOKENS; at += chunks[c]) {
            int n = N_TOKENS - at < chunks[c] ? N_TOKENS - at : chunks[c];
            assert_ok(fm_session_append(s, tokens + at, n, &err), err);
            assert_ok(fm_batcher_run(r.batcher, &err), err);
            if (!c) memcpy(want + at * D_MODEL, fm_session_hidden(s), D_MODEL * sizeof *want);
        }
        if (c)
            assert_memory_equal(all + FROM * D_MODEL, want + FROM * D_MODEL, (N_TOKENS - FROM) * D_MODEL * sizeof *all);
        for (int i = 0; c && i < FROM * D_MODEL; i++) assert_memory_equal(&all[i], "UUUU", sizeof *all); // left alone
        assert_memory_equal(want + (N_TOKENS - 1) * D_MODEL, fm_session_hidden(s), D_MODEL * sizeof *want);
        fm_session_free(s);
        close_run(&r);
    }
    free(want);
    free(all);
}

static void limits_are_errors(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_session *s, *t;
    struct run r = open_run("tiny/llama.gguf", "cpu", 0, 1, &(struct fm_batcher_opts){.n_ctx = 128, .n_sessions = 1});
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_int_equal(fm_session_new(r.batcher, &t, &err), FM_E_LIMIT);
    assert_null(t);
    assert_int_equal(fm_session_append(s, tokens, 129, &err), FM_E_LIMIT);
    assert_int_equal(fm_session_append(s, tokens, INT32_MAX, &err), FM_E_LIMIT);
    assert_int_equal(fm_session_append(s, (int32_t[]){N_VOCAB}, 1, &err), FM_E_ARG);
    assert_int_equal(fm_session_append(s, (int32_t[]){-1}, 1, &err), FM_E_ARG);
    assert_ok(fm_session_append(s, tokens, 128, &err), err);
    assert_null(fm_session_logits(s));
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_non_null(fm_session_logits(s));
    assert_int_equal(fm_session_append(s, tokens, 1, &err), FM_E_LIMIT);
    assert_int_equal(fm_session_rewind(s, 129, &err), FM_E_ARG);
    fm_batcher_cancel(r.batcher);
    assert_int_equal(fm_batcher_run(r.batcher, &err), FM_E_CANCELLED);
    fm_session_free(s);
    close_run(&r);
}

static int read_tokens(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = test_read_file(test_data("tiny/tokens.i32"), &size);
    assert_int_equal(size, sizeof tokens);
    memcpy(tokens, bytes, size);
    free(bytes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_llama_cpp),
        cmocka_unit_test(q4_1_close_to_llama_cpp),
        cmocka_unit_test(scaled_positions_equal_llama_cpp),
        cmocka_unit_test(sim_agrees_under_seeds),
        cmocka_unit_test(batch_mates_change_nothing),
        cmocka_unit_test(prefixes_are_shared),
        cmocka_unit_test(hidden_states_of_every_token),
        cmocka_unit_test(limits_are_errors),
        cmocka_unit_test(files_bring_sessions_back),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(shifts_compose),
    };
    return cmocka_run_group_tests(tests, read_tokens, NULL);
}

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

enum { N_TOKENS = 300, N_VOCAB = 288, N_POSITIONS = 11 };
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
        cmocka_unit_test(logits_equal_llama_cpp), cmocka_unit_test(q4_1_close_to_llama_cpp),
        cmocka_unit_test(sim_agrees_under_seeds), cmocka_unit_test(batch_mates_change_nothing),
        cmocka_unit_test(prefixes_are_shared),    cmocka_unit_test(limits_are_errors),
    };
    return cmocka_run_group_tests(tests, read_tokens, NULL);
}

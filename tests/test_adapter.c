// SPDX-License-Identifier: MIT
// Adapters: PEFT's and llama.cpp's files read and written, held against logits of PEFT's own forward
// (tests/data/adapters, scripts/check_adapters.py --make); several adapters in a batch, sessions that remember theirs,
// merging; and every refusal in words.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fathom/fathom.h"
#include "model/hf_names.h"

enum { N_TOKENS = 48, N_VOCAB = 288, N_POSITIONS = 5, D = 64 }; // of tiny/llama.gguf and the goldens
static const int positions[N_POSITIONS] = {0, 1, 7, 31, 47};
static int32_t tokens[N_TOKENS];

static char *copy_path(const char *name) // the caller frees
{
    return strdup(test_data(name));
}

// A file below the test's folder.
static char *temp_path(const char *name)
{
    static char dir[512];
    char path[1024];
    if (!dir[0]) snprintf(dir, sizeof dir, "%s", test_tmpdir());
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return strdup(path);
}

static struct fm_gguf *open_base(const char *name)
{
    struct fm_gguf *base;
    struct fm_error err;
    assert_ok(fm_gguf_open(test_data(name), NULL, &base, &err), err);
    return base;
}

static struct fm_adapter *open_adapter(const char *path, const struct fm_gguf *base)
{
    struct fm_adapter *adapter;
    struct fm_error err;
    assert_ok(fm_adapter_open(path, base, &adapter, &err), err);
    return adapter;
}

// --- names ---

static void names_go_both_ways(void **state)
{
    (void)state;
    static const char *const models[] = {"tiny/llama.gguf", "tiny/qwen2.gguf", "tiny/qwen3.gguf", "tiny/gemma3.gguf",
                                         "tiny/gpt2.gguf"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct fm_gguf *base = open_base(models[i]);
        const char *arch;
        char hf[FM__HF_NAME], back[FM__HF_NAME];
        struct fm_error err;
        assert_ok(fm__hf_arch(base, &arch, &err), err);
        for (uint64_t t = 0; t < fm_gguf_n_tensors(base); t++) {
            const char *name = fm_gguf_tensor_at(base, t)->name.p;
            if (!fm__hf_from_gguf(arch, name, hf)) fail_msg("%s: %s has no name", models[i], name);
            assert_true(fm__hf_to_gguf(arch, hf, back));
            assert_string_equal(back, name);
        }
        fm_gguf_close(base);
    }
    char out[FM__HF_NAME];
    assert_true(fm__hf_from_gguf("gemma3", "blk.12.ffn_norm.weight", out));
    assert_string_equal(out, "model.layers.12.pre_feedforward_layernorm.weight");
    assert_true(fm__hf_to_gguf("gemma3", "model.language_model.layers.7.mlp.up_proj.weight", out));
    assert_string_equal(out, "blk.7.ffn_up.weight");
    static const char *const wrong[] = {
        "model.layers.x.mlp.up_proj.weight",          "model.layers.01.mlp.up_proj.weight",
        "model.layers..mlp.up_proj.weight",           "model.layers.1.mlp.up_proj",
        "model.layers.9999999999.mlp.up_proj.weight", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(fm__hf_to_gguf("llama", wrong[i], out));
    assert_false(fm__hf_to_gguf("bert", "model.layers.1.mlp.up_proj.weight", out));
}

static void rows_of_heads(void **state)
{
    (void)state;
    const float hf[] = {0, 1, 2, 3, 10, 11, 12, 13};
    float gguf[8], back[8];
    const struct fm__hf_rows rows = {8, 1, 4};
    fm__hf_rows_to_gguf(&rows, hf, gguf);
    assert_memory_equal(gguf, ((float[]){0, 2, 1, 3, 10, 12, 11, 13}), sizeof gguf);
    fm__hf_rows_from_gguf(&rows, gguf, back);
    assert_memory_equal(back, hf, sizeof hf);
}

// --- running ---

struct run {
    struct fm_device *device;
    struct fm_model *model;
    struct fm_adapter *adapters[3];
    struct fm_adapter_set *set;
    struct fm_batcher *batcher;
};

static void keep_logits(void *context, struct fm_session *s, int position, const float *logits)
{
    (void)s;
    memcpy((float *)context + (size_t)position * N_VOCAB, logits, N_VOCAB * sizeof *logits);
}

// A model with a choice for each of n adapters.
static struct run open_run(const char *device, int n, const char *const *paths, const struct fm_batcher_opts *opts)
{
    struct run r = {0};
    struct fm_error err;
    struct fm_adapter_use uses[3];
    struct fm_adapter_choice choices[3];
    char *path = copy_path("tiny/llama.gguf");
    assert_ok(fm_device_open(device, &(struct fm_device_opts){.threads = 2, .seed = 3}, &r.device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = r.device}, &r.model, &err), err);
    free(path);
    for (int i = 0; i < n; i++) {
        r.adapters[i] = open_adapter(paths[i], fm_model_gguf(r.model));
        uses[i] = (struct fm_adapter_use){r.adapters[i], 1};
        choices[i] = (struct fm_adapter_choice){&uses[i], 1};
    }
    if (n) assert_ok(fm_adapter_set_new(r.model, choices, n, &r.set, &err), err);
    struct fm_batcher_opts with = *opts;
    with.adapters = r.set;
    if (!with.n_ctx) with.n_ctx = 128;
    assert_ok(fm_batcher_new(r.model, &with, &r.batcher, &err), err);
    return r;
}

static void close_run(struct run *r)
{
    fm_batcher_free(r->batcher);
    fm_adapter_set_free(r->set);
    for (int i = 0; i < 3; i++) fm_adapter_free(r->adapters[i]);
    fm_model_free(r->model);
    fm_device_close(r->device);
}

// Logits [N_TOKENS, N_VOCAB] of the tokens under a choice, in pieces of `chunk`.
static void evaluate(struct run *r, int choice, int chunk, float *all)
{
    struct fm_session *s;
    struct fm_error err;
    assert_ok(fm_session_new(r->batcher, &s, &err), err);
    assert_ok(fm_session_set_adapter(s, choice, &err), err);
    fm_session_on_logits(s, 0, keep_logits, all);
    for (int at = 0; at < N_TOKENS; at += chunk) {
        assert_ok(fm_session_append(s, tokens + at, N_TOKENS - at < chunk ? N_TOKENS - at : chunk, &err), err);
        assert_ok(fm_batcher_run(r->batcher, &err), err);
    }
    fm_session_free(s);
}

// Largest difference to a golden of the positions over its largest logit.
static double distance(const char *golden, const float *all)
{
    size_t size;
    float *want = (float *)test_read_file(test_data(golden), &size);
    double worst = 0, largest = 0;
    assert_int_equal(size, N_POSITIONS * N_VOCAB * sizeof *want);
    for (int p = 0; p < N_POSITIONS; p++)
        for (int v = 0; v < N_VOCAB; v++) {
            const double w = (double)want[p * N_VOCAB + v];
            worst = fmax(worst, fabs((double)all[positions[p] * N_VOCAB + v] - w));
            largest = fmax(largest, fabs(w));
        }
    free(want);
    return worst / largest;
}

static const struct fm_batcher_opts exact = {.kv_format = "f32", .n_sessions = 4};
static const char *const fixtures[] = {"adapters/lora", "adapters/converted.gguf", "adapters/dora"};
static const char *const goldens[] = {"adapters/lora.logits", "adapters/converted.logits", "adapters/dora.logits"};

static void fixture_paths(const char *paths[3])
{
    static char all[3][512]; // test_data has one buffer
    for (int i = 0; i < 3; i++) {
        snprintf(all[i], sizeof all[i], "%s", test_data(fixtures[i]));
        paths[i] = all[i];
    }
}

static void logits_equal_peft(void **state)
{
    (void)state;
    const char *paths[3];
    enum { N = N_TOKENS * N_VOCAB };
    float *all = malloc(sizeof(float) * N), *again = malloc(sizeof(float) * N), *on_cpu = malloc(sizeof(float) * 3 * N);
    fixture_paths(paths);
    static const char *const devices[] = {"cpu", "sim"};
    for (int d = 0; d < 2; d++) {
        struct run r = open_run(devices[d], 3, paths, &exact);
        for (int i = 0; i < 3; i++) {
            evaluate(&r, i, N_TOKENS, all);
            const double off = distance(goldens[i], all);
            printf("%s on %s: max |dlogit| / max |logit| = %.2g\n", fixtures[i], devices[d], off);
            assert_true(off <= 1e-5); // sums of f32 in another order
            evaluate(&r, i, 1, again);
            assert_memory_equal(all, again, sizeof(float) * N);
            if (d == 0) memcpy(on_cpu + (size_t)i * N, all, sizeof(float) * N);
            assert_memory_equal(all, on_cpu + (size_t)i * N, sizeof(float) * N); // the references' bytes
        }
        close_run(&r);
    }
    free(all), free(again), free(on_cpu);
}

// Sessions of three adapters and one of none step together: each gets the bytes that it gets alone, the one without an
// adapter those of a batcher that knows of none.
static void a_batch_of_adapters(void **state)
{
    (void)state;
    const char *paths[3];
    enum { BYTES = sizeof(float) * N_TOKENS * N_VOCAB };
    float *alone[4], *together[4];
    struct fm_session *s[4];
    struct fm_error err;
    fixture_paths(paths);
    struct run r = open_run("cpu", 0, NULL, &exact);
    for (int i = 0; i < 4; i++) alone[i] = malloc(BYTES), together[i] = malloc(BYTES);
    evaluate(&r, -1, N_TOKENS, alone[3]);
    close_run(&r);
    for (int i = 0; i < 3; i++) {
        r = open_run("cpu", 1, paths + i, &exact);
        evaluate(&r, 0, N_TOKENS, alone[i]);
        close_run(&r);
    }
    r = open_run("cpu", 3, paths, &exact);
    for (int i = 0; i < 4; i++) {
        assert_ok(fm_session_new(r.batcher, &s[i], &err), err);
        assert_ok(fm_session_set_adapter(s[i], i < 3 ? i : -1, &err), err);
        fm_session_on_logits(s[i], 0, keep_logits, together[i]);
    }
    for (int at = 0; at < N_TOKENS; at += 3) {
        for (int i = 0; i < 4; i++) assert_ok(fm_session_append(s[i], tokens + at, 3, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
    }
    for (int i = 0; i < 4; i++) assert_memory_equal(alone[i], together[i], BYTES);
    for (int i = 0; i < 3; i++) assert_memory_not_equal(together[i], together[3], BYTES);
    for (int i = 0; i < 4; i++) fm_session_free(s[i]), free(alone[i]), free(together[i]);
    close_run(&r);
}

// The same prompt under another adapter must not find the first one's pages; under the same it must.
static void prefixes_are_of_one_adapter(void **state)
{
    (void)state;
    const char *paths[3];
    int32_t prompt[100];
    struct fm_session *s[3];
    struct fm_error err;
    struct fm_batcher_stats stats;
    fixture_paths(paths);
    struct run r = open_run("cpu", 2, paths, &exact);
    for (int i = 0; i < 100; i++) prompt[i] = tokens[i % N_TOKENS];
    static const int choices[] = {0, 1, 0};
    static const uint64_t reused[] = {0, 0, 64};
    float first[N_VOCAB];
    for (int i = 0; i < 3; i++) {
        assert_ok(fm_session_new(r.batcher, &s[i], &err), err);
        assert_ok(fm_session_set_adapter(s[i], choices[i], &err), err);
        assert_ok(fm_session_sync(s[i], prompt, 100, &err), err);
        assert_ok(fm_batcher_run(r.batcher, &err), err);
        fm_batcher_get_stats(r.batcher, &stats);
        assert_int_equal(stats.n_rows_reused, reused[i]);
        if (i == 0) memcpy(first, fm_session_logits(s[0]), sizeof first);
    }
    assert_memory_equal(first, fm_session_logits(s[2]), sizeof first);
    // and a session that changes its adapter forgets what it had
    assert_ok(fm_session_set_adapter(s[1], 0, &err), err);
    assert_null(fm_session_logits(s[1]));
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_memory_equal(first, fm_session_logits(s[1]), sizeof first);
    assert_int_equal(fm_session_set_adapter(s[1], 2, &err), FM_E_ARG);
    assert_int_equal(fm_session_set_adapter(s[1], -2, &err), FM_E_ARG);
    for (int i = 0; i < 3; i++) fm_session_free(s[i]);
    close_run(&r);
}

static void sessions_remember_their_adapter(void **state)
{
    (void)state;
    const char *paths[3];
    struct fm_session *s, *t;
    struct fm_error err;
    float want[N_VOCAB];
    fixture_paths(paths);
    char *file = temp_path("session");
    struct run r = open_run("cpu", 2, paths, &exact);
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_ok(fm_session_set_adapter(s, 1, &err), err);
    assert_ok(fm_session_append(s, tokens, N_TOKENS, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_ok(fm_session_save(s, file, &err), err);
    memcpy(want, fm_session_logits(s), sizeof want);
    fm_session_free(s);
    close_run(&r);
    const char *swapped[] = {paths[2], paths[1]}; // the same adapter at another place
    r = open_run("cpu", 2, swapped, &exact);
    assert_ok(fm_session_new(r.batcher, &t, &err), err);
    assert_ok(fm_session_load(t, file, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_memory_equal(want, fm_session_logits(t), sizeof want);
    fm_session_free(t);
    close_run(&r);
    r = open_run("cpu", 1, paths, &exact); // not loaded here
    assert_ok(fm_session_new(r.batcher, &t, &err), err);
    assert_int_equal(fm_session_load(t, file, &err), FM_E_VERIFY);
    assert_non_null(strstr(err.text, "adapter"));
    fm_session_free(t);
    close_run(&r);
    free(file);
}

// Two at once are the sum of their changes; a factor scales one.
static void sums_and_factors(void **state)
{
    (void)state;
    struct fm_error err;
    enum { BYTES = sizeof(float) * N_TOKENS * N_VOCAB };
    float *of[3];
    const char *paths[3];
    fixture_paths(paths);
    struct run r = open_run("cpu", 2, paths, &exact);
    // a, b; then twice a half of a; then a by a factor of 0, which is nothing
    const struct fm_adapter_use both[] = {{r.adapters[0], 0.5f}, {r.adapters[0], 0.5f}}, none[] = {{r.adapters[0], 0}};
    const struct fm_adapter_choice choices[] = {{both, 2}, {none, 1}};
    struct fm_adapter_set *set;
    struct fm_batcher *batcher;
    assert_ok(fm_adapter_set_new(r.model, choices, 2, &set, &err), err);
    assert_int_equal(fm_adapter_set_size(set), 2);
    const struct fm_batcher_opts opts = {.kv_format = "f32", .n_sessions = 4, .n_ctx = 128, .adapters = set};
    assert_ok(fm_batcher_new(r.model, &opts, &batcher, &err), err);
    for (int i = 0; i < 3; i++) of[i] = malloc(BYTES);
    evaluate(&r, 0, N_TOKENS, of[0]);
    struct run other = {.batcher = batcher};
    evaluate(&other, 0, N_TOKENS, of[1]);
    evaluate(&other, 1, N_TOKENS, of[2]);
    double worst = 0, largest = 0;
    for (int i = 0; i < N_TOKENS * N_VOCAB; i++) {
        worst = fmax(worst, fabs((double)of[0][i] - (double)of[1][i]));
        largest = fmax(largest, fabs((double)of[0][i]));
    }
    assert_true(worst <= 1e-5 * largest);
    evaluate(&r, -1, N_TOKENS, of[0]);
    for (int i = 0; i < N_TOKENS * N_VOCAB; i++) assert_true(of[0][i] == of[2][i]);
    for (int i = 0; i < 3; i++) free(of[i]);
    fm_batcher_free(batcher);
    fm_adapter_set_free(set);
    close_run(&r);
}

// --- files ---

static void files_go_both_ways(void **state)
{
    (void)state;
    struct fm_gguf *base = open_base("tiny/llama.gguf");
    char hash[FM_ADAPTER_HASH], again[FM_ADAPTER_HASH];
    struct fm_error err;
    for (int i = 0; i < 3; i++) {
        char *path = copy_path(fixtures[i]), *dir = temp_path("written"),
             *file = temp_path(i == 2 ? "no.gguf" : "written.gguf");
        struct fm_adapter *adapter = open_adapter(path, base), *back;
        assert_ok(fm_adapter_hash(adapter, hash, &err), err);
        assert_ok(fm_adapter_base_hash(base, adapter->base_hash, &err), err);
        assert_ok(fm_adapter_write_peft(adapter, base, dir, &err), err);
        back = open_adapter(dir, base);
        assert_ok(fm_adapter_hash(back, again, &err), err);
        assert_string_equal(hash, again);
        assert_string_equal(back->base_hash, adapter->base_hash);
        fm_adapter_free(back);
        if (i == 2) {
            assert_int_equal(fm_adapter_write_gguf(adapter, base, file, &err), FM_E_UNSUPPORTED);
            assert_non_null(strstr(err.text, "DoRA"));
            assert_int_not_equal(access(file, F_OK), 0);
        } else {
            assert_ok(fm_adapter_write_gguf(adapter, base, file, &err), err);
            back = open_adapter(file, base);
            assert_int_equal(back->n_targets, adapter->n_targets);
            for (int t = 0; t < back->n_targets; t++) { // s B is what counts: alphas may have gone into B
                const struct fm_adapter_target *was = &adapter->targets[t], *is = fm_adapter_find(back, was->name);
                const float s = fm_adapter_scale(adapter, was), s_back = fm_adapter_scale(back, is);
                assert_memory_equal(was->a, is->a, sizeof(float) * (size_t)(was->r * was->n_in));
                for (int64_t k = 0; k < was->r * was->n_out; k++)
                    assert_true(fabsf(s * was->b[k] - s_back * is->b[k]) <=
                                8 * 0x1p-24f * fabsf(s * was->b[k])); // 7 roundings
            }
            fm_adapter_free(back);
        }
        fm_adapter_free(adapter);
        free(path), free(dir), free(file);
    }
    fm_gguf_close(base);
}

static struct fm_adapter *small_adapter(int64_t r, float alpha, float b)
{
    struct fm_error err;
    struct fm_adapter *adapter;
    float *zeros = calloc((size_t)(r * 256), sizeof *zeros), *values = calloc((size_t)(r * 256), sizeof *values);
    for (int64_t i = 0; i < r * 256; i++) zeros[i] = (float)(i % 7) * 0.1f, values[i] = b * (float)(i % 5);
    assert_ok(fm_adapter_new("tiny", &adapter, &err), err);
    const struct fm_adapter_target t = {.name = (char[]){"blk.1.attn_q.weight"},
                                        .r = r,
                                        .n_in = D,
                                        .n_out = D,
                                        .alpha = alpha,
                                        .a = zeros,
                                        .b = values};
    assert_ok(fm_adapter_add(adapter, &t, &err), err);
    free(zeros), free(values);
    return adapter;
}

// rsLoRA's alpha / sqrt r is what llama.cpp's alpha / r must become.
static void rs_lora_in_gguf(void **state)
{
    (void)state;
    struct fm_gguf *base = open_base("tiny/llama.gguf"), *file;
    struct fm_error err;
    struct fm_adapter *adapter = small_adapter(16, 6, 1), *back;
    adapter->rs_lora = 1;
    assert_true(fabsf(fm_adapter_scale(adapter, &adapter->targets[0]) - 1.5f) < 1e-6f);
    char *path = temp_path("rs.gguf");
    assert_ok(fm_adapter_write_gguf(adapter, base, path, &err), err);
    assert_ok(fm_gguf_open(path, NULL, &file, &err), err);
    double alpha;
    assert_true(fm_gguf_get_f64(file, "adapter.lora.alpha", &alpha));
    assert_true(fabs(alpha - 24) < 1e-5);
    fm_gguf_close(file);
    back = open_adapter(path, base);
    assert_true(fabsf(fm_adapter_scale(back, &back->targets[0]) - 1.5f) < 1e-6f);
    fm_adapter_free(back);
    fm_adapter_free(adapter);
    fm_gguf_close(base);
    free(path);
}

static void a_head(void **state)
{
    (void)state;
    struct fm_error err;
    char *path = copy_path("adapters/head"), *dir = temp_path("head"), *file = temp_path("head.gguf");
    struct run r = open_run("cpu", 1, (const char *const[]){path}, &exact);
    struct fm_adapter *adapter = r.adapters[0];
    struct fm_session *s;
    size_t size;
    float scores[3], bias[3] = {1, 2, 3};
    float *want = (float *)test_read_file(test_data("adapters/head.scores"), &size);
    assert_int_equal(size, sizeof scores);
    assert_ok(fm_session_new(r.batcher, &s, &err), err);
    assert_ok(fm_session_set_adapter(s, 0, &err), err);
    assert_ok(fm_session_append(s, tokens, N_TOKENS, &err), err);
    assert_ok(fm_batcher_run(r.batcher, &err), err);
    assert_ok(fm_adapter_scores(adapter, fm_session_hidden(s), D, scores, &err), err);
    for (int i = 0; i < 3; i++) assert_true(fabsf(scores[i] - want[i]) <= 1e-5f * fabsf(want[i]) + 1e-5f);
    assert_int_equal(fm_adapter_scores(adapter, fm_session_hidden(s), D - 1, scores, &err), FM_E_ARG);
    // labels and biases survive our own folder
    char *labels[] = {"none", "\xc3\xa9t\xc3\xa9", "two \"words\""};
    const struct fm_adapter_head head = {3, D, adapter->head.weight, bias, labels};
    assert_ok(fm_adapter_set_head(adapter, &head, &err), err);
    assert_ok(fm_adapter_write_peft(adapter, fm_model_gguf(r.model), dir, &err), err);
    struct fm_adapter *back = open_adapter(dir, fm_model_gguf(r.model));
    assert_int_equal(back->head.n_classes, 3);
    for (int i = 0; i < 3; i++) assert_string_equal(back->head.labels[i], labels[i]);
    assert_memory_equal(back->head.bias, bias, sizeof bias);
    assert_int_equal(fm_adapter_write_gguf(adapter, fm_model_gguf(r.model), file, &err), FM_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "head"));
    fm_adapter_free(back);
    fm_session_free(s);
    close_run(&r);
    free(want), free(path), free(dir), free(file);
}

// --- merging ---

static void merged_is_base_and_adapter(void **state)
{
    (void)state;
    enum { BYTES = sizeof(float) * N_TOKENS * N_VOCAB };
    struct fm_error err;
    const char *paths[3];
    float *with = malloc(BYTES), *merged = malloc(BYTES);
    char *file = temp_path("merged.gguf");
    fixture_paths(paths);
    static const struct {
        fm_dtype type;
        double most; // f16: a weight is off by up to 2^-11 of itself, and a logit has nine products behind it
    } types[] = {{FM_F32, 1e-5}, {FM_F16, 9 * 0x1p-11}, {FM_DTYPE_COUNT, 1e-5}};
    for (int i = 0; i < 3; i++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            struct run r = open_run("cpu", 1, paths + i, &exact), m = {0};
            const struct fm_adapter_use use = {r.adapters[0], 1};
            const struct fm_adapter_merge_args args = {fm_model_gguf(r.model), &use, 1, types[t].type, NULL, NULL};
            evaluate(&r, 0, N_TOKENS, with);
            assert_ok(fm_adapter_merge(&args, file, &err), err);
            assert_ok(fm_model_open(file, &(struct fm_model_opts){.device = r.device}, &m.model, &err), err);
            assert_ok(fm_batcher_new(m.model, &exact, &m.batcher, &err), err);
            evaluate(&m, -1, N_TOKENS, merged);
            double worst = 0, largest = 0;
            for (int k = 0; k < N_TOKENS * N_VOCAB; k++) {
                worst = fmax(worst, fabs((double)with[k] - (double)merged[k]));
                largest = fmax(largest, fabs((double)with[k]));
            }
            printf("%s merged as %s: %.2g\n", fixtures[i],
                   types[t].type == FM_DTYPE_COUNT ? "base" : fm_dtype_info(types[t].type)->name, worst / largest);
            assert_true(worst <= types[t].most * largest);
            fm_batcher_free(m.batcher);
            fm_model_free(m.model);
            close_run(&r);
        }
    free(with), free(merged), free(file);
}

// Embeddings that serve as the output part where an adapter changes one of the two.
static void tied_embeddings_part(void **state)
{
    (void)state;
    struct fm_gguf *base = open_base("tiny/llama-tied.gguf"), *merged;
    struct fm_error err;
    struct fm_adapter *adapter;
    const struct fm_gguf_tensor *w = fm_gguf_find_tensor(base, "token_embd.weight");
    const int64_t V = w->view.dims[0], d = w->view.dims[1];
    float *a = calloc((size_t)d, sizeof *a), *b = calloc((size_t)V, sizeof *b);
    float *was = malloc(w->bytes), *is = malloc(w->bytes), *out = malloc(w->bytes);
    a[3] = 2, b[5] = 3;
    assert_ok(fm_adapter_new(NULL, &adapter, &err), err);
    const struct fm_adapter_target t = {
        .name = (char[]){"output.weight"}, .r = 1, .n_in = d, .n_out = V, .alpha = 1, .a = a, .b = b};
    assert_ok(fm_adapter_add(adapter, &t, &err), err);
    const struct fm_adapter_use use = {adapter, 0.5f};
    const struct fm_adapter_merge_args args = {base, &use, 1, FM_DTYPE_COUNT, NULL, NULL};
    char *file = temp_path("tied.gguf");
    assert_ok(fm_adapter_merge(&args, file, &err), err);
    assert_ok(fm_gguf_open(file, NULL, &merged, &err), err);
    assert_ok(fm_gguf_read(base, w, 0, was, w->bytes, &err), err);
    assert_ok(fm_gguf_read(merged, fm_gguf_find_tensor(merged, "token_embd.weight"), 0, is, w->bytes, &err), err);
    assert_ok(fm_gguf_read(merged, fm_gguf_find_tensor(merged, "output.weight"), 0, out, w->bytes, &err), err);
    assert_memory_equal(was, is, w->bytes);
    was[5 * d + 3] += 3;
    assert_memory_equal(was, out, w->bytes);
    fm_gguf_close(merged);
    fm_gguf_close(base);
    fm_adapter_free(adapter);
    free(a), free(b), free(was), free(is), free(out), free(file);
}

// A whole tensor (modules_to_save) replaces the model's; it cannot run beside others.
static void whole_tensors(void **state)
{
    (void)state;
    struct run r = open_run("cpu", 0, NULL, &exact);
    const struct fm_gguf *base = fm_model_gguf(r.model);
    struct fm_error err;
    struct fm_adapter *adapter = small_adapter(2, 2, 0.5f), *back;
    float norm[D], q[D * D];
    for (int i = 0; i < D; i++) norm[i] = 1 + (float)i;
    for (int i = 0; i < D * D; i++) q[i] = (float)i;
    const struct fm_adapter_tensor tensors[] = {{(char[]){"blk.0.attn_norm.weight"}, 1, {D, 1}, norm},
                                                {(char[]){"blk.0.attn_q.weight"}, 2, {D, D}, q}};
    for (int i = 0; i < 2; i++) assert_ok(fm_adapter_add_tensor(adapter, &tensors[i], &err), err);
    char *dir = temp_path("whole"), *file = temp_path("whole.gguf"), hash[FM_ADAPTER_HASH], again[FM_ADAPTER_HASH];
    assert_ok(fm_adapter_write_peft(adapter, base, dir, &err), err);
    back = open_adapter(dir, base);
    assert_ok(fm_adapter_hash(adapter, hash, &err), err);
    assert_ok(fm_adapter_hash(back, again, &err), err);
    assert_string_equal(hash, again);
    const struct fm_adapter_use use = {back, 1};
    const struct fm_adapter_choice choice = {&use, 1};
    struct fm_adapter_set *set;
    assert_int_equal(fm_adapter_set_new(r.model, &choice, 1, &set, &err), FM_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "fathom merge"));
    assert_int_equal(fm_adapter_write_gguf(adapter, base, file, &err), FM_E_UNSUPPORTED);
    const struct fm_adapter_merge_args args = {base, &use, 1, FM_DTYPE_COUNT, NULL, NULL};
    assert_ok(fm_adapter_merge(&args, file, &err), err);
    struct fm_gguf *merged;
    float got[D * D];
    assert_ok(fm_gguf_open(file, NULL, &merged, &err), err);
    assert_ok(fm_gguf_read(merged, fm_gguf_find_tensor(merged, tensors[0].name), 0, got, sizeof norm, &err), err);
    assert_memory_equal(got, norm, sizeof norm);
    assert_ok(fm_gguf_read(merged, fm_gguf_find_tensor(merged, tensors[1].name), 0, got, sizeof q, &err), err);
    assert_memory_equal(got, q, sizeof q);
    fm_gguf_close(merged);
    fm_adapter_free(back);
    fm_adapter_free(adapter);
    close_run(&r);
    free(dir), free(file);
}

// --- refusals ---

// Reads the fixture with its configuration changed: `from` replaced by `to`.
static fm_status with_config(const char *from, const char *to, struct fm_error *err)
{
    struct fm_gguf *base = open_base("tiny/llama.gguf");
    struct fm_adapter *adapter;
    size_t n, n_weights;
    char *config = (char *)test_read_file(test_data("adapters/lora/adapter_config.json"), &n);
    uint8_t *weights = test_read_file(test_data("adapters/lora/adapter_model.safetensors"), &n_weights);
    char *at = strstr(config, from), *changed = malloc(n + strlen(to) + 1);
    assert_non_null(at);
    sprintf(changed, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    const struct fm_adapter_peft parts = {changed, strlen(changed), weights, n_weights};
    const fm_status status = fm_adapter_from_peft(&parts, base, &adapter, err);
    assert_true((status == FM_OK) == (adapter != NULL));
    fm_adapter_free(adapter);
    fm_gguf_close(base);
    free(config), free(weights), free(changed);
    return status;
}

static void configurations_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        fm_status status;
        const char *word;
    } cases[] = {{"\"LORA\"", "\"LORA\"", FM_OK, NULL},
                 {"\"LORA\"", "\"IA3\"", FM_E_UNSUPPORTED, "IA3"},
                 {"\"LORA\"", "7", FM_E_UNSUPPORTED, "peft_type"},
                 {"\"bias\": \"none\"", "\"bias\": \"all\"", FM_E_UNSUPPORTED, "bias"},
                 {"\"lora_alpha\": 5", "\"lora_alpha\": \"x\"", FM_E_FORMAT, "lora_alpha"},
                 {"\"lora_alpha\": 5", "\"lora_alpha\": 1e60", FM_E_FORMAT, "lora_alpha"},
                 {"\"use_dora\": false", "\"use_dora\": true", FM_E_FORMAT, "magnitude"},
                 {"\"k_proj\": 2", "\"k_(proj)\": 2", FM_E_UNSUPPORTED, "regular expression"},
                 {"{", "[{", FM_E_FORMAT, "adapter_config.json"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_error err = {0};
        assert_int_equal(with_config(cases[i].from, cases[i].to, &err), cases[i].status);
        if (cases[i].word && !strstr(err.text, cases[i].word)) fail_msg("%s: want \"%s\"", err.text, cases[i].word);
    }
}

// Writes the fixture's tensors but the one that is left out, or under another name.
static char *changed_weights(const char *name, const char *instead)
{
    struct fm_safetensors *from;
    struct fm_safetensors_writer *w;
    struct fm_error err;
    char *dir = temp_path("changed"), config[1200], path[1200];
    size_t n;
    mkdir(dir, 0777);
    uint8_t *text = test_read_file(test_data("adapters/lora/adapter_config.json"), &n);
    snprintf(config, sizeof config, "%s/adapter_config.json", dir);
    FILE *f = fopen(config, "wb");
    fwrite(text, 1, n, f);
    fclose(f);
    free(text);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    assert_ok(fm_safetensors_open(test_data("adapters/lora/adapter_model.safetensors"), &from, &err), err);
    assert_ok(fm_safetensors_writer_new(path, &w, &err), err);
    for (int pass = 0; pass < 2; pass++)
        for (uint64_t i = 0; i < fm_safetensors_n_tensors(from); i++) {
            const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(from, i);
            const bool it = !strcmp(t->name.p, name);
            if (it && !instead) continue;
            if (pass == 0) {
                const struct fm_str as = it ? (struct fm_str){instead, strlen(instead)} : t->name;
                assert_ok(fm_safetensors_writer_tensor(w, as, &t->view, &err), err);
                continue;
            }
            void *data = malloc(t->bytes);
            assert_ok(fm_safetensors_read(from, t, 0, data, t->bytes, &err), err);
            assert_ok(fm_safetensors_writer_data(w, data, t->bytes, &err), err);
            free(data);
        }
    assert_ok(fm_safetensors_writer_finish(w, &err), err);
    fm_safetensors_writer_free(w);
    fm_safetensors_close(from);
    return dir;
}

static void weights_refused(void **state)
{
    (void)state;
#define Q0 "base_model.model.model.layers.0.self_attn.q_proj."
    static const struct {
        const char *name, *instead;
        fm_status status;
    } cases[] = {{Q0 "lora_B.weight", NULL, FM_E_FORMAT},
                 {Q0 "lora_A.weight", NULL, FM_E_FORMAT},
                 {Q0 "lora_A.weight", Q0 "lora_C.weight", FM_E_NOT_FOUND},
                 {Q0 "lora_A.weight", "lora_A.weight", FM_E_UNSUPPORTED},
                 {Q0 "lora_A.weight", "base_model.model.model.layers.0.self_attn.r_proj.lora_A.weight", FM_E_FORMAT},
                 {Q0 "lora_B.weight", "base_model.model.model.layers.7.self_attn.q_proj.lora_B.weight", FM_E_FORMAT}};
    struct fm_gguf *base = open_base("tiny/llama.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *dir = changed_weights(cases[i].name, cases[i].instead);
        struct fm_error err = {0};
        struct fm_adapter *adapter;
        const fm_status status = fm_adapter_open(dir, base, &adapter, &err);
        printf("%s\n", err.text);
        assert_true(status == cases[i].status || (i == 2 && status == FM_E_FORMAT) ||
                    (i == 4 && status == FM_E_NOT_FOUND));
        assert_null(adapter);
        assert_true(err.text[0] && !strchr(err.text, '\n'));
        free(dir);
    }
    fm_gguf_close(base);
}

static void foreign_bases_refused(void **state)
{
    (void)state;
    static const struct {
        const char *base;
        fm_status status;
    } cases[] = {
        {"tiny/llama-tied.gguf", FM_E_SHAPE}, {"tiny/qwen2.gguf", FM_E_SHAPE}, {"tiny/gpt2.gguf", FM_E_NOT_FOUND}};
    char *path = copy_path("adapters/lora");
    struct fm_error err = {0};
    struct fm_adapter *adapter;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_gguf *base = open_base(cases[i].base);
        const fm_status status = fm_adapter_open(path, base, &adapter, &err);
        printf("%s\n", err.text);
        assert_int_equal(status, cases[i].status);
        fm_gguf_close(base);
    }
    // the right shapes, but another model's hash; the same model in other types has the same
    struct fm_gguf *base = open_base("tiny/llama.gguf"), *q4 = open_base("tiny/llama-q4_1.gguf");
    adapter = open_adapter(path, base);
    memset(adapter->base_hash, 'a', FM_ADAPTER_HASH - 1);
    assert_int_equal(fm_adapter_check(adapter, base, &err), FM_E_VERIFY);
    char hash[FM_ADAPTER_HASH], other[FM_ADAPTER_HASH];
    assert_ok(fm_adapter_base_hash(base, hash, &err), err);
    assert_ok(fm_adapter_base_hash(q4, other, &err), err);
    assert_string_not_equal(hash, other); // another seed's norms
    const struct fm_adapter_merge_args args = {base, NULL, 0, FM_Q8_0, NULL, NULL};
    char *file = temp_path("q8.gguf");
    assert_ok(fm_adapter_merge(&args, file, &err), err);
    fm_gguf_close(q4);
    assert_ok(fm_gguf_open(file, NULL, &q4, &err), err);
    assert_ok(fm_adapter_base_hash(q4, other, &err), err);
    assert_string_equal(hash, other);
    fm_adapter_free(adapter);
    // a GGUF that is a model, not an adapter; one of another architecture
    assert_int_equal(fm_adapter_open(file, base, &adapter, &err), FM_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "general.type"));
    fm_gguf_close(q4);
    q4 = open_base("tiny/qwen2.gguf");
    char *converted = copy_path("adapters/converted.gguf");
    assert_int_equal(fm_adapter_open(converted, q4, &adapter, &err), FM_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "qwen2"));
    fm_gguf_close(q4);
    fm_gguf_close(base);
    free(path), free(file), free(converted);
}

static void arguments_refused(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm_adapter *adapter = small_adapter(2, 1, 1);
    float values[512] = {0};
    struct fm_adapter_target t = {
        .name = (char[]){"blk.1.attn_q.weight"}, .r = 2, .n_in = 8, .n_out = 8, .alpha = 1, .a = values, .b = values};
    assert_int_equal(fm_adapter_add(adapter, &t, &err), FM_E_ARG); // twice
    t.name = (char[]){"blk.0.attn_q.weight"};
    t.r = 0;
    assert_int_equal(fm_adapter_add(adapter, &t, &err), FM_E_ARG);
    t.r = FM_ADAPTER_MAX_RANK + 1;
    assert_int_equal(fm_adapter_add(adapter, &t, &err), FM_E_ARG);
    t.r = 2, t.alpha = INFINITY;
    assert_int_equal(fm_adapter_add(adapter, &t, &err), FM_E_ARG);
    t.alpha = 1, values[9] = NAN;
    assert_int_equal(fm_adapter_add(adapter, &t, &err), FM_E_ARG);
    assert_int_equal(adapter->n_targets, 1);
    assert_int_equal(fm_adapter_scores(adapter, values, 8, values, &err), FM_E_ARG); // no head
    fm_adapter_free(adapter);
}

// No memory at the n-th allocation: everything that a fixture goes through, and nothing leaks.
static fm_status go_through(const char *path, const char *dir, const char *file, struct run *r, struct fm_error *err)
{
    struct fm_adapter *adapter = NULL;
    fm_status status = fm_adapter_open(path, fm_model_gguf(r->model), &adapter, err);
    if (status == FM_OK) status = fm_adapter_write_peft(adapter, fm_model_gguf(r->model), dir, err);
    const struct fm_adapter_use use = {adapter, 1};
    const struct fm_adapter_choice choice = {&use, 1};
    const struct fm_adapter_merge_args args = {fm_model_gguf(r->model), &use, 1, FM_F16, NULL, NULL};
    if (status == FM_OK) status = fm_adapter_set_new(r->model, &choice, 1, &r->set, err);
    const struct fm_batcher_opts opts = {.n_ctx = 64, .adapters = r->set, .session_adapter = r->set ? 1 : 0};
    if (status == FM_OK) status = fm_batcher_new(r->model, &opts, &r->batcher, err);
    if (status == FM_OK) status = fm_adapter_merge(&args, file, err);
    fm_adapter_free(adapter);
    fm_batcher_free(r->batcher);
    fm_adapter_set_free(r->set);
    r->batcher = NULL, r->set = NULL;
    return status;
}

static void no_memory(void **state)
{
    (void)state;
    char *dir = temp_path("nomem"), *file = temp_path("nomem.gguf");
    struct run r = open_run("cpu", 0, NULL, &exact);
    fm_batcher_free(r.batcher);
    r.batcher = NULL;
    for (int i = 0; i < 3; i++) {
        char *path = copy_path(fixtures[i]);
        for (int64_t n = 0;; n++) {
            struct fm_error err = {0};
            fm__alloc_fail_after(n, true);
            const fm_status status = go_through(path, dir, file, &r, &err);
            fm__alloc_fail_after(-1, false);
            if (status == FM_OK) {
                printf("%s: succeeds with %lld allocations\n", fixtures[i], (long long)n);
                assert_true(n > 100);
                break;
            }
            if (status != FM_E_NOMEM)
                fail_msg("allocation %lld: %s: %s", (long long)n, fm_status_text(status), err.text);
            assert_true(err.text[0] != '\0');
        }
        free(path);
    }
    close_run(&r);
    free(dir), free(file);
}

static int read_tokens(void **state)
{
    (void)state;
    size_t size;
    uint8_t *all = test_read_file(test_data("tiny/tokens.i32"), &size);
    memcpy(tokens, all, sizeof tokens);
    free(all);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(rows_of_heads),
        cmocka_unit_test(logits_equal_peft),
        cmocka_unit_test(a_batch_of_adapters),
        cmocka_unit_test(prefixes_are_of_one_adapter),
        cmocka_unit_test(sessions_remember_their_adapter),
        cmocka_unit_test(sums_and_factors),
        cmocka_unit_test(files_go_both_ways),
        cmocka_unit_test(rs_lora_in_gguf),
        cmocka_unit_test(a_head),
        cmocka_unit_test(merged_is_base_and_adapter),
        cmocka_unit_test(tied_embeddings_part),
        cmocka_unit_test(whole_tensors),
        cmocka_unit_test(configurations_refused),
        cmocka_unit_test(weights_refused),
        cmocka_unit_test(foreign_bases_refused),
        cmocka_unit_test(arguments_refused),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, read_tokens, NULL);
}

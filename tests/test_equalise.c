// SPDX-License-Identifier: MIT
// Channels made alike before an int8 cache: models with a few huge key channels, made here from the tiny ones.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fathom/session.h"
#include "infer/batcher.h"
#include "model/equalise.h"
#include "ops/attrs.h"

enum { N_TOKENS = 300, N_VOCAB = 288 };
static int32_t tokens[N_TOKENS];
static struct fm_error err;

// Changes a tensor's f32 elements [rows, columns] in the copy.
typedef void edit_fn(const char *name, float *x, int64_t rows, int64_t columns);

static bool is(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && !strcmp(name + n - m, ending);
}

// tiny/qwen2: heads of 8 in halves, so (1, 5) of each head is a RoPE pair.
static bool in_pair(int64_t row)
{
    return row % 4 == 1;
}

// Mathematically the same model: a pair of every key times 64, of every query through 64. All f32: nothing rounds.
static void skew(const char *name, float *x, int64_t rows, int64_t columns)
{
    bool k = is(name, "attn_k.weight") || is(name, "attn_k.bias"),
         q = is(name, "attn_q.weight") || is(name, "attn_q.bias");
    bool vector = is(name, "bias");
    for (int64_t i = 0; (k || q) && i < rows * columns; i++)
        if (in_pair(vector ? i : i / columns)) x[i] *= k ? 64.0F : 1 / 64.0F;
}

// The published ones' ailment: a constant hundreds of times the rest in some key channels that queries hardly read.
static void huge_bias(const char *name, float *x, int64_t rows, int64_t columns)
{
    bool q = is(name, "attn_q.weight") || is(name, "attn_q.bias"), vector = is(name, "bias");
    for (int64_t i = 0; q && i < rows * columns; i++)
        if (in_pair(vector ? i : i / columns)) x[i] *= 1 / 64.0F;
    for (int64_t i = 0; is(name, "attn_k.bias") && i < rows * columns; i++)
        if (in_pair(i)) x[i] = i % 8 < 4 ? 150.0F : -90.0F;
}

// The same by norms: tiny/qwen3's weights of q's and k's.
static void skew_norms(const char *name, float *x, int64_t rows, int64_t columns)
{
    float factor = is(name, "attn_k_norm.weight") ? 64.0F : is(name, "attn_q_norm.weight") ? 1 / 64.0F : 1;
    for (int64_t i = 0; i < rows * columns; i++)
        if (in_pair(i)) x[i] *= factor;
}

static void copy_model(const char *from, const char *to, edit_fn *edit)
{
    struct fm_gguf *g;
    struct fm_gguf_writer *w;
    assert_ok(fm_gguf_open(test_data(from), NULL, &g, &err), err);
    assert_ok(fm_gguf_writer_new(to, &w, &err), err);
    for (uint64_t i = 0; i < fm_gguf_n_kv(g); i++) assert_ok(fm_gguf_writer_kv(w, fm_gguf_kv_at(g, i), &err), err);
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        assert_int_equal(t->view.dtype, FM_F32);
        assert_ok(fm_gguf_writer_tensor(w, t->name, &t->view, &err), err);
    }
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        float *x = malloc(t->bytes);
        assert_non_null(x);
        assert_ok(fm_gguf_read(g, t, 0, x, t->bytes, &err), err);
        if (edit) edit(t->name.p, x, t->view.rank == 2 ? t->view.dims[0] : 1, t->view.dims[t->view.rank - 1]);
        assert_ok(fm_gguf_writer_data(w, x, t->bytes, &err), err);
        free(x);
    }
    assert_ok(fm_gguf_writer_finish(w, &err), err);
    fm_gguf_writer_free(w);
    fm_gguf_close(g);
}

static void keep(void *context, struct fm_session *s, int position, const float *logits)
{
    (void)s;
    memcpy((float *)context + (size_t)position * N_VOCAB, logits, N_VOCAB * sizeof *logits);
}

// Logits [N_TOKENS, N_VOCAB] with a cache of this format; *used: the format taken.
static float *evaluate(const char *path, const char *format, const char **used)
{
    struct fm_device *device;
    struct fm_model *model;
    struct fm_batcher *b;
    struct fm_session *s;
    float *all = malloc((size_t)N_TOKENS * N_VOCAB * sizeof *all);
    assert_non_null(all);
    assert_ok(fm_device_open("cpu", NULL, &device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = device}, &model, &err), err);
    assert_ok(fm_batcher_new(model, &(struct fm_batcher_opts){.kv_format = format}, &b, &err), err);
    if (used) *used = fm__kv_format(b->dims.kv_format)->name;
    assert_ok(fm_session_new(b, &s, &err), err);
    fm_session_on_logits(s, 0, keep, all);
    assert_ok(fm_session_append(s, tokens, N_TOKENS, &err), err);
    assert_ok(fm_batcher_run(b, &err), err);
    fm_session_free(s);
    fm_batcher_free(b);
    fm_model_free(model);
    fm_device_close(device);
    return all;
}

// Largest difference over the largest logit.
static double distance(const float *a, const float *b)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < (size_t)N_TOKENS * N_VOCAB; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

// int8's distance from f32 in this model; *f32 (may be NULL) gets the logits of the f32 cache.
static double int8_distance(const char *path, float **f32)
{
    float *want = evaluate(path, "f32", NULL), *got = evaluate(path, "int8", NULL);
    double d = distance(got, want);
    free(got);
    if (f32)
        *f32 = want;
    else
        free(want);
    return d;
}

// The original is mathematically the copy: with an f32 cache the same bytes, with int8 about as near as it is itself.
static void check_skewed(const char *name, edit_fn *edit)
{
    char path[64], original[4096];
    float *plain, *skewed;
    snprintf(path, sizeof path, "equalise-%d.gguf", (int)getpid());
    snprintf(original, sizeof original, "%s", test_data(name));
    copy_model(name, path, edit);
    double before = int8_distance(original, &plain), after = int8_distance(path, &skewed);
    printf("%s: int8 from f32 cache %.2g, with skewed channels %.2g\n", name, before, after);
    assert_memory_equal(plain, skewed, (size_t)N_TOKENS * N_VOCAB * sizeof *plain);
    assert_true(after <= 2 * before);
    unlink(path);
    free(plain);
    free(skewed);
}

static void skewed_channels_are_made_alike(void **state)
{
    (void)state;
    check_skewed("tiny/qwen2.gguf", skew);
    check_skewed("tiny/qwen3.gguf", skew_norms);
}

static void huge_biases_leave_room_for_the_rest(void **state)
{
    (void)state;
    char path[64], original[4096];
    snprintf(path, sizeof path, "equalise-%d.gguf", (int)getpid());
    snprintf(original, sizeof original, "%s", test_data("tiny/qwen2.gguf"));
    copy_model("tiny/qwen2.gguf", path, huge_bias);
    double before = int8_distance(original, NULL), after = int8_distance(path, NULL);
    printf("qwen2: int8 from f32 cache %.2g, with huge biases %.2g\n", before, after);
    assert_true(after <= 2 * before);
    unlink(path);
}

// Keys hundreds of times too large for their queries' precision, whatever is done about channels: f16 stays.
static void large_everywhere(const char *name, float *x, int64_t rows, int64_t columns)
{
    bool norm = is(name, "attn_k_norm.weight") || is(name, "attn_q_norm.weight");
    for (int64_t i = 0; norm && i < rows * columns; i++) x[i] *= 30;
}

static void default_format(void **state)
{
    (void)state;
    const char *used;
    char path[64];
    free(evaluate(test_data("tiny/llama.gguf"), NULL, &used));
    assert_string_equal(used, "int8");
    free(evaluate(test_data("tiny/gemma3.gguf"), NULL, &used));
    assert_string_equal(used, "int8");
    free(evaluate(test_data("tiny/gpt2.gguf"), NULL, &used)); // biases of q, k and v in one
    assert_string_equal(used, "f16");
    snprintf(path, sizeof path, "equalise-%d.gguf", (int)getpid());
    copy_model("tiny/qwen3.gguf", path, large_everywhere);
    free(evaluate(path, NULL, &used));
    assert_string_equal(used, "f16");
    unlink(path);
}

// Powers of two, the same for both of a pair, 1 where nothing is to be won.
static void factors_of_a_head(void **state)
{
    (void)state;
    enum { E = 16 };
    double q2[E], k2[E];
    float s[E];
    for (int neox = 0; neox < 2; neox++) {
        struct fm__attr_rope rope = {.n_rot = 12, .neox = neox};
        for (int e = 0; e < E; e++) q2[e] = k2[e] = 1;
        assert_true(fm__equalise_head(&rope, E, q2, k2, s) == 2 * E);
        for (int e = 0; e < E; e++) assert_true(s[e] == 1);
        k2[3] = 4096, q2[3] = 1.0 / 4096, k2[14] = 65536, k2[7] = 0, q2[7] = 0;
        assert_true(fm__equalise_head(&rope, E, q2, k2, s) < 0.2 * (65536 * (E - 1) + 65536 + 4096 + E));
        int pair = neox ? 9 : 2, exponent;
        assert_true(s[3] == s[pair] && s[3] > 1 && s[14] > s[15]); // 14 does not turn: it has no pair
        for (int e = 0; e < E; e++) assert_true(frexpf(s[e], &exponent) == 0.5F);
    }
}

int main(void)
{
    size_t size;
    uint8_t *bytes = test_read_file(test_data("tiny/tokens.i32"), &size);
    assert_int_equal(size, sizeof tokens);
    memcpy(tokens, bytes, sizeof tokens);
    free(bytes);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(skewed_channels_are_made_alike),
        cmocka_unit_test(huge_biases_leave_room_for_the_rest),
        cmocka_unit_test(default_format),
        cmocka_unit_test(factors_of_a_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

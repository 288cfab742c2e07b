// SPDX-License-Identifier: MIT
// test-labels: long noasan
// 2,000 tokens of each default model, drawn from the model's own distribution (temperature 1, nothing cut off, the end
// of text forbidden), stay sane:
// - each token's logits are, to the byte, those of the same 2,000 tokens evaluated again in steps of 512 rows: nothing
//   drifts in a cache that was written token by token;
// - in every quarter of the text the surprise -log p of what was drawn is what the distributions promise: its sum less
//   the sum of their entropies is within five standard deviations (the differences are a martingale with known
//   variances);
// - every quarter's mean surprise lies between 0.5 nats (below that the text has fallen into a loop) and 8 (models like
//   these read prose at 2.5 to 4; logits of a broken cache or position come near log V, 10.8 and 12.5);
// - what a stream of the tokens prints is UTF-8, piece by piece.
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/sha256.h"
#include "fathom/fathom.h"

enum { N = 2000, N_QUARTER = N / 4, N_PROMPT_MAX = 64 };

struct reading {
    int n_prompt, n_vocab;
    uint8_t (*digests)[FM__SHA256_BYTES]; // of the logits after prompt token n_prompt - 1 + i
    int n_different;
};

static void digest(const float *logits, int n_vocab, uint8_t out[FM__SHA256_BYTES])
{
    struct fm_error err;
    struct fm__sha256 *hash = fm__sha256_new();
    assert_non_null(hash);
    assert_ok(fm__sha256_update(hash, logits, (size_t)n_vocab * sizeof *logits, &err), err);
    assert_ok(fm__sha256_final(hash, out, &err), err);
    fm__sha256_free(hash);
}

static void compare(void *context, struct fm_session *s, int position, const float *logits)
{
    (void)s;
    struct reading *r = context;
    uint8_t found[FM__SHA256_BYTES];
    int i = position - (r->n_prompt - 1);
    if (i < 0 || i >= N) return;
    digest(logits, r->n_vocab, found);
    r->n_different += memcmp(found, r->digests[i], sizeof found) != 0;
}

struct surprise {
    double found, expected, variance; // sums over a quarter, nats
};

static void add_surprise(struct surprise *s, const float *logits, int n_vocab, int32_t token)
{
    double top = -INFINITY, sum = 0, first = 0, second = 0;
    for (int i = 0; i < n_vocab; i++) top = fmax(top, (double)logits[i]);
    for (int i = 0; i < n_vocab; i++) sum += exp(logits[i] - top);
    double log_sum = top + log(sum);
    for (int i = 0; i < n_vocab; i++) {
        if (logits[i] == -INFINITY) continue;
        double x = log_sum - logits[i], p = exp(-x);
        first += p * x;
        second += p * x * x;
    }
    s->found += log_sum - logits[token];
    s->expected += first;
    s->variance += second - first * first;
}

static void check_surprise(const char *name, const struct surprise quarters[4])
{
    for (int q = 0; q < 4; q++) {
        double mean = quarters[q].found / N_QUARTER;
        double z = (quarters[q].found - quarters[q].expected) / sqrt(quarters[q].variance);
        printf("%s: tokens %d to %d: %.3f nats a token, %.3f promised, %+.2f standard deviations\n", name,
               q * N_QUARTER, (q + 1) * N_QUARTER - 1, mean, quarters[q].expected / N_QUARTER, z);
        assert_true(fabs(z) < 5);
        assert_true(mean > 0.5 && mean < 8);
    }
}

static void check_text(const struct fm_tokenizer *tokenizer, const int32_t *tokens)
{
    struct fm_error err;
    struct fm_detok *detok;
    struct fm_str piece;
    size_t n_bytes = 0;
    assert_ok(fm_detok_new(tokenizer, FM_DETOK_VALID, &detok, &err), err);
    for (int i = 0; i < N; i++) {
        assert_ok(fm_detok_push(detok, tokens[i], &piece, &err), err);
        for (size_t at = 0; at < piece.n;) {
            utf8proc_int32_t point;
            utf8proc_ssize_t len =
                utf8proc_iterate((const utf8proc_uint8_t *)piece.p + at, (utf8proc_ssize_t)(piece.n - at), &point);
            assert_true(len > 0);
            at += (size_t)len;
        }
        n_bytes += piece.n;
    }
    assert_true(n_bytes > N); // more than a byte a token
    fm_detok_free(detok);
}

// Draws N tokens after the prompt; tokens [n_prompt + N].
static void generate(struct fm_batcher *batcher, const struct fm_tokenizer *tokenizer, int32_t *tokens,
                     struct reading *r, struct surprise quarters[4])
{
    struct fm_error err;
    struct fm_session *s;
    struct fm_sampler *sampler;
    float *logits = malloc((size_t)r->n_vocab * sizeof *logits);
    assert_non_null(logits);
    assert_ok(fm_session_new(batcher, &s, &err), err);
    assert_ok(fm_sampler_new(r->n_vocab, &(struct fm_sampler_opts){.seed = 1, .temperature = 1}, &sampler, &err), err);
    assert_ok(fm_session_sync(s, tokens, r->n_prompt, &err), err);
    for (int i = 0; i < N; i++) {
        int32_t *token = &tokens[r->n_prompt + i];
        assert_ok(fm_batcher_run(batcher, &err), err);
        memcpy(logits, fm_session_logits(s), (size_t)r->n_vocab * sizeof *logits);
        digest(logits, r->n_vocab, r->digests[i]);
        for (int32_t v = 0; v < r->n_vocab; v++)
            if (fm_tokenizer_is_eog(tokenizer, v)) logits[v] = -INFINITY;
        assert_ok(fm_sampler_sample(sampler, logits, token, &err), err);
        add_surprise(&quarters[i / N_QUARTER], logits, r->n_vocab, *token);
        assert_ok(fm_session_append(s, token, 1, &err), err);
    }
    fm_sampler_free(sampler);
    fm_session_free(s);
    free(logits);
}

static void stays_sane(const char *name)
{
    const char *path = test_model(name);
    if (!path) skip();
    struct fm_error err;
    struct fm_device *device;
    struct fm_model *model;
    struct fm_tokenizer *tokenizer;
    struct fm_batcher *batcher;
    struct fm_session *again;
    static int32_t tokens[N_PROMPT_MAX + N];
    static uint8_t digests[N][FM__SHA256_BYTES];
    struct surprise quarters[4] = {0};
    size_t n_prompt;
    assert_ok(fm_device_open("cpu", NULL, &device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = device}, &model, &err), err);
    assert_ok(fm_tokenizer_new(fm_model_gguf(model), &tokenizer, &err), err);
    struct fm_batcher_opts opts = {.n_ctx = N_PROMPT_MAX + N};
    assert_ok(fm_batcher_new(model, &opts, &batcher, &err), err);
    struct fm_encode_args prompt = {.text = "The history of the lighthouse begins long before there were",
                                    .flags = FM_ENCODE_ADD_SPECIAL};
    prompt.n = strlen(prompt.text);
    assert_ok(fm_tokenizer_encode(tokenizer, &prompt, tokens, N_PROMPT_MAX, &n_prompt, &err), err);
    struct reading r = {(int)n_prompt, fm_tokenizer_n_vocab(tokenizer), digests, 0};
    generate(batcher, tokenizer, tokens, &r, quarters);
    check_surprise(name, quarters);
    check_text(tokenizer, tokens + n_prompt);

    fm_batcher_free(batcher); // pages of the first time would serve the second
    assert_ok(fm_batcher_new(model, &opts, &batcher, &err), err);
    assert_ok(fm_session_new(batcher, &again, &err), err);
    fm_session_on_logits(again, (int)n_prompt - 1, compare, &r);
    assert_ok(fm_session_append(again, tokens, (int)n_prompt + N - 1, &err), err);
    assert_ok(fm_batcher_run(batcher, &err), err);
    assert_int_equal(r.n_different, 0);
    fm_session_free(again);
    fm_batcher_free(batcher);
    fm_tokenizer_free(tokenizer);
    fm_model_free(model);
    fm_device_close(device);
}

static void smollm2(void **state)
{
    (void)state;
    stays_sane("smollm2");
}

static void gemma3(void **state)
{
    (void)state;
    stays_sane("gemma3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(smollm2), cmocka_unit_test(gemma3)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

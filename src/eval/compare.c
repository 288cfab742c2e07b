// SPDX-License-Identifier: MIT
#include "eval/compare.h"

#include "base/alloc.h"
#include "base/error.h"
#include "eval/logprobs.h"
#include "eval/perplexity.h"

struct compare {
    const struct fm__compare_args *args;
    unsigned char *rows; // the base's of one window
    size_t row_bytes;
    struct fm__kl kl;
};

static fm_status keep(void *context, int32_t chunk, int32_t i, const float *logits, int32_t next, struct fm_error *err)
{
    (void)chunk, (void)next, (void)err;
    struct compare *c = context;
    struct fm__score score;
    fm__score_row(logits, c->args->n_vocab, &score);
    fm__logprobs_encode(logits, c->args->n_vocab, &score, c->rows + (size_t)i * c->row_bytes);
    return FM_OK;
}

static fm_status add(void *context, int32_t chunk, int32_t i, const float *logits, int32_t next, struct fm_error *err)
{
    (void)chunk, (void)err;
    struct compare *c = context;
    fm__kl_add(&c->kl, logits, c->rows + (size_t)i * c->row_bytes, next);
    return FM_OK;
}

static fm_status windows(struct compare *c, int32_t n_chunks, struct fm_error *err)
{
    const struct fm__compare_args *a = c->args;
    struct fm__perplexity_result unused;
    for (int32_t i = 0; i < n_chunks; i++) {
        struct fm__perplexity_args one = {.tokens = a->tokens + (int64_t)i * a->ctx,
                                          .n_tokens = a->ctx,
                                          .ctx = a->ctx,
                                          .n_chunks = 1,
                                          .bos = a->bos,
                                          .n_vocab = a->n_vocab,
                                          .row = keep,
                                          .context = c};
        FM_TRY(fm__perplexity(a->base, &one, &unused, err));
        one.row = add;
        FM_TRY(fm__perplexity(a->other, &one, &unused, err));
        if (a->progress) a->progress(a->context, i + 1, n_chunks);
    }
    return FM_OK;
}

fm_status fm__compare(const struct fm__compare_args *args, struct fm__kl_result *out, struct fm_error *err)
{
    struct compare c = {.args = args, .row_bytes = fm__logprobs_row_bytes(args->n_vocab)};
    const int32_t n_chunks = args->ctx > 0 ? (int32_t)(args->n_tokens / args->ctx) : 0, n = fm__scored_count(args->ctx);
    size_t bytes;
    if (n_chunks < 1 || args->ctx < 4)
        return fm__fail(err, FM_E_ARG, "the text has %lld tokens, want at least a window of %d (and windows of 4)",
                        (long long)args->n_tokens, args->ctx);
    if (!fm__mul_size(c.row_bytes, (size_t)n, &bytes)) return fm__fail_nomem(err, "log-probabilities", SIZE_MAX);
    c.rows = fm__malloc(bytes);
    fm_status status = c.rows ? FM_OK : fm__fail_nomem(err, "log-probabilities", bytes);
    if (status == FM_OK) status = fm__kl_init(&c.kl, args->n_vocab, n_chunks, n, err);
    if (status == FM_OK) status = windows(&c, n_chunks, err);
    if (status == FM_OK) fm__kl_finish(&c.kl, out);
    fm__kl_deinit(&c.kl);
    fm__free(c.rows);
    return status;
}

// SPDX-License-Identifier: MIT
// Writing and reading files of base log-probabilities. Counts come from a stranger's file: checked against its length.
#include "eval/logprobs.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

static const char MAGIC[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};
enum { HEAD_BYTES = 20, MAX_CTX = 1 << 22, MAX_VOCAB = 1 << 24 };
static const float RANGE = 16; // nats below the best that are told apart

size_t fm__logprobs_row_bytes(int32_t n_vocab)
{
    return 2 * (2 * (((size_t)n_vocab + 1) / 2) + 4);
}

void fm__logprobs_encode(const float *logits, int32_t n_vocab, const struct fm__score *score, void *row)
{
    float low = score->min > score->max - RANGE ? score->min : score->max - RANGE;
    float head[2] = {(score->max - low) / 65535.0F, low - score->max - score->log_sum};
    memset(row, 0, fm__logprobs_row_bytes(n_vocab));
    memcpy(row, head, sizeof head);
    if (head[0] == 0) return;
    unsigned char *codes = (unsigned char *)row + sizeof head;
    float inverse = 1 / head[0];
    for (int32_t i = 0; i < n_vocab; i++) {
        float x = logits[i] > low ? inverse * (logits[i] - low) : 0;
        uint16_t code = (uint16_t)((x + 12582912.0F) - 12582912.0F); // to nearest, ties to even
        memcpy(codes + 2 * (size_t)i, &code, sizeof code);
    }
}

void fm__logprobs_decode(const void *row, int32_t n_vocab, float *log_p)
{
    float head[2];
    memcpy(head, row, sizeof head);
    const unsigned char *codes = (const unsigned char *)row + sizeof head;
    for (int32_t i = 0; i < n_vocab; i++) {
        uint16_t code;
        memcpy(&code, codes + 2 * (size_t)i, sizeof code);
        log_p[i] = head[0] * (float)code + head[1];
    }
}

fm_status fm__logprobs_begin(struct fm__file_writer *w, const struct fm__logprobs_head *head, const int32_t *tokens,
                             struct fm_error *err)
{
    int32_t numbers[3] = {head->ctx, head->n_vocab, head->n_chunks};
    FM_TRY(fm__file_writer_write(w, MAGIC, sizeof MAGIC, err));
    FM_TRY(fm__file_writer_write(w, numbers, sizeof numbers, err));
    return fm__file_writer_write(w, tokens, (size_t)head->n_chunks * (size_t)head->ctx * sizeof *tokens, err);
}

static fm_status check_head(const struct fm__logprobs_file *f, const char *path, struct fm_error *err)
{
    const struct fm__logprobs_head *h = &f->head;
    if (h->ctx < 4 || h->ctx > MAX_CTX || h->n_vocab < 1 || h->n_vocab > MAX_VOCAB || h->n_chunks < 1)
        return fm__fail(err, FM_E_FORMAT,
                        "%s: context %d, vocabulary %d, chunks %d: want 4 … %d, 1 … %d, 1 … (at byte 8)", path, h->ctx,
                        h->n_vocab, h->n_chunks, MAX_CTX, MAX_VOCAB);
    // at most 2^22 · 2^26 + 2^24, times 2^31 chunks: below 2^80, so 64 bits would not do unchecked
    uint64_t chunk = (uint64_t)h->ctx * 4 + (uint64_t)fm__scored_count(h->ctx) * fm__logprobs_row_bytes(h->n_vocab);
    uint64_t want;
    if (__builtin_mul_overflow(chunk, (uint64_t)h->n_chunks, &want) || want > UINT64_MAX - HEAD_BYTES ||
        want + HEAD_BYTES > f->file.size)
        return fm__fail(err, FM_E_FORMAT, "%s: %llu bytes, want %llu for %d chunks of %d tokens of a vocabulary of %d",
                        path, (unsigned long long)f->file.size, (unsigned long long)(want + HEAD_BYTES), h->n_chunks,
                        h->ctx, h->n_vocab);
    return FM_OK;
}

static fm_status read_tokens(struct fm__logprobs_file *f, const char *path, struct fm_error *err)
{
    size_t n = (size_t)f->head.n_chunks * (size_t)f->head.ctx;
    f->tokens = fm__malloc(n * sizeof *f->tokens);
    if (!f->tokens) return fm__fail_nomem(err, path, n * sizeof *f->tokens);
    fm_status status = fm__file_pread(&f->file, HEAD_BYTES, f->tokens, n * sizeof *f->tokens, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "%s", path);
    for (size_t i = 0; i < n; i++) {
        if (f->tokens[i] >= 0 && f->tokens[i] < f->head.n_vocab) continue;
        return fm__fail(err, FM_E_FORMAT, "%s: token %d, want 0 … %d (at byte %zu)", path, f->tokens[i],
                        f->head.n_vocab - 1, HEAD_BYTES + i * sizeof *f->tokens);
    }
    f->rows_at = HEAD_BYTES + n * sizeof *f->tokens;
    return FM_OK;
}

fm_status fm__logprobs_open(const char *path, struct fm__logprobs_file *out, struct fm_error *err)
{
    *out = (struct fm__logprobs_file){.file.fd = -1};
    FM_TRY(fm__file_open(path, &out->file, err));
    unsigned char bytes[HEAD_BYTES];
    fm_status status = fm__file_pread(&out->file, 0, bytes, sizeof bytes, err);
    if (status != FM_OK) status = fm__error_prefix(err, status, "%s", path);
    if (status == FM_OK && memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        status = fm__fail(err, FM_E_FORMAT, "%s: not a file of log-probabilities (want \"_logits_\" at byte 0)", path);
    if (status == FM_OK) {
        memcpy(&out->head, bytes + sizeof MAGIC, sizeof out->head);
        status = check_head(out, path, err);
    }
    if (status == FM_OK) status = read_tokens(out, path, err);
    if (status != FM_OK) fm__logprobs_close(out);
    return status;
}

void fm__logprobs_close(struct fm__logprobs_file *f)
{
    fm__file_close(&f->file);
    fm__free(f->tokens);
    *f = (struct fm__logprobs_file){.file.fd = -1};
}

fm_status fm__logprobs_read(const struct fm__logprobs_file *f, int32_t chunk, int32_t i, void *row,
                            struct fm_error *err)
{
    size_t bytes = fm__logprobs_row_bytes(f->head.n_vocab);
    uint64_t index = (uint64_t)chunk * (uint64_t)fm__scored_count(f->head.ctx) + (uint64_t)i;
    return fm__file_pread(&f->file, f->rows_at + index * bytes, row, bytes, err);
}

// SPDX-License-Identifier: MIT
// A file of base log-probabilities: what one model thought of every scored position of a text, in 16 bits a token.
// Little endian: "_logits_", i32 ctx, i32 V, i32 chunks, i32 tokens[chunks][ctx], then for each chunk its scored
// positions, ctx/2 … ctx-2, a row each:
//
//     f32 scale, f32 lowest, u16 code[V], padding to an even number of codes;  log p(i) = lowest + scale · code[i]
//
// What lies more than 16 below the row's best is code 0. Layout: llama.cpp, tools/perplexity (written by
// --kl-divergence-base), so that files go both ways between the two programs.
#ifndef FM_EVAL_LOGPROBS_H
#define FM_EVAL_LOGPROBS_H

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "eval/score.h"

struct fm__logprobs_head {
    int32_t ctx, n_vocab, n_chunks;
};

// Positions scored a chunk: 255 of 512.
static inline int32_t fm__scored_first(int32_t ctx)
{
    return ctx / 2;
}
static inline int32_t fm__scored_count(int32_t ctx)
{
    return ctx - 1 - ctx / 2;
}

size_t fm__logprobs_row_bytes(int32_t n_vocab);

// One row encoded into fm__logprobs_row_bytes(V) bytes at `row`; `score` is that of the logits.
void fm__logprobs_encode(const float *logits, int32_t n_vocab, const struct fm__score *score, void *row);
// And back: log p(i), i < V.
void fm__logprobs_decode(const void *row, int32_t n_vocab, float *log_p);

// Writes head and tokens [chunks * ctx]; rows follow by fm__file_writer_write.
fm_status fm__logprobs_begin(struct fm__file_writer *w, const struct fm__logprobs_head *head, const int32_t *tokens,
                             struct fm_error *err);

struct fm__logprobs_file {
    struct fm__file file;
    struct fm__logprobs_head head;
    int32_t *tokens; // [n_chunks * ctx], owned
    uint64_t rows_at;
};

// Errors: FM_E_NOT_FOUND, FM_E_IO, FM_E_FORMAT (no such file, counts that do not fit its length), FM_E_NOMEM.
fm_status fm__logprobs_open(const char *path, struct fm__logprobs_file *out, struct fm_error *err);
void fm__logprobs_close(struct fm__logprobs_file *f); // a zeroed one with fd -1 is fine
// The row of scored position i (0 …) of a chunk.
fm_status fm__logprobs_read(const struct fm__logprobs_file *f, int32_t chunk, int32_t i, void *row,
                            struct fm_error *err);

#endif

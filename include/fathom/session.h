// SPDX-License-Identifier: MIT
// Running a model: a batcher owns the key/value pages and steps several sessions together; a session is one timeline of
// tokens. The caller says what the timeline should be (sync); what is cached is the batcher's business.
//
//     fm_session_sync(s, prompt, n, &err);          // reuses whatever prefix is cached
//     fm_batcher_run(b, &err);                      // evaluates what is pending, for all sessions
//     const float *logits = fm_session_logits(s);   // of the last token; sample, then
//     fm_session_append(s, &token, 1, &err);        // and run again
//
// A batcher and its sessions belong to one thread at a time; only fm_batcher_cancel may come from another (or from a
// signal handler). A session's results are the same bytes alone or among others, at any number of threads, however its
// tokens were cut into steps.
#ifndef FATHOM_SESSION_H
#define FATHOM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fathom/adapter.h"
#include "fathom/model.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_batcher;
struct fm_session;

struct fm_batcher_opts {
    int n_ctx;             // longest timeline of a session, tokens; 0: the model's trained context
    int n_sessions;        // at most this many at once; 0: 1
    int64_t kv_tokens;     // room for this many tokens in all sessions together; 0: n_ctx * n_sessions
    const char *kv_format; // "f32", "f16", "bf16", "int8"; NULL: int8 where the model's keys bear it, else f16
    int n_batch;           // most rows a step; 0: 512. Rounded up to a power of two
    // 1: products of quantised weights take activations as f32, several times slower: tells the error of rounding them
    // to 8 bits from every other. 0: whatever the device prefers.
    int exact_activations;
    const struct fm_adapter_set *adapters; // of this model; outlives the batcher. NULL: none
    int session_adapter;                   // 1 + the choice that new sessions begin with; 0: none
};

struct fm_batcher_stats {
    uint64_t n_steps, n_rows;   // plan runs and rows evaluated
    uint64_t n_rows_logits;     // rows whose logits were made
    uint64_t n_rows_reused;     // rows that sync found in the cache
    uint64_t kv_bytes;          // bytes of key/value pages in use
    uint64_t kv_bytes_most;     // the most that were in use at once
    uint64_t kv_bytes_reserved; // and of all pages
    uint64_t arena_bytes;       // temporaries of the plans made so far
    double seconds;             // spent in steps
};

FM_API fm_status fm_batcher_new(const struct fm_model *model, const struct fm_batcher_opts *opts,
                                struct fm_batcher **out, struct fm_error *err);
FM_API void fm_batcher_free(struct fm_batcher *batcher); // NULL is fine; after its sessions
FM_API void fm_batcher_get_stats(const struct fm_batcher *batcher, struct fm_batcher_stats *stats);

// Evaluates up to n_batch pending rows, oldest sessions first. *n_rows (may be NULL): rows evaluated, 0 when nothing
// was pending. On an error the sessions stay as they were before the step.
FM_API fm_status fm_batcher_step(struct fm_batcher *batcher, int *n_rows, struct fm_error *err);
// Steps until nothing is pending. FM_E_CANCELLED after fm_batcher_cancel; what was evaluated stays evaluated.
FM_API fm_status fm_batcher_run(struct fm_batcher *batcher, struct fm_error *err);
// Makes the current or next run return at the next step's end. Async-signal safe, any thread.
FM_API void fm_batcher_cancel(struct fm_batcher *batcher);

// The plan for a step of `rows` rows as text (made if there is none yet).
FM_API fm_status fm_batcher_dump_plan(struct fm_batcher *batcher, int rows, FILE *to, struct fm_error *err);

FM_API fm_status fm_session_new(struct fm_batcher *batcher, struct fm_session **out, struct fm_error *err);
FM_API void fm_session_free(struct fm_session *session); // NULL is fine

// Makes the timeline equal tokens[0 … n): keeps the common prefix (its own, or pages of other sessions with the same
// prefix), forgets the rest, leaves the new tokens pending. The last token is always evaluated again if nothing else is
// pending, so that logits exist after the next run. Errors: FM_E_LIMIT beyond n_ctx or when no pages are left,
// FM_E_ARG for a token outside the vocabulary; the timeline is then unchanged.
FM_API fm_status fm_session_sync(struct fm_session *session, const int32_t *tokens, int n, struct fm_error *err);
FM_API fm_status fm_session_append(struct fm_session *session, const int32_t *tokens, int n, struct fm_error *err);
// Keeps the first n tokens (0 … length).
FM_API fm_status fm_session_rewind(struct fm_session *session, int n, struct fm_error *err);
// A second session with the same timeline, sharing its pages.
FM_API fm_status fm_session_fork(const struct fm_session *session, struct fm_session **out, struct fm_error *err);
// Context shift: forgets tokens [keep, keep + discard) and moves the later ones down, turning their cached keys back by
// `discard` positions. A model whose keys cannot be turned (learned positions) gives FM_E_UNSUPPORTED.
FM_API fm_status fm_session_shift(struct fm_session *session, int keep, int discard, struct fm_error *err);

// The choice of the batcher's adapters that this session runs with from now on; -1: none, the model's own bytes. Where
// that is a change, what is cached of the timeline is forgotten and waits to be evaluated again. Prefixes are shared
// among sessions of one choice only. Errors: FM_E_ARG (no such choice), FM_E_LIMIT (no pages).
FM_API fm_status fm_session_set_adapter(struct fm_session *session, int choice, struct fm_error *err);

FM_API const int32_t *fm_session_tokens(const struct fm_session *session, int *n); // the timeline; valid until changed
FM_API int fm_session_pending(const struct fm_session *session);                   // tokens not yet evaluated

// Logits [n_vocab] after the last token, valid until the next step; NULL while tokens are pending.
FM_API const float *fm_session_logits(const struct fm_session *session);
// Hidden state [d_model] after the last token (after the final norm), likewise.
FM_API const float *fm_session_hidden(const struct fm_session *session);
// Calls `fn` with the logits [n_vocab] after every token from position `from` on, as steps evaluate them; fn NULL: only
// the last token's logits are made (the default). fn must not touch the batcher.
typedef void fm_logits_fn(void *context, struct fm_session *session, int position, const float *logits);
FM_API void fm_session_on_logits(struct fm_session *session, int from, fm_logits_fn *fn, void *context);
// The same with the hidden state [d_model] (after the final norm) after every token from position `from` on. Logits are
// not made for it, except the last token's.
typedef void fm_hidden_fn(void *context, struct fm_session *session, int position, const float *hidden);
FM_API void fm_session_on_hidden(struct fm_session *session, int from, fm_hidden_fn *fn, void *context);

// Timeline and key/value pages in a file: temporary file, checksum, rename. Loading checks the model, the format and
// the checksum, and changes the session only when all is well. The file remembers the session's adapters by hash: the
// session that loads it gets that choice, where its batcher offers one (else FM_E_VERIFY).
FM_API fm_status fm_session_save(const struct fm_session *session, const char *path, struct fm_error *err);
FM_API fm_status fm_session_load(struct fm_session *session, const char *path, struct fm_error *err);

#ifdef __cplusplus
}
#endif
#endif

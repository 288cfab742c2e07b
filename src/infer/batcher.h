// SPDX-License-Identifier: MIT
// Inside of batcher and session: what batcher.c, session.c, session_file.c and shift.c share.
#ifndef FM_INFER_BATCHER_H
#define FM_INFER_BATCHER_H

#include <stdatomic.h>

#include "device/device.h"
#include "device/plan.h"
#include "fathom/session.h"
#include "infer/pages.h"
#include "model/model.h"
#include "ops/kv_format.h"

enum { FM__MAX_BUCKETS = 14 }; // 1, 2, 4 … 8192 rows
enum { FM__HEAD_ROWS = 64 };   // largest bucket of the head: logits of 64 rows are some 13 MB already

struct fm_session {
    struct fm_batcher *batcher;
    struct fm_session *next; // in order of birth
    int slot, adapter;       // adapter: choice of the batcher's set, -1: none
    int32_t *tokens;         // [n_ctx]
    int n_tokens, n_done;    // timeline; the first n_done are evaluated
    int32_t *pages;          // [n_slot_pages]
    int n_pages;             // pages for all n_tokens are held from append on, so that a step cannot run out
    float *logits, *hidden;  // of the last token
    bool has_logits;
    fm_logits_fn *on_logits;
    void *on_logits_context;
    int on_logits_from;
    fm_hidden_fn *on_hidden;
    void *on_hidden_context;
    int on_hidden_from;
};

struct fm_batcher {
    const struct fm_model *model;
    struct fm_device *device;
    struct fm__cache_dims dims;
    int n_ctx, n_batch, exact_activations;
    int session_adapter;  // of new sessions; -1: none
    size_t page_bytes;    // of one layer
    struct fm_buffer *kv; // [layer][page] of page_bytes
    struct fm__pages *pages;
    struct fm_session *sessions;
    struct fm__graph *trunk, *head, *norm; // norm: the head without logits, made when first asked for
    struct fm__plan *trunk_plans[FM__MAX_BUCKETS], *head_plans[FM__MAX_BUCKETS], *norm_plans[FM__MAX_BUCKETS];
    // a step's inputs
    int32_t *tokens, *rows, *page_table, *head_rows; // head_rows: of hidden
    float *hidden;                                   // [FM__HEAD_ROWS, D]
    struct fm__want {                                // rows whose logits or hidden states are wanted
        struct fm_session *session;
        int row, position;
        bool logits; // or the hidden state only
    } * wants;
    int n_wants;
    atomic_int cancelled;
    struct fm_batcher_stats stats;
};

// Evaluates rows of a session whose timeline changed: session.c keeps these promises for batcher.c:
// tokens[0 … n_tokens) valid, pages held and writable from index n_done on.

// The plan that a step of this many rows runs: the layers', that of logits, or of hidden states without logits (the
// last two: rows at most FM__HEAD_ROWS). Made if there is none yet; the batcher's own.
enum fm__plan_kind { FM__TRUNK, FM__HEAD, FM__NORM };
fm_status fm__batcher_plan(struct fm_batcher *b, enum fm__plan_kind kind, int rows, struct fm__plan **out,
                           struct fm_error *err);

// What stands before a session's first page in the prefix search: sessions with other adapters cannot find it.
static inline int32_t fm__session_root(const struct fm_session *s)
{
    return s->adapter < 0 ? FM__NO_PAGE : FM__NO_PAGE - 1 - s->adapter;
}

// Sets the page table's row of a session.
void fm__session_write_pages(const struct fm_session *session);

// Copies one page (all layers) onto another.
fm_status fm__batcher_copy_page(struct fm_batcher *b, int32_t from, int32_t to, struct fm_error *err);
// Reads or writes the bytes of one layer of a page.
fm_status fm__batcher_read_page(struct fm_batcher *b, int layer, int32_t page, void *bytes, struct fm_error *err);
fm_status fm__batcher_write_page(struct fm_batcher *b, int layer, int32_t page, const void *bytes,
                                 struct fm_error *err);

#endif

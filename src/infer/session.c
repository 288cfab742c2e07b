// SPDX-License-Identifier: MIT
// Sessions: the timeline, and which pages hold it. Pages for new tokens are taken when tokens arrive, so that running
// can no longer fail for want of room; a page that others hold, or could find, is never written.
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "infer/batcher.h"

static int pages_for(int n_tokens)
{
    return (n_tokens + FM__KV_BLOCK - 1) / FM__KV_BLOCK;
}

void fm__session_write_pages(const struct fm_session *s)
{
    int32_t *row = s->batcher->page_table + (size_t)s->slot * (size_t)s->batcher->dims.n_slot_pages;
    memcpy(row, s->pages, (size_t)s->n_pages * sizeof *row);
}

static int free_slot(const struct fm_batcher *b)
{
    for (int slot = 0; slot < b->dims.n_slots; slot++) {
        const struct fm_session *s = b->sessions;
        while (s && s->slot != slot) s = s->next;
        if (!s) return slot;
    }
    return -1;
}

fm_status fm_session_new(struct fm_batcher *b, struct fm_session **out, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    *out = NULL;
    int slot = free_slot(b);
    if (slot < 0) return fm__fail(err, FM_E_LIMIT, "session: all %lld are in use", (long long)b->dims.n_slots);
    struct fm_session *s = fm__calloc(1, sizeof *s);
    if (!s) return fm__fail_nomem(err, "session", sizeof *s);
    s->batcher = b;
    s->slot = slot;
    s->adapter = b->session_adapter;
    s->tokens = fm__calloc((size_t)b->n_ctx, sizeof *s->tokens);
    s->pages = fm__calloc((size_t)b->dims.n_slot_pages, sizeof *s->pages);
    s->logits = fm__calloc((size_t)hp->n_vocab, sizeof *s->logits);
    s->hidden = fm__calloc((size_t)hp->d_model, sizeof *s->hidden);
    struct fm_session **end = &b->sessions;
    while (*end) end = &(*end)->next;
    *end = s;
    if (!s->tokens || !s->pages || !s->logits || !s->hidden) {
        fm_session_free(s);
        return fm__fail_nomem(err, "session", (size_t)hp->n_vocab * sizeof *s->logits);
    }
    *out = s;
    return FM_OK;
}

static void drop_pages(struct fm_session *s, int keep)
{
    while (s->n_pages > keep) fm__pages_unref(s->batcher->pages, s->pages[--s->n_pages]);
}

void fm_session_free(struct fm_session *s)
{
    if (!s) return;
    struct fm_session **at = &s->batcher->sessions;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    if (s->pages) drop_pages(s, 0);
    fm__free(s->tokens);
    fm__free(s->pages);
    fm__free(s->logits);
    fm__free(s->hidden);
    fm__free(s);
}

// The page that the next token goes into is partly filled: it must be this session's alone.
static fm_status own_last_page(struct fm_session *s, struct fm_error *err)
{
    struct fm_batcher *b = s->batcher;
    if (s->n_tokens % FM__KV_BLOCK == 0) return FM_OK;
    int32_t *page = &s->pages[s->n_pages - 1];
    if (fm__pages_make_writable(b->pages, *page)) return FM_OK;
    int32_t copy = fm__pages_take(b->pages);
    if (copy == FM__NO_PAGE) return fm__fail(err, FM_E_LIMIT, "session: no key/value page is left for its own copy");
    fm_status status = fm__batcher_copy_page(b, *page, copy, err);
    if (status != FM_OK) {
        fm__pages_unref(b->pages, copy);
        return status;
    }
    fm__pages_unref(b->pages, *page);
    *page = copy;
    return FM_OK;
}

static fm_status check_tokens(const struct fm_session *s, const int32_t *tokens, int n, int n_total,
                              struct fm_error *err)
{
    int64_t n_vocab = fm__model_hparams(s->batcher->model)->n_vocab;
    if (n < 0 || n_total > s->batcher->n_ctx)
        return fm__fail(err, FM_E_LIMIT, "session: %d tokens, the context holds %d", n_total, s->batcher->n_ctx);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return fm__fail(err, FM_E_ARG, "session: token %d at %d, want 0 to %lld", tokens[i], i,
                            (long long)n_vocab - 1);
    return FM_OK;
}

fm_status fm_session_append(struct fm_session *s, const int32_t *tokens, int n, struct fm_error *err)
{
    struct fm_batcher *b = s->batcher;
    if (n > b->n_ctx) n = b->n_ctx + 1; // the sum below must not overflow; the check refuses it
    FM_TRY(check_tokens(s, n > b->n_ctx ? NULL : tokens, n > b->n_ctx ? 0 : n, s->n_tokens + n, err));
    int wanted = pages_for(s->n_tokens + n) - s->n_pages;
    if (wanted > fm__pages_available(b->pages))
        return fm__fail(err, FM_E_LIMIT, "session: %d key/value pages of 64 tokens wanted, %d are left", wanted,
                        fm__pages_available(b->pages));
    if (n > 0) FM_TRY(own_last_page(s, err));
    while (s->n_pages < pages_for(s->n_tokens + n)) {
        int32_t page = fm__pages_take(b->pages);
        if (page == FM__NO_PAGE) { // the copy above took the last one
            drop_pages(s, pages_for(s->n_tokens));
            return fm__fail(err, FM_E_LIMIT, "session: no key/value page is left");
        }
        s->pages[s->n_pages++] = page;
    }
    memcpy(s->tokens + s->n_tokens, tokens, (size_t)n * sizeof *tokens);
    s->n_tokens += n;
    if (n > 0) s->has_logits = false;
    return FM_OK;
}

fm_status fm_session_rewind(struct fm_session *s, int n, struct fm_error *err)
{
    if (n < 0 || n > s->n_tokens) return fm__fail(err, FM_E_ARG, "session: rewind to %d, want 0 to %d", n, s->n_tokens);
    if (n == s->n_tokens) return FM_OK;
    drop_pages(s, pages_for(n));
    s->n_tokens = n;
    if (s->n_done > n) s->n_done = n;
    s->has_logits = false;
    return FM_OK;
}

// Extends an evaluated prefix of whole pages with pages that others evaluated; returns its length in tokens.
static int adopt_pages(struct fm_session *s, const int32_t *tokens, int n, int evaluated)
{
    struct fm_batcher *b = s->batcher;
    int i = evaluated / FM__KV_BLOCK;
    for (; (i + 1) * FM__KV_BLOCK <= n; i++) {
        int32_t found = fm__pages_find(b->pages, i ? s->pages[i - 1] : fm__session_root(s), tokens + i * FM__KV_BLOCK);
        if (found == FM__NO_PAGE) break;
        drop_pages(s, i);
        s->pages[s->n_pages++] = found;
        evaluated = (i + 1) * FM__KV_BLOCK;
    }
    return evaluated;
}

fm_status fm_session_sync(struct fm_session *s, const int32_t *tokens, int n, struct fm_error *err)
{
    struct fm_batcher *b = s->batcher;
    FM_TRY(check_tokens(s, tokens, n > b->n_ctx ? 0 : n, n, err));
    int same = 0;
    while (same < n && same < s->n_tokens && s->tokens[same] == tokens[same]) same++;
    if (n > 0 && same == n) {
        if (s->n_tokens == n && (s->n_done < n || s->has_logits)) return FM_OK; // exactly this, with logits to come
        same = n - 1;
    }
    // room first, so that a refusal leaves the timeline alone: what is dropped beyond `same` comes back
    int spare = s->n_pages - pages_for(same);
    if (pages_for(n) - pages_for(same) > fm__pages_available(b->pages) + spare)
        return fm__fail(err, FM_E_LIMIT, "session: %d tokens do not fit, %d key/value pages of 64 tokens are left", n,
                        fm__pages_available(b->pages) + spare);
    FM_TRY(fm_session_rewind(s, same, err));
    int evaluated = n > 0 ? adopt_pages(s, tokens, n - 1, s->n_done) : 0;
    if (evaluated > s->n_done) {
        b->stats.n_rows_reused += (uint64_t)(evaluated - s->n_done);
        memcpy(s->tokens, tokens, (size_t)evaluated * sizeof *tokens);
        s->n_done = s->n_tokens = evaluated;
    }
    b->stats.n_rows_reused += (uint64_t)(s->n_done < same ? s->n_done : same);
    return fm_session_append(s, tokens + s->n_tokens, n - s->n_tokens, err);
}

fm_status fm_session_fork(const struct fm_session *s, struct fm_session **out, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(s->batcher->model);
    struct fm_session *f;
    FM_TRY(fm_session_new(s->batcher, &f, err));
    memcpy(f->tokens, s->tokens, (size_t)s->n_tokens * sizeof *s->tokens);
    f->adapter = s->adapter;
    // tokens that wait would be written to shared pages by both: the fork gets them as its own
    f->n_tokens = f->n_done = s->n_done;
    f->n_pages = pages_for(s->n_done);
    memcpy(f->pages, s->pages, (size_t)f->n_pages * sizeof *s->pages);
    for (int i = 0; i < f->n_pages; i++) fm__pages_ref(s->batcher->pages, f->pages[i]);
    memcpy(f->logits, s->logits, (size_t)hp->n_vocab * sizeof *s->logits);
    memcpy(f->hidden, s->hidden, (size_t)hp->d_model * sizeof *s->hidden);
    f->has_logits = s->has_logits;
    fm_status status = fm_session_append(f, s->tokens + s->n_done, s->n_tokens - s->n_done, err);
    if (status != FM_OK) {
        fm_session_free(f);
        return status;
    }
    *out = f;
    return FM_OK;
}

fm_status fm_session_set_adapter(struct fm_session *s, int choice, struct fm_error *err)
{
    const int n = fm_adapter_set_size(s->batcher->dims.adapters), n_tokens = s->n_tokens;
    if (choice < -1 || choice >= n)
        return fm__fail(err, FM_E_ARG, "session: adapter %d, the batcher has %d (-1: none)", choice, n);
    if (choice == s->adapter) return FM_OK;
    int32_t *tokens = fm__malloc((size_t)(n_tokens + 1) * sizeof *tokens);
    if (!tokens) return fm__fail_nomem(err, "session", (size_t)n_tokens * sizeof *tokens);
    memcpy(tokens, s->tokens, (size_t)n_tokens * sizeof *tokens);
    s->has_logits = false;
    fm_status status = fm_session_rewind(s, 0, err);
    s->adapter = choice;
    if (status == FM_OK) status = fm_session_sync(s, tokens, n_tokens, err); // its pages came free: there is room
    fm__free(tokens);
    return status;
}

const int32_t *fm_session_tokens(const struct fm_session *s, int *n)
{
    if (n) *n = s->n_tokens;
    return s->tokens;
}

int fm_session_pending(const struct fm_session *s)
{
    return s->n_tokens - s->n_done;
}

const float *fm_session_logits(const struct fm_session *s)
{
    return s->has_logits && s->n_done == s->n_tokens ? s->logits : NULL;
}

const float *fm_session_hidden(const struct fm_session *s)
{
    return s->has_logits && s->n_done == s->n_tokens ? s->hidden : NULL;
}

void fm_session_on_logits(struct fm_session *s, int from, fm_logits_fn *fn, void *context)
{
    s->on_logits = fn;
    s->on_logits_context = context;
    s->on_logits_from = from;
}

void fm_session_on_hidden(struct fm_session *s, int from, fm_hidden_fn *fn, void *context)
{
    s->on_hidden = fn;
    s->on_hidden_context = context;
    s->on_hidden_from = from;
}

// SPDX-License-Identifier: MIT
// The batcher: plans by bucket, one cache, and the step that evaluates rows of several sessions together.
#include "infer/batcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "tensor/buffer.h"

static fm_status bind(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    struct fm_batcher *b = context;
    if (fm__adapter_set_bind(b->dims.adapters, name, out)) return FM_OK;
    if (strncmp(name, "kv.", 3)) return fm__model_bind((void *)(uintptr_t)b->model, name, out, err);
    size_t layer_bytes = (size_t)b->dims.n_pages * b->page_bytes;
    *out = (struct fm_tensor){.dtype = FM_I8,
                              .rank = 2,
                              .dims = {b->dims.n_pages, (int64_t)b->page_bytes},
                              .buffer = b->kv,
                              .offset = (size_t)strtol(name + 3, NULL, 10) * layer_bytes};
    fm_tensor_set_contiguous(out);
    if (b->kv->host) out->data = (char *)b->kv->host + out->offset;
    return FM_OK;
}

// The plan of bucket 2^i; plans of one kind share the arena of the largest, which is made first.
static fm_status get_plan(struct fm_batcher *b, enum fm__plan_kind kind, int i, struct fm__plan **out,
                          struct fm_error *err)
{
    struct fm__plan **plans = kind == FM__TRUNK ? b->trunk_plans : kind == FM__HEAD ? b->head_plans : b->norm_plans;
    const struct fm__graph *graph = kind == FM__TRUNK ? b->trunk : kind == FM__HEAD ? b->head : b->norm;
    if (!plans[i]) {
        int largest = __builtin_ctz((unsigned)(kind == FM__TRUNK ? b->n_batch : FM__HEAD_ROWS));
        struct fm__plan_opts opts = {.device = b->device,
                                     .rows = (int64_t)1 << i,
                                     .bind = bind,
                                     .bind_context = b,
                                     .exact_activations = b->exact_activations,
                                     .arena = plans[largest] ? plans[largest]->arena : NULL};
        FM_TRY(fm__plan_new(graph, &opts, &plans[i], err));
        if (plans[i]->arena != opts.arena) b->stats.arena_bytes += plans[i]->arena_bytes;
    }
    *out = plans[i];
    return FM_OK;
}

// Smallest i with 2^i >= rows.
static int bucket_for(int rows)
{
    int i = 0;
    while (1 << i < rows) i++;
    return i;
}

static fm_status want_norm(struct fm_batcher *b, struct fm_error *err)
{
    if (b->norm) return FM_OK;
    b->norm = fm__model_norm(b->model);
    struct fm__plan *unused;
    if (!b->norm) return fm__fail_nomem(err, "graph", sizeof *b->norm);
    return get_plan(b, FM__NORM, bucket_for(FM__HEAD_ROWS), &unused, err);
}

fm_status fm__batcher_plan(struct fm_batcher *b, enum fm__plan_kind kind, int rows, struct fm__plan **out,
                           struct fm_error *err)
{
    int most = kind == FM__TRUNK ? b->n_batch : FM__HEAD_ROWS;
    if (rows < 1 || rows > most) return fm__fail(err, FM_E_ARG, "plan of %d rows, want 1 to %d", rows, most);
    if (kind == FM__NORM) FM_TRY(want_norm(b, err));
    return get_plan(b, kind, bucket_for(rows), out, err);
}

static fm_status resolve_opts(struct fm_batcher *b, const struct fm_batcher_opts *o, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    int n_sessions = o->n_sessions ? o->n_sessions : 1;
    b->n_ctx = o->n_ctx ? o->n_ctx : (int)hp->n_ctx_train;
    int64_t kv_tokens = o->kv_tokens ? o->kv_tokens : (int64_t)b->n_ctx * n_sessions;
    int n_batch = o->n_batch ? o->n_batch : 512;
    if (b->n_ctx < 1 || n_sessions < 1 || n_sessions > 4096 || kv_tokens < 1 || kv_tokens > INT32_MAX || n_batch < 1)
        return fm__fail(err, FM_E_ARG,
                        "batcher: n_ctx %d, n_sessions %d, kv_tokens %lld, n_batch %d: want positive"
                        " numbers, at most 4096 sessions and 2^31 tokens",
                        b->n_ctx, n_sessions, (long long)kv_tokens, n_batch);
    if (n_batch > b->n_ctx * n_sessions) n_batch = b->n_ctx * n_sessions;
    if (n_batch > 1 << (FM__MAX_BUCKETS - 1)) n_batch = 1 << (FM__MAX_BUCKETS - 1);
    b->n_batch = 1 << bucket_for(n_batch);
    b->exact_activations = o->exact_activations != 0;
    b->dims.adapters = o->adapters;
    b->session_adapter = o->session_adapter - 1;
    if (b->session_adapter < -1 || b->session_adapter >= fm_adapter_set_size(o->adapters))
        return fm__fail(err, FM_E_ARG, "batcher: sessions with adapter %d, the set has %d", b->session_adapter,
                        fm_adapter_set_size(o->adapters));
    b->dims.kv_format = o->kv_format ? fm__kv_format_by_name(o->kv_format) : fm__model_kv_format(b->model);
    if (b->dims.kv_format < 0)
        return fm__fail(err, FM_E_ARG, "kv format \"%s\": not known, want f32, f16, bf16 or int8", o->kv_format);
    b->dims.n_slots = n_sessions;
    b->dims.n_slot_pages = (b->n_ctx + FM__KV_BLOCK - 1) / FM__KV_BLOCK;
    // each session may leave a page partly filled
    b->dims.n_pages =
        o->kv_tokens ? (kv_tokens + FM__KV_BLOCK - 1) / FM__KV_BLOCK + n_sessions : b->dims.n_slot_pages * n_sessions;
    return FM_OK;
}

static fm_status make_cache(struct fm_batcher *b, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    size_t bytes = (size_t)hp->n_layers;
    b->page_bytes = fm__kv_page_bytes(b->dims.kv_format, (int)hp->n_kv, (int)hp->head_k, (int)hp->head_v);
    if (!b->page_bytes || !fm__mul_size(bytes, (size_t)b->dims.n_pages, &bytes) ||
        !fm__mul_size(bytes, b->page_bytes, &bytes))
        return fm__fail(err, FM_E_LIMIT, "kv cache: %lld pages of %zu bytes in %lld layers do not fit",
                        (long long)b->dims.n_pages, b->page_bytes, (long long)hp->n_layers);
    FM_TRY(b->device->v->alloc(b->device, bytes, &b->kv, err));
    b->stats.kv_bytes_reserved = bytes;
    return fm__pages_new((int32_t)b->dims.n_pages, &b->pages, err);
}

static fm_status make_inputs(struct fm_batcher *b, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    size_t n = (size_t)b->n_batch, table = (size_t)(b->dims.n_slots * b->dims.n_slot_pages);
    b->tokens = fm__calloc(n, sizeof *b->tokens);
    b->rows = fm__calloc(n * FM__ROW_FIELDS, sizeof *b->rows);
    b->page_table = fm__malloc(table * sizeof *b->page_table);
    b->hidden = fm__calloc((size_t)hp->d_model * FM__HEAD_ROWS, sizeof *b->hidden);
    b->head_rows = fm__calloc((size_t)FM__HEAD_ROWS * FM__ROW_FIELDS, sizeof *b->head_rows);
    b->wants = fm__calloc(n, sizeof *b->wants);
    if (!b->tokens || !b->rows || !b->page_table || !b->hidden || !b->head_rows || !b->wants)
        return fm__fail_nomem(err, "batcher", n * sizeof *b->rows);
    memset(b->page_table, 0xff, table * sizeof *b->page_table);
    return FM_OK;
}

static fm_status make_plans(struct fm_batcher *b, struct fm_error *err)
{
    struct fm__plan *unused;
    b->trunk = fm__model_trunk(b->model, &b->dims);
    b->head = fm__model_head(b->model, b->dims.adapters);
    if (!b->trunk || !b->head) return fm__fail_nomem(err, "graph", sizeof *b->trunk);
    FM_TRY(get_plan(b, FM__TRUNK, bucket_for(b->n_batch), &unused, err));
    return get_plan(b, FM__HEAD, bucket_for(FM__HEAD_ROWS), &unused, err);
}

fm_status fm_batcher_new(const struct fm_model *model, const struct fm_batcher_opts *opts, struct fm_batcher **out,
                         struct fm_error *err)
{
    static const struct fm_batcher_opts defaults;
    *out = NULL;
    struct fm_batcher *b = fm__calloc(1, sizeof *b);
    if (!b) return fm__fail_nomem(err, "batcher", sizeof *b);
    b->model = model;
    b->device = fm__model_device(model);
    fm_status status = resolve_opts(b, opts ? opts : &defaults, err);
    if (status == FM_OK) status = make_cache(b, err);
    if (status == FM_OK) status = make_inputs(b, err);
    if (status == FM_OK) status = make_plans(b, err);
    if (status != FM_OK) {
        fm_batcher_free(b);
        return status;
    }
    *out = b;
    return FM_OK;
}

void fm_batcher_free(struct fm_batcher *b)
{
    if (!b) return;
    for (int i = 0; i < FM__MAX_BUCKETS; i++) {
        fm__plan_free(b->trunk_plans[i]);
        fm__plan_free(b->head_plans[i]);
        fm__plan_free(b->norm_plans[i]);
    }
    fm__graph_free(b->trunk);
    fm__graph_free(b->head);
    fm__graph_free(b->norm);
    fm__pages_free(b->pages);
    fm_buffer_unref(b->kv);
    fm__free(b->tokens);
    fm__free(b->rows);
    fm__free(b->page_table);
    fm__free(b->hidden);
    fm__free(b->head_rows);
    fm__free(b->wants);
    fm__free(b);
}

void fm_batcher_get_stats(const struct fm_batcher *b, struct fm_batcher_stats *stats)
{
    *stats = b->stats;
    uint64_t page = b->page_bytes * (uint64_t)fm__model_hparams(b->model)->n_layers;
    stats->kv_bytes = (uint64_t)fm__pages_held(b->pages) * page;
    stats->kv_bytes_most = (uint64_t)fm__pages_held_most(b->pages) * page;
}

static size_t page_offset(const struct fm_batcher *b, int layer, int32_t page)
{
    return ((size_t)layer * (size_t)b->dims.n_pages + (size_t)page) * b->page_bytes;
}

fm_status fm__batcher_read_page(struct fm_batcher *b, int layer, int32_t page, void *bytes, struct fm_error *err)
{
    return fm__device_copy_out(b->device, b->kv, page_offset(b, layer, page), bytes, b->page_bytes, err);
}

fm_status fm__batcher_write_page(struct fm_batcher *b, int layer, int32_t page, const void *bytes, struct fm_error *err)
{
    return fm__device_copy_in(b->device, b->kv, page_offset(b, layer, page), bytes, b->page_bytes, err);
}

fm_status fm__batcher_copy_page(struct fm_batcher *b, int32_t from, int32_t to, struct fm_error *err)
{
    void *bytes = fm__malloc(b->page_bytes);
    if (!bytes) return fm__fail_nomem(err, "page copy", b->page_bytes);
    fm_status status = FM_OK;
    for (int layer = 0; status == FM_OK && layer < fm__model_hparams(b->model)->n_layers; layer++) {
        status = fm__batcher_read_page(b, layer, from, bytes, err);
        if (status == FM_OK) status = fm__batcher_write_page(b, layer, to, bytes, err);
    }
    fm__free(bytes);
    return status;
}

// Appends up to `room` pending rows of a session to the step's inputs; returns how many.
static int collect_rows(struct fm_batcher *b, struct fm_session *s, int at, int room)
{
    int n = s->n_tokens - s->n_done;
    if (n > room) n = room;
    for (int i = 0; i < n; i++) {
        int position = s->n_done + i;
        int32_t *row = b->rows + (size_t)(at + i) * FM__ROW_FIELDS;
        b->tokens[at + i] = s->tokens[position];
        row[FM__ROW_SLOT] = s->slot;
        row[FM__ROW_POS] = row[FM__ROW_KV] = position;
        row[FM__ROW_ADAPTER] = s->adapter;
        bool logits = position == s->n_tokens - 1 || (s->on_logits && position >= s->on_logits_from);
        if (logits || (s->on_hidden && position >= s->on_hidden_from))
            b->wants[b->n_wants++] =
                (struct fm__want){.session = s, .row = at + i, .position = position, .logits = logits};
    }
    if (n > 0) fm__session_write_pages(s);
    return n;
}

// Sessions with one pending token first: a long prompt must not make the others wait for more than its share.
static int collect(struct fm_batcher *b)
{
    int n = 0;
    b->n_wants = 0;
    for (struct fm_session *s = b->sessions; s && n < b->n_batch; s = s->next)
        if (s->n_tokens - s->n_done == 1) n += collect_rows(b, s, n, 1);
    for (struct fm_session *s = b->sessions; s && n < b->n_batch; s = s->next)
        if (s->n_tokens - s->n_done > 1) n += collect_rows(b, s, n, b->n_batch - n);
    return n;
}

static void deliver(struct fm_batcher *b, const struct fm__want *want, const float *logits, const float *hidden)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    struct fm_session *s = want->session;
    if (s->on_hidden && want->position >= s->on_hidden_from)
        s->on_hidden(s->on_hidden_context, s, want->position, hidden);
    if (!logits) return;
    if (want->position == s->n_tokens - 1) {
        memcpy(s->logits, logits, (size_t)hp->n_vocab * sizeof *logits);
        memcpy(s->hidden, hidden, (size_t)hp->d_model * sizeof *hidden);
        s->has_logits = true;
    }
    if (s->on_logits && want->position >= s->on_logits_from)
        s->on_logits(s->on_logits_context, s, want->position, logits);
}

// How many of the wants from `begin` on go together: alike, and at most FM__HEAD_ROWS.
static int alike(const struct fm_batcher *b, int begin)
{
    int n = 1;
    while (n < FM__HEAD_ROWS && begin + n < b->n_wants && b->wants[begin + n].logits == b->wants[begin].logits) n++;
    return n;
}

static fm_status run_head(struct fm_batcher *b, const float *x, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    for (int begin = 0, n; begin < b->n_wants; begin += n) {
        bool with_logits = b->wants[begin].logits;
        n = alike(b, begin);
        if (!with_logits) FM_TRY(want_norm(b, err));
        for (int i = 0; i < n; i++) {
            const int row = b->wants[begin + i].row;
            memcpy(b->hidden + i * hp->d_model, x + row * hp->d_model, (size_t)hp->d_model * sizeof *x);
            memcpy(b->head_rows + (size_t)i * FM__ROW_FIELDS, b->rows + (size_t)row * FM__ROW_FIELDS,
                   FM__ROW_FIELDS * sizeof *b->rows);
        }
        struct fm__plan *plan;
        FM_TRY(get_plan(b, with_logits ? FM__HEAD : FM__NORM, bucket_for(n), &plan, err));
        FM_TRY(fm__plan_run(plan, n, (const void *const[]){b->hidden, b->head_rows}, err));
        if (with_logits) b->stats.n_rows_logits += (uint64_t)n;
        const float *logits = with_logits ? fm__plan_output(plan, 0) : NULL;
        const float *normed = fm__plan_output(plan, with_logits);
        for (int i = 0; i < n; i++)
            deliver(b, &b->wants[begin + i], logits ? logits + i * hp->n_vocab : NULL, normed + i * hp->d_model);
    }
    return FM_OK;
}

// Rows of the step are evaluated: sessions move on, pages that became full may serve others.
static void advance(struct fm_batcher *b, int n_rows)
{
    for (int r = 0; r < n_rows; r++) {
        int slot = b->rows[r * FM__ROW_FIELDS + FM__ROW_SLOT];
        struct fm_session *s = b->sessions;
        while (s->slot != slot) s = s->next;
        s->n_done++;
        if (s->n_done % FM__KV_BLOCK) continue;
        int i = s->n_done / FM__KV_BLOCK - 1;
        fm__pages_publish(b->pages, s->pages[i], i ? s->pages[i - 1] : fm__session_root(s),
                          s->tokens + (size_t)i * FM__KV_BLOCK);
    }
}

fm_status fm_batcher_step(struct fm_batcher *b, int *n_rows, struct fm_error *err)
{
    double begin = fm__seconds();
    if (n_rows) *n_rows = 0;
    int n = collect(b);
    if (!n) return FM_OK;
    struct fm__plan *plan;
    FM_TRY(get_plan(b, FM__TRUNK, bucket_for(n), &plan, err));
    FM_TRY(fm__plan_run(plan, n, (const void *const[]){b->tokens, b->rows, b->page_table}, err));
    if (b->n_wants) FM_TRY(run_head(b, fm__plan_output(plan, 0), err));
    advance(b, n);
    b->stats.n_steps++;
    b->stats.n_rows += (uint64_t)n;
    b->stats.seconds += fm__seconds() - begin;
    if (n_rows) *n_rows = n;
    return FM_OK;
}

fm_status fm_batcher_run(struct fm_batcher *b, struct fm_error *err)
{
    int n;
    do {
        if (atomic_exchange(&b->cancelled, 0)) return fm__fail(err, FM_E_CANCELLED, "run: cancelled");
        FM_TRY(fm_batcher_step(b, &n, err));
    } while (n);
    return FM_OK;
}

void fm_batcher_cancel(struct fm_batcher *b)
{
    atomic_store(&b->cancelled, 1);
}

fm_status fm_batcher_dump_plan(struct fm_batcher *b, int rows, FILE *to, struct fm_error *err)
{
    if (rows < 1 || rows > b->n_batch) return fm__fail(err, FM_E_ARG, "plan: %d rows, want 1 to %d", rows, b->n_batch);
    struct fm__plan *plan;
    FM_TRY(get_plan(b, FM__TRUNK, bucket_for(rows), &plan, err));
    fm__plan_dump(plan, to);
    FM_TRY(get_plan(b, FM__HEAD, bucket_for(rows < FM__HEAD_ROWS ? rows : FM__HEAD_ROWS), &plan, err));
    fm__plan_dump(plan, to);
    return FM_OK;
}

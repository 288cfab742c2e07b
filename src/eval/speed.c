// SPDX-License-Identifier: MIT
// Timing steps, and streaming what they read.
#include "eval/speed.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "eval/cost.h"
#include "eval/sorted.h"
#include "eval/stream.h"
#include "infer/batcher.h"
#include "tensor/buffer.h"

fm_status fm__speed_init(struct fm__speed *s, struct fm_batcher *batcher, struct fm_error *err)
{
    *s = (struct fm__speed){.batcher = batcher, .random = 1};
    s->cap = (int)batcher->dims.n_slots;
    s->sessions = fm__calloc((size_t)s->cap, sizeof *s->sessions);
    if (!s->sessions) return fm__fail_nomem(err, "sessions", (size_t)s->cap * sizeof *s->sessions);
    s->pool = fm__device_pool(batcher->device);
    return fm__machine_of(batcher->device, &s->machine, err);
}

void fm__speed_deinit(struct fm__speed *s)
{
    for (int i = 0; i < s->n_sessions; i++) fm_session_free(s->sessions[i]);
    fm__free(s->sessions);
    *s = (struct fm__speed){0};
}

static int32_t random_token(struct fm__speed *s)
{
    s->random = s->random * 1664525U + 1013904223U;
    return (int32_t)((s->random >> 8) % (uint32_t)fm__model_hparams(s->batcher->model)->n_vocab);
}

static fm_status append(struct fm__speed *s, struct fm_session *session, const int32_t *tokens, int n,
                        struct fm_error *err)
{
    int have;
    fm_session_tokens(session, &have);
    FM_TRY(fm_session_append(session, tokens, n, err));
    s->attended += (double)n * have + 0.5 * n * (n + 1.0);
    return FM_OK;
}

static fm_status append_random(struct fm__speed *s, struct fm_session *session, int n, struct fm_error *err)
{
    int32_t piece[512];
    while (n > 0) {
        int count = n < 512 ? n : 512;
        for (int i = 0; i < count; i++) piece[i] = random_token(s);
        FM_TRY(append(s, session, piece, count, err));
        n -= count;
    }
    return FM_OK;
}

// n_sessions sessions, each with exactly `depth` evaluated tokens.
static fm_status fill(struct fm__speed *s, int n_sessions, int depth, struct fm_error *err)
{
    if (n_sessions < 1 || n_sessions > s->cap)
        return fm__fail(err, FM_E_ARG, "%d sessions together, the batcher has %d", n_sessions, s->cap);
    while (s->n_sessions > n_sessions) fm_session_free(s->sessions[--s->n_sessions]);
    for (; s->n_sessions < n_sessions; s->n_sessions++)
        FM_TRY(fm_session_new(s->batcher, &s->sessions[s->n_sessions], err));
    for (int i = 0; i < n_sessions; i++) {
        int have;
        fm_session_tokens(s->sessions[i], &have);
        if (have > depth) FM_TRY(fm_session_rewind(s->sessions[i], depth, err));
        if (have < depth) FM_TRY(append_random(s, s->sessions[i], depth - have, err));
    }
    return fm_batcher_run(s->batcher, err);
}

// What one token of every session reads, as addresses: weights of products once, keys and values of each session, those
// in a window only.
struct parts {
    struct fm__stream_part *list;
    size_t n, cap;
    double bytes;
    size_t n_weights; // the first of the list
    double weight_bytes;
};

static fm_status add_part(struct parts *p, const void *address, size_t n, struct fm_error *err)
{
    if (p->n == p->cap) {
        size_t cap = 2 * p->cap + 64;
        struct fm__stream_part *more = fm__realloc(p->list, cap * sizeof *more);
        if (!more) return fm__fail_nomem(err, "list of streams", cap * sizeof *more);
        p->list = more;
        p->cap = cap;
    }
    p->list[p->n++] = (struct fm__stream_part){address, n};
    p->bytes += (double)n;
    return FM_OK;
}

static fm_status add_weights(struct parts *p, struct fm_batcher *b, const struct fm__graph *g, struct fm_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        if (node->op == FM__OP_EMBED) continue; // one row
        for (int k = 0; k < node->n_in; k++) {
            if (node->in[k] == FM__NONE || g->values[node->in[k]].kind != FM__WEIGHT) continue;
            struct fm_tensor w;
            const char *name = g->values[node->in[k]].name;
            if (!fm__adapter_set_bind(b->dims.adapters, name, &w))
                FM_TRY(fm__model_bind((void *)(uintptr_t)b->model, name, &w, err));
            if (!w.data)
                return fm__fail(err, FM_E_UNSUPPORTED,
                                "bench: the weights of this device are not in the host's memory");
            FM_TRY(add_part(p, w.data, fm__device_weight_bytes(b->device, &w), err));
        }
    }
    return FM_OK;
}

static fm_status add_cache(struct parts *p, struct fm_batcher *b, const struct fm_session *s, struct fm_error *err)
{
    int at;
    fm_session_tokens(s, &at);
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    for (int layer = 0; layer < hp->n_layers; layer++) {
        int keys = fm__layer_is_local(hp, layer) && at > hp->window ? hp->window : at;
        size_t left = (size_t)keys * (b->page_bytes / FM__KV_BLOCK);
        for (int i = s->n_pages - 1; i >= 0 && left > 0; i--) {
            size_t n = left < b->page_bytes ? left : b->page_bytes;
            size_t page = (size_t)layer * (size_t)b->dims.n_pages + (size_t)s->pages[i];
            FM_TRY(add_part(p, (const char *)b->kv->host + page * b->page_bytes, n, err));
            left -= n;
        }
    }
    return FM_OK;
}

// The parts of a prefill test stay at the weights, those of decoding get the caches as they are at each pass.
static fm_status begin_parts(struct fm__speed *s, struct parts *p, struct fm_error *err)
{
    if (!s->pool) return FM_OK;
    FM_TRY(add_weights(p, s->batcher, s->batcher->trunk, err));
    FM_TRY(add_weights(p, s->batcher, s->batcher->head, err));
    p->n_weights = p->n;
    p->weight_bytes = p->bytes;
    return FM_OK;
}

// Passes that stream the parts, summed.
struct streams {
    double seconds, bytes;
    int n;
};

static fm_status stream_pass(struct fm__speed *s, struct parts *p, bool with_caches, struct streams *sum,
                             struct fm_error *err)
{
    p->n = p->n_weights;
    p->bytes = p->weight_bytes;
    for (int i = 0; with_caches && i < s->n_sessions; i++) FM_TRY(add_cache(p, s->batcher, s->sessions[i], err));
    sum->seconds += fm__stream_read(s->pool, p->list, p->n);
    sum->bytes += p->bytes;
    sum->n++;
    return FM_OK;
}

static fm_status time_prefill(struct fm__speed *s, const struct fm__speed_test *t, struct parts *parts,
                              struct streams *sum, double *seconds, struct fm_error *err)
{
    FM_TRY(append_random(s, s->sessions[0], t->n, err));
    if (s->pool) FM_TRY(stream_pass(s, parts, false, sum, err));
    double begun = fm__seconds();
    FM_TRY(fm_batcher_run(s->batcher, err));
    *seconds = fm__seconds() - begun;
    return FM_OK;
}

static int32_t likeliest(const float *logits, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    return best;
}

// The first token of each session is at random; the others are taken from the logits, as generation does. Passes of the
// stream stand among the tokens, one every STREAM_EVERY, so that each finds the caches of the CPU as a token leaves
// them: several in a row would keep more of the weights there than a token ever finds (measured: 47 GB/s the first,
// 60 the sixth). Their time is taken out.
static fm_status time_decode(struct fm__speed *s, const struct fm__speed_test *t, struct parts *parts,
                             struct streams *sum, double *seconds, struct fm_error *err)
{
    enum { STREAM_EVERY = 16 };
    int64_t n_vocab = fm__model_hparams(s->batcher->model)->n_vocab;
    int first = t->n < STREAM_EVERY ? t->n / 2 : STREAM_EVERY / 2;
    double begun = fm__seconds(), streaming = 0;
    for (int i = 0; i < t->n; i++) {
        if (i % STREAM_EVERY == first) {
            double before = fm__seconds();
            FM_TRY(stream_pass(s, parts, true, sum, err));
            streaming += fm__seconds() - before;
        }
        for (int k = 0; k < t->n_sessions; k++) {
            int32_t token = i ? likeliest(fm_session_logits(s->sessions[k]), n_vocab) : random_token(s);
            FM_TRY(append(s, s->sessions[k], &token, 1, err));
        }
        FM_TRY(fm_batcher_run(s->batcher, err));
    }
    *seconds = fm__seconds() - begun - streaming;
    return FM_OK;
}

static double median(const double *values, int n)
{
    double sorted[FM__SPEED_MAX_REPS];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    fm__sort(sorted, n);
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

void fm__speed_summarise(struct fm__speed_result *r)
{
    double low = r->samples[0], high = r->samples[0];
    for (int i = 1; i < r->n_reps; i++) {
        if (r->samples[i] < low) low = r->samples[i];
        if (r->samples[i] > high) high = r->samples[i];
    }
    r->value = median(r->samples, r->n_reps);
    r->spread = (high - low) / r->value;
}

// What a test must at least do.
struct work {
    double operations, products, bytes; // made; seconds of them at the machine's peaks; loaded
    double most[FM__MACHINE_KINDS];     // operations by kind
};

// Rows that go through the trunk or the head together.
struct rows {
    int n, head;   // 1: the head
    int depth;     // tokens before
    bool together; // one of each of n sessions, which have keys of their own; else all of one session
};

static fm_status add_work(struct fm__speed *s, struct work *w, struct rows r, struct fm_error *err)
{
    struct fm__plan *plan;
    FM_TRY(fm__batcher_plan(s->batcher, r.head, r.n, &plan, err));
    for (int i = 0; i < plan->n_steps; i++) {
        bool apart = r.together && fm__plan_node(plan, i)->op == FM__OP_ATTENTION;
        struct fm__cost cost = fm__cost_of(plan, i, apart ? 1 : r.n, r.depth);
        double times = apart ? r.n : 1;
        struct fm__cost products = {.operations = cost.operations * times, .kind = cost.kind};
        w->products += fm__cost_bound(&products, &s->machine);
        w->operations += products.operations;
        w->most[cost.kind] += products.operations;
        w->bytes += cost.weight_bytes + cost.cache_bytes * times;
    }
    return FM_OK;
}

static fm_status list_work(struct fm__speed *s, const struct fm__speed_test *t, struct work *w, struct fm_error *err)
{
    bool decode = t->kind == FM__SPEED_DECODE;
    int most = decode ? t->n_sessions : t->n, n_heads = decode ? t->n_sessions : 1;
    for (int done = 0; done < most;) {
        int n = most - done < s->batcher->n_batch ? most - done : s->batcher->n_batch;
        struct rows rows = {.n = n, .depth = t->depth + (decode ? t->n / 2 : done), .together = decode};
        FM_TRY(add_work(s, w, rows, err));
        done += n;
    }
    for (int done = 0; done < n_heads; done += FM__HEAD_ROWS) {
        int n = n_heads - done < FM__HEAD_ROWS ? n_heads - done : FM__HEAD_ROWS;
        FM_TRY(add_work(s, w, (struct rows){.n = n, .head = 1}, err));
    }
    return FM_OK;
}

// The longer of products and bytes. Decoding's bytes are exactly those streamed; a prompt's steps read the weights as
// fast as those alone were streamed.
static fm_status bound(struct fm__speed *s, const struct fm__speed_test *t, const struct streams *sum,
                       struct fm__speed_result *out, struct fm_error *err)
{
    struct work work = {0};
    FM_TRY(list_work(s, t, &work, err));
    int kind = FM__MACHINE_F32;
    for (int k = 0; k < FM__MACHINE_KINDS; k++) kind = work.most[k] > work.most[kind] ? k : kind;
    bool decode = t->kind == FM__SPEED_DECODE;
    out->stream = s->pool ? sum->bytes / sum->seconds * 1e-9 : s->machine.stream;
    double streamed = decode ? sum->seconds / sum->n : work.bytes / (out->stream * 1e9);
    bool by_bytes = streamed >= work.products;
    const char *peak = s->machine.peak_of[kind] ? s->machine.peak_of[kind] : s->machine.peak_of[FM__MACHINE_F32];
    out->bound = (decode ? t->n_sessions : t->n) / (by_bytes ? streamed : work.products);
    out->bound_of = by_bytes ? "bytes streamed" : peak;
    out->bytes = decode ? sum->bytes / sum->n : work.bytes;
    out->operations = work.operations;
    out->share = out->value / out->bound;
    return FM_OK;
}

static fm_status repeats(struct fm__speed *s, const struct fm__speed_test *t, struct parts *parts,
                         struct fm__speed_result *out, struct fm_error *err)
{
    struct streams sum = {0};
    bool decode = t->kind == FM__SPEED_DECODE;
    for (int i = -1; i < out->n_reps; i++) { // -1 warms up
        double seconds;
        if (i == 0) sum = (struct streams){0};
        FM_TRY(decode ? time_decode(s, t, parts, &sum, &seconds, err) : time_prefill(s, t, parts, &sum, &seconds, err));
        if (i >= 0) out->samples[i] = (double)t->n * (decode ? t->n_sessions : 1) / seconds;
        FM_TRY(fill(s, t->n_sessions, t->depth, err));
    }
    fm__speed_summarise(out);
    return bound(s, t, &sum, out, err);
}

fm_status fm__speed_run(struct fm__speed *s, const struct fm__speed_test *test, int reps, struct fm__speed_result *out,
                        struct fm_error *err)
{
    struct fm__speed_test t = *test;
    struct parts parts = {0};
    if (t.kind == FM__SPEED_PREFILL) t.n_sessions = 1;
    *out = (struct fm__speed_result){.n_reps = reps < 1 ? 1 : reps > FM__SPEED_MAX_REPS ? FM__SPEED_MAX_REPS : reps};
    if (t.kind == FM__SPEED_DECODE && !s->pool)
        return fm__fail(err, FM_E_UNSUPPORTED, "bench: the weights of this device are not in the host's memory");
    if (t.n < 1 || t.depth < 0 || t.depth + t.n > s->batcher->n_ctx)
        return fm__fail(err, FM_E_ARG, "%d tokens after %d: the context holds %d", t.n, t.depth, s->batcher->n_ctx);
    if (s->progress) s->progress(s->context, "filling the context");
    FM_TRY(fill(s, t.n_sessions, t.depth, err));
    if (s->progress) s->progress(s->context, "measuring");
    fm_status status = begin_parts(s, &parts, err);
    if (status == FM_OK) status = repeats(s, &t, &parts, out, err);
    fm__free(parts.list);
    return status;
}

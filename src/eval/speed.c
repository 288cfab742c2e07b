// SPDX-License-Identifier: MIT
// Timing steps, and streaming what they read.
#include "eval/speed.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/pool.h"
#include "eval/cost.h"
#include "eval/stream.h"
#include "infer/batcher.h"
#include "tensor/buffer.h"

fm_status fm__speed_init(struct fm__speed *s, struct fm_batcher *batcher, int threads, struct fm_error *err)
{
    *s = (struct fm__speed){.batcher = batcher, .random = 1};
    s->cap = (int)batcher->dims.n_slots;
    s->sessions = fm__calloc((size_t)s->cap, sizeof *s->sessions);
    if (!s->sessions) return fm__fail_nomem(err, "sessions", (size_t)s->cap * sizeof *s->sessions);
    FM_TRY(fm__pool_new(threads, &s->pool, err));
    return fm__machine_run(s->pool, &s->machine, err);
}

void fm__speed_deinit(struct fm__speed *s)
{
    for (int i = 0; i < s->n_sessions; i++) fm_session_free(s->sessions[i]);
    fm__free(s->sessions);
    fm__pool_free(s->pool);
    *s = (struct fm__speed){0};
}

static int32_t random_token(struct fm__speed *s)
{
    s->random = s->random * 1664525U + 1013904223U;
    return (int32_t)((s->random >> 8) % (uint32_t)fm__model_hparams(s->batcher->model)->n_vocab);
}

static fm_status append_random(struct fm__speed *s, struct fm_session *session, int n, struct fm_error *err)
{
    int32_t piece[512];
    while (n > 0) {
        int count = n < 512 ? n : 512;
        for (int i = 0; i < count; i++) piece[i] = random_token(s);
        FM_TRY(fm_session_append(session, piece, count, err));
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

static fm_status time_prefill(struct fm__speed *s, const struct fm__speed_test *t, double *seconds,
                              struct fm_error *err)
{
    FM_TRY(append_random(s, s->sessions[0], t->n, err));
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

// The first token of each session is at random; the others are taken from the logits, as generation does.
static fm_status time_decode(struct fm__speed *s, const struct fm__speed_test *t, double *seconds, struct fm_error *err)
{
    int64_t n_vocab = fm__model_hparams(s->batcher->model)->n_vocab;
    double begun = fm__seconds();
    for (int i = 0; i < t->n; i++) {
        for (int k = 0; k < t->n_sessions; k++) {
            int32_t token = i ? likeliest(fm_session_logits(s->sessions[k]), n_vocab) : random_token(s);
            FM_TRY(fm_session_append(s->sessions[k], &token, 1, err));
        }
        FM_TRY(fm_batcher_run(s->batcher, err));
    }
    *seconds = fm__seconds() - begun;
    return FM_OK;
}

// What one token of every session reads, as addresses: weights of products once, keys and values of each session, those
// in a window only. `at` tokens are in each session.
struct parts {
    struct fm__stream_part *list;
    size_t n, cap;
    double bytes;
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
            FM_TRY(fm__model_bind((void *)(uintptr_t)b->model, g->values[node->in[k]].name, &w, err));
            if (!w.data)
                return fm__fail(err, FM_E_UNSUPPORTED,
                                "bench: the weights of this device are not in the host's memory");
            FM_TRY(add_part(p, w.data, fm__device_weight_bytes(b->device, &w), err));
        }
    }
    return FM_OK;
}

static fm_status add_cache(struct parts *p, struct fm_batcher *b, const struct fm_session *s, int at,
                           struct fm_error *err)
{
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

static fm_status list_parts(struct fm__speed *s, int at, struct parts *p, struct fm_error *err)
{
    FM_TRY(add_weights(p, s->batcher, s->batcher->trunk, err));
    FM_TRY(add_weights(p, s->batcher, s->batcher->head, err));
    for (int i = 0; i < s->n_sessions; i++) FM_TRY(add_cache(p, s->batcher, s->sessions[i], at, err));
    return FM_OK;
}

// Steps of a prompt: seconds at the least, operations, bytes.
static fm_status prefill_bound(struct fm__speed *s, const struct fm__speed_test *t, double *seconds,
                               struct fm__speed_result *out, struct fm_error *err)
{
    struct fm_batcher *b = s->batcher;
    double products = 0, bytes = 0;
    double most[FM__MACHINE_KINDS] = {0};
    for (int done = 0; done < t->n;) {
        int rows = t->n - done < b->n_batch ? t->n - done : b->n_batch;
        int n_plans = done + rows == t->n ? 2 : 1; // the head's for the last rows only
        for (int head = 0; head < n_plans; head++) {
            struct fm__plan *plan;
            FM_TRY(fm__batcher_plan(b, head, head ? 1 : rows, &plan, err));
            for (int i = 0; i < plan->n_steps; i++) {
                struct fm__cost cost = fm__cost_of(plan, i, head ? 1 : rows, t->depth + done);
                products +=
                    fm__cost_bound(&(struct fm__cost){.operations = cost.operations, .kind = cost.kind}, &s->machine);
                bytes += cost.weight_bytes + cost.cache_bytes;
                out->operations += cost.operations;
                most[cost.kind] += cost.operations;
            }
        }
        done += rows;
    }
    int kind = FM__MACHINE_F32;
    for (int k = 0; k < FM__MACHINE_KINDS; k++) kind = most[k] > most[kind] ? k : kind;
    double streamed = bytes / (s->machine.stream * 1e9);
    *seconds = products > streamed ? products : streamed;
    out->bound_of = products > streamed ? s->machine.peak_of[kind] : "bytes streamed";
    out->bytes = bytes;
    return FM_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int n)
{
    double sorted[FM__SPEED_MAX_REPS];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

static void summarise(struct fm__speed_result *r)
{
    double low = r->samples[0], high = r->samples[0];
    for (int i = 1; i < r->n_reps; i++) {
        if (r->samples[i] < low) low = r->samples[i];
        if (r->samples[i] > high) high = r->samples[i];
    }
    r->value = median(r->samples, r->n_reps);
    r->spread = (high - low) / r->value;
}

// Passes over the parts for some 10 ms; the mean of them is this repeat's bound.
static double stream_seconds(struct fm__speed *s, const struct parts *p)
{
    double total = 0;
    int passes = 0;
    do {
        total += fm__stream_read(s->pool, p->list, p->n);
        passes++;
    } while (total < 0.01);
    return total / passes;
}

static fm_status repeats(struct fm__speed *s, const struct fm__speed_test *t, const struct parts *parts,
                         struct fm__speed_result *out, struct fm_error *err)
{
    double streams[FM__SPEED_MAX_REPS];
    bool decode = t->kind == FM__SPEED_DECODE;
    for (int i = -1; i < out->n_reps; i++) { // -1 warms up
        double seconds;
        if (decode && i >= 0) streams[i] = stream_seconds(s, parts);
        FM_TRY(decode ? time_decode(s, t, &seconds, err) : time_prefill(s, t, &seconds, err));
        if (i >= 0) out->samples[i] = (double)t->n * (decode ? t->n_sessions : 1) / seconds;
        FM_TRY(fill(s, t->n_sessions, t->depth, err));
    }
    summarise(out);
    if (decode) {
        out->bound = t->n_sessions / median(streams, out->n_reps);
        out->bound_of = "bytes streamed";
        out->bytes = parts->bytes;
    } else {
        double seconds;
        FM_TRY(prefill_bound(s, t, &seconds, out, err));
        out->bound = t->n / seconds;
    }
    out->share = out->value / out->bound;
    return FM_OK;
}

fm_status fm__speed_run(struct fm__speed *s, const struct fm__speed_test *test, int reps, struct fm__speed_result *out,
                        struct fm_error *err)
{
    struct fm__speed_test t = *test;
    struct parts parts = {0};
    if (t.kind == FM__SPEED_PREFILL) t.n_sessions = 1;
    *out = (struct fm__speed_result){.n_reps = reps < 1 ? 1 : reps > FM__SPEED_MAX_REPS ? FM__SPEED_MAX_REPS : reps};
    if (t.n < 1 || t.depth < 0 || t.depth + t.n > s->batcher->n_ctx)
        return fm__fail(err, FM_E_ARG, "%d tokens after %d: the context holds %d", t.n, t.depth, s->batcher->n_ctx);
    if (s->progress) s->progress(s->context, "filling the context");
    FM_TRY(fill(s, t.n_sessions, t.depth, err));
    fm_status status = FM_OK;
    if (t.kind == FM__SPEED_DECODE) { // in the middle of the tokens made: that is what they read on average
        FM_TRY(fill(s, t.n_sessions, t.depth + t.n / 2 + 1, err));
        status = list_parts(s, t.depth + t.n / 2 + 1, &parts, err);
        if (status == FM_OK) status = fill(s, t.n_sessions, t.depth, err);
    }
    if (status == FM_OK && s->progress) s->progress(s->context, "measuring");
    if (status == FM_OK) status = repeats(s, &t, &parts, out, err);
    fm__free(parts.list);
    return status;
}

// SPDX-License-Identifier: MIT
// The sampler: options, history, random numbers and the chain of sample_filters. All workspace is taken at birth. The
// logits are copied only where a bias or a penalty changes them.
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "infer/sample_filters.h"

struct fm_sampler {
    int32_t n_vocab;
    struct fm_sampler_opts opts; // defaults filled in; its arrays are ours
    struct fm__rng rng;
    float mu;
    int32_t *ring; // history
    int32_t cap, head, n_history;
    float *logits;                 // [n_vocab] with bias and penalties; NULL when there are none
    struct fm__candidates c;       // v: [n_vocab]
    struct fm_token_prob *scratch; // [n_vocab] for typical; else NULL
    int32_t *count;                // [n_vocab] zeros, for penalties
    int32_t *lengths;              // [window of DRY]
};

void fm_sampler_opts_defaults(struct fm_sampler_opts *opts)
{
    *opts = (struct fm_sampler_opts){.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f};
}

// --- options ---

static bool penalties_on(const struct fm_sampler_opts *o)
{
    return o->penalty_repeat != 1 || o->penalty_frequency != 0 || o->penalty_presence != 0;
}

static bool dry_on(const struct fm_sampler_opts *o)
{
    return o->dry_multiplier != 0;
}

static bool filter_on(float p) // of top_p and typical_p
{
    return p > 0 && p < 1;
}

enum { MOST_HISTORY = 1 << 24 };

static fm_status check_options(int32_t n_vocab, const struct fm_sampler_opts *o, struct fm_error *err)
{
    const struct {
        const char *name;
        double value, least, most;
    } numbers[] = {
        {"temperature", o->temperature, 0, 1e30},
        {"top_p", o->top_p, 0, 1e30},
        {"min_p", o->min_p, 0, 1},
        {"typical_p", o->typical_p, 0, 1e30},
        {"penalty_repeat", o->penalty_repeat, 0, 1e6},
        {"penalty_frequency", o->penalty_frequency, -1e6, 1e6},
        {"penalty_presence", o->penalty_presence, -1e6, 1e6},
        {"dry_multiplier", o->dry_multiplier, 0, 1e6},
        {"dry_base", o->dry_base, 0, 1e6},
        {"mirostat_tau", o->mirostat_tau, 0, 1e6},
        {"mirostat_eta", o->mirostat_eta, 0, 1e6},
        {"penalty_last_n", o->penalty_last_n, -1, MOST_HISTORY},
        {"dry_last_n", o->dry_last_n, -1, MOST_HISTORY},
        {"dry_allowed_length", o->dry_allowed_length, 0, MOST_HISTORY},
        {"max_history", o->max_history, 0, MOST_HISTORY},
    };
    if (n_vocab <= 0) return fm__fail(err, FM_E_ARG, "sampler: vocabulary of %d, want at least 1", n_vocab);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!(numbers[i].value >= numbers[i].least && numbers[i].value <= numbers[i].most))
            return fm__fail(err, FM_E_ARG, "sampler: %s is %g, want %g to %g", numbers[i].name, numbers[i].value,
                            numbers[i].least, numbers[i].most);
    }
    if (o->mirostat != 0 && o->mirostat != 2)
        return fm__fail(err, FM_E_ARG, "sampler: mirostat version %d, want 0 (off) or 2", o->mirostat);
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].token < 0 || o->bias[i].token >= n_vocab || isnan(o->bias[i].bias))
            return fm__fail(err, FM_E_ARG, "sampler: bias %zu: token %d with %g, want a token below %d and a number", i,
                            o->bias[i].token, (double)o->bias[i].bias, n_vocab);
    }
    for (size_t i = 0; i < o->n_dry_breakers; i++) {
        if (o->dry_breakers[i] < 0 || o->dry_breakers[i] >= n_vocab)
            return fm__fail(err, FM_E_ARG, "sampler: DRY breaker %zu: token %d, want one below %d", i,
                            o->dry_breakers[i], n_vocab);
    }
    return FM_OK;
}

static void fill_defaults(struct fm_sampler_opts *o)
{
    if (o->top_k < 0) o->top_k = 0;
    if (!o->penalty_last_n) o->penalty_last_n = 64;
    if (o->penalty_repeat == 0) o->penalty_repeat = 1;
    if (o->dry_base == 0) o->dry_base = 1.75f;
    if (!o->dry_allowed_length) o->dry_allowed_length = 2;
    if (!o->dry_last_n) o->dry_last_n = 64;
    if (o->mirostat_tau == 0) o->mirostat_tau = 5;
    if (o->mirostat_eta == 0) o->mirostat_eta = 0.1f;
    if (!o->max_history) o->max_history = 32768;
    if (o->penalty_last_n < 0) o->penalty_last_n = o->max_history;
    if (o->dry_last_n < 0) o->dry_last_n = o->max_history;
    if (o->dry_base < 1) o->dry_multiplier = 0; // would reward; llama.cpp takes it for off
}

// --- life ---

static fm_status take(void **out, size_t n, size_t each, struct fm_error *err)
{
    *out = fm__calloc(n, each);
    return *out ? FM_OK : fm__fail_nomem(err, "sampler", n * each);
}

static fm_status copy_array(const void *from, size_t n, size_t each, const void **out, struct fm_error *err)
{
    void *copy = NULL;
    *out = NULL;
    if (!n) return FM_OK;
    FM_TRY(take(&copy, n, each, err));
    memcpy(copy, from, n * each);
    *out = copy;
    return FM_OK;
}

static fm_status take_workspace(struct fm_sampler *s, struct fm_error *err)
{
    const struct fm_sampler_opts *o = &s->opts;
    size_t n = (size_t)s->n_vocab;
    bool changed = o->n_bias || penalties_on(o) || dry_on(o);
    s->cap = 1;
    if (penalties_on(o) && s->cap < o->penalty_last_n) s->cap = o->penalty_last_n;
    if (dry_on(o) && s->cap < o->dry_last_n) s->cap = o->dry_last_n;
    FM_TRY(take((void **)&s->ring, (size_t)s->cap, sizeof *s->ring, err));
    FM_TRY(take((void **)&s->c.v, n, sizeof *s->c.v, err));
    if (changed) FM_TRY(take((void **)&s->logits, n, sizeof *s->logits, err));
    if (changed) FM_TRY(take((void **)&s->count, n, sizeof *s->count, err));
    if (filter_on(o->typical_p)) FM_TRY(take((void **)&s->scratch, n, sizeof *s->scratch, err));
    if (dry_on(o)) FM_TRY(take((void **)&s->lengths, (size_t)o->dry_last_n, sizeof *s->lengths, err));
    return FM_OK;
}

static fm_status build(struct fm_sampler *s, const struct fm_sampler_opts *o, struct fm_error *err)
{
    s->opts = *o;
    s->opts.bias = NULL, s->opts.dry_breakers = NULL; // until they are ours
    FM_TRY(copy_array(o->bias, o->n_bias, sizeof *o->bias, (const void **)&s->opts.bias, err));
    FM_TRY(copy_array(o->dry_breakers, o->n_dry_breakers, sizeof *o->dry_breakers, (const void **)&s->opts.dry_breakers,
                      err));
    fill_defaults(&s->opts);
    FM_TRY(take_workspace(s, err));
    fm_sampler_reset(s);
    return FM_OK;
}

fm_status fm_sampler_new(int32_t n_vocab, const struct fm_sampler_opts *opts, struct fm_sampler **out,
                         struct fm_error *err)
{
    static const struct fm_sampler_opts greedy = {0};
    *out = NULL;
    if (!opts) opts = &greedy;
    FM_TRY(check_options(n_vocab, opts, err));
    struct fm_sampler *s = fm__calloc(1, sizeof *s);
    if (!s) return fm__fail_nomem(err, "sampler", sizeof *s);
    s->n_vocab = n_vocab;
    fm_status status = build(s, opts, err);
    if (status != FM_OK) {
        fm_sampler_free(s);
        return status;
    }
    *out = s;
    return FM_OK;
}

void fm_sampler_free(struct fm_sampler *s)
{
    if (!s) return;
    fm__free(s->ring), fm__free(s->c.v), fm__free(s->logits), fm__free(s->count), fm__free(s->scratch);
    fm__free(s->lengths);
    fm__free((void *)(uintptr_t)s->opts.bias); // const to the reader of the options only
    fm__free((void *)(uintptr_t)s->opts.dry_breakers);
    fm__free(s);
}

fm_status fm_sampler_clone(const struct fm_sampler *s, struct fm_sampler **out, struct fm_error *err)
{
    FM_TRY(fm_sampler_new(s->n_vocab, &s->opts, out, err));
    struct fm_sampler *copy = *out;
    memcpy(copy->ring, s->ring, (size_t)s->cap * sizeof *s->ring);
    copy->head = s->head, copy->n_history = s->n_history;
    copy->rng = s->rng, copy->mu = s->mu;
    return FM_OK;
}

void fm_sampler_reset(struct fm_sampler *s)
{
    s->rng = fm__rng_new(s->opts.seed, 0);
    s->mu = 2 * s->opts.mirostat_tau; // the paper's start
    s->head = s->n_history = 0;
    s->c.n = s->c.n_sorted = 0;
}

void fm_sampler_accept(struct fm_sampler *s, int32_t token)
{
    if (token < 0 || token >= s->n_vocab) return;
    s->ring[s->head] = token;
    s->head = s->head + 1 == s->cap ? 0 : s->head + 1;
    if (s->n_history < s->cap) s->n_history++;
}

// --- choosing ---

static struct fm__history window(const struct fm_sampler *s, int32_t n)
{
    return (struct fm__history){s->ring, s->cap, s->head, s->n_history < n ? s->n_history : n};
}

// Bias and penalties; returns the logits to go on with.
static const float *changed_logits(struct fm_sampler *s, const float *logits)
{
    const struct fm_sampler_opts *o = &s->opts;
    if (!s->logits) return logits;
    memcpy(s->logits, logits, (size_t)s->n_vocab * sizeof *logits);
    for (size_t i = 0; i < o->n_bias; i++) s->logits[o->bias[i].token] += o->bias[i].bias;
    if (penalties_on(o)) {
        struct fm__history h = window(s, o->penalty_last_n);
        struct fm__penalties p = {o->penalty_repeat, o->penalty_frequency, o->penalty_presence};
        fm__sample_penalize(s->logits, &h, &p, s->count);
    }
    if (dry_on(o)) {
        struct fm__history h = window(s, o->dry_last_n);
        struct fm__dry d = {o->dry_multiplier, o->dry_base, o->dry_allowed_length, o->dry_breakers, o->n_dry_breakers};
        fm__sample_dry(s->logits, &h, &d, s->count, s->lengths);
    }
    return s->logits;
}

static void filter(struct fm_sampler *s, const float *logits)
{
    const struct fm_sampler_opts *o = &s->opts;
    struct fm__candidates *c = &s->c;
    if (o->top_k > 0 && !o->mirostat)
        fm__sample_top_k(c, logits, s->n_vocab, o->top_k);
    else
        fm__sample_all(c, logits, s->n_vocab);
    if (!c->n || o->mirostat) return;
    if (filter_on(o->typical_p)) fm__sample_typical(c, o->typical_p, s->scratch);
    if (filter_on(o->top_p)) fm__sample_top_p(c, o->top_p);
    if (o->min_p > 0) fm__sample_min_p(c, o->min_p);
}

static void keep_one(struct fm__candidates *c, struct fm_token_prob one)
{
    one.p = 1;
    c->v[0] = one;
    c->n = c->n_sorted = 1;
}

static fm_status no_choice(struct fm_error *err)
{
    return fm__fail(err, FM_E_ARG, "sampler: no logit is finite, nothing to choose from");
}

static fm_status greedy(struct fm_sampler *s, const float *logits, int32_t *token, struct fm_error *err)
{
    if (filter_on(s->opts.typical_p)) { // the one filter that may drop the most likely
        filter(s, logits);
        if (!s->c.n) return no_choice(err);
        fm__sample_sort(&s->c, 1);
        keep_one(&s->c, s->c.v[0]);
    } else {
        int32_t best = fm__sample_argmax(logits, s->n_vocab);
        if (best < 0) return no_choice(err);
        keep_one(&s->c, (struct fm_token_prob){best, logits[best], 1});
    }
    *token = s->c.v[0].token;
    return FM_OK;
}

// One uniform number picks the place in the running sum, so that a token costs one number whatever the filters.
static const struct fm_token_prob *draw(struct fm_sampler *s)
{
    const struct fm__candidates *c = &s->c;
    double total = 0, sum = 0;
    for (size_t i = 0; i < c->n; i++) total += c->v[i].p;
    double target = fm__rng_uniform(&s->rng) * total;
    size_t last = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->v[i].p <= 0) continue;
        last = i;
        sum += c->v[i].p;
        if (sum > target) break;
    }
    return &c->v[last];
}

fm_status fm_sampler_sample(struct fm_sampler *s, const float *logits, int32_t *token, struct fm_error *err)
{
    const struct fm_sampler_opts *o = &s->opts;
    *token = -1;
    s->c.n = s->c.n_sorted = 0;
    logits = changed_logits(s, logits);
    if (o->temperature == 0) return greedy(s, logits, token, err);
    filter(s, logits);
    if (!s->c.n) return no_choice(err);
    fm__sample_temperature(&s->c, o->temperature);
    if (o->mirostat) fm__sample_mirostat(&s->c, s->mu);
    fm__sample_softmax(&s->c);
    const struct fm_token_prob *chosen = draw(s);
    if (o->mirostat) s->mu -= o->mirostat_eta * (-log2f(chosen->p) - o->mirostat_tau);
    *token = chosen->token;
    return FM_OK;
}

const struct fm_token_prob *fm_sampler_candidates(const struct fm_sampler *s, size_t *n)
{
    *n = s->c.n;
    return s->c.v;
}

fm_status fm_sampler_logprobs(struct fm_sampler *s, const float *logits, struct fm_logprobs *want, struct fm_error *err)
{
    int32_t token = want->token, n_top = want->n_top;
    want->chosen = -INFINITY;
    if (n_top < 0 || n_top > s->n_vocab || token < -1 || token >= s->n_vocab)
        return fm__fail(err, FM_E_ARG, "sampler: token %d, top %d, want both within the vocabulary of %d", token, n_top,
                        s->n_vocab);
    s->c.n = s->c.n_sorted = 0;
    int32_t best = fm__sample_argmax(logits, s->n_vocab);
    if (best < 0) return no_choice(err);
    float largest = logits[best] > FLT_MAX ? FLT_MAX : logits[best];
    double sum = 0;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (logits[i] > -INFINITY) sum += (double)expf(fminf(logits[i], FLT_MAX) - largest);
    double norm = (double)largest + log(fmax(sum, 1)); // the largest gives 1
    if (token >= 0 && logits[token] > -INFINITY) want->chosen = (float)((double)fminf(logits[token], FLT_MAX) - norm);
    if (!n_top) return FM_OK;
    fm__sample_top_k(&s->c, logits, s->n_vocab, n_top);
    for (int32_t i = 0; i < n_top; i++) {
        bool there = (size_t)i < s->c.n;
        want->top[i] = there ? s->c.v[i] : (struct fm_token_prob){-1, -INFINITY, -INFINITY};
        if (there) want->top[i].p = (float)((double)want->top[i].logit - norm);
    }
    s->c.n = s->c.n_sorted = 0;
    return FM_OK;
}

// --- saved state: "FMSS", version, n_vocab, n_history, seed, stream, next, mu, then the history, oldest first ---

enum { STATE_VERSION = 1, STATE_HEADER = 4 * 4 + 3 * 8 + 4 };
static const char state_magic[4] = {'F', 'M', 'S', 'S'};

static void put(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *from, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)from[i] << (8 * i);
    return value;
}

size_t fm_sampler_save(const struct fm_sampler *s, void *bytes, size_t size)
{
    size_t need = STATE_HEADER + 4 * (size_t)s->n_history;
    unsigned char header[STATE_HEADER], *to = bytes;
    uint32_t mu;
    memcpy(&mu, &s->mu, sizeof mu);
    memcpy(header, state_magic, 4);
    put(header + 4, STATE_VERSION, 4), put(header + 8, (uint32_t)s->n_vocab, 4);
    put(header + 12, (uint32_t)s->n_history, 4);
    put(header + 16, s->rng.seed, 8), put(header + 24, s->rng.stream, 8), put(header + 32, s->rng.next, 8);
    put(header + 40, mu, 4);
    if (!to) return need;
    memcpy(to, header, size < STATE_HEADER ? size : STATE_HEADER);
    struct fm__history h = window(s, s->n_history);
    for (int32_t i = 0; i < h.n; i++) {
        size_t at = STATE_HEADER + 4 * (size_t)i;
        if (at + 4 <= size) put(to + at, (uint32_t)fm__history_at(&h, h.n - 1 - i), 4);
    }
    return need;
}

fm_status fm_sampler_load(struct fm_sampler *s, const void *bytes, size_t size, struct fm_error *err)
{
    const unsigned char *from = bytes;
    if (size < STATE_HEADER || memcmp(from, state_magic, 4) || get(from + 4, 4) != STATE_VERSION)
        return fm__fail(err, FM_E_FORMAT, "sampler state: %zu bytes that are no state of version %d", size,
                        STATE_VERSION);
    uint64_t n = get(from + 12, 4), n_vocab = get(from + 8, 4);
    if (n_vocab != (uint32_t)s->n_vocab)
        return fm__fail(err, FM_E_FORMAT, "sampler state: vocabulary of %llu, want %d", (unsigned long long)n_vocab,
                        s->n_vocab);
    if (size - STATE_HEADER != 4 * n)
        return fm__fail(err, FM_E_FORMAT, "sampler state: %zu bytes, want %llu", size,
                        (unsigned long long)(STATE_HEADER + 4 * n));
    uint32_t bits = (uint32_t)get(from + 40, 4);
    float mu;
    memcpy(&mu, &bits, sizeof mu);
    for (uint64_t i = 0; i < n; i++) {
        if (get(from + STATE_HEADER + 4 * i, 4) >= n_vocab)
            return fm__fail(err, FM_E_FORMAT, "sampler state: token %llu of the history is outside the vocabulary",
                            (unsigned long long)i);
    }
    if (!isfinite(mu)) return fm__fail(err, FM_E_FORMAT, "sampler state: mu is not a number");
    fm_sampler_reset(s);
    s->rng = (struct fm__rng){get(from + 16, 8), get(from + 24, 8), get(from + 32, 8)};
    s->mu = mu;
    for (uint64_t i = 0; i < n; i++) fm_sampler_accept(s, (int32_t)get(from + STATE_HEADER + 4 * i, 4));
    return FM_OK;
}

// SPDX-License-Identifier: MIT
// Sampling: the random numbers' published answers, selection against sorting, every filter and penalty against a plain
// reference in double precision, the distribution of draws, state, errors, and that a token costs no allocation.
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "fathom/sample.h"
#include "infer/sample_filters.h"

enum { V = 5000 };

// --- random numbers ---

static void philox_known_answers(void **state)
{
    (void)state;
    // the kat_vectors of Random123, the authors' implementation
    static const uint32_t cases[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        fm__philox4x32(cases[i], cases[i] + 4, out);
        assert_memory_equal(out, cases[i] + 6, sizeof out);
    }
    struct fm__rng a = fm__rng_new(7, 3), b;
    for (int i = 0; i < 11; i++) fm__rng_u32(&a);
    b = fm__rng_new(a.seed, a.stream);
    b.next = a.next;
    for (int i = 0; i < 100; i++) assert_int_equal(fm__rng_u64(&a), fm__rng_u64(&b));
    double sum = 0, squares = 0;
    int counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        double x = fm__rng_normal(&a), u = fm__rng_uniform(&a);
        assert_true(u >= 0 && u < 1);
        sum += x, squares += x * x;
        counts[fm__rng_below(&a, 6)]++;
    }
    // 4.5 standard errors: 1/sqrt(n) of the mean, sqrt(2/n) of the variance, sqrt(n p q) of a count
    assert_true(fabs(sum / 60000) < 4.5 / sqrt(60000));
    assert_true(fabs(squares / 60000 - 1) < 4.5 * sqrt(2.0 / 60000));
    for (int i = 0; i < 6; i++) assert_true(abs(counts[i] - 10000) < 4.5 * sqrt(60000 / 6.0 * 5 / 6));
}

// --- a plain reference ---

struct ref {
    int32_t token;
    double logit, p, score;
};

static int by_logit(const void *a, const void *b)
{
    const struct ref *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

static int by_score(const void *a, const void *b)
{
    const struct ref *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return by_logit(a, b);
}

static size_t ref_all(struct ref *r, const float *logits, int n)
{
    size_t k = 0;
    for (int i = 0; i < n; i++)
        if (logits[i] > -INFINITY) r[k++] = (struct ref){i, logits[i], 0, 0};
    qsort(r, k, sizeof *r, by_logit);
    return k;
}

static void ref_softmax(struct ref *r, size_t n)
{
    double sum = 0, largest = -INFINITY;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, r[i].logit);
    for (size_t i = 0; i < n; i++) sum += r[i].p = exp(r[i].logit - largest);
    for (size_t i = 0; i < n; i++) r[i].p /= sum;
}

static size_t ref_top_p(struct ref *r, size_t n, double p)
{
    double sum = 0;
    ref_softmax(r, n);
    for (size_t i = 0; i < n; i++)
        if ((sum += r[i].p) >= p) return i + 1;
    return n;
}

static size_t ref_typical(struct ref *r, size_t n, double p)
{
    double entropy = 0, sum = 0;
    ref_softmax(r, n);
    for (size_t i = 0; i < n; i++) entropy -= r[i].p > 0 ? r[i].p * log(r[i].p) : 0;
    for (size_t i = 0; i < n; i++) r[i].score = fabs(-log(r[i].p) - entropy);
    qsort(r, n, sizeof *r, by_score);
    size_t k = 0;
    while (k < n && sum <= p) sum += r[k++].p;
    qsort(r, k, sizeof *r, by_logit);
    return k;
}

static size_t ref_min_p(struct ref *r, size_t n, double p)
{
    size_t k = 1;
    while (k < n && exp(r[k].logit - r[0].logit) >= p) k++;
    return k;
}

// Logits of some shape: rough, with ties, with a peak, flat, with holes.
static void make_logits(float *logits, int n, int shape, struct fm__rng *rng)
{
    for (int i = 0; i < n; i++) {
        double x = fm__rng_normal(rng) * 4;
        if (shape == 1) x = (double)fm__rng_below(rng, 40) / 4;
        if (shape == 2) x = i == n / 3 ? 30 : x;
        if (shape == 3) x *= 0.01;
        if (shape == 4 && fm__rng_below(rng, 3) == 0) x = i % 2 ? -INFINITY : NAN;
        logits[i] = (float)x;
    }
}

// --- selection ---

static void selection_equals_sorting(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(11, 0);
    static float logits[V];
    static struct ref want[V];
    static struct fm_token_prob room[V];
    static const int sizes[] = {1, 2, 3, 24, 25, 127, 128, 129, 1000, V}, ks[] = {1, 2, 7, 40, 129, 1024, 1025, V};
    for (int shape = 0; shape < 8; shape++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            int n = sizes[s];
            make_logits(logits, n, shape, &rng);
            for (int i = 0; i < n && shape >= 5; i++) // rising, falling, all equal: what breaks naive quicksorts
                logits[i] = shape == 5 ? (float)i : shape == 6 ? (float)-i : 1;
            size_t n_want = ref_all(want, logits, n);
            assert_int_equal(fm__sample_argmax(logits, n), n_want ? want[0].token : -1);
            for (size_t k = 0; k < sizeof ks / sizeof ks[0]; k++) {
                struct fm__candidates c = {room, 0, 0};
                fm__sample_top_k(&c, logits, n, ks[k]);
                assert_int_equal(c.n, n_want < (size_t)ks[k] ? n_want : (size_t)ks[k]);
                for (size_t i = 0; i < c.n; i++) assert_int_equal(c.v[i].token, want[i].token);
                fm__sample_all(&c, logits, n);
                fm__sample_sort(&c, (size_t)ks[k] / 2);
                fm__sample_sort(&c, (size_t)ks[k]);
                for (size_t i = 0; i < c.n_sorted; i++) assert_int_equal(c.v[i].token, want[i].token);
            }
        }
    }
}

// --- filters ---

// Same tokens with the same probabilities (1e-5: float sums of 5,000 terms of size up to 1, eps 6e-8, and expf).
static void same_candidates(struct fm_sampler *s, struct ref *want, size_t n_want, const char *what)
{
    size_t n;
    const struct fm_token_prob *got = fm_sampler_candidates(s, &n);
    if (n != n_want) fail_msg("%s: %zu candidates, want %zu", what, n, n_want);
    ref_softmax(want, n_want);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < n_want && want[k].token != got[i].token) k++;
        if (k == n_want) fail_msg("%s: token %d is not in the reference", what, got[i].token);
        if (fabs(got[i].p - want[k].p) > 1e-5) fail_msg("%s: p %g, want %g", what, (double)got[i].p, want[k].p);
        sum += got[i].p;
    }
    assert_true(fabs(sum - 1) < 1e-4);
}

static void filters_equal_references(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(12, 0);
    static float logits[V];
    static struct ref want[V];
    struct fm_error err = {0};
    for (int round = 0; round < 120; round++) {
        int n = round % 3 == 0 ? 50 : round % 3 == 1 ? 700 : V, shape = round % 5;
        struct fm_sampler_opts o = {.temperature = 1, .seed = (uint64_t)round};
        make_logits(logits, n, shape, &rng);
        if (round % 2) o.top_k = 1 + (int32_t)fm__rng_below(&rng, (uint64_t)n);
        if (round % 4 == 1) o.typical_p = (float)(0.2 + 0.7 * fm__rng_uniform(&rng));
        if (round % 5 < 3) o.top_p = (float)(0.1 + 0.89 * fm__rng_uniform(&rng));
        if (round % 7 < 3) o.min_p = (float)(0.001 + 0.5 * fm__rng_uniform(&rng));
        if (round % 3 == 2) o.temperature = (float)(0.3 + fm__rng_uniform(&rng));
        size_t n_want = ref_all(want, logits, n);
        if (o.top_k && (size_t)o.top_k < n_want) n_want = (size_t)o.top_k;
        if (o.typical_p > 0) n_want = ref_typical(want, n_want, o.typical_p);
        if (o.top_p > 0) n_want = ref_top_p(want, n_want, o.top_p);
        if (o.min_p > 0) n_want = ref_min_p(want, n_want, o.min_p);
        for (size_t i = 0; i < n_want; i++) want[i].logit /= o.temperature;
        struct fm_sampler *s;
        int32_t token;
        assert_ok(fm_sampler_new(n, &o, &s, &err), err);
        assert_ok(fm_sampler_sample(s, logits, &token, &err), err);
        char what[80];
        snprintf(what, sizeof what, "round %d: k %d p %.3f min %.3f typical %.3f", round, o.top_k, (double)o.top_p,
                 (double)o.min_p, (double)o.typical_p);
        same_candidates(s, want, n_want, what);
        fm_sampler_free(s);
    }
}

static void greedy_takes_the_largest(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_sampler *s;
    float logits[6] = {1, NAN, 3, -INFINITY, 3, 2};
    int32_t token;
    size_t n;
    assert_ok(fm_sampler_new(6, NULL, &s, &err), err);
    fm_sampler_candidates(s, &n);
    assert_int_equal(n, 0);
    assert_ok(fm_sampler_sample(s, logits, &token, &err), err);
    assert_int_equal(token, 2);
    assert_int_equal(fm_sampler_candidates(s, &n)->token, 2);
    assert_int_equal(n, 1);
    float none[6] = {NAN, -INFINITY, NAN, -INFINITY, NAN, NAN};
    assert_int_equal(fm_sampler_sample(s, none, &token, &err), FM_E_ARG);
    assert_int_equal(token, -1);
    fm_sampler_free(s);
    // nearly zero and infinite values: still numbers
    struct fm_sampler_opts o = {.temperature = 1e-38f, .top_k = 3};
    float extreme[6] = {3e38f, -3e38f, INFINITY, 0, 1, 2};
    assert_ok(fm_sampler_new(6, &o, &s, &err), err);
    assert_ok(fm_sampler_sample(s, extreme, &token, &err), err);
    assert_int_equal(token, 2);
    fm_sampler_free(s);
}

// --- penalties ---

// Longest L such that the L tokens before place `end` equal the last L of the history, none of them across a breaker.
static int repeated_before(const int32_t *h, int n, int end, const int32_t *breakers, int n_breakers)
{
    int length = 0;
    for (; length < end && length < n; length++) {
        bool breaker = false;
        for (int b = 0; b < n_breakers; b++) breaker |= h[n - 1 - length] == breakers[b];
        if (breaker || h[end - 1 - length] != h[n - 1 - length]) break;
    }
    return length;
}

static void ref_penalties(double *logits, int n_vocab, const int32_t *all, int n_all, const struct fm_sampler_opts *o)
{
    int n = n_all < o->penalty_last_n ? n_all : o->penalty_last_n;
    for (int t = 0; t < n_vocab; t++) {
        int times = 0;
        for (int i = n_all - n; i < n_all; i++) times += all[i] == t;
        if (!times) continue;
        logits[t] = logits[t] <= 0 ? logits[t] * o->penalty_repeat : logits[t] / o->penalty_repeat;
        logits[t] -= times * (double)o->penalty_frequency + o->penalty_presence;
    }
    n = n_all < o->dry_last_n ? n_all : o->dry_last_n;
    const int32_t *h = all + n_all - n;
    for (int t = 0; t < n_vocab && o->dry_multiplier > 0 && n > o->dry_allowed_length; t++) {
        int longest = 0;
        bool breaker = false;
        for (size_t b = 0; b < o->n_dry_breakers; b++) breaker |= o->dry_breakers[b] == t;
        for (int end = 1; end < n; end++) {
            int length = h[end] == t ? repeated_before(h, n, end, o->dry_breakers, (int)o->n_dry_breakers) : 0;
            if (length > longest) longest = length;
        }
        if (longest >= o->dry_allowed_length && !breaker)
            logits[t] -= o->dry_multiplier * pow(o->dry_base, longest - o->dry_allowed_length);
    }
}

static void penalties_equal_references(void **state)
{
    (void)state;
    enum { N = 12, MOST = 90 };
    struct fm__rng rng = fm__rng_new(13, 0);
    struct fm_error err = {0};
    static const int32_t breakers[] = {3, 7};
    static const struct fm_logit_bias bias[] = {{2, 1.5f}, {5, -2}, {2, 0.25f}};
    for (int round = 0; round < 300; round++) {
        struct fm_sampler_opts o = {.temperature = 1,
                                    .penalty_last_n = 1 + (int32_t)fm__rng_below(&rng, 80),
                                    .penalty_repeat = round % 2 ? 1.3f : 1,
                                    .penalty_frequency = round % 3 ? 0.2f : 0,
                                    .penalty_presence = round % 5 ? -0.4f : 0,
                                    .dry_multiplier = round % 4 ? 0.8f : 0,
                                    .dry_base = 1.25f,
                                    .dry_allowed_length = 1 + (int32_t)fm__rng_below(&rng, 4),
                                    .dry_last_n = 1 + (int32_t)fm__rng_below(&rng, 80),
                                    .dry_breakers = breakers,
                                    .n_dry_breakers = (size_t)round % 3,
                                    .bias = bias,
                                    .n_bias = round % 2 ? 3 : 0};
        struct fm_sampler *s;
        assert_ok(fm_sampler_new(N, &o, &s, &err), err);
        int32_t all[MOST], n_all = (int32_t)fm__rng_below(&rng, MOST), token, symbols = round % 7 ? 3 : N;
        for (int i = 0; i < n_all; i++) {
            all[i] = (int32_t)fm__rng_below(&rng, (uint64_t)symbols) * (round % 2 ? 1 : 3) % N;
            fm_sampler_accept(s, all[i]);
        }
        float logits[N];
        double changed[N];
        make_logits(logits, N, 0, &rng);
        for (int i = 0; i < N; i++) changed[i] = logits[i];
        for (size_t i = 0; i < o.n_bias; i++) changed[bias[i].token] += bias[i].bias;
        ref_penalties(changed, N, all, n_all, &o);
        struct ref want[N];
        for (int i = 0; i < N; i++) want[i] = (struct ref){i, changed[i], 0, 0};
        char what[40];
        snprintf(what, sizeof what, "penalties, round %d", round);
        for (int again = 0; again < 2; again++) { // the workspace must be clean afterwards
            assert_ok(fm_sampler_sample(s, logits, &token, &err), err);
            same_candidates(s, want, N, what);
        }
        fm_sampler_free(s);
    }
}

// --- draws ---

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { N = 12, DRAWS = 120000 };
    struct fm_error err = {0};
    struct fm_sampler_opts o = {.temperature = 0.7f, .seed = 99, .min_p = 0.1f};
    struct fm_sampler *s;
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = (float)(i * 5 % N) * 0.3f;
    int counts[N] = {0};
    int32_t token;
    assert_ok(fm_sampler_new(N, &o, &s, &err), err);
    for (int i = 0; i < DRAWS; i++) {
        assert_ok(fm_sampler_sample(s, logits, &token, &err), err);
        counts[token]++;
    }
    size_t n;
    const struct fm_token_prob *c = fm_sampler_candidates(s, &n);
    double chi = 0;
    int seen = 0;
    for (size_t i = 0; i < n; i++) {
        double want = c[i].p * DRAWS;
        assert_true(want > 5); // what the approximation needs
        chi += (counts[c[i].token] - want) * (counts[c[i].token] - want) / want;
        seen += counts[c[i].token];
    }
    assert_int_equal(seen, DRAWS);
    assert_true(n > 5 && n < N);
    // 99.9 % of chi-square by Wilson and Hilferty: k (1 − 2/9k + 3.09 sqrt(2/9k))³
    double k = (double)n - 1, bound = k * pow(1 - 2 / (9 * k) + 3.09 * sqrt(2 / (9 * k)), 3);
    printf("chi-square %.2f of %zu tokens, bound %.2f\n", chi, n, bound);
    assert_true(chi < bound);
    fm_sampler_free(s);
}

static void mirostat_keeps_the_surprise(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(14, 0);
    struct fm_error err = {0};
    struct fm_sampler_opts o = {.temperature = 1, .mirostat = 2, .mirostat_tau = 3, .seed = 5};
    struct fm_sampler *s;
    static float logits[V];
    double mu = 6, surprise = 0;
    assert_ok(fm_sampler_new(V, &o, &s, &err), err);
    for (int step = 0; step < 200; step++) {
        make_logits(logits, V, 0, &rng);
        int32_t token;
        size_t n;
        assert_ok(fm_sampler_sample(s, logits, &token, &err), err);
        const struct fm_token_prob *c = fm_sampler_candidates(s, &n), *chosen = c;
        while (chosen->token != token) chosen++;
        if (step < 3) { // the cut itself, with mu as the paper updates it
            static struct ref want[V];
            size_t k = 0, all = ref_all(want, logits, V);
            ref_softmax(want, all);
            while (k < all && -log2(want[k].p) <= mu) k++;
            same_candidates(s, want, k ? k : 1, "mirostat");
        }
        mu -= 0.1 * (-log2(chosen->p) - 3);
        if (step >= 100) surprise += -log2(chosen->p) / 100;
    }
    printf("mean surprise %.2f bits, want 3\n", surprise);
    assert_true(fabs(surprise - 3) < 0.5); // eta 0.1 over 100 steps of about 1 bit deviation: standard error 0.1
    fm_sampler_free(s);
}

static void logprobs_are_of_the_model(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(15, 0);
    struct fm_error err = {0};
    struct fm_sampler *s;
    struct fm_sampler_opts o = {.temperature = 2, .top_k = 3};
    static float logits[V];
    static struct ref want[V];
    struct fm_token_prob top[20];
    make_logits(logits, V, 4, &rng);
    size_t n = ref_all(want, logits, V);
    ref_softmax(want, n);
    assert_ok(fm_sampler_new(V, &o, &s, &err), err);
    struct fm_logprobs ask = {.token = want[100].token, .n_top = 20, .top = top};
    assert_ok(fm_sampler_logprobs(s, logits, &ask, &err), err);
    assert_true(fabs(ask.chosen - log(want[100].p)) < 1e-4); // eps of float at |log p| up to 40
    for (int i = 0; i < 20; i++) {
        assert_int_equal(top[i].token, want[i].token);
        assert_true(fabs(top[i].p - log(want[i].p)) < 1e-5);
    }
    float few[4] = {1, -INFINITY, 0, NAN};
    struct fm_sampler *small;
    assert_ok(fm_sampler_new(4, NULL, &small, &err), err);
    ask = (struct fm_logprobs){.token = 1, .n_top = 4, .top = top};
    assert_ok(fm_sampler_logprobs(small, few, &ask, &err), err);
    assert_true(isinf(ask.chosen) && top[1].token == 2 && top[2].token == -1);
    ask.token = 4;
    assert_int_equal(fm_sampler_logprobs(small, few, &ask, &err), FM_E_ARG);
    ask = (struct fm_logprobs){.token = -1, .n_top = 5, .top = top};
    assert_int_equal(fm_sampler_logprobs(small, few, &ask, &err), FM_E_ARG);
    fm_sampler_free(small);
    fm_sampler_free(s);
}

// --- state ---

static const struct fm_sampler_opts busy = {.temperature = 0.9f,
                                            .top_k = 200,
                                            .typical_p = 0.95f,
                                            .top_p = 0.97f,
                                            .min_p = 0.001f,
                                            .penalty_repeat = 1.1f,
                                            .dry_multiplier = 0.5f,
                                            .dry_last_n = 300,
                                            .seed = 77};

static void run_on(struct fm_sampler *s, uint64_t from, int n, int32_t *tokens)
{
    struct fm_error err = {0};
    static float logits[V];
    for (int i = 0; i < n; i++) {
        struct fm__rng rng = fm__rng_new(1000, from + (uint64_t)i);
        make_logits(logits, V, 0, &rng);
        assert_ok(fm_sampler_sample(s, logits, &tokens[i], &err), err);
        fm_sampler_accept(s, tokens[i]);
    }
}

static void state_travels(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_sampler *a, *b, *c;
    int32_t first[40], want[40], got[40];
    assert_ok(fm_sampler_new(V, &busy, &a, &err), err);
    run_on(a, 0, 40, first);
    assert_ok(fm_sampler_clone(a, &b, &err), err);
    size_t size = fm_sampler_save(a, NULL, 0);
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(fm_sampler_save(a, bytes, size), size);
    run_on(a, 40, 40, want);
    run_on(b, 40, 40, got);
    assert_memory_equal(want, got, sizeof want);
    struct fm_sampler_opts other = busy;
    other.seed = 1; // the state brings its own
    assert_ok(fm_sampler_new(V, &other, &c, &err), err);
    assert_ok(fm_sampler_load(c, bytes, size, &err), err);
    run_on(c, 40, 40, got);
    assert_memory_equal(want, got, sizeof want);
    fm_sampler_reset(a);
    run_on(a, 0, 40, got);
    assert_memory_equal(first, got, sizeof first);
    // every cut and every flipped byte of the header is refused or loads without harm
    for (size_t cut = 0; cut < size; cut++) assert_int_equal(fm_sampler_load(c, bytes, cut, &err), FM_E_FORMAT);
    for (size_t at = 0; at < 16; at++) {
        bytes[at] ^= 0x40;
        assert_int_equal(fm_sampler_load(c, bytes, size, &err), FM_E_FORMAT);
        bytes[at] ^= 0x40;
    }
    bytes[size - 1] ^= 0x40; // a token outside
    assert_int_equal(fm_sampler_load(c, bytes, size, &err), FM_E_FORMAT);
    bytes[size - 1] ^= 0x40;
    run_on(c, 80, 1, got); // and it still works
    // a sampler that remembers less keeps the end
    struct fm_sampler *little;
    struct fm_sampler_opts o = {.temperature = 1, .penalty_presence = 1e5f, .penalty_last_n = 1, .top_k = 1};
    float logits[V] = {0};
    int32_t token;
    assert_ok(fm_sampler_new(V, &o, &little, &err), err);
    assert_ok(fm_sampler_load(little, bytes, size, &err), err);
    logits[first[39]] = 5, logits[first[38]] = 4;
    assert_ok(fm_sampler_sample(little, logits, &token, &err), err);
    assert_int_equal(token, first[38]);
    fm_sampler_free(little), fm_sampler_free(a), fm_sampler_free(b), fm_sampler_free(c);
    free(bytes);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_sampler *s;
    const int32_t breaker = V;
    const struct fm_logit_bias bias = {-1, 0}, nan_bias = {0, NAN};
    const struct {
        struct fm_sampler_opts o;
        const char *says;
    } cases[] = {
        {{.temperature = -1}, "temperature"},
        {{.temperature = NAN}, "temperature"},
        {{.top_p = NAN}, "top_p"},
        {{.min_p = -0.1f}, "min_p"},
        {{.min_p = 1.5f}, "min_p"},
        {{.typical_p = -1}, "typical_p"},
        {{.mirostat = 1}, "mirostat version 1"},
        {{.penalty_last_n = -2}, "penalty_last_n"},
        {{.dry_last_n = 1 << 30}, "dry_last_n"},
        {{.dry_breakers = &breaker, .n_dry_breakers = 1}, "breaker"},
        {{.bias = &bias, .n_bias = 1}, "bias 0"},
        {{.bias = &nan_bias, .n_bias = 1}, "bias 0"},
        {{.penalty_repeat = INFINITY}, "penalty_repeat"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fm_sampler_new(V, &cases[i].o, &s, &err), FM_E_ARG);
        assert_null(s);
        if (!strstr(err.text, cases[i].says)) fail_msg("\"%s\", want %s", err.text, cases[i].says);
    }
    assert_int_equal(fm_sampler_new(0, NULL, &s, &err), FM_E_ARG);
    assert_ok(fm_sampler_new(V, NULL, &s, &err), err);
    fm_sampler_accept(s, -1);
    fm_sampler_accept(s, V);
    fm_sampler_free(s);
    fm_sampler_free(NULL);
}

static void allocation_only_at_birth(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_sampler *s = NULL, *copy = NULL;
    const struct fm_logit_bias bias = {1, 2};
    const int32_t breaker = 4;
    struct fm_sampler_opts o = busy;
    o.bias = &bias, o.n_bias = 1, o.dry_breakers = &breaker, o.n_dry_breakers = 1;
    int failures = 0;
    for (fm_status status = FM_E_NOMEM; status != FM_OK; failures++) {
        fm__alloc_fail_after(failures, false);
        status = fm_sampler_new(V, &o, &s, &err);
        fm__alloc_fail_after(-1, false);
        if (status != FM_OK) assert_int_equal(status, FM_E_NOMEM);
        if (status != FM_OK) assert_null(s);
    }
    assert_true(failures > 6);
    fm__alloc_fail_after(2, false);
    assert_int_equal(fm_sampler_clone(s, &copy, &err), FM_E_NOMEM);
    fm__alloc_fail_after(-1, false);
    int64_t before = fm__alloc_count();
    int32_t tokens[50];
    run_on(s, 0, 50, tokens);
    assert_int_equal(fm__alloc_count(), before);
    fm_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(selection_equals_sorting),
        cmocka_unit_test(filters_equal_references),
        cmocka_unit_test(greedy_takes_the_largest),
        cmocka_unit_test(penalties_equal_references),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(mirostat_keeps_the_surprise),
        cmocka_unit_test(logprobs_are_of_the_model),
        cmocka_unit_test(state_travels),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(allocation_only_at_birth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// The largest of many: argmax, the k largest, sorting no more than is asked for. The order is total (logit, then id),
// so the result does not depend on the method. Blocks that hold nothing large enough are passed over by their maximum,
// which the compiler computes in vector registers: a pass costs about the reading of the logits.
#include <float.h>
#include <math.h>

#include "infer/sample_filters.h"

enum { LANES = 16, BLOCK = 128, MAX_HEAP = 1024 };

// Largest of `n` values, −infinity for NaN.
static float block_max(const float *v, int32_t n)
{
    float lane[LANES], best = -INFINITY;
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = v[i + j] > lane[j] ? v[i + j] : lane[j];
    for (; i < n; i++) best = v[i] > best ? v[i] : best;
    for (int j = 0; j < LANES; j++) best = lane[j] > best ? lane[j] : best;
    return best;
}

int32_t fm__sample_argmax(const float *logits, int32_t n_vocab)
{
    int32_t best_block = -1;
    float best = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i += BLOCK) {
        float m = block_max(logits + i, n_vocab - i < BLOCK ? n_vocab - i : BLOCK);
        if (m > best) best = m, best_block = i;
    }
    if (best_block < 0) return -1;
    int32_t at = best_block;
    while (logits[at] != best) at++;
    return at;
}

static inline bool before(const struct fm_token_prob *a, const struct fm_token_prob *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static inline void swap(struct fm_token_prob *a, struct fm_token_prob *b)
{
    struct fm_token_prob t = *a;
    *a = *b;
    *b = t;
}

// Restores the heap below `at`; the root is the one that comes last in the order.
static void sift_down(struct fm_token_prob *v, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && before(&v[child], &v[child + 1])) child++;
        if (!before(&v[at], &v[child])) return;
        swap(&v[at], &v[child]);
        at = child;
    }
}

static void heap_sort(struct fm_token_prob *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift_down(v, n, i);
    for (size_t end = n; end-- > 1;) {
        swap(&v[0], &v[end]);
        sift_down(v, end, 0);
    }
}

static void insertion_sort(struct fm_token_prob *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && before(&v[k], &v[k - 1]); k--) swap(&v[k], &v[k - 1]);
}

// Parts [0, n) around a median of three; everything before the returned place comes before it in the order.
static size_t partition(struct fm_token_prob *v, size_t n)
{
    size_t mid = n / 2, last = n - 1;
    if (before(&v[mid], &v[0])) swap(&v[mid], &v[0]);
    if (before(&v[last], &v[0])) swap(&v[last], &v[0]);
    if (before(&v[last], &v[mid])) swap(&v[last], &v[mid]);
    swap(&v[mid], &v[last - 1]);
    size_t place = 0;
    for (size_t i = 0; i < last - 1; i++)
        if (before(&v[i], &v[last - 1])) swap(&v[i], &v[place++]);
    swap(&v[place], &v[last - 1]);
    return place;
}

// Partial quicksort: only parts that begin before k are sorted (Martínez 2004). Bad luck ends in a heap sort.
static void sort_first(struct fm_token_prob *v, size_t n, size_t k, int depth)
{
    while (n > 24) {
        if (depth-- == 0) {
            heap_sort(v, n);
            return;
        }
        size_t place = partition(v, n);
        sort_first(v, place, k, depth);
        if (place + 1 >= k) return;
        v += place + 1, n -= place + 1, k -= place + 1;
    }
    insertion_sort(v, n);
}

void fm__sample_sort(struct fm__candidates *c, size_t k)
{
    if (k > c->n) k = c->n;
    if (k <= c->n_sorted) return;
    int depth = 2;
    for (size_t n = c->n; n > 1; n /= 2) depth += 2;
    sort_first(c->v + c->n_sorted, c->n - c->n_sorted, k - c->n_sorted, depth);
    c->n_sorted = k;
}

static inline float clamped(float logit)
{
    return logit > FLT_MAX ? FLT_MAX : logit; // +infinity would make every probability NaN
}

void fm__sample_all(struct fm__candidates *c, const float *logits, int32_t n_vocab)
{
    c->n = c->n_sorted = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        if (logits[i] > -INFINITY) c->v[c->n++] = (struct fm_token_prob){i, clamped(logits[i]), 0};
}

void fm__sample_top_k(struct fm__candidates *c, const float *logits, int32_t n_vocab, int32_t k)
{
    if (k > MAX_HEAP || k >= n_vocab) {
        fm__sample_all(c, logits, n_vocab);
        fm__sample_sort(c, (size_t)k);
        if (c->n > (size_t)k) c->n = (size_t)k;
        return;
    }
    size_t n = 0;
    int32_t i = 0;
    for (; i < n_vocab && n < (size_t)k; i++)
        if (logits[i] > -INFINITY) c->v[n++] = (struct fm_token_prob){i, clamped(logits[i]), 0};
    for (size_t at = n / 2; at-- > 0;) sift_down(c->v, n, at);
    while (i < n_vocab) {
        int32_t end = n_vocab - i < BLOCK ? n_vocab : i + BLOCK;
        // ids ascend, so one equal to the root comes after it in the order
        if (!(block_max(logits + i, end - i) > c->v[0].logit)) {
            i = end;
            continue;
        }
        for (; i < end; i++) {
            if (!(clamped(logits[i]) > c->v[0].logit)) continue;
            c->v[0] = (struct fm_token_prob){i, clamped(logits[i]), 0};
            sift_down(c->v, n, 0);
        }
    }
    for (size_t end = n; end-- > 1;) {
        swap(&c->v[0], &c->v[end]);
        sift_down(c->v, end, 0);
    }
    c->n = c->n_sorted = n;
}

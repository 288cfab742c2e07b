// SPDX-License-Identifier: MIT
// Filters of candidates. Each keeps at least one. Probabilities are made anew by every filter that needs them, over
// what the filters before it left, as llama.cpp does; sums are in double, in the order of the list.
#include "infer/sample_filters.h"

#include <math.h>

void fm__sample_softmax(struct fm__candidates *c)
{
    float largest = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < (c->n_sorted ? 1 : c->n); i++) largest = c->v[i].logit > largest ? c->v[i].logit : largest;
    for (size_t i = 0; i < c->n; i++) sum += c->v[i].p = expf(c->v[i].logit - largest);
    float scale = (float)(1 / sum);
    for (size_t i = 0; i < c->n; i++) c->v[i].p *= scale;
}

void fm__sample_top_p(struct fm__candidates *c, float p)
{
    enum { FIRST_LOOK = 256 }; // most distributions reach p well before; then four times as many
    fm__sample_softmax(c);
    double sum = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (i >= c->n_sorted) fm__sample_sort(c, i < FIRST_LOOK ? FIRST_LOOK : i * 4);
        sum += c->v[i].p;
        if (sum < p) continue;
        c->n = i + 1;
        break;
    }
    fm__sample_sort(c, c->n);
    c->n_sorted = c->n;
}

void fm__sample_min_p(struct fm__candidates *c, float p)
{
    float largest = -INFINITY;
    for (size_t i = 0; i < (c->n_sorted ? 1 : c->n); i++) largest = c->v[i].logit > largest ? c->v[i].logit : largest;
    float least = largest + logf(p);
    size_t n = 0, n_sorted = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->v[i].logit < least && c->v[i].logit < largest) continue; // p > 1 keeps the largest
        if (i < c->n_sorted) n_sorted++;
        c->v[n++] = c->v[i];
    }
    c->n = n;
    c->n_sorted = n_sorted;
}

void fm__sample_typical(struct fm__candidates *c, float p, struct fm_token_prob *scratch)
{
    fm__sample_softmax(c);
    double entropy = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].p > 0) entropy -= (double)c->v[i].p * log((double)c->v[i].p);
    // nearest the entropy first: the distance, negated, takes the place of the logit, the place in the list that of the
    // id
    struct fm__candidates by_distance = {scratch, c->n, 0};
    for (size_t i = 0; i < c->n; i++) {
        double distance = c->v[i].p > 0 ? fabs(-log((double)c->v[i].p) - entropy) : INFINITY;
        scratch[i] = (struct fm_token_prob){(int32_t)i, (float)-distance, c->v[i].p};
    }
    double sum = 0;
    size_t kept = 0;
    for (size_t look = 256; kept < c->n && sum <= p; kept++) {
        if (kept >= by_distance.n_sorted) {
            fm__sample_sort(&by_distance, look);
            look *= 4;
        }
        sum += scratch[kept].p;
    }
    for (size_t i = 0; i < kept; i++) c->v[scratch[i].token].p = 2; // marks; no probability is that large
    size_t n = 0, n_sorted = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->v[i].p != 2) continue;
        if (i < c->n_sorted) n_sorted++;
        c->v[n++] = c->v[i];
    }
    c->n = n;
    c->n_sorted = n_sorted;
}

void fm__sample_temperature(struct fm__candidates *c, float temperature)
{
    float largest = -INFINITY, shift = 0;
    for (size_t i = 0; i < c->n; i++) largest = fabsf(c->v[i].logit) > largest ? fabsf(c->v[i].logit) : largest;
    if (isinf(largest / temperature)) { // near zero: what counts is the distance from the largest
        shift = -INFINITY;
        for (size_t i = 0; i < c->n; i++) shift = c->v[i].logit > shift ? c->v[i].logit : shift;
    }
    for (size_t i = 0; i < c->n; i++) c->v[i].logit = (c->v[i].logit - shift) / temperature;
}

void fm__sample_mirostat(struct fm__candidates *c, float mu)
{
    fm__sample_softmax(c);
    float largest = -INFINITY;
    size_t n = 0, n_sorted = 0, best = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->v[i].logit > largest) largest = c->v[i].logit, best = i;
    }
    struct fm_token_prob first = c->v[best];
    for (size_t i = 0; i < c->n; i++) {
        if (!(-log2f(c->v[i].p) <= mu)) continue;
        if (i < c->n_sorted) n_sorted++;
        c->v[n++] = c->v[i];
    }
    if (!n) c->v[n++] = first, n_sorted = 1;
    c->n = n;
    c->n_sorted = n_sorted;
}

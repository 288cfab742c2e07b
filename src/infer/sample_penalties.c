// SPDX-License-Identifier: MIT
// Penalties by what the text already holds. Only tokens of the history are touched, so the cost is that of the history.
#include <math.h>
#include <stdbool.h>

#include "infer/sample_filters.h"

void fm__sample_penalize(float *logits, const struct fm__history *h, const struct fm__penalties *p, int32_t *count)
{
    for (int32_t i = 0; i < h->n; i++) count[fm__history_at(h, i)]++;
    for (int32_t i = 0; i < h->n; i++) {
        int32_t token = fm__history_at(h, i), times = count[token];
        if (!times) continue; // done at an earlier place
        count[token] = 0;
        // a negative logit is multiplied: dividing it would make the token more likely
        logits[token] = logits[token] <= 0 ? logits[token] * p->repeat : logits[token] / p->repeat;
        logits[token] -= (float)times * p->frequency + p->presence;
    }
}

static bool is_breaker(const struct fm__dry *d, int32_t token)
{
    for (size_t i = 0; i < d->n_breakers; i++)
        if (d->breakers[i] == token) return true;
    return false;
}

// lengths[k]: how many tokens before place k (k from the end) repeat the end of the history: the Z-function of the
// history read backwards, linear in its length (Gusfield 1997, section 1.3).
static void repeat_lengths(const struct fm__history *h, int32_t *lengths)
{
    int32_t left = 0, right = 0; // the match that reaches furthest is [left, right)
    for (int32_t k = 1; k < h->n; k++) {
        int32_t n = 0;
        if (k < right) n = lengths[k - left] < right - k ? lengths[k - left] : right - k;
        while (n + k < h->n && fm__history_at(h, n) == fm__history_at(h, n + k)) n++;
        lengths[k] = n;
        if (k + n > right) left = k, right = k + n;
    }
}

void fm__sample_dry(float *logits, const struct fm__history *h, const struct fm__dry *d, int32_t *count,
                    int32_t *lengths)
{
    if (h->n <= d->allowed) return;
    int32_t limit = 0; // no repetition reaches over the last breaker
    while (limit < h->n && !is_breaker(d, fm__history_at(h, limit))) limit++;
    if (limit < d->allowed) return;
    repeat_lengths(h, lengths);
    for (int32_t k = 1; k < h->n; k++) {
        int32_t n = lengths[k] < limit ? lengths[k] : limit, token = fm__history_at(h, k - 1);
        if (n >= d->allowed && n > count[token]) count[token] = n; // the token that followed the earlier occurrence
    }
    // the exponent ends where base^x leaves float: ln(FLT_MAX) = 88.72
    int32_t most = d->base > 1.000001f ? (int32_t)(88.7228391f / logf(d->base)) : 0;
    for (int32_t k = 1; k < h->n; k++) {
        int32_t token = fm__history_at(h, k - 1), exponent = count[token] - d->allowed;
        if (!count[token]) continue;
        count[token] = 0;
        if (is_breaker(d, token)) continue;
        if (most > 0 && exponent > most) exponent = most;
        logits[token] -= d->multiplier * powf(d->base, (float)exponent);
    }
}

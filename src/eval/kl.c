// SPDX-License-Identifier: MIT
// Divergence statistics: sums while positions come, percentiles at the end.
#include "eval/kl.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/error.h"
#include "eval/logprobs.h"

const double fm__kl_percentiles[FM__KL_PERCENTILES] = {0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 1};

// Tokens of P below exp(-16) are where the file stops telling apart: they count nothing.
static const float LOWEST = -16;

struct fm__mean fm__mean_of(double sum, double sum_squares, int64_t n)
{
    if (n < 1) return (struct fm__mean){0, 0};
    double mean = sum / (double)n, variance = sum_squares / (double)n - mean * mean;
    return (struct fm__mean){mean, variance > 0 && n > 1 ? sqrt(variance / (double)(n - 1)) : 0};
}

fm_status fm__kl_init(struct fm__kl *kl, int32_t n_vocab, int32_t n_windows, int32_t window, struct fm_error *err)
{
    int64_t cap = (int64_t)n_windows * window;
    *kl = (struct fm__kl){.n_vocab = n_vocab, .cap = cap, .window = window};
    kl->kl = fm__calloc((size_t)cap, sizeof *kl->kl);
    kl->dp = fm__calloc((size_t)cap, sizeof *kl->dp);
    kl->scratch = fm__calloc((size_t)n_vocab, sizeof *kl->scratch);
    if (kl->kl && kl->dp && kl->scratch) return FM_OK;
    fm__kl_deinit(kl);
    return fm__fail_nomem(err, "divergence statistics", (size_t)cap * 8 + (size_t)n_vocab * 4);
}

void fm__kl_deinit(struct fm__kl *kl)
{
    fm__free(kl->kl);
    fm__free(kl->dp);
    fm__free(kl->scratch);
    *kl = (struct fm__kl){0};
}

void fm__kl_add(struct fm__kl *kl, const float *logits, const void *base_row, int32_t token)
{
    if (kl->n == kl->cap) return;
    struct fm__score q;
    fm__score_row(logits, kl->n_vocab, &q);
    float *log_p = kl->scratch, shift = q.max + q.log_sum;
    fm__logprobs_decode(base_row, kl->n_vocab, log_p);
    double divergence = 0;
    int32_t top = 0;
    for (int32_t i = 0; i < kl->n_vocab; i++) {
        if (log_p[i] > log_p[top]) top = i;
        if (log_p[i] > LOWEST) // rounding can put the best token a little above 0
            divergence += (double)(fm__exp_negative(log_p[i] < 0 ? log_p[i] : 0) * (log_p[i] - logits[i] + shift));
    }
    double nll = fm__score_nll(&q, logits, token), base = -(double)log_p[token];
    double dp = exp(-nll) - exp(-base);
    kl->nll += nll;
    kl->nll2 += nll * nll;
    kl->base += base;
    kl->base2 += base * base;
    kl->cross += nll * base;
    kl->sum_kl += divergence;
    kl->sum_kl2 += divergence * divergence;
    kl->sum_dp += dp;
    kl->sum_dp2 += dp * dp;
    kl->sum_dp4 += dp * dp * dp * dp;
    kl->n_same_top += top == q.top;
    kl->kl[kl->n] = (float)divergence;
    kl->dp[kl->n++] = (float)dp;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Between the two neighbours, linearly.
static double percentile(const float *sorted, int64_t n, double fraction)
{
    double at = fraction * (double)(n - 1);
    int64_t i = (int64_t)at, next = i + 1 < n ? i + 1 : i;
    return (double)sorted[i] + (at - (double)i) * ((double)sorted[next] - (double)sorted[i]);
}

// Means of the divergences, still in the order they came in, over parts of the window.
static void by_depth(const struct fm__kl *kl, struct fm__kl_result *out)
{
    for (int r = 0; r <= FM__KL_RANGES; r++) out->range_begin[r] = (int32_t)((int64_t)kl->window * r / FM__KL_RANGES);
    for (int r = 0; r < FM__KL_RANGES; r++) {
        double sum = 0;
        int64_t n = 0;
        for (int64_t start = 0; start < kl->n; start += kl->window)
            for (int64_t i = out->range_begin[r]; i < out->range_begin[r + 1] && start + i < kl->n; i++, n++)
                sum += (double)kl->kl[start + i];
        out->kl_range[r] = n ? sum / (double)n : 0;
    }
}

void fm__kl_finish(struct fm__kl *kl, struct fm__kl_result *out)
{
    *out = (struct fm__kl_result){.n = kl->n};
    if (kl->n < 2) return;
    double n = (double)kl->n;
    struct fm__mean q = fm__mean_of(kl->nll, kl->nll2, kl->n), p = fm__mean_of(kl->base, kl->base2, kl->n);
    double covariance = (kl->cross / n - q.value * p.value) / (n - 1);
    double variance = q.error * q.error + p.error * p.error - 2 * covariance;
    out->ppl = (struct fm__mean){exp(q.value), exp(q.value) * q.error};
    out->ppl_base = (struct fm__mean){exp(p.value), exp(p.value) * p.error};
    out->log_ratio = (struct fm__mean){q.value - p.value, variance > 0 ? sqrt(variance) : 0};
    out->correlation = q.error > 0 && p.error > 0 ? covariance / (q.error * p.error) : 0;
    out->kl = fm__mean_of(kl->sum_kl, kl->sum_kl2, kl->n);
    out->dp = fm__mean_of(kl->sum_dp, kl->sum_dp2, kl->n);
    struct fm__mean square = fm__mean_of(kl->sum_dp2, kl->sum_dp4, kl->n);
    double rms = sqrt(square.value), top = (double)kl->n_same_top / n;
    out->dp_rms = (struct fm__mean){rms, rms > 0 ? 0.5 / rms * square.error : 0};
    out->same_top = (struct fm__mean){top, sqrt(top * (1 - top) / (n - 1))};
    by_depth(kl, out); // before sorting
    qsort(kl->kl, (size_t)kl->n, sizeof *kl->kl, ascending);
    qsort(kl->dp, (size_t)kl->n, sizeof *kl->dp, ascending);
    for (int i = 0; i < FM__KL_PERCENTILES; i++) {
        out->kl_at[i] = percentile(kl->kl, kl->n, fm__kl_percentiles[i]);
        out->dp_at[i] = percentile(kl->dp, kl->n, fm__kl_percentiles[i]);
    }
}

// SPDX-License-Identifier: MIT
// Metrics from counts and from pairs. Sums are f64 in the order of the examples.
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

void fm__confusion(const struct fm__labels *labels, const int32_t *weights, int64_t *counts)
{
    for (int64_t i = 0; i < labels->n; i++)
        counts[(int64_t)labels->gold[i] * labels->n_classes + labels->predicted[i]] += weights ? weights[i] : 1;
}

double fm__accuracy(const int64_t *counts, int32_t n_classes)
{
    int64_t hits = 0, n = 0;
    for (int64_t i = 0; i < (int64_t)n_classes * n_classes; i++) n += counts[i];
    for (int64_t c = 0; c < n_classes; c++) hits += counts[c * n_classes + c];
    return n ? (double)hits / (double)n : 0;
}

// Row and column sums of class c: gold and predicted.
static void margins(const int64_t *counts, int32_t n_classes, int64_t c, int64_t *gold, int64_t *predicted)
{
    *gold = *predicted = 0;
    for (int64_t j = 0; j < n_classes; j++) {
        *gold += counts[c * n_classes + j];
        *predicted += counts[j * n_classes + c];
    }
}

double fm__macro_f1(const int64_t *counts, int32_t n_classes)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        int64_t gold, predicted;
        margins(counts, n_classes, c, &gold, &predicted);
        if (gold + predicted == 0) continue; // a class that does not occur says nothing
        sum += 2.0 * (double)counts[c * n_classes + c] / (double)(gold + predicted);
        n++;
    }
    return n ? sum / (double)n : 0;
}

// R_K = (s·hits - Σ gold·predicted) / sqrt((s² - Σ predicted²) (s² - Σ gold²)), s the number of examples.
double fm__matthews(const int64_t *counts, int32_t n_classes)
{
    double s = 0, hits = 0, both = 0, gold2 = 0, predicted2 = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        int64_t gold, predicted;
        margins(counts, n_classes, c, &gold, &predicted);
        s += (double)gold;
        hits += (double)counts[c * n_classes + c];
        both += (double)gold * (double)predicted;
        gold2 += (double)gold * (double)gold;
        predicted2 += (double)predicted * (double)predicted;
    }
    double below = (s * s - predicted2) * (s * s - gold2);
    return below > 0 ? (s * hits - both) / sqrt(below) : 0;
}

// Correlation of x and y about their means.
static double correlation(const double *x, const double *y, int64_t n, const int32_t *weights)
{
    double count = 0, mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = weights ? weights[i] : 1;
        count += w;
        mean_x += w * x[i];
        mean_y += w * y[i];
    }
    if (!(count > 0)) return 0;
    mean_x /= count;
    mean_y /= count;
    for (int64_t i = 0; i < n; i++) {
        double w = weights ? weights[i] : 1, dx = x[i] - mean_x, dy = y[i] - mean_y;
        xx += w * dx * dx;
        yy += w * dy * dy;
        xy += w * dx * dy;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}

double fm__pearson(const struct fm__pairs *pairs, const int32_t *weights)
{
    return correlation(pairs->x, pairs->y, pairs->n, weights);
}

double fm__mean_square_error(const struct fm__pairs *pairs, const int32_t *weights)
{
    double sum = 0, count = 0;
    for (int64_t i = 0; i < pairs->n; i++) {
        double w = weights ? weights[i] : 1, d = pairs->x[i] - pairs->y[i];
        sum += w * d * d;
        count += w;
    }
    return count > 0 ? sum / count : 0;
}

// Ranks 1 … of the examples as they are weighted; a value that occurs k times shares the mean of its k ranks.
static void set_ranks(const double *values, const int32_t *order, int64_t n, const int32_t *weights, double *ranks)
{
    double before = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        double count = 0;
        for (end = i; end < n && values[order[end]] == values[order[i]]; end++)
            count += weights ? weights[order[end]] : 1;
        for (int64_t j = i; j < end; j++) ranks[order[j]] = before + (count + 1) / 2;
        before += count;
    }
}

double fm__spearman(const struct fm__pairs *pairs, const int32_t *weights)
{
    set_ranks(pairs->x, pairs->by_x, pairs->n, weights, pairs->rank_x);
    set_ranks(pairs->y, pairs->by_y, pairs->n, weights, pairs->rank_y);
    return correlation(pairs->rank_x, pairs->rank_y, pairs->n, weights);
}

struct keyed {
    double value;
    int32_t index;
};

static int ascending(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void sort_indices(const double *values, int64_t n, struct keyed *scratch, int32_t *order)
{
    for (int64_t i = 0; i < n; i++) scratch[i] = (struct keyed){values[i], (int32_t)i};
    qsort(scratch, (size_t)n, sizeof *scratch, ascending);
    for (int64_t i = 0; i < n; i++) order[i] = scratch[i].index;
}

fm_status fm__pairs_sort(struct fm__pairs *pairs, struct fm_error *err)
{
    size_t n = pairs->n > 0 ? (size_t)pairs->n : 1;
    struct keyed *scratch = fm__calloc(n, sizeof *scratch);
    pairs->by_x = fm__calloc(n, sizeof *pairs->by_x);
    pairs->by_y = fm__calloc(n, sizeof *pairs->by_y);
    pairs->rank_x = fm__calloc(n, sizeof *pairs->rank_x);
    pairs->rank_y = fm__calloc(n, sizeof *pairs->rank_y);
    if (!scratch || !pairs->by_x || !pairs->by_y || !pairs->rank_x || !pairs->rank_y) {
        fm__free(scratch);
        fm__pairs_deinit(pairs);
        return fm__fail_nomem(err, "ranks", n * sizeof *scratch);
    }
    sort_indices(pairs->x, pairs->n, scratch, pairs->by_x);
    sort_indices(pairs->y, pairs->n, scratch, pairs->by_y);
    fm__free(scratch);
    return FM_OK;
}

void fm__pairs_deinit(struct fm__pairs *pairs)
{
    fm__free(pairs->by_x);
    fm__free(pairs->by_y);
    fm__free(pairs->rank_x);
    fm__free(pairs->rank_y);
    pairs->by_x = pairs->by_y = NULL;
    pairs->rank_x = pairs->rank_y = NULL;
}

// SPDX-License-Identifier: MIT
// Binomial intervals by bisection on the distributions themselves, and the bootstrap.
#include "eval/interval.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "eval/sorted.h"

enum { BISECTIONS = 200 }; // more than the bits of a double: ends at neighbours

// x with Φ(x) = p, p in [0.5, 1).
static double normal_quantile(double p)
{
    double low = 0, high = 40;
    for (int i = 0; i < BISECTIONS; i++) {
        double x = (low + high) / 2;
        if (0.5 * erfc(x / sqrt(2)) > 1 - p)
            low = x;
        else
            high = x;
    }
    return (low + high) / 2;
}

struct fm__interval fm__wilson(int64_t hits, int64_t n, double confidence)
{
    if (n <= 0) return (struct fm__interval){0, 1};
    double z = normal_quantile((1 + confidence) / 2), count = (double)n, p = (double)hits / count;
    double middle = (p + z * z / (2 * count)) / (1 + z * z / count);
    double half = z / (1 + z * z / count) * sqrt(p * (1 - p) / count + z * z / (4 * count * count));
    return (struct fm__interval){hits == 0 ? 0 : middle - half, hits == n ? 1 : middle + half};
}

// Continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8) by Lentz's method; converges fast
// for x < (a + 1) / (a + b + 2).
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m < 10000; m++) {
        for (int odd = 0; odd < 2; odd++) {
            double numerator = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                   : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + numerator * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + numerator / c;
            if (fabs(c) < tiny) c = tiny;
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return f;
}

// P(Beta(a, b) <= x), a and b positive whole numbers.
static double beta_below(double a, double b, double x)
{
    if (x <= 0 || x >= 1) return x >= 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

static double beta_quantile(double a, double b, double p)
{
    double low = 0, high = 1;
    for (int i = 0; i < BISECTIONS; i++) {
        double x = (low + high) / 2;
        if (beta_below(a, b, x) < p)
            low = x;
        else
            high = x;
    }
    return (low + high) / 2;
}

// Bounds of a share p: at the lower one, `hits` or more have probability (1 - confidence) / 2; at the upper one, `hits`
// or fewer. Sums of binomials are beta distributions.
struct fm__interval fm__clopper_pearson(int64_t hits, int64_t n, double confidence)
{
    if (n <= 0) return (struct fm__interval){0, 1};
    double tail = (1 - confidence) / 2, k = (double)hits, misses = (double)(n - hits);
    return (struct fm__interval){hits == 0 ? 0 : beta_quantile(k, misses + 1, tail),
                                 hits == n ? 1 : beta_quantile(k + 1, misses, 1 - tail)};
}

// Counts of n draws with replacement.
static void draw(uint64_t seed, uint32_t resample, int64_t n, int32_t *weights)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    memset(weights, 0, (size_t)n * sizeof *weights);
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t counter[4] = {(uint32_t)(i >> 2), 0, resample, 0}, out[4];
        fm__philox4x32(counter, key, out);
        for (int64_t j = 0; j < 4 && i + j < n; j++) weights[(uint64_t)out[j] * (uint64_t)n >> 32]++;
    }
}

static double quantile(const double *sorted, int n, double p)
{
    double at = p * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

fm_status fm__bootstrap(const struct fm__bootstrap_args *args, struct fm__interval *out, struct fm_error *err)
{
    *out = (struct fm__interval){0, 0};
    if (args->n <= 0) return FM_OK;
    if (args->n > INT32_MAX)
        return fm__fail(err, FM_E_LIMIT, "bootstrap of %lld examples, want fewer than 2^31", (long long)args->n);
    int n_resamples = args->n_resamples > 0 ? args->n_resamples : FM__BOOTSTRAP_RESAMPLES;
    int32_t *weights = fm__calloc((size_t)args->n, sizeof *weights);
    double *values = fm__calloc((size_t)n_resamples, sizeof *values);
    fm_status status = FM_OK;
    if (weights && values) {
        for (int r = 0; r < n_resamples; r++) {
            draw(args->seed, (uint32_t)r, args->n, weights);
            values[r] = args->statistic(args->context, weights);
        }
        fm__sort(values, n_resamples);
        out->low = quantile(values, n_resamples, (1 - args->confidence) / 2);
        out->high = quantile(values, n_resamples, (1 + args->confidence) / 2);
    } else {
        status = fm__fail_nomem(err, "bootstrap", (size_t)args->n * sizeof *weights);
    }
    fm__free(weights);
    fm__free(values);
    return status;
}

double fm__ratio(const void *context, const int32_t *weights)
{
    const struct fm__ratio *r = context;
    double above = 0, below = 0;
    for (int64_t i = 0; i < r->n; i++) {
        double w = weights ? weights[i] : 1;
        above += w * r->above[i];
        below += w * (r->below ? r->below[i] : 1);
    }
    double value = below > 0 ? above / below : 0;
    return r->exponential ? exp(value) : value;
}

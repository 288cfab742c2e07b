// SPDX-License-Identifier: MIT
// Measures of a task from its outcomes.
#include "eval/outcomes.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "eval/metrics.h"

static int32_t first_best(const double *scores, int n, const double *lengths)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        double a = lengths ? scores[i] / lengths[i] : scores[i];
        double b = lengths ? scores[best] / lengths[best] : scores[best];
        if (a > b) best = i;
    }
    return best;
}

void fm__outcome_pick(struct fm__outcome *o, const double *lengths)
{
    o->predicted = first_best(o->scores, o->n_scores, NULL);
    o->by_length = lengths ? first_best(o->scores, o->n_scores, lengths) : o->predicted;
    o->correct = o->predicted == o->gold;
    double sum = 0;
    for (int i = 0; i < o->n_scores; i++) sum += exp(o->scores[i] - o->scores[o->predicted]);
    o->confidence = 1 / sum;
}

int64_t fm__count_characters(const struct fm__text *text)
{
    int64_t n = 0;
    for (size_t i = 0; i < text->n; i++) n += ((unsigned char)text->p[i] & 0xc0) != 0x80;
    return n;
}

struct measuring {
    const struct fm__measure_args *args;
    struct fm__measures *out;
    struct fm_error *err;
    // columns of the outcomes
    int32_t *gold, *predicted;
    double *x, *y;
    int64_t *counts; // [C, C] of a resample
};

static struct fm__measure *add(struct measuring *m, const char *name, double value, const char *method)
{
    struct fm__measure *measure = &m->out->items[m->out->n++];
    *measure = (struct fm__measure){.name = name, .value = value, .method = method};
    return measure;
}

static double confidence(const struct measuring *m)
{
    return m->args->confidence > 0 ? m->args->confidence : 0.95;
}

static void add_share(struct measuring *m, const char *name, int64_t hits)
{
    int64_t n = m->args->n;
    bool exact = m->args->exact;
    struct fm__measure *measure = add(m, name, n ? (double)hits / (double)n : 0, exact ? "clopper-pearson" : "wilson");
    measure->interval = exact ? fm__clopper_pearson(hits, n, confidence(m)) : fm__wilson(hits, n, confidence(m));
}

static fm_status add_bootstrap(struct measuring *m, const char *name, fm__statistic_fn *statistic, const void *context)
{
    struct fm__measure *measure = add(m, name, statistic(context, NULL), "bootstrap");
    struct fm__bootstrap_args args = {.n = m->args->n,
                                      .n_resamples = m->args->n_resamples,
                                      .seed = m->args->seed,
                                      .confidence = confidence(m),
                                      .statistic = statistic,
                                      .context = context};
    return fm__bootstrap(&args, &measure->interval, m->err);
}

static int64_t count_correct(const struct measuring *m)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < m->args->n; i++) hits += m->args->outcomes[i].correct;
    return hits;
}

static double of_counts(const struct measuring *m, const int32_t *weights,
                        double (*metric)(const int64_t *counts, int32_t n_classes))
{
    struct fm__labels labels = {m->gold, m->predicted, m->args->n, m->args->n_classes};
    memset(m->counts, 0, (size_t)m->args->n_classes * (size_t)m->args->n_classes * sizeof *m->counts);
    fm__confusion(&labels, weights, m->counts);
    return metric(m->counts, m->args->n_classes);
}

static double macro_f1(const void *context, const int32_t *weights)
{
    return of_counts(context, weights, fm__macro_f1);
}

static double matthews(const void *context, const int32_t *weights)
{
    return of_counts(context, weights, fm__matthews);
}

static fm_status classify(struct measuring *m)
{
    size_t n = (size_t)m->args->n, n_counts = (size_t)m->args->n_classes * (size_t)m->args->n_classes;
    m->gold = fm__calloc(n + 1, sizeof *m->gold);
    m->predicted = fm__calloc(n + 1, sizeof *m->predicted);
    m->counts = fm__calloc(n_counts + 1, sizeof *m->counts);
    m->out->confusion = fm__calloc(n_counts + 1, sizeof *m->counts);
    if (!m->gold || !m->predicted || !m->counts || !m->out->confusion)
        return fm__fail_nomem(m->err, "confusion matrix", n_counts * sizeof *m->counts);
    for (size_t i = 0; i < n; i++) {
        m->gold[i] = m->args->outcomes[i].gold;
        m->predicted[i] = m->args->outcomes[i].predicted;
    }
    struct fm__labels labels = {m->gold, m->predicted, m->args->n, m->args->n_classes};
    m->out->n_classes = m->args->n_classes;
    fm__confusion(&labels, NULL, m->out->confusion);
    add_share(m, "accuracy", count_correct(m));
    FM_TRY(add_bootstrap(m, "macro_f1", macro_f1, m));
    return add_bootstrap(m, "matthews", matthews, m);
}

static fm_status get_columns(struct measuring *m)
{
    size_t n = (size_t)m->args->n + 1;
    m->x = fm__calloc(n, sizeof *m->x);
    m->y = fm__calloc(n, sizeof *m->y);
    return m->x && m->y ? FM_OK : fm__fail_nomem(m->err, "columns", n * sizeof *m->x);
}

static fm_status choice(struct measuring *m)
{
    int64_t by_length = 0;
    for (int64_t i = 0; i < m->args->n; i++) by_length += m->args->outcomes[i].by_length == m->args->outcomes[i].gold;
    add_share(m, "accuracy", count_correct(m));
    add_share(m, "accuracy_norm", by_length);
    return FM_OK;
}

static fm_status last_words(struct measuring *m)
{
    FM_TRY(get_columns(m));
    for (int64_t i = 0; i < m->args->n; i++) m->x[i] = -m->args->outcomes[i].log_p;
    struct fm__ratio ratio = {.above = m->x, .n = m->args->n, .exponential = 1};
    add_share(m, "accuracy", count_correct(m));
    return add_bootstrap(m, "perplexity", fm__ratio, &ratio);
}

static fm_status passages(struct measuring *m)
{
    FM_TRY(get_columns(m));
    for (int64_t i = 0; i < m->args->n; i++) {
        m->x[i] = -m->args->outcomes[i].log_p;
        m->y[i] = (double)m->args->outcomes[i].n_tokens;
    }
    struct fm__ratio ratio = {.above = m->x, .below = m->y, .n = m->args->n, .exponential = 1};
    FM_TRY(add_bootstrap(m, "perplexity", fm__ratio, &ratio));
    for (int64_t i = 0; i < m->args->n; i++) {
        m->x[i] /= log(2);
        m->y[i] = (double)m->args->outcomes[i].n_bytes;
    }
    ratio.exponential = 0;
    return add_bootstrap(m, "bits_per_byte", fm__ratio, &ratio);
}

static double spearman(const void *pairs, const int32_t *weights)
{
    return fm__spearman(pairs, weights);
}

static double pearson(const void *pairs, const int32_t *weights)
{
    return fm__pearson(pairs, weights);
}

static double rmse(const void *pairs, const int32_t *weights)
{
    return sqrt(fm__mean_square_error(pairs, weights));
}

static fm_status numbers(struct measuring *m)
{
    FM_TRY(get_columns(m));
    for (int64_t i = 0; i < m->args->n; i++) {
        m->x[i] = m->args->outcomes[i].value;
        m->y[i] = m->args->outcomes[i].gold_value;
    }
    struct fm__pairs pairs = {.x = m->x, .y = m->y, .n = m->args->n};
    FM_TRY(fm__pairs_sort(&pairs, m->err));
    fm_status status = add_bootstrap(m, "spearman", spearman, &pairs);
    if (status == FM_OK) status = add_bootstrap(m, "pearson", pearson, &pairs);
    if (status == FM_OK) status = add_bootstrap(m, "rmse", rmse, &pairs);
    fm__pairs_deinit(&pairs);
    return status;
}

static fm_status measure(struct measuring *m)
{
    switch (m->args->task) {
    case FM__EVAL_CLASSIFY:
        return classify(m);
    case FM__EVAL_CHOICE:
        return choice(m);
    case FM__EVAL_LAMBADA:
        return last_words(m);
    case FM__EVAL_PERPLEXITY:
        return passages(m);
    case FM__EVAL_REGRESS:
        return numbers(m);
    default:
        add_share(m, "exact_match", count_correct(m));
        return FM_OK;
    }
}

fm_status fm__measure_all(const struct fm__measure_args *args, struct fm__measures *out, struct fm_error *err)
{
    *out = (struct fm__measures){0};
    struct measuring m = {.args = args, .out = out, .err = err};
    fm_status status = measure(&m);
    fm__free(m.gold);
    fm__free(m.predicted);
    fm__free(m.x);
    fm__free(m.y);
    fm__free(m.counts);
    if (status != FM_OK) fm__measures_deinit(out);
    return status;
}

void fm__measures_deinit(struct fm__measures *measures)
{
    fm__free(measures->confusion);
    *measures = (struct fm__measures){0};
}

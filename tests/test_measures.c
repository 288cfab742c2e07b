// SPDX-License-Identifier: MIT
// Scores of predictions and their intervals: against scikit-learn's, SciPy's and NumPy's numbers for the same made-up
// predictions (scripts/make_measure_goldens.py prints the constants), and the cases where a formula divides by nothing.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "eval/interval.h"
#include "eval/match.h"
#include "eval/metrics.h"
#include "eval/outcomes.h"

enum { N = 200, CLASSES = 5 };

// clang-format off
#define GOLDEN_ACCURACY 0.745
#define GOLDEN_MACRO_F1 0.75286430000940219
#define GOLDEN_MATTHEWS 0.67343598246562508
#define GOLDEN_PEARSON 0.80905928536644567
#define GOLDEN_SPEARMAN 0.81074772457770394
#define GOLDEN_MSE 15.061249999999999
#define GOLDEN_BOOTSTRAP_LOW 7.44665
#define GOLDEN_BOOTSTRAP_HIGH 8.2378
#define GOLDEN_BINOMIAL \
    {7, 10, 0.95, {0.396778147461145, 0.892208732593699}, {0.347547149939992, 0.933260488822266}}, \
    {0, 10, 0.95, {0, 0.277532799862889}, {0, 0.308497107818763}}, \
    {10, 10, 0.99, {0.601145906695092, 1}, {0.588704018652475, 1}}, \
    {912, 1000, 0.95, {0.892827748950223, 0.928019002057679}, {0.892705234964991, 0.928824865714717}}, \
    {1, 50, 0.9, {0.00447456410650985, 0.0848052942483095}, {0.00102533986723303, 0.0913981307196974}}, \
    {4000, 10000, 0.95, {0.390438343404428, 0.409638456269708}, {0.390378465583031, 0.409679811110339}}
// clang-format on

static struct fm_error err;
static int32_t gold[N], predicted[N];
static double x[N], y[N];

// The same in make_measure_goldens.py. Class 4 never occurs; y has ties.
static void make(void)
{
    for (int i = 0; i < N; i++) {
        gold[i] = (i * 7 + i / 3) % 4;
        predicted[i] = i % 3 ? gold[i] : (i * 5 + 1) % 4;
        x[i] = (double)((i * 37) % 101) / 10.0 + (double)(i % 7);
        y[i] = (double)((i * 37) % 101 / 8) - (double)(i % 5) * 0.5;
    }
}

#define near(got, want) assert_true(fabs((got) - (want)) <= 1e-12 * fmax(1, fabs(want)))

static void counts_agree(void **unused)
{
    (void)unused;
    int64_t counts[CLASSES * CLASSES] = {0};
    struct fm__labels labels = {gold, predicted, N, CLASSES};
    fm__confusion(&labels, NULL, counts);
    near(fm__accuracy(counts, CLASSES), GOLDEN_ACCURACY);
    near(fm__macro_f1(counts, CLASSES), GOLDEN_MACRO_F1);
    near(fm__matthews(counts, CLASSES), GOLDEN_MATTHEWS);
    // two classes: the textbook's formula
    int64_t two[4] = {50, 10, 5, 35};
    near(fm__matthews(two, 2), (50.0 * 35 - 10.0 * 5) / sqrt(60.0 * 55 * 45 * 40));
    // weights are repetitions
    int32_t weights[N];
    int64_t weighted[CLASSES * CLASSES] = {0};
    for (int i = 0; i < N; i++) weights[i] = 3;
    fm__confusion(&labels, weights, weighted);
    for (int i = 0; i < CLASSES * CLASSES; i++) assert_int_equal(weighted[i], 3 * counts[i]);
}

static void nothing_to_divide_by(void **unused)
{
    (void)unused;
    int64_t none[4] = {0}, one_class[4] = {0, 0, 3, 7};
    assert_true(fm__accuracy(none, 2) == 0 && fm__macro_f1(none, 2) == 0 && fm__matthews(none, 2) == 0);
    assert_true(fm__matthews(one_class, 2) == 0);
    near(fm__macro_f1(one_class, 2), (0 + 14.0 / 17) / 2); // class 0 occurs as a prediction
    double flat[3] = {2, 2, 2}, rising[3] = {1, 2, 3};
    struct fm__pairs pairs = {.x = flat, .y = rising, .n = 3};
    assert_ok(fm__pairs_sort(&pairs, &err), err);
    assert_true(fm__pearson(&pairs, NULL) == 0 && fm__spearman(&pairs, NULL) == 0);
    fm__pairs_deinit(&pairs);
    pairs = (struct fm__pairs){.n = 0};
    assert_true(fm__pearson(&pairs, NULL) == 0 && fm__mean_square_error(&pairs, NULL) == 0);
    struct fm__interval all = fm__wilson(0, 0, 0.95), exact = fm__clopper_pearson(0, 0, 0.95);
    assert_true(all.low == 0 && all.high == 1 && exact.low == 0 && exact.high == 1);
}

static void correlations_agree(void **unused)
{
    (void)unused;
    struct fm__pairs pairs = {.x = x, .y = y, .n = N};
    assert_ok(fm__pairs_sort(&pairs, &err), err);
    near(fm__pearson(&pairs, NULL), GOLDEN_PEARSON);
    near(fm__spearman(&pairs, NULL), GOLDEN_SPEARMAN);
    near(fm__mean_square_error(&pairs, NULL), GOLDEN_MSE);
    // a weight is a repetition: the same as the longer list
    static double xx[3 * N], yy[3 * N];
    int32_t weights[N];
    int64_t n = 0;
    for (int i = 0; i < N; i++) {
        weights[i] = i % 4;
        for (int k = 0; k < weights[i]; k++, n++) xx[n] = x[i], yy[n] = y[i];
    }
    struct fm__pairs longer = {.x = xx, .y = yy, .n = n};
    assert_ok(fm__pairs_sort(&longer, &err), err);
    near(fm__spearman(&pairs, weights), fm__spearman(&longer, NULL));
    near(fm__pearson(&pairs, weights), fm__pearson(&longer, NULL));
    fm__pairs_deinit(&longer);
    fm__pairs_deinit(&pairs);
}

static void binomial_intervals_agree(void **unused)
{
    (void)unused;
    static const struct {
        int64_t hits, n;
        double confidence, wilson[2], exact[2];
    } cases[] = {GOLDEN_BINOMIAL};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm__interval wilson = fm__wilson(cases[i].hits, cases[i].n, cases[i].confidence);
        struct fm__interval exact = fm__clopper_pearson(cases[i].hits, cases[i].n, cases[i].confidence);
        // SciPy's own quantiles are good to some 1e-10
        assert_true(fabs(wilson.low - cases[i].wilson[0]) < 1e-9 && fabs(wilson.high - cases[i].wilson[1]) < 1e-9);
        assert_true(fabs(exact.low - cases[i].exact[0]) < 1e-9 && fabs(exact.high - cases[i].exact[1]) < 1e-9);
    }
}

static void bootstrap_is_reproducible(void **unused)
{
    (void)unused;
    struct fm__ratio ratio = {.above = x, .n = N};
    struct fm__bootstrap_args args = {.n = N, .seed = 7, .confidence = 0.95, .statistic = fm__ratio, .context = &ratio};
    struct fm__interval a, b, c, wide;
    assert_ok(fm__bootstrap(&args, &a, &err), err);
    assert_ok(fm__bootstrap(&args, &b, &err), err);
    assert_memory_equal(&a, &b, sizeof a);
    args.seed = 8;
    assert_ok(fm__bootstrap(&args, &c, &err), err);
    assert_true(a.low != c.low || a.high != c.high);
    args.confidence = 0.99;
    assert_ok(fm__bootstrap(&args, &wide, &err), err);
    assert_true(wide.low < c.low && wide.high > c.high);
    // the mean's interval is about mean ± 1.96 s / sqrt(n); 1000 resamples know it to a few per cent
    double mean = fm__ratio(&ratio, NULL), square = 0;
    for (int i = 0; i < N; i++) square += (x[i] - mean) * (x[i] - mean);
    double half = 1.959964 * sqrt(square / N / N);
    assert_true(fabs(c.low - (mean - half)) < 0.2 * half && fabs(c.high - (mean + half)) < 0.2 * half);
    // the golden is NumPy's percentile of the same resamples
    args = (struct fm__bootstrap_args){
        .n = N, .n_resamples = 50, .seed = 3, .confidence = 0.9, .statistic = fm__ratio, .context = &ratio};
    assert_ok(fm__bootstrap(&args, &a, &err), err);
    near(a.low, GOLDEN_BOOTSTRAP_LOW);
    near(a.high, GOLDEN_BOOTSTRAP_HIGH);
    args.n = 0;
    assert_ok(fm__bootstrap(&args, &a, &err), err);
    assert_true(a.low == 0 && a.high == 0);
}

static void picks(void **unused)
{
    (void)unused;
    double scores[3] = {-4, -2, -3.9}, lengths[3] = {10, 2, 13};
    struct fm__outcome o = {.gold = 2, .scores = scores, .n_scores = 3};
    fm__outcome_pick(&o, lengths);
    assert_true(o.predicted == 1 && o.by_length == 2 && !o.correct);
    near(o.confidence, 1 / (1 + exp(-2) + exp(-1.9)));
    scores[2] = -2; // equal ones: the first
    o.gold = 1;
    fm__outcome_pick(&o, NULL);
    assert_true(o.predicted == 1 && o.by_length == 1 && o.correct);
    char text[] = "h\xc3\xa9llo";
    assert_int_equal(fm__count_characters(&(struct fm__text){text, 6}), 5);
}

static const struct fm__measure *find(const struct fm__measures *measures, const char *name)
{
    for (int i = 0; i < measures->n; i++)
        if (strcmp(measures->items[i].name, name) == 0) return &measures->items[i];
    fail_msg("no measure %s", name);
    return NULL;
}

static void measures_of_tasks(void **unused)
{
    (void)unused;
    static struct fm__outcome outcomes[N];
    double nll = 0, bytes = 0, tokens = 0;
    for (int i = 0; i < N; i++) {
        outcomes[i] = (struct fm__outcome){.gold = gold[i],
                                           .predicted = predicted[i],
                                           .by_length = gold[i],
                                           .correct = gold[i] == predicted[i],
                                           .log_p = -x[i],
                                           .n_tokens = 1 + i % 9,
                                           .n_bytes = 5 + i % 11,
                                           .value = x[i],
                                           .gold_value = y[i]};
        nll += x[i];
        tokens += 1 + i % 9;
        bytes += 5 + i % 11;
    }
    struct fm__measure_args args = {
        .task = FM__EVAL_CLASSIFY, .outcomes = outcomes, .n = N, .n_classes = CLASSES, .n_resamples = 200};
    struct fm__measures m;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    near(find(&m, "accuracy")->value, GOLDEN_ACCURACY);
    near(find(&m, "macro_f1")->value, GOLDEN_MACRO_F1);
    near(find(&m, "matthews")->value, GOLDEN_MATTHEWS);
    assert_string_equal(find(&m, "accuracy")->method, "wilson");
    assert_true(find(&m, "matthews")->interval.low < GOLDEN_MATTHEWS);
    assert_true(find(&m, "matthews")->interval.high > GOLDEN_MATTHEWS);
    int64_t sum = 0;
    for (int i = 0; i < CLASSES * CLASSES; i++) sum += m.confusion[i];
    assert_int_equal(sum, N);
    fm__measures_deinit(&m);

    args.task = FM__EVAL_CHOICE;
    args.exact = true;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    assert_true(find(&m, "accuracy_norm")->value == 1 && find(&m, "accuracy_norm")->interval.high == 1);
    assert_string_equal(find(&m, "accuracy")->method, "clopper-pearson");
    fm__measures_deinit(&m);

    args.task = FM__EVAL_LAMBADA;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    near(find(&m, "perplexity")->value, exp(nll / N));
    fm__measures_deinit(&m);

    args.task = FM__EVAL_PERPLEXITY;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    near(find(&m, "perplexity")->value, exp(nll / tokens));
    near(find(&m, "bits_per_byte")->value, nll / log(2) / bytes);
    fm__measures_deinit(&m);

    args.task = FM__EVAL_REGRESS;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    near(find(&m, "spearman")->value, GOLDEN_SPEARMAN);
    near(find(&m, "pearson")->value, GOLDEN_PEARSON);
    near(find(&m, "rmse")->value, sqrt(GOLDEN_MSE));
    fm__measures_deinit(&m);

    args.task = FM__EVAL_GENERATE;
    assert_ok(fm__measure_all(&args, &m, &err), err);
    near(find(&m, "exact_match")->value, GOLDEN_ACCURACY);
    fm__measures_deinit(&m);
}

static void no_memory(void **unused)
{
    (void)unused;
    static struct fm__outcome outcomes[N];
    static const enum fm__eval_task tasks[] = {FM__EVAL_CLASSIFY, FM__EVAL_PERPLEXITY, FM__EVAL_REGRESS};
    for (size_t t = 0; t < sizeof tasks / sizeof *tasks; t++) {
        struct fm__measure_args args = {
            .task = tasks[t], .outcomes = outcomes, .n = N, .n_classes = CLASSES, .n_resamples = 2};
        for (int64_t n = 0;; n++) {
            struct fm__measures m;
            fm__alloc_fail_after(n, true);
            fm_status status = fm__measure_all(&args, &m, &err);
            fm__alloc_fail_after(-1, false);
            fm__measures_deinit(&m);
            if (status == FM_OK) break;
            assert_int_equal(status, FM_E_NOMEM);
        }
    }
}

static bool match(enum fm__match how, bool ignore_case, const char *answer, const char *want)
{
    struct fm__text a = {(char *)(uintptr_t)answer, strlen(answer)}, g = {(char *)(uintptr_t)want, strlen(want)};
    return fm__match(how, ignore_case, &a, &g);
}

static void answers_match(void **unused)
{
    (void)unused;
    assert_true(match(FM__MATCH_EXACT, false, " Paris\n", "Paris"));
    assert_false(match(FM__MATCH_EXACT, false, "paris", "Paris"));
    assert_true(match(FM__MATCH_EXACT, true, "paris", "Paris"));
    assert_false(match(FM__MATCH_EXACT, false, "Paris.", "Paris"));
    assert_true(match(FM__MATCH_PREFIX, false, "Paris, of course", "Paris"));
    assert_false(match(FM__MATCH_PREFIX, false, "It is Paris", "Paris"));
    assert_true(match(FM__MATCH_CONTAINS, false, "It is Paris.", "Paris"));
    assert_true(match(FM__MATCH_CONTAINS, false, "It is Paris", "Paris"));
    assert_false(match(FM__MATCH_CONTAINS, false, "It is Pari", "Paris"));
    static const char *const same[][2] = {{"so 1,250.50 dollars", "1250.5"},
                                          {"x = -5.0", "-5"},
                                          {"7 of 007", "7"},
                                          {"-0", "0"},
                                          {"3, then 4,", "#### 4"}};
    static const char *const other[][2] = {{"12", "13"}, {"a-5", "-5"}, {"none", "none"}, {"1.5", "15"}, {"", "0"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(match(FM__MATCH_NUMBER, false, same[i][0], same[i][1]));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(match(FM__MATCH_NUMBER, false, other[i][0], other[i][1]));
}

int main(void)
{
    make();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_agree),
        cmocka_unit_test(nothing_to_divide_by),
        cmocka_unit_test(correlations_agree),
        cmocka_unit_test(binomial_intervals_agree),
        cmocka_unit_test(bootstrap_is_reproducible),
        cmocka_unit_test(picks),
        cmocka_unit_test(measures_of_tasks),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(answers_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

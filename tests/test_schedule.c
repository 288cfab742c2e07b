// SPDX-License-Identifier: MIT
// train/schedule: rates against closed forms, step by step; the ends; what is refused.
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "train/schedule.h"

// The largest rounding of a few operations on rates of order one.
static void expect(const struct fm__schedule *s, int64_t step, double want)
{
    const double got = fm__schedule_rate(s, step);
    if (fabs(got - want) > 1e-15 * s->max * 8) fail_msg("step %lld: %.17g, want %.17g", (long long)step, got, want);
}

static void rates_are_the_closed_forms(void **state)
{
    (void)state;
    const double pi = acos(-1.0);
    struct fm__schedule s = {.max = 2e-3, .min = 1e-4, .n_steps = 101, .n_warmup = 10, .n_decay = 20};
    for (s.kind = FM__SCHEDULE_CONSTANT; s.kind <= FM__SCHEDULE_WSD; s.kind++) {
        for (int64_t step = 0; step < 10; step++) expect(&s, step, 2e-3 * (double)(step + 1) / 10);
        for (int64_t step = 10; step < 130; step++) {
            const double x = step >= 100 ? 1 : (double)(step - 10) / 90, y = step < 80 ? 0 : (double)(step - 80) / 20;
            const double want[] = {2e-3, 2e-3 - 1.9e-3 * x, 1e-4 + 0.95e-3 * (1 + cos(pi * x)),
                                   2e-3 - 1.9e-3 * (y > 1 ? 1 : y)};
            expect(&s, step, want[s.kind]);
        }
    }
}

static void ends(void **state)
{
    (void)state;
    struct fm__schedule s = {.max = 1, .min = 0.1, .n_steps = 1};
    s.kind = FM__SCHEDULE_COSINE; // a run of one step: its only step is the last
    expect(&s, 0, 0.1);
    s.n_warmup = 1;
    expect(&s, 0, 1);
    s.kind = FM__SCHEDULE_WSD; // no decay asked for
    s.n_steps = 9;
    expect(&s, 8, 1);
    s.n_decay = 8; // all of it: falls from the first step on
    expect(&s, 0, 1);
    expect(&s, 4, 1 - 0.9 / 2);
    expect(&s, 8, 0.1);
}

static void names_and_refusals(void **state)
{
    (void)state;
    struct fm_error err;
    enum fm__schedule_kind kind;
    for (int i = FM__SCHEDULE_CONSTANT; i <= FM__SCHEDULE_WSD; i++) {
        assert_ok(fm__schedule_parse(fm__schedule_name((enum fm__schedule_kind)i), &kind, &err), err);
        assert_int_equal(kind, i);
    }
    assert_int_equal(fm__schedule_parse("cos", &kind, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "\"cos\""));
    const struct fm__schedule good = {.kind = FM__SCHEDULE_WSD, .max = 1, .n_steps = 10, .n_warmup = 3, .n_decay = 7};
    assert_ok(fm__schedule_check(&good, &err), err);
    struct fm__schedule bad[8];
    for (int i = 0; i < 8; i++) bad[i] = good;
    bad[0].max = -1, bad[1].max = NAN, bad[2].max = INFINITY, bad[3].min = 2;
    bad[4].n_steps = 0, bad[5].n_warmup = 11, bad[6].n_decay = 8, bad[7].n_warmup = -1;
    for (int i = 0; i < 8; i++) assert_int_equal(fm__schedule_check(&bad[i], &err), FM_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_the_closed_forms),
        cmocka_unit_test(ends),
        cmocka_unit_test(names_and_refusals),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}

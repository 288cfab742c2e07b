// SPDX-License-Identifier: MIT
// ops/functions.h against the true functions in double: every bound is derived from the roundings of the formula.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>

#include "ops/elementwise.h"
#include "ops/functions.h"

// Walks f32 values from -limit to limit, dense around 0 (down to 2^-40) and even further out.
static float step_from(float x)
{
    const float up = fabsf(x) * 0x1p-10f;
    return x + (up > 0x1p-40f ? up : 0x1p-40f);
}

static double true_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

// exp: the polynomial's 1.1e-7 and two roundings of the result (2^-24 each), relative. The argument's second part
// leaves an error of 2^-24 * 2^-24 |x|, nothing.
static void exp_is_near(void **state)
{
    (void)state;
    const double bound = 1.1e-7 + 2 * 0x1p-24;
    for (float x = -87.0f; x < 0.0f; x = step_from(x)) {
        const double want = exp(x), got = fm__fn_exp(x);
        if (fabs(got - want) > bound * want) fail_msg("exp(%a) is %a, want %a", x, got, want);
    }
    assert_true(fm__fn_exp(0.0f) == 1.0f);
    assert_true(fm__fn_exp(-88.0f) == 0.0f);
    assert_true(fm__fn_exp(-INFINITY) == 0.0f);
}

static void sigmoid_is_near(void **state)
{
    (void)state;
    const double bound = 1.1e-7 + 5 * 0x1p-24; // exp, 1 + e, the quotient
    for (float x = -87.0f; x < 87.0f; x = step_from(x)) {
        const double want = true_sigmoid(x), got = fm__fn_sigmoid(x);
        if (fabs(got - want) > bound * want) fail_msg("sigmoid(%a) is %a, want %a", x, got, want);
    }
}

// How far the polynomial, in double, is from 2^f - 1, relative: on [-1/2, 1/2].
static double polynomial_error(void)
{
    double worst = 0;
    for (double f = -0.5; f <= 0.5; f += 0x1p-12) {
        if (f == 0) continue;
        double p = FM__EXP2_C5;
        p = p * f + FM__EXP2_C4, p = p * f + FM__EXP2_C3, p = p * f + FM__EXP2_C2, p = p * f + FM__EXP2_C1;
        const double want = expm1(f * log(2)), off = fabs(p * f - want) / fabs(want);
        worst = off > worst ? off : worst;
    }
    return worst;
}

// Relative, also near 0, where 1 - exp(-2x) would lose all digits: m has the polynomial's error and four roundings, and
// tanh = -m / (2 + m) at most twice m's relative error and two roundings.
static void tanh_is_near(void **state)
{
    (void)state;
    const double m_error = polynomial_error() + 4 * 0x1p-24;
    assert_true(m_error < 1e-6);
    for (float x = -20.0f; x < 20.0f; x = step_from(x)) {
        const double want = tanh(x), got = fm__fn_tanh(x), m = expm1(-2 * fabs((double)x));
        const double bound = m_error * 2 / (2 + m) + 2 * 0x1p-24;
        if (fabs(got - want) > bound * fabs(want)) fail_msg("tanh(%a) is %a, want %a", x, got, want);
    }
    assert_true(isnan(fm__fn_tanh(NAN)));
    assert_true(fm__fn_tanh(INFINITY) == 1.0f);
    assert_true(fm__fn_tanh(-INFINITY) == -1.0f);
    assert_true(signbit(fm__fn_tanh(-0.0f)));
}

// Absolute: 1 - tail rounds once; the tail is at most 1/2 with the errors of exp (whose argument z^2/2 is rounded:
// 2^-24 z^2/2 of it, at most 2^-24 * 0.4 where it matters), of P (8 steps, the largest coefficient 0.35), t and the
// products.
static void normal_is_near(void **state)
{
    (void)state;
    const double bound = 0x1p-24 + 0.5 * (1.1e-7 + 1.4e-8 + 12 * 0x1p-24);
    for (float x = -12.0f; x < 12.0f; x = step_from(x)) {
        const double want = 0.5 * erfc(-x / sqrt(2)), got = fm__fn_normal(x);
        if (fabs(got - want) > bound) fail_msg("normal(%a) is %a, want %a", x, got, want);
    }
}

static double true_act(int act, double x)
{
    const double c = sqrt(2 / 3.14159265358979323846);
    switch (act) {
    case FM__ACT_SILU:
        return x * true_sigmoid(x);
    case FM__ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(c * (x + 0.044715 * x * x * x)));
    case FM__ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2));
    case FM__ACT_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

// Values within 5e-7 (|x| + 1): sigmoid's relative error, and 2u's three roundings times u e^-u <= 0.4. Derivatives are
// held against central differences of the true function: h^2 / 6 |f'''| < 2e-7 at h = 1e-3; 1 - s is rounded (2^-25
// near 1, exactly 0 from x = 5 on for GELU, 17 for SiLU) and multiplied by x and 2u' < 7 |x|: 1.1e-6; then the sum's
// roundings.
static void activations_and_derivatives_are_near(void **state)
{
    (void)state;
    for (int act = FM__ACT_NONE; act <= FM__ACT_RELU; act++)
        for (float x = -30.0f; x < 30.0f; x += 0.0137f) {
            const double want = true_act(act, x), got = fm__act(act, x), h = 1e-3;
            if (fabs(got - want) > 5e-7 * (fabs(x) + 1))
                fail_msg("%s(%a) is %a, want %a", fm__act_name(act), x, got, want);
            if (act == FM__ACT_RELU && fabsf(x) < 0.01f) continue;
            const double slope = (true_act(act, x + h) - true_act(act, x - h)) / (2 * h);
            if (fabs(fm__act_derivative(act, x) - slope) > 2.5e-6)
                fail_msg("%s'(%a) is %a, want %a", fm__act_name(act), x, fm__act_derivative(act, x), slope);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_near),
        cmocka_unit_test(sigmoid_is_near),
        cmocka_unit_test(tanh_is_near),
        cmocka_unit_test(normal_is_near),
        cmocka_unit_test(activations_and_derivatives_are_near),
    };
    return cmocka_run_group_tests_name("functions", tests, NULL, NULL);
}

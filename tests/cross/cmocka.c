// SPDX-License-Identifier: MIT
// The functions of cmocka that tests of kernels use, for machines that only a cross compiler and an emulator stand for:
// no distribution installs cmocka for those without a second architecture of packages. The header, and so the meaning
// of the macros, is cmocka's own; a function that is missing here is an error of the linker.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum outcome { PASSED, FAILED, SKIPPED };
static jmp_buf end_of_test;

void print_error(const char *const format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
}

void _fail(const char *const file, const int line)
{
    print_error("%s:%d: error: failure\n", file, line);
    longjmp(end_of_test, FAILED);
}

void _skip(const char *const file, const int line)
{
    (void)file, (void)line;
    longjmp(end_of_test, SKIPPED);
}

void _assert_true(const LargestIntegralType result, const char *const expression, const char *const file,
                  const int line)
{
    if (result) return;
    print_error("%s\n", expression);
    _fail(file, line);
}

void _assert_int_equal(const LargestIntegralType a, const LargestIntegralType b, const char *const file, const int line)
{
    if (a == b) return;
    print_error("%#llx != %#llx\n", (unsigned long long)a, (unsigned long long)b);
    _fail(file, line);
}

void _assert_int_not_equal(const LargestIntegralType a, const LargestIntegralType b, const char *const file,
                           const int line)
{
    if (a != b) return;
    print_error("%#llx == %#llx\n", (unsigned long long)a, (unsigned long long)b);
    _fail(file, line);
}

void _assert_string_equal(const char *const a, const char *const b, const char *const file, const int line)
{
    if (!strcmp(a, b)) return;
    print_error("\"%s\" != \"%s\"\n", a, b);
    _fail(file, line);
}

void _assert_memory_equal(const void *const a, const void *const b, const size_t size, const char *const file,
                          const int line)
{
    const unsigned char *x = a, *y = b;
    if (!memcmp(a, b, size)) return;
    size_t at = 0;
    while (x[at] == y[at]) at++;
    print_error("byte %zu of %zu: %#x != %#x\n", at, size, x[at], y[at]);
    _fail(file, line);
}

static enum outcome run(const struct CMUnitTest *test, void *group_state)
{
    const int jumped = setjmp(end_of_test);
    if (jumped) return (enum outcome)jumped;
    void *state = test->initial_state ? test->initial_state : group_state;
    if (test->setup_func && test->setup_func(&state)) return FAILED;
    test->test_func(&state);
    if (test->teardown_func && test->teardown_func(&state)) return FAILED;
    return PASSED;
}

int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *const tests, const size_t n,
                            CMFixtureFunction setup, CMFixtureFunction teardown)
{
    static const char *const words[] = {"OK", "FAILED", "SKIPPED"};
    void *state = NULL;
    int n_failed = 0;
    if (setup && (setjmp(end_of_test) || setup(&state))) {
        print_error("%s: setup of the group failed\n", name);
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        const enum outcome outcome = run(&tests[i], state);
        n_failed += outcome == FAILED;
        printf("[ %s ] %s\n", words[outcome], tests[i].name);
        fflush(stdout);
    }
    if (teardown && (setjmp(end_of_test) || teardown(&state))) n_failed++;
    return n_failed;
}

// SPDX-License-Identifier: MIT
// base/cpuinfo: the ladder of levels, and what FATHOM_CPU may say.
// test-labels: kernels
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"

static void forced_levels(void **state)
{
    (void)state;
    struct fm_error err = {0};
    int best, level;
    unsetenv("FATHOM_CPU");
    assert_ok(fm__cpu_detect(&best, &err), err);
    printf("level=%s\n", fm__cpu_level_name(best));
    assert_true(fm__cpu_has(best));
    assert_true(fm__cpu_has(FM__CPU_REF));
    for (int i = 0; i < FM__CPU_LEVELS; i++) {
        setenv("FATHOM_CPU", fm__cpu_level_name(i), 1);
        const fm_status status = fm__cpu_detect(&level, &err);
        assert_int_equal(status, fm__cpu_has(i) ? FM_OK : FM_E_UNSUPPORTED);
        assert_int_equal(level, status ? FM__CPU_REF : i);
        if (status) assert_non_null(strstr(err.text, fm__cpu_level_name(i)));
    }
    // never both architectures
    assert_false(fm__cpu_has(FM__CPU_AVX2) && fm__cpu_has(FM__CPU_NEON));
    setenv("FATHOM_CPU", "avx", 1);
    assert_int_equal(fm__cpu_detect(&level, &err), FM_E_ARG);
    setenv("FATHOM_CPU", "", 1);
    assert_ok(fm__cpu_detect(&level, &err), err);
    assert_int_equal(level, best);
    assert_null(fm__cpu_level_name(-1));
    assert_null(fm__cpu_level_name(FM__CPU_LEVELS));
    assert_false(fm__cpu_has(FM__CPU_LEVELS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forced_levels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

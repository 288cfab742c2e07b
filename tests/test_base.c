// SPDX-License-Identifier: MIT
// base/: errors, allocation hooks, arena; tensor/: type table and view arithmetic.
#include "support/support.h"

#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"
#include "fathom/tensor.h"

static void error_names_thing(void **state)
{
    (void)state;
    struct fm_error err = {0};
    assert_int_equal(fm__fail(&err, FM_E_SHAPE, "%s: rank %d, want 2", "x", 3), FM_E_SHAPE);
    assert_string_equal(err.text, "x: rank 3, want 2");
    assert_non_null(strstr(err.where, "test_base.c:"));
    fm__error_prefix(&err, FM_E_SHAPE, "file %d", 7);
    assert_string_equal(err.text, "file 7: x: rank 3, want 2");
    assert_string_equal(fm_status_text(FM_E_NOMEM), "out of memory");
    assert_int_equal(fm__fail(NULL, FM_E_IO, "nobody listens"), FM_E_IO);
}

static void allocation_fails_on_demand(void **state)
{
    (void)state;
    fm__alloc_fail_after(1, false);
    void *a = fm__malloc(1), *b = fm__malloc(1), *c = fm__malloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    fm__free(a), fm__free(c);
    fm__alloc_fail_after(0, true);
    assert_null(fm__calloc(1, 1));
    assert_null(fm__strdup("x"));
    fm__alloc_fail_after(-1, false);
}

static void align_up_never_shrinks(void **state)
{
    (void)state;
    assert_int_equal(fm__align_up(0, 64), 0);
    assert_int_equal(fm__align_up(1, 64), 64);
    assert_int_equal(fm__align_up(64, 64), 64);
    assert_int_equal(fm__align_up(65, 64), 128);
}

static void arena_aligns_and_zeroes(void **state)
{
    (void)state;
    struct fm__arena arena = {0};
    for (size_t n = 0; n < 5000; n += 37) {
        unsigned char *p = fm__arena_alloc(&arena, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    assert_null(fm__arena_alloc(&arena, SIZE_MAX));
    assert_string_equal(fm__arena_strndup(&arena, "hello", 4), "hell");
    fm__arena_deinit(&arena);
}

static void dtype_table_is_consistent(void **state)
{
    (void)state;
    for (int i = 0; i < FM_DTYPE_COUNT; i++) {
        const struct fm_dtype_info *info = fm_dtype_info((fm_dtype)i);
        assert_int_equal(fm_dtype_from_name(info->name), i);
        if (info->gguf_type >= 0) assert_int_equal(fm_dtype_from_gguf(info->gguf_type), i);
    }
    assert_int_equal(fm_dtype_row_bytes(FM_Q4_K, 512), 288);
    assert_int_equal(fm_dtype_row_bytes(FM_Q4_K, 511), 0);
    assert_int_equal(fm_dtype_row_bytes(FM_F64, INT64_MAX), 0);
}

static void strides_count_blocks(void **state)
{
    (void)state;
    struct fm_tensor t = {.dtype = FM_Q4_1, .rank = 3, .dims = {2, 3, 64}};
    fm_tensor_set_contiguous(&t);
    assert_int_equal(t.strides[2], 20);
    assert_int_equal(t.strides[1], 40);
    assert_int_equal(t.strides[0], 120);
    assert_int_equal(fm_tensor_bytes(&t), 240);
    assert_int_equal(fm_tensor_elements(&t), 384);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_names_thing),       cmocka_unit_test(allocation_fails_on_demand),
        cmocka_unit_test(arena_aligns_and_zeroes), cmocka_unit_test(dtype_table_is_consistent),
        cmocka_unit_test(strides_count_blocks),    cmocka_unit_test(align_up_never_shrinks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// ops/dropout: the mask is a function of seed, step, stream, row and column; how many elements it keeps; what it does.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/dropout.h"
#include "ops/op.h"

enum { ROWS = 64, X = 1000, N_KEPT = ROWS * X };

static void drop(const struct fm__attr_dropout *a, const uint32_t key[4], int64_t n_rows, const float *x, float *y)
{
    const union fm__attrs attrs = {.dropout = *a};
    struct fm__call call = {.n_in = 2, .n_out = 1, .attrs = &attrs, .rows = n_rows};
    call.in[0] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {n_rows, X}, .data = (void *)(uintptr_t)x};
    call.in[1] = (struct fm_tensor){.dtype = FM_I32, .rank = 1, .dims = {4}, .data = (void *)(uintptr_t)key};
    call.out[0] = call.in[0];
    call.out[0].data = y;
    fm__op(FM__OP_DROPOUT)->reference(&call);
}

static float ones[N_KEPT], y[N_KEPT], z[N_KEPT];

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < N_KEPT; i++) ones[i] = 1;
    return 0;
}

// The share that is kept, and how alike neighbours are: binomial, within 5 standard deviations.
static void keeps_its_share(void **state)
{
    (void)state;
    static const float shares[] = {0.05f, 0.1f, 0.5f, 0.9f};
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        const struct fm__attr_dropout a = {.p = shares[s], .stream = 2};
        const double p = shares[s], scale = 1 / (1 - p);
        int dropped = 0, pairs = 0, below = 0;
        drop(&a, (uint32_t[]){7, 8, 9, 10}, ROWS, ones, y);
        for (int i = 0; i < N_KEPT; i++) {
            assert_true(y[i] == 0 || y[i] == (float)scale);
            dropped += y[i] == 0;
            pairs += i % X && y[i] == 0 && y[i - 1] == 0;
            below += i >= X && y[i] == 0 && y[i - X] == 0;
        }
        assert_true(fabs(dropped - p * N_KEPT) < 5 * sqrt(p * (1 - p) * N_KEPT));
        assert_true(fabs(pairs - p * p * N_KEPT) < 5 * sqrt(p * p * N_KEPT) + p * p * ROWS);
        assert_true(fabs(below - p * p * N_KEPT) < 5 * sqrt(p * p * N_KEPT) + p * p * X);
    }
}

// A micro-batch's rows begin where the one before ended: one counter for all rows of a step.
static void rows_count_on(void **state)
{
    (void)state;
    const struct fm__attr_dropout a = {.p = 0.3f, .stream = 5};
    drop(&a, (uint32_t[]){1, 2, 3, 100}, ROWS, ones, y);
    drop(&a, (uint32_t[]){1, 2, 3, 120}, ROWS - 20, ones, z);
    assert_memory_equal(y + 20 * X, z, (ROWS - 20) * X * sizeof *y);
    drop(&a, (uint32_t[]){1, 2, 3, 100}, ROWS, ones, z); // again: the same
    assert_memory_equal(y, z, sizeof y);
}

// Whatever is another gives another mask: about half of the elements of p = 1/2 differ.
static void everything_counts(void **state)
{
    (void)state;
    static const struct {
        int stream;
        uint32_t key[4];
    } others[] = {{0, {1, 2, 3, 4}}, {9, {1, 2, 3, 4}}, {8, {0, 2, 3, 4}},
                  {8, {1, 0, 3, 4}}, {8, {1, 2, 0, 4}}, {8, {1, 2, 3, 5}}};
    drop(&(struct fm__attr_dropout){.p = 0.5f, .stream = 8}, (uint32_t[]){1, 2, 3, 4}, ROWS, ones, y);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int differ = 0;
        drop(&(struct fm__attr_dropout){.p = 0.5f, .stream = others[i].stream}, others[i].key, ROWS, ones, z);
        for (int k = 0; k < N_KEPT; k++) differ += y[k] != z[k];
        assert_true(abs(differ - N_KEPT / 2) < 5 * sqrt(N_KEPT / 4.0));
    }
}

static void zero_keeps_everything_and_bad_shares_are_refused(void **state)
{
    (void)state;
    static const float bad[] = {-0.1f, 1, NAN};
    drop(&(struct fm__attr_dropout){.p = 0}, (uint32_t[]){1, 2, 3, 4}, ROWS, ones, y);
    assert_memory_equal(y, ones, sizeof y);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm_error err;
        struct fm__graph *g = fm__graph_new();
        const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, 4});
        const fm__val key = fm__graph_leaf(g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
        fm__graph_add(g, FM__OP_DROPOUT, 2, (fm__val[]){x, key}, &(union fm__attrs){.dropout = {.p = bad[i]}});
        assert_int_equal(fm__graph_check(g, &err), FM_E_ARG);
        fm__graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_share),
        cmocka_unit_test(rows_count_on),
        cmocka_unit_test(everything_counts),
        cmocka_unit_test(zero_keeps_everything_and_bad_shares_are_refused),
    };
    return cmocka_run_group_tests_name("dropout", tests, setup, NULL);
}

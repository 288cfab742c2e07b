// SPDX-License-Identifier: MIT
// base/pool: every worker runs once a run, barriers order what was written before them, sleepers are woken, any thread
// may call. Run under the thread sanitizer too (preset tsan): the plain memory here is shared on purpose.
#include "support/support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"

enum { MOST = 5, N_RUNS = 400, N_BARRIERS = 30 };

struct shared {
    struct fm__pool *pool;
    int count;
    int ran[MOST];
    long cells[2][MOST];
    long wrong;
    int nap_of; // this worker comes late to the barriers; -1: none
};

static void count_me(void *context, int index, int count)
{
    struct shared *s = context;
    s->ran[index]++;
    if (index == 0) s->count = count;
}

static void every_worker_runs_once(void **state)
{
    (void)state;
    struct fm_error err;
    for (int n = 1; n <= MOST; n++) {
        struct shared s = {0};
        assert_ok(fm__pool_new(n, &s.pool, &err), err);
        assert_int_equal(fm__pool_size(s.pool), n);
        for (int run = 1; run <= N_RUNS; run++) {
            fm__pool_run(s.pool, count_me, &s);
            assert_int_equal(s.count, n);
            for (int i = 0; i < MOST; i++) assert_int_equal(s.ran[i], i < n ? run : 0);
        }
        fm__pool_free(s.pool);
    }
}

// Each writes its cell, all meet, each reads all cells; two sets in turn, so one barrier a round is enough.
static void meet_often(void *context, int index, int count)
{
    struct shared *s = context;
    for (long round = 1; round <= N_BARRIERS; round++) {
        long *cells = s->cells[round % 2];
        if (index == s->nap_of && round % 10 == 0) usleep(3000); // longer than others spin: they sleep
        cells[index] = round * 10 + index;
        fm__pool_barrier(s->pool);
        for (int i = 0; i < count; i++)
            if (cells[i] != round * 10 + i) __atomic_fetch_add(&s->wrong, 1, __ATOMIC_RELAXED);
    }
}

static void barriers_order_memory(void **state)
{
    (void)state;
    struct fm_error err;
    for (int n = 1; n <= MOST; n++)
        for (int nap = -1; nap < n; nap++) {
            struct shared s = {.nap_of = nap};
            assert_ok(fm__pool_new(n, &s.pool, &err), err);
            for (int run = 0; run < 3; run++) fm__pool_run(s.pool, meet_often, &s);
            assert_int_equal(s.wrong, 0);
            fm__pool_free(s.pool);
        }
}

// Between runs longer than workers spin: they are woken from sleep.
static void sleepers_wake(void **state)
{
    (void)state;
    struct fm_error err;
    struct shared s = {0};
    assert_ok(fm__pool_new(3, &s.pool, &err), err);
    for (int run = 1; run <= 10; run++) {
        usleep(20000);
        fm__pool_run(s.pool, count_me, &s);
        assert_int_equal(s.ran[2], run);
    }
    usleep(20000);
    fm__pool_free(s.pool); // and joins those that sleep
}

static void *run_from_here(void *context)
{
    struct shared *s = context;
    for (int i = 0; i < 50; i++) fm__pool_run(s->pool, count_me, s);
    return NULL;
}

static void the_caller_may_change(void **state)
{
    (void)state;
    struct fm_error err;
    struct shared s = {0};
    assert_ok(fm__pool_new(2, &s.pool, &err), err);
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_from_here, &s), 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(s.ran[0], 200);
    assert_int_equal(s.ran[1], 200);
    fm__pool_free(s.pool);
}

static void limits(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__pool *pool = (struct fm__pool *)&err;
    assert_int_equal(fm__pool_new(-1, &pool, &err), FM_E_ARG);
    assert_null(pool);
    assert_int_equal(fm__pool_new(1025, &pool, &err), FM_E_ARG);
    const int threads = fm__pool_default_threads(); // asked first: a pool pins its creator, and then there is one
    assert_true(threads >= 1);
    assert_ok(fm__pool_new(0, &pool, &err), err);
    assert_int_equal(fm__pool_size(pool), threads);
    fm__pool_free(pool);
    fm__pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_worker_runs_once),
                                       cmocka_unit_test(barriers_order_memory), cmocka_unit_test(sleepers_wake),
                                       cmocka_unit_test(the_caller_may_change), cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

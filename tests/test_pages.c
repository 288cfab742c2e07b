// SPDX-License-Identifier: MIT
// infer/pages: holders, publishing, generations; random histories against a plain model.
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "infer/pages.h"
#include "ops/kv_format.h"

static void fill(int32_t *tokens, int32_t what)
{
    for (int i = 0; i < FM__KV_BLOCK; i++) tokens[i] = what + i;
}

static void prefixes_are_exact(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__pages *p;
    int32_t one[FM__KV_BLOCK], two[FM__KV_BLOCK];
    fill(one, 1), fill(two, 2);
    assert_ok(fm__pages_new(3, &p, &err), err);
    int32_t a = fm__pages_take(p), b = fm__pages_take(p), c = fm__pages_take(p);
    assert_int_equal(fm__pages_take(p), FM__NO_PAGE);
    fm__pages_publish(p, a, FM__NO_PAGE, one);
    fm__pages_publish(p, b, a, two);
    fm__pages_publish(p, c, FM__NO_PAGE, one); // the same prefix again: the first stays
    assert_int_equal(fm__pages_find(p, FM__NO_PAGE, one), a);
    assert_int_equal(fm__pages_find(p, a, two), b);
    assert_int_equal(fm__pages_find(p, c, two), FM__NO_PAGE); // same tokens, another page before
    assert_int_equal(fm__pages_find(p, FM__NO_PAGE, two), FM__NO_PAGE);
    assert_false(fm__pages_make_writable(p, a)); // two holders
    fm__pages_unref(p, a);
    assert_true(fm__pages_make_writable(p, a));
    assert_int_equal(fm__pages_find(p, FM__NO_PAGE, one), FM__NO_PAGE);
    assert_int_equal(fm__pages_find(p, a, two), FM__NO_PAGE); // a holds something else now
    fm__pages_free(p);
}

static void unheld_pages_serve_until_wanted(void **state)
{
    (void)state;
    struct fm_error err;
    struct fm__pages *p;
    int32_t one[FM__KV_BLOCK];
    fill(one, 1);
    assert_ok(fm__pages_new(2, &p, &err), err);
    int32_t a = fm__pages_take(p);
    fm__pages_publish(p, a, FM__NO_PAGE, one);
    fm__pages_unref(p, a);
    assert_int_equal(fm__pages_available(p), 2);
    assert_int_equal(fm__pages_find(p, FM__NO_PAGE, one), a);
    assert_int_equal(fm__pages_held(p), 1);
    fm__pages_unref(p, a);
    int32_t b = fm__pages_take(p);
    assert_int_not_equal(b, a); // the page without a prefix to lose goes first
    assert_int_equal(fm__pages_take(p), a);
    assert_int_equal(fm__pages_find(p, FM__NO_PAGE, one), FM__NO_PAGE);
    fm__pages_unref(p, a);
    assert_int_equal(fm__pages_held(p), 1);
    assert_int_equal(fm__pages_held_most(p), 2);
    fm__pages_free(p);
}

// 20,000 random steps against counts kept plainly.
static void random_histories(void **state)
{
    (void)state;
    enum { N = 24 };
    struct fm_error err;
    struct fm__pages *p;
    int refs[N] = {0}, held = 0;
    int32_t tokens[FM__KV_BLOCK];
    srand(7);
    assert_ok(fm__pages_new(N, &p, &err), err);
    for (int step = 0; step < 20000; step++) {
        int32_t i = rand() % N, what = rand() % 8;
        fill(tokens, what * 1000);
        switch (rand() % 5) {
        case 0:
            i = fm__pages_take(p);
            assert_int_equal(i == FM__NO_PAGE, held == N);
            if (i == FM__NO_PAGE) break;
            assert_int_equal(refs[i], 0);
            refs[i] = 1, held++;
            break;
        case 1:
            if (refs[i] && !--refs[i])
                held--;
            else if (!refs[i])
                break;
            fm__pages_unref(p, i);
            break;
        case 2:
            if (refs[i]) fm__pages_publish(p, i, what % 2 ? FM__NO_PAGE : (i + 1) % N, tokens);
            break;
        case 3:
            i = fm__pages_find(p, what % 2 ? FM__NO_PAGE : (i + 1) % N, tokens);
            if (i == FM__NO_PAGE) break;
            if (refs[i]++ == 0) held++;
            break;
        default:
            if (refs[i]) assert_int_equal(fm__pages_make_writable(p, i), refs[i] == 1);
        }
        assert_int_equal(fm__pages_held(p), held);
        assert_int_equal(fm__pages_available(p), N - held);
    }
    fm__pages_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_exact),
        cmocka_unit_test(unheld_pages_serve_until_wanted),
        cmocka_unit_test(random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// Between tokens 10 and 200 nothing is allocated and nothing mapped. The program starts itself again with
// tests/preload/count_alloc.c preloaded; sanitizers bring their own allocator, under them it skips.
#include "support/support.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fathom/session.h"

static int64_t (*count)(void);

static int32_t greedy(const float *logits, int n)
{
    int32_t best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void decode_without_allocation(void **state)
{
    (void)state;
    static const char *const formats[] = {"f16", "int8"};
    struct fm_error err;
    struct fm_device *device;
    struct fm_model *model;
    assert_ok(fm_device_open("cpu", NULL, &device, &err), err);
    assert_ok(fm_model_open(test_data("tiny/llama-q4_1.gguf"), &(struct fm_model_opts){.device = device}, &model, &err),
              err);
    for (int f = 0; f < 2; f++) {
        struct fm_batcher *b;
        struct fm_session *s;
        assert_ok(fm_batcher_new(model, &(struct fm_batcher_opts){.n_ctx = 300, .kv_format = formats[f]}, &b, &err),
                  err);
        assert_ok(fm_session_new(b, &s, &err), err);
        assert_ok(fm_session_sync(s, (int32_t[]){1, 2, 3, 4, 5}, 5, &err), err);
        int64_t at_10 = 0;
        for (int i = 0; i <= 200; i++) {
            assert_ok(fm_batcher_run(b, &err), err);
            int32_t token = greedy(fm_session_logits(s), 288);
            if (i == 10) at_10 = count();
            assert_ok(fm_session_append(s, &token, 1, &err), err);
        }
        assert_int_equal(count() - at_10, 0);
        fm_session_free(s);
        fm_batcher_free(b);
    }
    fm_model_free(model);
    fm_device_close(device);
}

int main(int argc, char **argv)
{
    (void)argc;
    *(void **)&count = dlsym(RTLD_DEFAULT, "count_alloc_calls");
    if (!count) {
        char library[4096];
        const char *dir = getenv("FATHOM_BINARY_DIR");
        snprintf(library, sizeof library, "%s/libcount_alloc.so", dir ? dir : ".");
        if (access(library, R_OK)) {
            printf("skipped: %s is not there (sanitizer build)\n", library);
            return 77;
        }
        setenv("LD_PRELOAD", library, 1);
        execv("/proc/self/exe", argv);
        perror("execv");
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(decode_without_allocation)};
    int64_t before = count();
    void *volatile probe = malloc(1); // volatile: or the compiler drops the pair
    free(probe);
    if (count() - before != 1) {
        printf("the counter does not count\n");
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

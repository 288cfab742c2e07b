// SPDX-License-Identifier: MIT
// No memory at the n-th allocation, n = 1, 2, … until everything succeeds: opening a device and a model, planning,
// a session, a step; in the long run also of a whole model. Each failure is FM_E_NOMEM with a text, outputs are NULL,
// nothing leaks (the sanitizer run sees).
#include "support/support.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "fathom/session.h"

struct everything {
    struct fm_device *device;
    struct fm_model *model;
    struct fm_batcher *batcher;
    struct fm_session *session, *fork;
};

static fm_status build_and_step(struct everything *e, const char *device, const char *path, struct fm_error *err)
{
    static const int32_t prompt[] = {1, 2, 3, 4, 5, 6, 7};
    fm_status status = fm_device_open(device, &(struct fm_device_opts){.threads = 2}, &e->device, err);
    if (status == FM_OK) status = fm_model_open(path, &(struct fm_model_opts){.device = e->device}, &e->model, err);
    struct fm_batcher_opts opts = {.n_ctx = 100, .n_sessions = 2, .kv_format = "int8", .n_batch = 16};
    if (status == FM_OK) status = fm_batcher_new(e->model, &opts, &e->batcher, err);
    if (status == FM_OK) status = fm_session_new(e->batcher, &e->session, err);
    if (status == FM_OK) status = fm_session_sync(e->session, prompt, 7, err);
    if (status == FM_OK) status = fm_batcher_run(e->batcher, err);
    if (status == FM_OK) status = fm_session_fork(e->session, &e->fork, err);
    if (status == FM_OK) status = fm_session_append(e->fork, prompt, 3, err);
    if (status == FM_OK) status = fm_session_shift(e->session, 2, 3, err);
    if (status == FM_OK) status = fm_batcher_run(e->batcher, err);
    return status;
}

// Of a whole model, whose every attempt takes long, all n to 256 and then every n/32-th.
static void fail_each_allocation(const char *device, const char *path, bool every)
{
    for (int64_t n = 0;; n += every || n < 256 ? 1 : n / 32) {
        struct everything e = {0};
        struct fm_error err = {0};
        fm__alloc_fail_after(n, true);
        fm_status status = build_and_step(&e, device, path, &err);
        fm__alloc_fail_after(-1, false);
        fm_session_free(e.fork);
        fm_session_free(e.session);
        fm_batcher_free(e.batcher);
        fm_model_free(e.model);
        fm_device_close(e.device);
        if (status == FM_OK) {
            printf("%s: succeeds with %lld allocations\n", device, (long long)n);
            assert_true(n > 50);
            return;
        }
        if (status != FM_E_NOMEM) fail_msg("allocation %lld: %s: %s", (long long)n, fm_status_text(status), err.text);
        assert_true(err.text[0] != '\0');
    }
}

static void on_cpu(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_data("tiny/gemma3.gguf"));
    fail_each_allocation("cpu", path, true);
}

static void on_sim(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_data("tiny/gemma3.gguf"));
    fail_each_allocation("sim", path, true);
}

static void of_a_whole_model(void **state)
{
    (void)state;
    if (!getenv("FATHOM_LONG")) {
        printf("skipped: allocations of a whole model (./run test --long)\n");
        skip();
    }
    static const char *const names[] = {"smollm2", "gemma3"};
    int n_found = 0;
    for (int i = 0; i < 2; i++) {
        const char *path = test_model(names[i]);
        if (!path) continue;
        fail_each_allocation("cpu", path, false);
        n_found++;
    }
    if (!n_found) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_cpu), cmocka_unit_test(on_sim),
                                       cmocka_unit_test(of_a_whole_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

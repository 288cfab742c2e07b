// SPDX-License-Identifier: MIT
// test-labels: long noasan
// Soak: thousands of random operations on sessions that share pages (sync, append, step, rewind, fork, save, load,
// free, cancelled runs, full caches). Now and then a session's logits are compared, byte for byte, with those of the
// same tokens in a batcher that has seen nothing else; at the end no memory has grown.
#include "support/support.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/session.h"

enum { N_SESSIONS = 6, N_CTX = 200, N_VOCAB = 288, N_OPERATIONS = 24000, CHECK_EVERY = 40, N_FILES = 3 };

struct soak {
    struct fm_model *model;
    struct fm_batcher *batcher, *fresh;
    struct fm_session *sessions[N_SESSIONS];
    char files[N_FILES][300];
    bool written[N_FILES];
    uint32_t seed;
    int done[16], n_checked;
};

enum { OP_NEW, OP_FREE, OP_FORK, OP_SYNC, OP_APPEND, OP_STEP, OP_RUN, OP_REWIND, OP_SAVE, OP_LOAD, OP_CANCEL, N_OPS };

static int below(struct soak *k, int n)
{
    k->seed = k->seed * 1664525u + 1013904223u;
    return (int)((k->seed >> 8) % (uint32_t)n);
}

// Few beginnings, so that sessions find each other's pages.
static int random_tokens(struct soak *k, int32_t *tokens, int n)
{
    uint32_t stream = (uint32_t)below(k, 3), changes_at = (uint32_t)below(k, 2 * n + 1);
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        stream = stream * 22695477u + 1u + (i == changes_at ? (uint32_t)below(k, 1000) : 0u);
        tokens[i] = (int32_t)((stream >> 12) % N_VOCAB);
    }
    return n;
}

// A full cache or context is an answer too; anything else is a defect.
static void take(struct soak *k, int op, fm_status status, const struct fm_error *err)
{
    if (status != FM_OK && status != FM_E_LIMIT && !(op == OP_CANCEL && status == FM_E_CANCELLED))
        fail_msg("operation %d: %s: %s", op, fm_status_text(status), err->text);
    k->done[op] += status == FM_OK || status == FM_E_CANCELLED;
}

static void operate(struct soak *k)
{
    int32_t tokens[N_CTX + 20];
    struct fm_error err = {0};
    fm_status status = FM_OK;
    int at = below(k, N_SESSIONS), op = below(k, N_OPS), other = below(k, N_SESSIONS), file = below(k, N_FILES), n;
    struct fm_session **s = &k->sessions[at];
    if (op == OP_FORK ? *s || !k->sessions[other] : op == OP_NEW ? *s != NULL : !*s) return;
    if (op == OP_FREE) fm_session_free(*s), *s = NULL;
    if (op == OP_NEW) status = fm_session_new(k->batcher, s, &err);
    if (op == OP_FORK) status = fm_session_fork(k->sessions[other], s, &err);
    if (op == OP_SYNC) status = fm_session_sync(*s, tokens, random_tokens(k, tokens, 1 + below(k, N_CTX + 5)), &err);
    if (op == OP_APPEND) status = fm_session_append(*s, tokens, random_tokens(k, tokens, 1 + below(k, 20)), &err);
    if (op == OP_STEP) status = fm_batcher_step(k->batcher, NULL, &err);
    if (op == OP_RUN) status = fm_batcher_run(k->batcher, &err);
    if (op == OP_REWIND) fm_session_tokens(*s, &n), status = fm_session_rewind(*s, below(k, n + 1), &err);
    if (op == OP_SAVE) status = fm_session_save(*s, k->files[file], &err), k->written[file] |= status == FM_OK;
    if (op == OP_LOAD && k->written[file]) status = fm_session_load(*s, k->files[file], &err);
    if (op == OP_CANCEL) fm_batcher_cancel(k->batcher), status = fm_batcher_run(k->batcher, &err);
    take(k, op, status, &err);
}

// The session's logits are what its tokens alone give.
static void check(struct soak *k, struct fm_session *s)
{
    struct fm_error err;
    struct fm_session *alone;
    int n;
    assert_ok(fm_batcher_run(k->batcher, &err), err);
    const int32_t *tokens = fm_session_tokens(s, &n);
    const float *got = fm_session_logits(s);
    if (n == 0 || !got) return; // rewound to a place whose logits were not kept
    assert_ok(fm_session_new(k->fresh, &alone, &err), err);
    assert_ok(fm_session_sync(alone, tokens, n, &err), err);
    assert_ok(fm_batcher_run(k->fresh, &err), err);
    assert_memory_equal(got, fm_session_logits(alone), N_VOCAB * sizeof *got);
    fm_session_free(alone);
    k->n_checked++;
}

static size_t bytes_in_use(struct soak *k)
{
    for (int i = 0; i < N_SESSIONS; i++) fm_session_free(k->sessions[i]), k->sessions[i] = NULL;
    return mallinfo2().uordblks;
}

static void sessions_stay_right(void **state)
{
    (void)state;
    struct soak k = {.seed = 7};
    struct fm_device *device;
    struct fm_error err;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_data("tiny/llama.gguf"));
    for (int i = 0; i < N_FILES; i++) snprintf(k.files[i], sizeof k.files[i], "%s/%d", test_tmpdir(), i);
    assert_ok(fm_device_open("cpu", &(struct fm_device_opts){.threads = 2}, &device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = device}, &k.model, &err), err);
    // room for three full timelines: the cache is often full
    struct fm_batcher_opts opts = {.n_ctx = N_CTX, .n_sessions = N_SESSIONS, .kv_tokens = 3 * N_CTX, .n_batch = 32};
    assert_ok(fm_batcher_new(k.model, &opts, &k.batcher, &err), err);
    opts = (struct fm_batcher_opts){.n_ctx = N_CTX, .n_sessions = 1, .n_batch = 128};
    assert_ok(fm_batcher_new(k.model, &opts, &k.fresh, &err), err);

    size_t before = 0;
    for (int i = 0; i < N_OPERATIONS; i++) {
        operate(&k);
        if (i % CHECK_EVERY == 0)
            for (int s = 0; s < N_SESSIONS; s++)
                if (k.sessions[s]) check(&k, k.sessions[s]);
        if (i == N_OPERATIONS / 3 * 2) before = bytes_in_use(&k); // by then every plan is made
    }
    size_t after = bytes_in_use(&k);
    printf("%d operations, %d timelines compared; %zu bytes in use after two thirds, %zu at the end\n", N_OPERATIONS,
           k.n_checked, before, after);
    for (int op = 0; op < N_OPS; op++) assert_true(k.done[op] > 10);
    assert_true(k.n_checked > 100);
    assert_true(after <= before + 4096); // the same within a lazily made buffer of the C library
    fm_batcher_free(k.fresh);
    fm_batcher_free(k.batcher);
    fm_model_free(k.model);
    fm_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sessions_stay_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

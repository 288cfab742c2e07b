// SPDX-License-Identifier: MIT
// Speed of a model: prompts and single tokens at a depth, each beside its bound measured in the same repeats.
//
// Decode's bound: the bytes that a token must read (packed weights, keys and values in sight) streamed by a load-only
// loop over the very same memory with the device's own threads, passes standing among the tokens. Prefill's bound: its
// operations at the peaks of the machine's best multiply-accumulate loops for the types at hand, or its bytes at the
// rate that the weights stream before each repeat, whichever is longer (and so it is for many sessions decoding).
#ifndef FM_EVAL_SPEED_H
#define FM_EVAL_SPEED_H

#include "eval/machine.h"
#include "fathom/session.h"

struct fm__pool;

enum fm__speed_kind { FM__SPEED_PREFILL, FM__SPEED_DECODE };

struct fm__speed_test {
    enum fm__speed_kind kind;
    int n;          // tokens: of the prompt, or made one after another
    int depth;      // tokens before them
    int n_sessions; // decoding together
};

enum { FM__SPEED_MAX_REPS = 100 };

struct fm__speed_result {
    int n_reps;
    double samples[FM__SPEED_MAX_REPS]; // tokens/s of all sessions together, in order
    double value, spread;               // median; (largest - smallest) / median
    double bound, share;                // tokens/s; value / bound
    double bytes, operations;           // a step (decode) or the whole prompt (prefill)
    double stream;                      // GB/s that the load-only loop read the same memory with
    const char *bound_of;               // "bytes streamed", "int8 tiles amx"
};

// Median and spread of the samples 0 … n_reps.
void fm__speed_summarise(struct fm__speed_result *result);

// A batcher's sessions for measuring; its n_ctx is at least depth + n + 1 of every test, its sessions at least
// n_sessions.
struct fm__speed {
    struct fm_batcher *batcher;
    struct fm__pool *pool; // the device's own threads, on the CPUs it runs on; NULL: it has none, nothing is streamed
    struct fm__machine machine;
    struct fm_session **sessions;
    int n_sessions, cap;
    uint32_t random;
    double attended; // sum over all rows evaluated of the keys each could see
    // told about what runs; NULL: nobody
    void (*progress)(void *context, const char *what);
    void *context;
};

fm_status fm__speed_init(struct fm__speed *s, struct fm_batcher *batcher, struct fm_error *err);
void fm__speed_deinit(struct fm__speed *s);

// Runs a test `reps` times after one that does not count. Sessions stay filled up to the test's depth, so that tests in
// order of depth evaluate each token before the depth once.
fm_status fm__speed_run(struct fm__speed *s, const struct fm__speed_test *test, int reps, struct fm__speed_result *out,
                        struct fm_error *err);

#endif

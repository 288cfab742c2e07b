// SPDX-License-Identifier: MIT
// Times one linear kernel on random operands: what `bench --kernels` prints beside the machine's peaks.
#ifndef FM_EVAL_BENCH_LINEAR_H
#define FM_EVAL_BENCH_LINEAR_H

#include <stdint.h>

#include "fathom/status.h"
#include "fathom/tensor.h"

struct fm__pool;

struct fm__bench_linear_args {
    fm_dtype dtype, act; // of W; of x: FM_Q8A, FM_F32, FM_BF16, FM_Q8R (with I8)
    int level;           // enum fm__cpu_level
    int64_t N, O, K;
    int64_t copies; // matrices worked on in turn, so that caches hold no weights; 0 and 1: one
    int reps;       // the median of these is reported
};

struct fm__bench_linear {
    const char *kernel;    // NULL: no kernel for this type, activation and level; the rest is then 0
    double seconds;        // a product
    double stream_seconds; // loading the weights of one and nothing else, first quartile; 0 with one copy
    double spread;         // (third quartile - first) / median, of the seconds
    double gops;           // 2 N O K a second, in 1e9
    double gb_per_s;       // packed weights read a second, in 1e9
};

// Errors: FM_E_NOMEM, FM_E_ARG (a K that breaks a block).
fm_status fm__bench_linear(struct fm__pool *pool, const struct fm__bench_linear_args *args,
                           struct fm__bench_linear *out, struct fm_error *err);

#endif

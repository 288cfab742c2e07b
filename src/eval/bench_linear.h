// SPDX-License-Identifier: MIT
// Times one linear kernel on random operands: what `bench --kernels` prints beside the machine's peaks.
#ifndef FM_EVAL_BENCH_LINEAR_H
#define FM_EVAL_BENCH_LINEAR_H

#include <stdint.h>

#include "fathom/status.h"
#include "fathom/tensor.h"

struct fm__pool;

// Products of a layer y = x W^T: itself, dx = dy W, dW = dy^T x.
enum fm__bench_form { FM__BENCH_Y, FM__BENCH_DX, FM__BENCH_DW };

struct fm__bench_linear_args {
    enum fm__bench_form form;
    fm_dtype dtype, act; // of W; of x (and dy): FM_Q8A, FM_F32, FM_BF16, FM_Q8R (with I8). DW: dtype is act
    int rows;            // W lies in rows order, as parameters in training do, instead of packed
    int level;           // enum fm__cpu_level
    int64_t N, O, K;     // of y, whatever the form
    int64_t copies;      // matrices worked on in turn, so that caches hold no weights; 0 and 1: one
    int reps;            // the median of these is reported
};

struct fm__bench_linear {
    const char *kernel;    // NULL: no kernel for this type, activation and level; the rest is then 0
    double seconds;        // a product
    double stream_seconds; // loading the weights of one and nothing else, first quartile; 0 with one copy
    double spread;         // (third quartile - first) / median, of the seconds
    double gops;           // 2 N O K a second, in 1e9
    double gb_per_s;       // bytes of in[1] read a second, in 1e9
};

// Errors: FM_E_NOMEM, FM_E_ARG (a K that breaks a block).
fm_status fm__bench_linear(struct fm__pool *pool, const struct fm__bench_linear_args *args,
                           struct fm__bench_linear *out, struct fm_error *err);

#endif

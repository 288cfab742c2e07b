// SPDX-License-Identifier: MIT
// What bench prints: a line a test as text, Markdown, CSV or JSON, and a drawing of speed against depth.
#ifndef FM_APP_BENCH_OUT_H
#define FM_APP_BENCH_OUT_H

#include <stdbool.h>
#include <stdio.h>

#include "eval/speed.h"

enum fm_bench_format { FM_BENCH_TEXT, FM_BENCH_MD, FM_BENCH_CSV, FM_BENCH_JSON };

// One line. For measures that are no speed of a model, `result` may be NULL.
struct fm_bench_line {
    char name[64];
    const char *unit;
    double value, spread, bound, share; // bound 0: none; spread and share as fractions
    const char *bound_of;               // NULL: none
    const char *kernel;                 // of a product alone; NULL: no such line
    bool none;                          // nothing to measure: value and bound mean nothing
    bool limit;                         // the bound is what is asked for, not what is possible: it may be exceeded
    const struct fm__speed_test *test;
    const struct fm__speed_result *result;
};

struct fm_bench_out {
    enum fm_bench_format format;
    // what all lines have in common
    const char *model, *type, *kv, *level, *settings;
    int threads, n_batch;
    bool begun, failed; // failed: a share above 100 %, which only a wrong measurement can have
};

void fm__bench_line(struct fm_bench_out *out, const struct fm_bench_line *line);

// Speed against depth: prefill above, decoding below, each with its bound. Nothing is drawn for tests of one depth
// only.
fm_status fm__bench_svg(const char *path, const struct fm_bench_out *out, const struct fm_bench_line *lines, int n,
                        struct fm_error *err);

#endif

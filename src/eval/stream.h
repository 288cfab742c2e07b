// SPDX-License-Identifier: MIT
// Streaming bytes: loading them and nothing else. What a token of a dense model must at least do with every weight and
// its whole KV cache, hence the bound that decoding is held against.
#ifndef FM_EVAL_STREAM_H
#define FM_EVAL_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

struct fm__pool;

struct fm__stream_part {
    const void *p;
    size_t n; // bytes
};

// Loads all bytes of all parts once: the workers of the pool take contiguous shares of the whole. Returns the seconds
// it took. Thread safe for different pools.
double fm__stream_read(struct fm__pool *pool, const struct fm__stream_part *parts, size_t n_parts);

// GB/s (10^9) of reading `bytes` of fresh huge pages, the best of `reps` passes.
fm_status fm__stream_measure(struct fm__pool *pool, size_t bytes, int reps, double *gb_per_s, struct fm_error *err);

// The loops: xor of all whole 64-byte lines of p[0 … n), so that no compiler can leave them out.
uint64_t fm__stream_plain(const void *p, size_t n);
uint64_t fm__stream_avx2(const void *p, size_t n);
uint64_t fm__stream_avx512(const void *p, size_t n);

#endif

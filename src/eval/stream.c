// SPDX-License-Identifier: MIT
// Shares of a list of parts, one a worker, and the portable loop.
#include "eval/stream.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/cpuinfo.h"
#include "base/error.h"
#include "base/pool.h"

typedef uint64_t stream_fn(const void *p, size_t n);

struct pass {
    const struct fm__stream_part *parts;
    size_t n_parts, bytes;
    stream_fn *read;
    atomic_uint_fast64_t sink; // what was read goes somewhere
};

uint64_t fm__stream_plain(const void *p, size_t n)
{
    uint64_t sums[8] = {0};
    const unsigned char *at = p;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        uint64_t line[8];
        memcpy(line, at + i, sizeof line);
        for (int j = 0; j < 8; j++) sums[j] ^= line[j];
    }
    for (int j = 1; j < 8; j++) sums[0] ^= sums[j];
    return sums[0];
}

static stream_fn *reader(void)
{
#if defined(__x86_64__)
    if (fm__cpu_has(FM__CPU_AVX512)) return fm__stream_avx512;
    if (fm__cpu_has(FM__CPU_AVX2)) return fm__stream_avx2;
#endif
    return fm__stream_plain;
}

// Worker `index` reads bytes [bytes·index/count, bytes·(index+1)/count) of the parts laid end to end.
static void worker(void *context, int index, int count)
{
    struct pass *pass = context;
    size_t from = pass->bytes / (size_t)count * (size_t)index;
    size_t to = index + 1 == count ? pass->bytes : pass->bytes / (size_t)count * (size_t)(index + 1);
    uint64_t sum = 0;
    size_t at = 0; // where the part begins
    for (size_t i = 0; i < pass->n_parts && at < to; at += pass->parts[i++].n) {
        size_t n = pass->parts[i].n;
        if (at + n <= from) continue;
        size_t first = from > at ? from - at : 0, last = to < at + n ? to - at : n;
        sum ^= pass->read((const unsigned char *)pass->parts[i].p + first, last - first);
    }
    atomic_fetch_xor(&pass->sink, sum);
}

double fm__stream_read(struct fm__pool *pool, const struct fm__stream_part *parts, size_t n_parts)
{
    struct pass pass = {.parts = parts, .n_parts = n_parts, .read = reader()};
    for (size_t i = 0; i < n_parts; i++) pass.bytes += parts[i].n;
    double begun = fm__seconds();
    fm__pool_run(pool, worker, &pass);
    return fm__seconds() - begun;
}

fm_status fm__stream_measure(struct fm__pool *pool, size_t bytes, int reps, double *gb_per_s, struct fm_error *err)
{
    *gb_per_s = 0;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return fm__fail_nomem(err, "bytes to stream", bytes);
    madvise(p, bytes, MADV_HUGEPAGE); // a refusal shows in the figure
    memset(p, 1, bytes);              // else every page is the one page of zeroes
    struct fm__stream_part part = {p, bytes};
    for (int i = 0; i < reps; i++) {
        double rate = (double)bytes / fm__stream_read(pool, &part, 1) * 1e-9;
        if (rate > *gb_per_s) *gb_per_s = rate;
    }
    munmap(p, bytes);
    return FM_OK;
}

// SPDX-License-Identifier: MIT
#include "train/data_order.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

void fm__data_shuffle(uint32_t *ids, size_t n, uint64_t seed, uint64_t stream)
{
    struct fm__rng rng = fm__rng_new(seed, stream);
    for (size_t i = n; i > 1; i--) { // Fisher and Yates
        size_t k = (size_t)fm__rng_below(&rng, i);
        uint32_t swap = ids[i - 1];
        ids[i - 1] = ids[k], ids[k] = swap;
    }
}

void fm__data_permutation(uint32_t *ids, size_t n, uint64_t seed, uint64_t stream)
{
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)i;
    fm__data_shuffle(ids, n, seed, stream);
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void fm__data_sort_ids(uint32_t *ids, size_t n)
{
    qsort(ids, n, sizeof *ids, by_id);
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Sorts ids by their rows; equal ones keep their order, which is random. keys: n of scratch.
static void sort_by_rows(uint32_t *ids, size_t n, const uint32_t *rows, uint64_t *keys)
{
    for (size_t i = 0; i < n; i++) keys[i] = (uint64_t)rows[ids[i]] << 32 | i;
    qsort(keys, n, sizeof *keys, by_key);
    for (size_t i = 0; i < n; i++) keys[i] = ids[(uint32_t)keys[i]];
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)keys[i];
}

void fm__data_bucket(const struct fm__bucket_args *a)
{
    enum { STEPS = 32 };
    struct fm__rng rng = fm__rng_new(a->seed, FM__STREAM_BUCKETS + a->epoch);
    for (size_t at = 0; at < a->n;) {
        size_t left = a->n - at, n = left / STEPS < a->batch ? left : a->batch * STEPS;
        sort_by_rows(a->ids + at, n, a->rows, a->keys);
        at += n;
    }
    for (size_t i = a->n / a->batch; i > 1; i--) {
        size_t k = (size_t)fm__rng_below(&rng, i);
        for (size_t j = 0; j < a->batch; j++) {
            uint32_t *x = &a->ids[(i - 1) * a->batch + j], *y = &a->ids[k * a->batch + j], swap = *x;
            *x = *y, *y = swap;
        }
    }
}

// --- packing ---

static fm_status reserve(struct fm__packer *p, size_t n, struct fm_error *err)
{
    if (n <= p->cap) return FM_OK;
    fm__packer_deinit(p);
    p->keys = fm__calloc(n, sizeof *p->keys);
    p->bin = fm__calloc(n, sizeof *p->bin);
    p->fill = fm__calloc(n, sizeof *p->fill);
    if (!p->keys || !p->bin || !p->fill) {
        fm__packer_deinit(p);
        return fm__fail_nomem(err, "packing of a step", n * (sizeof *p->keys + sizeof *p->bin + sizeof *p->fill));
    }
    p->cap = n;
    return FM_OK;
}

void fm__packer_deinit(struct fm__packer *p)
{
    fm__free(p->keys);
    fm__free(p->bin);
    fm__free(p->fill);
    *p = (struct fm__packer){0};
}

// The rank of least rows so far takes the next longest sample; marks those of other ranks. fill: n_ranks … are used.
static void deal(struct fm__packer *p, const struct fm__pack_args *a, int64_t *load)
{
    memset(load, 0, (size_t)a->n_ranks * sizeof *load);
    for (size_t i = 0; i < a->n; i++) {
        uint32_t sample = (uint32_t)p->keys[i];
        int least = 0;
        for (int r = 1; r < a->n_ranks; r++)
            if (load[r] < load[least]) least = r;
        load[least] += a->rows[sample];
        p->bin[sample] = least == a->rank ? 0 : FM__NO_BIN;
    }
}

fm_status fm__pack(struct fm__packer *p, const struct fm__pack_args *a, struct fm_error *err)
{
    size_t n_ranks = (size_t)a->n_ranks;
    FM_TRY(reserve(p, a->n > n_ranks ? a->n : n_ranks, err));
    for (size_t i = 0; i < a->n; i++) p->keys[i] = (uint64_t)(UINT32_MAX - a->rows[i]) << 32 | i; // longest first
    qsort(p->keys, a->n, sizeof *p->keys, by_key);
    deal(p, a, p->fill);
    int64_t least = a->n ? a->rows[(uint32_t)p->keys[a->n - 1]] : 0;
    size_t open = 0; // bins before it are full even for the shortest
    p->n_bins = 0;
    for (size_t i = 0; i < a->n; i++) {
        uint32_t sample = (uint32_t)p->keys[i];
        if (p->bin[sample] == FM__NO_BIN) continue;
        size_t bin = open;
        while (bin < p->n_bins && p->fill[bin] + a->rows[sample] > a->most) bin++;
        if (bin == p->n_bins) p->fill[p->n_bins++] = 0;
        p->fill[bin] += a->rows[sample];
        p->bin[sample] = (uint32_t)bin;
        while (open < p->n_bins && p->fill[open] + least > a->most) open++;
    }
    return FM_OK;
}

// --- packed text ---

// Tokens first … first + *n of a part.
static int64_t part_of_stream(const struct fm__dataset *data, enum fm__data_part part, int64_t *n)
{
    bool valid = part == FM__DATA_VALID;
    *n = part == FM__DATA_ALL ? data->n_stream : valid ? data->n_stream - data->n_train : data->n_train;
    return valid ? data->n_train : 0;
}

int64_t fm__stream_samples(const struct fm__dataset *data, enum fm__data_part part, int64_t shift)
{
    int64_t n;
    part_of_stream(data, part, &n);
    if (n < 2) return 0;
    int64_t rows = n - 1;
    if (shift >= rows) return 1;
    return (shift > 0) + (rows - shift + data->length - 1) / data->length;
}

void fm__stream_sample(const struct fm__dataset *data, enum fm__data_part part, int64_t shift, int64_t i,
                       int64_t *first, int64_t *rows)
{
    int64_t n, start = part_of_stream(data, part, &n), from = 0, to = shift;
    if (shift <= 0 || i > 0) {
        from = shift + (i - (shift > 0)) * data->length;
        to = from + data->length;
    }
    if (to > n - 1) to = n - 1;
    *first = start + from;
    *rows = to - from;
}

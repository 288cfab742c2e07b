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

// The least power of two that is n or more.
static size_t leaves_of(size_t n)
{
    size_t leaves = 1;
    while (leaves < n) leaves *= 2;
    return leaves;
}

static fm_status reserve(struct fm__packer *p, size_t n, size_t n_ranks, struct fm_error *err)
{
    if (n <= p->cap && n_ranks <= p->cap_ranks) return FM_OK;
    fm__packer_deinit(p);
    p->keys = fm__calloc(n, sizeof *p->keys);
    p->bin = fm__calloc(n, sizeof *p->bin);
    p->member = fm__calloc(n, sizeof *p->member);
    p->start = fm__calloc(n + 1, sizeof *p->start);
    p->tree = fm__calloc(2 * leaves_of(n), sizeof *p->tree);
    p->load = fm__calloc(n_ranks, sizeof *p->load);
    if (!p->keys || !p->bin || !p->member || !p->start || !p->tree || !p->load) {
        fm__packer_deinit(p);
        return fm__fail_nomem(err, "packing of a step", n * (sizeof *p->keys + 5 * sizeof *p->bin));
    }
    p->cap = n, p->cap_ranks = n_ranks;
    return FM_OK;
}

void fm__packer_deinit(struct fm__packer *p)
{
    fm__free(p->keys);
    fm__free(p->bin);
    fm__free(p->member);
    fm__free(p->start);
    fm__free(p->tree);
    fm__free(p->load);
    *p = (struct fm__packer){0};
}

// The rank of least rows so far takes the next longest sample; those of other ranks are marked.
static void deal(struct fm__packer *p, const struct fm__pack_args *a)
{
    memset(p->load, 0, (size_t)a->n_ranks * sizeof *p->load);
    for (size_t i = 0; i < a->n; i++) {
        uint32_t sample = (uint32_t)p->keys[i];
        int least = 0;
        for (int r = 1; r < a->n_ranks; r++)
            if (p->load[r] < p->load[least]) least = r;
        p->load[least] += a->rows[sample];
        p->bin[sample] = least == a->rank ? 0 : FM__NO_BIN;
    }
}

// The first bin that has the rows free, which are taken. Bins that are not open yet have `most`, so there is one.
static uint32_t take_first_fit(uint32_t *tree, size_t leaves, uint32_t rows)
{
    size_t i = 1;
    while (i < leaves) {
        i *= 2;
        if (tree[i] < rows) i++;
    }
    uint32_t bin = (uint32_t)(i - leaves);
    tree[i] -= rows;
    for (i /= 2; i > 0; i /= 2) tree[i] = tree[2 * i] > tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
    return bin;
}

// Lists the samples of each bin, by counting.
static void list_members(struct fm__packer *p, size_t n)
{
    memset(p->start, 0, (p->n_bins + 1) * sizeof *p->start);
    for (size_t i = 0; i < n; i++)
        if (p->bin[i] != FM__NO_BIN) p->start[p->bin[i] + 1]++;
    for (size_t b = 0; b < p->n_bins; b++) p->start[b + 1] += p->start[b];
    for (size_t i = 0; i < n; i++)
        if (p->bin[i] != FM__NO_BIN) p->member[p->start[p->bin[i]]++] = (uint32_t)i;
    for (size_t b = p->n_bins; b > 0; b--) p->start[b] = p->start[b - 1]; // filling moved each to the next one's
    p->start[0] = 0;
}

fm_status fm__pack(struct fm__packer *p, const struct fm__pack_args *a, struct fm_error *err)
{
    FM_TRY(reserve(p, a->n, (size_t)a->n_ranks, err));
    for (size_t i = 0; i < a->n; i++) p->keys[i] = (uint64_t)(UINT32_MAX - a->rows[i]) << 32 | i; // longest first
    qsort(p->keys, a->n, sizeof *p->keys, by_key);
    deal(p, a);
    size_t leaves = leaves_of(a->n);
    for (size_t i = 1; i < 2 * leaves; i++) p->tree[i] = (uint32_t)a->most;
    p->n_bins = 0;
    for (size_t i = 0; i < a->n; i++) {
        uint32_t sample = (uint32_t)p->keys[i];
        if (p->bin[sample] == FM__NO_BIN) continue;
        p->bin[sample] = take_first_fit(p->tree, leaves, a->rows[sample]);
        if (p->bin[sample] >= p->n_bins) p->n_bins = p->bin[sample] + 1;
    }
    list_members(p, a->n);
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

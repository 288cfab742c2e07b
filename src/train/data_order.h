// SPDX-License-Identifier: MIT
// In which order samples come and which of them share a micro-batch: arithmetic on numbers of rows, without any data.
// Everything here is a function of its arguments.
#ifndef FM_TRAIN_DATA_ORDER_H
#define FM_TRAIN_DATA_ORDER_H

#include "train/data_internal.h"

// Streams of random numbers under a seed (base/rng.h): one use each.
#define FM__STREAM_SPLIT 1
#define FM__STREAM_EPOCH (UINT64_C(1) << 60)   // + epoch
#define FM__STREAM_BUCKETS (UINT64_C(2) << 60) // + epoch
#define FM__STREAM_SHIFT (UINT64_C(3) << 60)   // + epoch
#define FM__STREAM_IMAGES (UINT64_C(4) << 60)  // + epoch; 16 numbers a sample

void fm__data_permutation(uint32_t *ids, size_t n, uint64_t seed, uint64_t stream); // of 0 … n − 1
void fm__data_shuffle(uint32_t *ids, size_t n, uint64_t seed, uint64_t stream);     // of what stands there
void fm__data_sort_ids(uint32_t *ids, size_t n);                                    // ascending

// Makes steps of `batch` samples of like length out of a shuffled order: within 32 steps the samples are sorted by
// rows[id], then all full steps are shuffled. keys: n of scratch.
struct fm__bucket_args {
    uint32_t *ids;
    size_t n, batch;
    const uint32_t *rows; // by id
    uint64_t *keys;
    uint64_t seed, epoch;
};
void fm__data_bucket(const struct fm__bucket_args *args);

// --- packing ---

#define FM__NO_BIN UINT32_MAX

// Deals the samples of a step to ranks and packs those of one rank into micro-batches, first-fit, longest first, in
// O(n log n): a step may be a whole data set. Zeroed it is empty.
struct fm__packer {
    uint64_t *keys;
    uint32_t *bin;    // of each sample: its micro-batch, or FM__NO_BIN: another rank's
    uint32_t *member; // samples of bin 0, of bin 1, …, each ascending
    uint32_t *start;  // [n_bins + 1] where a bin's members begin
    uint32_t *tree;   // free rows: of the bins, and above them the most below each node
    int64_t *load;    // rows of each rank
    size_t cap, cap_ranks, n_bins;
};

struct fm__pack_args {
    const uint32_t *rows; // of each sample, none above `most`
    size_t n;
    int64_t most; // rows of a micro-batch
    int rank, n_ranks;
};

fm_status fm__pack(struct fm__packer *packer, const struct fm__pack_args *args, struct fm_error *err);
void fm__packer_deinit(struct fm__packer *packer);

// --- packed text: samples are runs of `length` rows of the stream, its last token being a target only ---

int64_t fm__stream_samples(const struct fm__dataset *data, enum fm__data_part part, int64_t shift);
// First token and number of rows of sample i. shift > 0: the first sample has only so many rows.
void fm__stream_sample(const struct fm__dataset *data, enum fm__data_part part, int64_t shift, int64_t i,
                       int64_t *first, int64_t *rows);

#endif

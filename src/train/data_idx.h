// SPDX-License-Identifier: MIT
// IDX files (the format of MNIST: "the IDX file format", LeCun): two zero bytes, the type of the elements (8: bytes),
// the number of dimensions, each dimension as 32 bits big endian, then the elements. Plain or gzip.
#ifndef FM_TRAIN_DATA_IDX_H
#define FM_TRAIN_DATA_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

struct fm__idx {
    const char *path; // the caller's
    uint32_t dims[3]; // unused ones are 1
    char *bytes;      // of the file
    size_t n, at;     // plain
    void *inflate;    // gzip: zlib's stream, else NULL
};

// Elements must be bytes in `rank` dimensions (1 … 3), at most 2^24 of them behind the first dimension. Errors name
// the path: FM_E_NOT_FOUND, FM_E_IO, FM_E_FORMAT, FM_E_LIMIT (file over 1 GiB), FM_E_NOMEM.
fm_status fm__idx_open(const char *path, int rank, struct fm__idx *out, struct fm_error *err);
void fm__idx_close(struct fm__idx *idx); // zeroed is fine
// The next n elements; FM_E_FORMAT where the file ends before, or its gzip stream is damaged.
fm_status fm__idx_read(struct fm__idx *idx, void *out, size_t n, struct fm_error *err);
// FM_E_FORMAT if anything is left (a gzip stream's check sum is looked at, too).
fm_status fm__idx_end(struct fm__idx *idx, struct fm_error *err);

#endif

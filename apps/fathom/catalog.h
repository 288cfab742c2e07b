// SPDX-License-Identifier: MIT
// The catalogue of known models (catalog.def) and the cache that `fathom pull` fills:
// ${XDG_CACHE_HOME:-$HOME/.cache}/fathom/models/FILE, beside it FILE.sha256, written once the file was verified.
#ifndef FM_APP_CATALOG_H
#define FM_APP_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "fathom/status.h"

struct fm_catalog_entry {
    const char *name, *file;
    uint64_t bytes;
    const char *sha256; // 64 lower-case hex digits
    const char *packages, *version, *members, *about;
};

extern const struct fm_catalog_entry fm__catalog[]; // the first is the default model
extern const size_t fm__catalog_n;

const struct fm_catalog_entry *fm__catalog_find(const char *name); // NULL: none of that name

// The folder of the cache, made if `make`. malloc'ed, the caller frees. FM_E_NOT_FOUND: neither XDG_CACHE_HOME nor
// HOME.
fm_status fm__catalog_folder(bool make, char **out, struct fm_error *err);

// What a command's -m means: an existing path; else a catalogue name or a file of the cache; NULL is the default model.
// *path is malloc'ed, the caller frees. FM_E_NOT_FOUND says how to pull it.
fm_status fm__catalog_resolve(const char *model, char **path, struct fm_error *err);

// Records that the file at `path` was read and has this hash, with its length and time of change.
fm_status fm__verified_write(const char *path, const char *hex, struct fm_error *err);
// True if such a record stands and the file has not changed since; hex gets the hash.
bool fm__verified_read(const char *path, char hex[FM__SHA256_HEX]);

#endif

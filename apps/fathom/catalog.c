// SPDX-License-Identifier: MIT
// Catalogue look-ups, the cache's folder, and the record that a file was verified.
#include "catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

const struct fm_catalog_entry fm__catalog[] = {
#define X(name, file, bytes, sha256, packages, version, members, about) \
    {#name, file, bytes, sha256, packages, version, members, about},
#include "catalog.def"
#undef X
};
const size_t fm__catalog_n = sizeof fm__catalog / sizeof *fm__catalog;

const struct fm_catalog_entry *fm__catalog_find(const char *name)
{
    for (size_t i = 0; i < fm__catalog_n; i++) {
        if (strcmp(fm__catalog[i].name, name) == 0) return &fm__catalog[i];
    }
    return NULL;
}

// mkdir -p: makes every folder of `path`, which is put back as it was.
static fm_status make_folders(char *path, struct fm_error *err)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p) continue;
        char was = *p;
        *p = 0;
        int failed = mkdir(path, 0777) != 0 && errno != EEXIST;
        *p = was;
        if (failed) return fm__fail(err, FM_E_IO, "%s: cannot make the folder: %s", path, strerror(errno));
        if (!was) return FM_OK;
    }
}

fm_status fm__catalog_folder(bool make, char **out, struct fm_error *err)
{
    *out = NULL;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    int n = -1;
    if (cache && cache[0] == '/') {
        n = asprintf(&path, "%s/fathom/models", cache);
    } else if (home && home[0] == '/') {
        n = asprintf(&path, "%s/.cache/fathom/models", home);
    } else {
        return fm__fail(err, FM_E_NOT_FOUND,
                        "no folder for models: neither XDG_CACHE_HOME nor HOME is an absolute path");
    }
    if (n < 0) return fm__fail_nomem(err, "path of the cache", strlen(cache ? cache : home));
    fm_status status = make ? make_folders(path, err) : FM_OK;
    if (status != FM_OK) {
        free(path);
        return status;
    }
    *out = path;
    return FM_OK;
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

fm_status fm__catalog_resolve(const char *model, char **path, struct fm_error *err)
{
    *path = NULL;
    const struct fm_catalog_entry *entry = model ? fm__catalog_find(model) : &fm__catalog[0];
    if (model && is_file(model)) {
        *path = strdup(model);
        return *path ? FM_OK : fm__fail_nomem(err, "path of the model", strlen(model) + 1);
    }
    if (model && !entry && strchr(model, '/')) {
        return fm__fail(err, FM_E_NOT_FOUND, "%s: %s", model,
                        access(model, F_OK) == 0 ? "is a folder" : strerror(errno));
    }
    char *folder, *found;
    FM_TRY(fm__catalog_folder(false, &folder, err));
    int n = asprintf(&found, "%s/%s", folder, entry ? entry->file : model);
    free(folder);
    if (n < 0) return fm__fail_nomem(err, "path of the model", 1);
    if (is_file(found)) {
        *path = found;
        return FM_OK;
    }
    free(found);
    if (entry) {
        return fm__fail(err, FM_E_NOT_FOUND, "%s: not here yet; get it with: fathom pull %s", entry->name, entry->name);
    }
    return fm__fail(err, FM_E_NOT_FOUND, "%s: no such file, nor a model of the cache or the catalogue (fathom models)",
                    model);
}

// The record is "HEX BYTES SECONDS.NANOSECONDS NAME\n"; a file written to later no longer matches it.
static bool record_path(const char *path, char **out)
{
    return asprintf(out, "%s.sha256", path) >= 0;
}

fm_status fm__verified_write(const char *path, const char *hex, struct fm_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0) return fm__fail(err, FM_E_IO, "%s: %s", path, strerror(errno));
    char *record;
    if (!record_path(path, &record)) return fm__fail_nomem(err, "path of the hash", strlen(path) + 8);
    FILE *f = fopen(record, "we");
    bool ok = f && fprintf(f, "%s %" PRIu64 " %" PRId64 ".%09ld\n", hex, (uint64_t)st.st_size,
                           (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec) > 0;
    if (f) ok = fclose(f) == 0 && ok;
    fm_status status = ok ? FM_OK : fm__fail(err, FM_E_IO, "%s: cannot write: %s", record, strerror(errno));
    if (!ok) unlink(record);
    free(record);
    return status;
}

bool fm__verified_read(const char *path, char hex[FM__SHA256_HEX])
{
    struct stat st;
    char *record;
    hex[0] = 0;
    if (stat(path, &st) != 0 || !record_path(path, &record)) return false;
    FILE *f = fopen(record, "re");
    free(record);
    if (!f) return false;
    uint64_t bytes = 0;
    int64_t seconds = 0;
    long nanoseconds = 0;
    int n = fscanf(f, "%64[0-9a-f] %" SCNu64 " %" SCNd64 ".%9ld", hex, &bytes, &seconds, &nanoseconds);
    fclose(f);
    bool good = n == 4 && strlen(hex) == 64 && bytes == (uint64_t)st.st_size && seconds == (int64_t)st.st_mtim.tv_sec &&
                nanoseconds == st.st_mtim.tv_nsec;
    if (!good) hex[0] = 0;
    return good;
}

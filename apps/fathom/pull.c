// SPDX-License-Identifier: MIT
// The part file: lock, append, and the one place where it becomes the real file.
#include "pull.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "cli_out.h"

static fm_status part_path(const struct fm_pull *pull, const char *suffix, char **out, struct fm_error *err)
{
    if (asprintf(out, "%s%s", pull->target, suffix) >= 0) return FM_OK;
    *out = NULL;
    return fm__fail_nomem(err, "path of the part", strlen(pull->target) + 16);
}

// The lock is on the inode: one that was renamed into place between open and flock is no longer the part.
static bool still_named(int fd, const char *path)
{
    struct stat by_fd, by_name;
    return fstat(fd, &by_fd) == 0 && stat(path, &by_name) == 0 && by_fd.st_ino == by_name.st_ino &&
           by_fd.st_dev == by_name.st_dev;
}

fm_status fm__pull_begin(struct fm_pull *pull, struct fm_error *err)
{
    char *path;
    pull->fd = -1;
    FM_TRY(part_path(pull, ".part", &path, err));
    fm_status status = FM_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;
    if (fd < 0) {
        status = fm__fail(err, FM_E_IO, "%s: cannot write: %s", path, strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0 || !still_named(fd, path)) {
        status = fm__fail(err, FM_E_BUSY, "%s: another fathom is pulling it", path);
    } else if (fstat(fd, &st) != 0) {
        status = fm__fail(err, FM_E_IO, "%s: %s", path, strerror(errno));
    } else {
        pull->bytes = (uint64_t)st.st_size;
    }
    if (status == FM_OK) {
        pull->fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    free(path);
    return status;
}

fm_status fm__pull_write(struct fm_pull *pull, const void *bytes, size_t n, struct fm_error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t wrote = pwrite(pull->fd, (const char *)bytes + done, n - done, (off_t)pull->bytes);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            return fm__fail(err, FM_E_IO, "%s.part: cannot write byte %" PRIu64 ": %s", pull->target, pull->bytes,
                            wrote < 0 ? strerror(errno) : "nothing was written");
        }
        done += (size_t)wrote;
        pull->bytes += (uint64_t)wrote;
    }
    return FM_OK;
}

fm_status fm__pull_truncate(struct fm_pull *pull, uint64_t to, struct fm_error *err)
{
    if (ftruncate(pull->fd, (off_t)to) != 0) {
        return fm__fail(err, FM_E_IO, "%s.part: cannot truncate: %s", pull->target, strerror(errno));
    }
    pull->bytes = pull->resumed_at = to;
    return FM_OK;
}

fm_status fm__pull_room(const struct fm_pull *pull, uint64_t more, struct fm_error *err)
{
    struct statvfs fs;
    char want[24], have[24];
    if (fstatvfs(pull->fd, &fs) != 0) return FM_OK; // not known: the write will tell
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room >= more) return FM_OK;
    return fm__fail(err, FM_E_IO, "%s: %s more are needed, its disk has %s free", pull->target,
                    fm__cli_bytes(want, more), fm__cli_bytes(have, room));
}

static fm_status check_hash(struct fm_pull *pull, const char *part, struct fm_error *err)
{
    FM_TRY(fm__sha256_file(part, pull->hex, err));
    if (!pull->sha256 || strcmp(pull->hex, pull->sha256) == 0) return FM_OK;
    return fm__fail(err, FM_E_VERIFY, "%s: SHA-256 is %s, want %s; what was got is deleted", pull->label, pull->hex,
                    pull->sha256);
}

fm_status fm__pull_commit(struct fm_pull *pull, struct fm_error *err)
{
    char *part, *from;
    FM_TRY(part_path(pull, ".part", &part, err));
    fm_status status = part_path(pull, ".part.from", &from, err);
    if (status == FM_OK) status = check_hash(pull, part, err);
    if (status == FM_OK) status = fm__file_publish(part, pull->target, err);
    if (status == FM_OK && pull->sha256) status = fm__verified_write(pull->target, pull->hex, err);
    if (status == FM_OK || status == FM_E_VERIFY) {
        if (status == FM_E_VERIFY) unlink(part);
        unlink(from);
    }
    free(part);
    free(from);
    return status;
}

void fm__pull_end(struct fm_pull *pull, bool keep)
{
    if (pull->fd < 0) return;
    char *part, *from;
    if (part_path(pull, ".part", &part, NULL) == FM_OK) {
        bool ours = still_named(pull->fd, part); // not after the rename
        if (ours && (!keep || pull->bytes == 0)) {
            unlink(part);
            if (part_path(pull, ".part.from", &from, NULL) == FM_OK) unlink(from);
            free(from);
        }
    }
    free(part);
    close(pull->fd);
    pull->fd = -1;
}

fm_status fm__pull_from_file(struct fm_pull *pull, const char *path, struct fm_error *err)
{
    enum { CHUNK = 1 << 18 };
    FM_TRY(fm__pull_truncate(pull, 0, err));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fm__fail(err, errno == ENOENT ? FM_E_NOT_FOUND : FM_E_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat st;
    char *chunk = malloc(CHUNK);
    fm_status status = chunk ? FM_OK : fm__fail_nomem(err, "copy buffer", CHUNK);
    if (status == FM_OK && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        status = fm__fail(err, FM_E_ARG, "%s: is not a regular file", path);
    }
    if (status == FM_OK) status = fm__pull_room(pull, (uint64_t)st.st_size, err);
    while (status == FM_OK) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = fm__fail(err, FM_E_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n <= 0) break;
        status = fm__pull_write(pull, chunk, (size_t)n, err);
    }
    free(chunk);
    close(fd);
    return status;
}

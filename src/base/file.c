// SPDX-License-Identifier: MIT
// Reading files with limits, and writing them all or nothing. Invariant of the writer: between open and close the
// temporary file exists exactly while `temp` is set, and nobody else knows its name.
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

enum {
    READ_STEP = 64 * 1024,    // first guess for files whose size is not known (pipes, /proc)
    WRITE_BUFFER = 64 * 1024, // gathers small writes; larger ones go straight through
    IO_STEP = 1 << 30,        // Linux moves at most 0x7ffff000 bytes a call
};

static fm_status fail_errno(struct fm_error *err, const char *path, const char *what)
{
    int code = errno;
    char space[128];
    const char *reason = strerror_r(code, space, sizeof space); // the GNU form returns the text
    fm_status status = code == ENOENT || code == ENOTDIR ? FM_E_NOT_FOUND : code == ENOMEM ? FM_E_NOMEM : FM_E_IO;
    return fm__fail(err, status, "%s: %s: %s", path, what, reason);
}

// --- reading ---

fm_status fm__file_open(const char *path, struct fm__file *out, struct fm_error *err)
{
    *out = (struct fm__file){.fd = -1};
    // without O_NONBLOCK the open of a FIFO would wait for its writer for ever
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(err, path, "cannot open");
    struct stat st;
    fm_status status = FM_OK;
    if (fstat(fd, &st))
        status = fail_errno(err, path, "cannot stat");
    else if (!S_ISREG(st.st_mode))
        status = fm__fail(err, FM_E_IO, "%s: not a regular file", path);
    if (status != FM_OK) {
        close(fd);
        return status;
    }
    *out = (struct fm__file){.fd = fd, .size = (uint64_t)st.st_size};
    return FM_OK;
}

void fm__file_close(struct fm__file *file)
{
    if (file->fd >= 0) close(file->fd);
    *file = (struct fm__file){.fd = -1};
}

fm_status fm__file_pread(const struct fm__file *file, uint64_t offset, void *dst, size_t n, struct fm_error *err)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, (uint64_t)n, &end) || end > INT64_MAX)
        return fm__fail(err, FM_E_ARG, "read of %zu bytes at byte %" PRIu64 ": no such position", n, offset);
    char *to = dst;
    while (n > 0) {
        ssize_t got = pread(file->fd, to, n < IO_STEP ? n : IO_STEP, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(err, "read", "failed");
        if (got == 0) return fm__fail(err, FM_E_IO, "file ends at byte %" PRIu64 ", want %zu more bytes", offset, n);
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return FM_OK;
}

// Reads until the end of the file or limit + 1 bytes, growing by doubling. *out holds what was read even on failure.
static fm_status read_until_end(int fd, const char *path, size_t limit, char **out, size_t *n, struct fm_error *err)
{
    struct stat st;
    size_t space = READ_STEP;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0) {
        if ((uint64_t)st.st_size > limit)
            return fm__fail(err, FM_E_LIMIT, "%s: %" PRIu64 " bytes, want at most %zu", path, (uint64_t)st.st_size,
                            limit);
        space = (size_t)st.st_size + 1; // one more shows the end without another allocation
    }
    if (space > limit && limit < SIZE_MAX) space = limit + 1;
    for (;;) {
        char *grown = fm__realloc(*out, space + 1);
        if (!grown) return fm__fail_nomem(err, path, space + 1);
        *out = grown;
        while (*n < space) {
            size_t want = space - *n;
            ssize_t got = read(fd, *out + *n, want < IO_STEP ? want : IO_STEP);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail_errno(err, path, "cannot read");
            if (got == 0) return FM_OK;
            *n += (size_t)got;
        }
        if (*n > limit) return fm__fail(err, FM_E_LIMIT, "%s: more than %zu bytes", path, limit);
        if (!fm__mul_size(space, 2, &space)) return fm__fail_nomem(err, path, space);
        if (space > limit && limit < SIZE_MAX) space = limit + 1;
    }
}

fm_status fm__file_read_all(const char *path, size_t limit, char **out, size_t *n, struct fm_error *err)
{
    *out = NULL;
    if (n) *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, path, "cannot open");
    char *bytes = NULL;
    size_t got = 0;
    fm_status status = read_until_end(fd, path, limit, &bytes, &got, err);
    close(fd);
    if (status != FM_OK) {
        fm__free(bytes);
        return status;
    }
    bytes[got] = '\0';
    *out = bytes;
    if (n) *n = got;
    return FM_OK;
}

// --- writing ---

struct fm__file_writer {
    int fd;
    bool failed; // a write failed: the contents are broken, commit must refuse
    char *path;
    char *temp;    // NULL once renamed
    uint64_t sent; // bytes the system took
    size_t n_held; // bytes in `held`
    char held[WRITE_BUFFER];
};

// The folder of `path`, to be synced after the rename: opened before it, so that what can fail fails early.
static fm_status open_folder_of(const char *path, int *fd, struct fm_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? fm__strdup(".") : fm__strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!folder) return fm__fail_nomem(err, "folder name", strlen(path));
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fm_status status = *fd >= 0 ? FM_OK : fail_errno(err, folder, "cannot open the folder");
    fm__free(folder);
    return status;
}

// Renames and makes the new name durable.
static fm_status move_into_place(const char *temp, const char *path, struct fm_error *err)
{
    int folder = -1;
    FM_TRY(open_folder_of(path, &folder, err));
    fm_status status = FM_OK;
    if (rename(temp, path))
        status = fail_errno(err, path, "cannot rename the finished file to it");
    else if (fsync(folder) && errno != EINVAL && errno != ENOTSUP) // those: nothing to sync in this file system
        status = fail_errno(err, path, "it is in place, but syncing its folder failed");
    close(folder);
    return status;
}

// Creates "PATH.<hex>.tmp" and sets w->fd and w->temp. `mode` as for open(2).
static fm_status create_temp(struct fm__file_writer *w, mode_t mode, struct fm_error *err)
{
    size_t space = strlen(w->path) + sizeof ".0123456789abcdef.tmp";
    w->temp = fm__malloc(space);
    if (!w->temp) return fm__fail_nomem(err, w->path, space);
    do {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            random = (uint64_t)getpid() << 32 ^ (uintptr_t)w; // O_EXCL below still keeps two writers apart
        snprintf(w->temp, space, "%s.%016" PRIx64 ".tmp", w->path, random);
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    } while (w->fd < 0 && errno == EEXIST);
    if (w->fd >= 0) return FM_OK;
    fm_status status = fail_errno(err, w->temp, "cannot create");
    fm__free(w->temp);
    w->temp = NULL;
    return status;
}

fm_status fm__file_writer_open(const char *path, struct fm__file_writer **out, struct fm_error *err)
{
    *out = NULL;
    struct stat st;
    bool exists = !stat(path, &st);
    if (exists && !S_ISREG(st.st_mode)) return fm__fail(err, FM_E_ARG, "%s: exists and is not a regular file", path);
    struct fm__file_writer *w = fm__malloc(sizeof *w);
    if (!w) return fm__fail_nomem(err, path, sizeof *w);
    w->fd = -1, w->failed = false, w->temp = NULL, w->sent = 0, w->n_held = 0; // the buffer needs no zeroes
    w->path = fm__strdup(path);
    fm_status status = w->path ? create_temp(w, 0666, err) : fm__fail_nomem(err, path, strlen(path));
    if (status == FM_OK && exists && fchmod(w->fd, st.st_mode & 07777))
        status = fail_errno(err, w->temp, "cannot set the permissions of the file it replaces");
    if (status != FM_OK) {
        fm__file_writer_close(w);
        return status;
    }
    *out = w;
    return FM_OK;
}

static fm_status send(struct fm__file_writer *w, const char *bytes, size_t n, struct fm_error *err)
{
    while (n > 0) {
        ssize_t put = write(w->fd, bytes, n < IO_STEP ? n : IO_STEP);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            if (put == 0) errno = ENOSPC;
            w->failed = true;
            char what[64];
            snprintf(what, sizeof what, "cannot write after %" PRIu64 " bytes", w->sent);
            return fail_errno(err, w->path, what);
        }
        bytes += put;
        n -= (size_t)put;
        w->sent += (uint64_t)put;
    }
    return FM_OK;
}

static fm_status flush(struct fm__file_writer *w, struct fm_error *err)
{
    size_t n = w->n_held;
    w->n_held = 0;
    return send(w, w->held, n, err);
}

fm_status fm__file_writer_write(struct fm__file_writer *w, const void *bytes, size_t n, struct fm_error *err)
{
    if (w->failed || !w->temp) return fm__fail(err, FM_E_IO, "%s: write after a failure or commit", w->path);
    if (n > sizeof w->held - w->n_held) FM_TRY(flush(w, err));
    if (n >= sizeof w->held) return send(w, bytes, n, err);
    if (n) memcpy(w->held + w->n_held, bytes, n); // bytes may be NULL when n is 0
    w->n_held += n;
    return FM_OK;
}

uint64_t fm__file_writer_position(const struct fm__file_writer *w)
{
    return w->sent + w->n_held;
}

fm_status fm__file_writer_commit(struct fm__file_writer *w, struct fm_error *err)
{
    if (w->failed || !w->temp) return fm__fail(err, FM_E_IO, "%s: commit after a failure or commit", w->path);
    FM_TRY(flush(w, err));
    w->failed = true; // until the rename
    if (fsync(w->fd)) return fail_errno(err, w->path, "cannot make its bytes durable");
    int fd = w->fd;
    w->fd = -1;
    if (close(fd)) return fail_errno(err, w->path, "cannot close"); // some network file systems report full disks here
    fm_status status = move_into_place(w->temp, w->path, err);
    if (status != FM_OK) return status; // close unlinks the temporary name, if that still exists
    fm__free(w->temp);
    w->temp = NULL;
    return FM_OK;
}

void fm__file_writer_close(struct fm__file_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->temp) unlink(w->temp);
    fm__free(w->temp);
    fm__free(w->path);
    fm__free(w);
}

fm_status fm__file_write_all(const char *path, const void *bytes, size_t n, struct fm_error *err)
{
    struct fm__file_writer *w;
    FM_TRY(fm__file_writer_open(path, &w, err));
    fm_status status = fm__file_writer_write(w, bytes, n, err);
    if (status == FM_OK) status = fm__file_writer_commit(w, err);
    fm__file_writer_close(w);
    return status;
}

fm_status fm__file_publish(const char *temp, const char *path, struct fm_error *err)
{
    int fd = open(temp, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, temp, "cannot open");
    bool failed = fsync(fd);
    fm_status status = failed ? fail_errno(err, temp, "cannot make its bytes durable") : FM_OK;
    close(fd);
    if (status != FM_OK) return status;
    return move_into_place(temp, path, err);
}

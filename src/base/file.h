// SPDX-License-Identifier: MIT
// Files: whole reads with a limit, positioned reads, and writing that is all or nothing.
// All calls are safe on different objects from different threads; fm__file_pread also on the same one.
// A missing file gives FM_E_NOT_FOUND; everything else that the system refuses FM_E_IO, with the path and its reason.
#ifndef FM_BASE_FILE_H
#define FM_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

// --- reading ---

// Reads the whole file (or pipe) into memory that the caller frees with fm__free; a zero byte follows the contents and
// is not counted in *n. More than `limit` bytes give FM_E_LIMIT and at most limit + 1 bytes are ever held.
// n may be NULL.
fm_status fm__file_read_all(const char *path, size_t limit, char **out, size_t *n, struct fm_error *err);

// A file open for positioned reads. `size` is that of the moment of opening; only regular files are accepted.
struct fm__file {
    int fd;
    uint64_t size;
};

fm_status fm__file_open(const char *path, struct fm__file *out, struct fm_error *err); // on failure fd is -1
void fm__file_close(struct fm__file *file);                                            // fd -1 is fine; sets it to -1
// Exactly n bytes from `offset`; fewer there (the file is shorter or shrank) is FM_E_IO naming the position.
// The error does not know the path: callers prefix it. Thread safe.
fm_status fm__file_pread(const struct fm__file *file, uint64_t offset, void *dst, size_t n, struct fm_error *err);

// --- writing ---

// A file that appears at `path` complete, or not at all: bytes go to a temporary file beside it
// ("NAME.<16 hex digits>.tmp"), commit makes them durable (fsync), renames over `path` and makes the name durable
// (fsync of the folder). An existing file keeps its permissions and is untouched until commit's rename. A path that
// exists and is not a regular file is refused (FM_E_ARG).
struct fm__file_writer;

fm_status fm__file_writer_open(const char *path, struct fm__file_writer **out, struct fm_error *err);
// Appends. Small writes are gathered (64 KiB). After the first failure every later write and the commit fail with
// FM_E_IO. A full disk names the bytes that were written before. A process over RLIMIT_FSIZE gets SIGXFSZ from the
// system unless it ignores that signal: then this fails as a full disk does.
fm_status fm__file_writer_write(struct fm__file_writer *w, const void *bytes, size_t n, struct fm_error *err);
uint64_t fm__file_writer_position(const struct fm__file_writer *w); // bytes accepted so far
// Flush, fsync, rename, fsync the folder. The writer must still be closed afterwards. On failure `path` is as it was,
// except where only the last step failed (the complete file is in place, the error says so).
fm_status fm__file_writer_commit(struct fm__file_writer *w, struct fm_error *err);
void fm__file_writer_close(struct fm__file_writer *w); // NULL is fine; without a commit the temporary file is removed

// write everything and commit, in one call.
fm_status fm__file_write_all(const char *path, const void *bytes, size_t n, struct fm_error *err);

// The commit alone, for a file that something else has written (a finished download): fsync of `temp`, rename to
// `path` in the same file system, fsync of the folder. `temp` stays where the rename did not happen.
fm_status fm__file_publish(const char *temp, const char *path, struct fm_error *err);

#endif

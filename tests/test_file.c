// SPDX-License-Identifier: MIT
// base/file and base/sha256: limits, atomic writing under failure (full disk, size limit, no memory), known digests.
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/sha256.h"

static const char *in_tmp(const char *name)
{
    static char path[8][512];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", test_tmpdir(), name);
    return p;
}

static int n_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void write_then_read(void **state)
{
    (void)state;
    struct fm_error err = {0};
    static char big[300000];
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 7 + i / 256);
    const char *path = in_tmp("whole");
    struct fm__file_writer *w;
    assert_ok(fm__file_writer_open(path, &w, &err), err);
    assert_int_not_equal(access(path, F_OK), 0); // not before commit
    size_t at = 0;
    for (size_t step = 1; at < sizeof big; step = step * 3 + 1) { // crosses the gather buffer in every way
        size_t n = step < sizeof big - at ? step : sizeof big - at;
        assert_ok(fm__file_writer_write(w, big + at, n, &err), err);
        at += n;
        assert_int_equal(fm__file_writer_position(w), at);
    }
    assert_ok(fm__file_writer_commit(w, &err), err);
    assert_int_equal(fm__file_writer_write(w, "x", 1, &err), FM_E_IO);
    fm__file_writer_close(w);

    char *back;
    size_t n;
    assert_ok(fm__file_read_all(path, sizeof big, &back, &n, &err), err);
    assert_int_equal(n, sizeof big);
    assert_memory_equal(back, big, n);
    assert_int_equal(back[n], 0);
    fm__free(back);
    assert_int_equal(fm__file_read_all(path, sizeof big - 1, &back, &n, &err), FM_E_LIMIT);
    assert_null(back);
    assert_int_equal(n, 0);

    struct fm__file file;
    char some[10];
    assert_ok(fm__file_open(path, &file, &err), err);
    assert_ok(fm__file_pread(&file, sizeof big - 10, some, 10, &err), err);
    assert_memory_equal(some, big + sizeof big - 10, 10);
    assert_int_equal(fm__file_pread(&file, sizeof big - 9, some, 10, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "300000"));
    assert_int_equal(fm__file_pread(&file, UINT64_MAX - 3, some, 10, &err), FM_E_ARG);
    fm__file_close(&file);
    assert_int_equal(n_entries(test_tmpdir()), 1);
    unlink(path);
}

static void odd_files(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm__file file;
    struct fm__file_writer *w;
    char *text;
    assert_int_equal(fm__file_open(in_tmp("none"), &file, &err), FM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "none"));
    assert_int_equal(file.fd, -1);
    fm__file_close(&file);
    assert_int_equal(fm__file_open(test_tmpdir(), &file, &err), FM_E_IO);
    assert_int_equal(fm__file_open("/dev/zero", &file, &err), FM_E_IO);
    assert_int_equal(fm__file_writer_open("/dev/full", &w, &err), FM_E_ARG);
    assert_null(w);
    assert_int_equal(fm__file_writer_open(in_tmp("no/such/folder"), &w, &err), FM_E_NOT_FOUND);
    assert_int_equal(fm__file_read_all(test_tmpdir(), 100, &text, NULL, &err), FM_E_IO);
    assert_int_equal(fm__file_read_all("/dev/zero", 100000, &text, NULL, &err), FM_E_LIMIT); // endless: stops there
    assert_ok(fm__file_read_all("/proc/self/stat", SIZE_MAX, &text, NULL, &err), err);       // size unknown before
    assert_true(strlen(text) > 10);
    fm__free(text);
    assert_ok(fm__file_write_all(in_tmp("empty"), NULL, 0, &err), err);
    size_t n = 1;
    assert_ok(fm__file_read_all(in_tmp("empty"), 0, &text, &n, &err), err);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    fm__free(text);
    unlink(in_tmp("empty"));
}

// The program's own fsync and rename stand in for libc's: they note what the library calls, in order.
static char calls[64];
static bool fail_fsync;

int fsync(int fd)
{
    struct stat st;
    if (fail_fsync) {
        errno = EIO;
        return -1;
    }
    if (!fstat(fd, &st)) strncat(calls, S_ISDIR(st.st_mode) ? "folder " : "file ", sizeof calls - strlen(calls) - 1);
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    strncat(calls, "rename ", sizeof calls - strlen(calls) - 1);
    return (int)syscall(SYS_renameat2, -100 /* AT_FDCWD */, from, -100, to, 0);
}

static void durable_before_it_appears(void **state)
{
    (void)state;
    struct fm_error err = {0};
    calls[0] = '\0';
    assert_ok(fm__file_write_all(in_tmp("durable"), "text", 4, &err), err);
    assert_string_equal(calls, "file rename folder ");
    calls[0] = '\0';
    assert_ok(fm__file_publish(in_tmp("durable"), in_tmp("published"), &err), err);
    assert_string_equal(calls, "file rename folder ");
    calls[0] = '\0';
    fail_fsync = true; // a disk that cannot promise: the old file stays
    assert_int_equal(fm__file_write_all(in_tmp("published"), "new", 3, &err), FM_E_IO);
    fail_fsync = false;
    assert_string_equal(calls, "");
    char *text;
    assert_ok(fm__file_read_all(in_tmp("published"), 100, &text, NULL, &err), err);
    assert_string_equal(text, "text");
    fm__free(text);
    unlink(in_tmp("published"));
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

static void replaces_and_keeps_permissions(void **state)
{
    (void)state;
    struct fm_error err = {0};
    const char *path = in_tmp("kept");
    assert_ok(fm__file_write_all(path, "old", 3, &err), err);
    chmod(path, 0640);
    struct fm__file_writer *w;
    assert_ok(fm__file_writer_open(path, &w, &err), err);
    assert_ok(fm__file_writer_write(w, "new text", 8, &err), err);
    fm__file_writer_close(w); // abandoned: the old file stays, the temporary one goes
    char *text;
    assert_ok(fm__file_read_all(path, 100, &text, NULL, &err), err);
    assert_string_equal(text, "old");
    fm__free(text);
    assert_int_equal(n_entries(test_tmpdir()), 1);
    assert_ok(fm__file_write_all(path, "new text", 8, &err), err);
    assert_ok(fm__file_read_all(path, 100, &text, NULL, &err), err);
    assert_string_equal(text, "new text");
    fm__free(text);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    unlink(path);
    assert_ok(fm__file_write_all(in_tmp("part"), "abc", 3, &err), err);
    assert_ok(fm__file_publish(in_tmp("part"), in_tmp("done"), &err), err);
    assert_int_equal(fm__file_publish(in_tmp("part"), in_tmp("done"), &err), FM_E_NOT_FOUND);
    unlink(in_tmp("done"));
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

// A child process limited to files of 100,000 bytes writes 150,000 over an old file: the limit acts like a full disk.
static void full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    struct fm_error err = {0};
    const char *path = in_tmp("limited");
    assert_ok(fm__file_write_all(path, "old", 3, &err), err);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {100000, 100000};
        static char zeros[150000];
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(3);
        struct fm__file_writer *w;
        if (fm__file_writer_open(path, &w, &err)) _exit(4);
        if (fm__file_writer_write(w, zeros, sizeof zeros, &err) != FM_E_IO) _exit(5);
        if (!strstr(err.text, "100000 bytes")) _exit(6);
        if (fm__file_writer_write(w, "x", 1, &err) != FM_E_IO || !strstr(err.text, "after a failure")) _exit(8);
        if (fm__file_writer_commit(w, &err) != FM_E_IO) _exit(7);
        fm__file_writer_close(w);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    char *text;
    assert_ok(fm__file_read_all(path, 100, &text, NULL, &err), err);
    assert_string_equal(text, "old");
    fm__free(text);
    unlink(path);
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

static void out_of_memory_is_clean(void **state)
{
    (void)state;
    struct fm_error err = {0};
    bool done = false;
    for (int n = 0; !done; n++) {
        char *text = NULL, hex[FM__SHA256_HEX];
        fm__alloc_fail_after(n, false);
        fm_status status = fm__file_write_all(in_tmp("memory"), "text", 4, &err);
        assert_int_equal(n_entries(test_tmpdir()), status == FM_OK); // the file, or nothing
        if (status == FM_OK) status = fm__file_read_all(in_tmp("memory"), 100, &text, NULL, &err);
        if (status == FM_OK) status = fm__sha256_file(in_tmp("memory"), hex, &err);
        fm__alloc_fail_after(-1, false);
        fm__free(text);
        done = status == FM_OK;
        if (!done) assert_int_equal(status, FM_E_NOMEM);
        assert_true(n < 100);
        unlink(in_tmp("memory"));
        assert_int_equal(n_entries(test_tmpdir()), 0);
    }
}

// FIPS 180-4's examples
static void known_digests(void **state)
{
    (void)state;
    struct fm_error err = {0};
    uint8_t digest[FM__SHA256_BYTES];
    char hex[FM__SHA256_HEX];
    assert_ok(fm__sha256_bytes("abc", 3, digest, &err), err);
    fm__sha256_hex(digest, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_ok(fm__sha256_bytes(NULL, 0, digest, &err), err);
    fm__sha256_hex(digest, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    static char million[1000000];
    memset(million, 'a', sizeof million);
    struct fm__file_writer *w;
    assert_ok(fm__file_writer_open(in_tmp("a"), &w, &err), err);
    for (int i = 0; i < 2; i++) assert_ok(fm__file_writer_write(w, million, sizeof million / 2, &err), err);
    assert_ok(fm__file_writer_commit(w, &err), err);
    fm__file_writer_close(w);
    assert_ok(fm__sha256_file(in_tmp("a"), hex, &err), err);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    unlink(in_tmp("a"));
    assert_int_equal(fm__sha256_file(in_tmp("a"), hex, &err), FM_E_NOT_FOUND);
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_read),
        cmocka_unit_test(odd_files),
        cmocka_unit_test(durable_before_it_appears),
        cmocka_unit_test(replaces_and_keeps_permissions),
        cmocka_unit_test(full_disk_leaves_the_old_file),
        cmocka_unit_test(out_of_memory_is_clean),
        cmocka_unit_test(known_digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

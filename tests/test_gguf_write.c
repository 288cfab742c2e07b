// SPDX-License-Identifier: MIT
// The GGUF writer: a file that was read is written again bit for bit (fixtures, vocabularies, a whole model), and every
// failure (full disk, no memory, wrong calls) leaves nothing behind.
#include "support/support.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "fathom/gguf.h"

static int n_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static const char *in_tmp(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    return path;
}

// Streams every tensor in pieces of `piece` bytes.
static fm_status copy_data(const struct fm_gguf *g, struct fm_gguf_writer *w, size_t piece, struct fm_error *err)
{
    char *bytes = malloc(piece);
    fm_status status = FM_OK;
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        for (size_t at = 0; at < t->bytes && status == FM_OK; at += piece) {
            size_t n = t->bytes - at < piece ? t->bytes - at : piece;
            status = fm_gguf_read(g, t, at, bytes, n, err);
            if (status == FM_OK) status = fm_gguf_writer_data(w, bytes, n, err);
        }
    }
    free(bytes);
    return status;
}

static fm_status copy_file(const struct fm_gguf *g, const char *to, size_t piece, struct fm_error *err)
{
    struct fm_gguf_writer *w;
    fm_status status = fm_gguf_writer_new(to, &w, err);
    for (uint64_t i = 0; status == FM_OK && i < fm_gguf_n_kv(g); i++)
        status = fm_gguf_writer_kv(w, fm_gguf_kv_at(g, i), err);
    for (uint64_t i = 0; status == FM_OK && i < fm_gguf_n_tensors(g); i++)
        status = fm_gguf_writer_tensor(w, fm_gguf_tensor_at(g, i)->name, &fm_gguf_tensor_at(g, i)->view, err);
    if (status == FM_OK) status = copy_data(g, w, piece, err);
    if (status == FM_OK) status = fm_gguf_writer_finish(w, err);
    fm_gguf_writer_free(w);
    return status;
}

// Bit for bit.
static void same_file(const char *a, const char *b)
{
    struct fm_error err = {0};
    char *x, *y;
    size_t n_x, n_y;
    assert_ok(fm__file_read_all(a, SIZE_MAX, &x, &n_x, &err), err);
    assert_ok(fm__file_read_all(b, SIZE_MAX, &y, &n_y, &err), err);
    if (n_x != n_y) fail_msg("%s has %zu bytes, its copy %zu", a, n_x, n_y);
    if (memcmp(x, y, n_x)) fail_msg("%s differs from its copy", a);
    fm__free(x), fm__free(y);
}

static void round_trip(const char *path, size_t piece)
{
    struct fm_error err = {0};
    struct fm_gguf *g;
    char *copy = strdup(in_tmp("copy.gguf"));
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    assert_ok(copy_file(g, copy, piece, &err), err);
    same_file(path, copy);
    fm_gguf_close(g);
    unlink(copy);
    free(copy);
}

static void fixtures_round_trip(void **state)
{
    (void)state;
    static const char *const names[] = {"gguf_types.gguf", "gguf_small.gguf"};
    for (int i = 0; i < 2; i++)
        for (size_t piece = 1; piece < 100000; piece *= 17) round_trip(test_data(names[i]), piece);
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

static void whole_model_round_trips(void **state)
{
    (void)state;
    const char *path = test_model("smollm2");
    if (!path) skip();
    round_trip(path, 1 << 20);
}

// The tables of a larger model: another writer, more tensor types, a vocabulary of 262,144 strings.
static void second_model_opens(void **state)
{
    (void)state;
    const char *path = test_model("gemma3");
    if (!path) skip();
    struct fm_error err = {0};
    struct fm_gguf *g;
    struct fm_str text;
    int64_t n;
    uint8_t last[64];
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    assert_true(fm_gguf_get_str(g, "general.architecture", &text));
    assert_string_equal(text.p, "gemma3");
    assert_true(fm_gguf_get_i64(g, "gemma3.block_count", &n) && n == 18);
    assert_int_equal(fm_gguf_find(g, "tokenizer.ggml.tokens")->n, 262144);
    const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, fm_gguf_n_tensors(g) - 1);
    assert_ok(fm_gguf_read(g, t, t->bytes - sizeof last, last, sizeof last, &err), err);
    fm_gguf_close(g);
}

static void vocabularies_round_trip(void **state)
{
    (void)state;
    const char *archive = test_shared("data/gguf-vocabs.tar.zst");
    if (!archive) skip();
    char command[5000], folder[512];
    snprintf(folder, sizeof folder, "%s", in_tmp("gguf-vocabs/models"));
    snprintf(command, sizeof command, "tar -C '%s' --zstd -xf '%s'", test_tmpdir(), archive);
    if (system(command)) {
        print_message("skipped: tar cannot unpack %s (needs zstd)\n", archive);
        skip();
    }
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        size_t length = strlen(e->d_name);
        if (length < 5 || strcmp(e->d_name + length - 5, ".gguf")) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        round_trip(path, 4096);
        n++;
    }
    closedir(dir);
    assert_true(n >= 12);
    snprintf(command, sizeof command, "rm -r '%s'", in_tmp("gguf-vocabs"));
    assert_int_equal(system(command), 0);
}

// --- failures ---

// Copies the fixture in a child that may write files of at most `limit` bytes; the target must stay what it was.
static void with_full_disk(const char *to, rlim_t limit)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit r = {limit, limit};
        struct fm_error err = {0};
        struct fm_gguf *g;
        signal(SIGXFSZ, SIG_IGN);
        if (fm_gguf_open(test_data("gguf_types.gguf"), NULL, &g, &err)) _exit(2);
        if (setrlimit(RLIMIT_FSIZE, &r)) _exit(3);
        fm_status status = copy_file(g, to, 1000, &err);
        fm_gguf_close(g);
        _exit(status == FM_E_IO && strstr(err.text, "File too large") ? 0 : 4);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
}

static void full_disk(void **state)
{
    (void)state;
    struct fm_error err = {0};
    const char *to = in_tmp("target.gguf");
    static const rlim_t limits[] = {0, 1, 100, 2000, 24063}; // the file has 24,064 bytes
    for (int old = 0; old < 2; old++) {
        if (old) assert_ok(fm__file_write_all(to, "old", 3, &err), err);
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
            with_full_disk(to, limits[i]);
            assert_int_equal(n_entries(test_tmpdir()), old);
        }
    }
    char *text;
    assert_ok(fm__file_read_all(to, 100, &text, NULL, &err), err);
    assert_string_equal(text, "old");
    fm__free(text);
    unlink(to);
}

static void out_of_memory_is_clean(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf *g;
    const char *to = in_tmp("memory.gguf");
    assert_ok(fm_gguf_open(test_data("gguf_types.gguf"), NULL, &g, &err), err);
    int n = 0;
    for (fm_status status = FM_E_NOMEM; status != FM_OK; n++) {
        fm__alloc_fail_after(n, n % 2);
        status = copy_file(g, to, 1000, &err);
        fm__alloc_fail_after(-1, false);
        if (status == FM_OK) break;
        assert_int_equal(status, FM_E_NOMEM);
        assert_int_equal(n_entries(test_tmpdir()), 0);
        assert_true(n < 1000);
    }
    assert_true(n > 8);
    same_file(test_data("gguf_types.gguf"), to);
    unlink(to);
    fm_gguf_close(g);
}

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

static void wrong_declarations(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf_writer *w;
    uint32_t seven = 7, three = 3;
    const struct fm_gguf_kv good = {str("key"), FM_GGUF_U32, 0, 1, &seven};
    struct fm_gguf_kv kv;
    assert_ok(fm_gguf_writer_new(in_tmp("wrong.gguf"), &w, &err), err);
    assert_ok(fm_gguf_writer_kv(w, &good, &err), err);
    assert_int_equal(fm_gguf_writer_kv(w, &good, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "duplicate metadata key \"key\""));
    kv = good, kv.key = str("");
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    kv = good, kv.key = str("b"), kv.type = (fm_gguf_type)13;
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    kv = good, kv.key = str("b"), kv.n = 2;
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    kv = good, kv.key = str("b"), kv.data = NULL;
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    kv = good, kv.key = str("general.alignment"), kv.data = &three;
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);

    struct fm_tensor view = {.dtype = FM_F32, .rank = 2, .dims = {3, 5}}, bad;
    assert_ok(fm_gguf_writer_tensor(w, str("a"), &view, &err), err);
    assert_int_equal(fm_gguf_writer_tensor(w, str("a"), &view, &err), FM_E_ARG);
    assert_int_equal(fm_gguf_writer_tensor(w, str(""), &view, &err), FM_E_ARG);
    bad = view, bad.dims[0] = 0;
    assert_int_equal(fm_gguf_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.dims[0] = INT64_MAX;
    assert_int_equal(fm_gguf_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.dtype = FM_Q4_0;
    assert_int_equal(fm_gguf_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.dtype = FM_Q8A;
    assert_int_equal(fm_gguf_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.rank = 5;
    assert_int_equal(fm_gguf_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);

    char data[100] = {0};
    assert_ok(fm_gguf_writer_data(w, data, 59, &err), err);
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    assert_int_equal(fm_gguf_writer_tensor(w, str("c"), &view, &err), FM_E_ARG);
    assert_int_equal(fm_gguf_writer_data(w, data, 2, &err), FM_E_ARG);
    assert_int_equal(fm_gguf_writer_finish(w, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "59 bytes of data came, it has 60"));
    fm_gguf_writer_free(w);
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

// The same calls without the mistakes: what was refused left no trace in the file.
static void writes_after_refusals(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf_writer *w;
    uint32_t seven = 7, sixteen = 16;
    const struct fm_gguf_kv kv = {str("key"), FM_GGUF_U32, 0, 1, &seven};
    const struct fm_gguf_kv alignment = {str("general.alignment"), FM_GGUF_U32, 0, 1, &sixteen};
    const struct fm_gguf_kv none = {str("none"), FM_GGUF_ARRAY, FM_GGUF_STRING, 0, NULL};
    struct fm_tensor view = {.dtype = FM_F32, .rank = 2, .dims = {3, 5}}, scalar = {.dtype = FM_F32};
    char data[60] = "bytes of the tensor";
    const char *path = in_tmp("after.gguf");
    assert_ok(fm_gguf_writer_new(path, &w, &err), err);
    assert_ok(fm_gguf_writer_kv(w, &kv, &err), err);
    assert_int_equal(fm_gguf_writer_kv(w, &kv, &err), FM_E_ARG);
    assert_ok(fm_gguf_writer_tensor(w, str("a"), &view, &err), err);
    assert_ok(fm_gguf_writer_kv(w, &alignment, &err), err); // after a tensor: it still counts
    assert_ok(fm_gguf_writer_kv(w, &none, &err), err);
    assert_int_equal(fm_gguf_writer_tensor(w, str("a"), &view, &err), FM_E_ARG);
    assert_ok(fm_gguf_writer_tensor(w, str("s"), &scalar, &err), err);
    assert_ok(fm_gguf_writer_data(w, data, 60, &err), err);
    assert_ok(fm_gguf_writer_data(w, data, 4, &err), err);
    assert_int_equal(fm_gguf_writer_data(w, data, 1, &err), FM_E_ARG);
    assert_ok(fm_gguf_writer_finish(w, &err), err);
    assert_int_equal(fm_gguf_writer_finish(w, &err), FM_E_ARG);
    fm_gguf_writer_free(w);
    struct fm_gguf *g;
    char back[60];
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    assert_int_equal(fm_gguf_n_kv(g), 3);
    assert_int_equal(fm_gguf_n_tensors(g), 2);
    assert_int_equal(fm_gguf_find_tensor(g, "s")->file_offset - fm_gguf_find_tensor(g, "a")->file_offset, 64);
    assert_int_equal(fm_gguf_find_tensor(g, "s")->view.rank, 0);
    assert_ok(fm_gguf_read(g, fm_gguf_find_tensor(g, "a"), 0, back, 60, &err), err);
    assert_memory_equal(back, data, 60);
    fm_gguf_close(g);
    unlink(path);
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_round_trip), cmocka_unit_test(whole_model_round_trips),
        cmocka_unit_test(second_model_opens),  cmocka_unit_test(vocabularies_round_trip),
        cmocka_unit_test(full_disk),           cmocka_unit_test(out_of_memory_is_clean),
        cmocka_unit_test(wrong_declarations),  cmocka_unit_test(writes_after_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

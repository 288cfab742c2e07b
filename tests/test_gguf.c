// SPDX-License-Identifier: MIT
// The GGUF reader: files that the Python package wrote, look-ups, overrides, split models, and every way a file can be
// broken (truncated at each byte, each byte changed, tables that lie, no memory at the n-th allocation).
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "fathom/gguf.h"

static struct fm_gguf *open_data(const char *name)
{
    struct fm_error err = {0};
    struct fm_gguf *g;
    assert_ok(fm_gguf_open(test_data(name), NULL, &g, &err), err);
    return g;
}

// Byte i of the k-th tensor of tests/data/make_gguf.py.
static void check_tensor(const struct fm_gguf *g, const struct fm_gguf_tensor *t, unsigned k)
{
    struct fm_error err = {0};
    uint8_t *bytes = malloc(t->bytes);
    assert_non_null(bytes);
    assert_ok(fm_gguf_read(g, t, 0, bytes, t->bytes, &err), err);
    for (size_t i = 0; i < t->bytes; i++) assert_int_equal(bytes[i], (uint8_t)(7 * i + 13 * k));
    if (t->bytes > 5) {
        assert_ok(fm_gguf_read(g, t, t->bytes - 5, bytes, 5, &err), err);
        assert_int_equal(bytes[4], (uint8_t)(7 * (t->bytes - 1) + 13 * k));
    }
    assert_int_equal(fm_gguf_read(g, t, t->bytes - 1, bytes, 2, &err), FM_E_ARG);
    assert_int_equal(fm_gguf_read(g, t, SIZE_MAX, bytes, 2, &err), FM_E_ARG);
    free(bytes);
}

// --- what a correct file says ---

static void scalars_of_every_type(void **state)
{
    (void)state;
    struct fm_gguf *g = open_data("gguf_types.gguf");
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"t.u8", 200},           {"t.i8", -100},         {"t.u16", 60000},
                    {"t.i16", -30000},       {"t.u32", 4000000000u}, {"t.i32", -2000000000},
                    {"t.i64", -(1ll << 62)}, {"t.yes", 1},           {"t.no", 0}};
    int64_t integer = 77;
    double real = 0;
    bool yes = false;
    struct fm_str text;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        assert_true(fm_gguf_get_i64(g, integers[i].key, &integer));
        assert_int_equal(integer, integers[i].value);
        if (i > 6) continue; // bools are no reals
        assert_true(fm_gguf_get_f64(g, integers[i].key, &real));
        assert_true(real == (double)integers[i].value);
    }
    assert_false(fm_gguf_get_i64(g, "t.u64", &integer)); // 2^63 + 5 is no int64_t
    assert_int_equal(integer, 0);                        // untouched
    assert_true(fm_gguf_get_f64(g, "t.u64", &real));
    assert_true(real == 9223372036854775808.0);
    assert_true(fm_gguf_get_f64(g, "t.f32", &real) && real == 1.5);
    assert_true(fm_gguf_get_f64(g, "t.f64", &real) && real == 0.1);
    assert_false(fm_gguf_get_i64(g, "t.f64", &integer));
    assert_false(fm_gguf_get_f64(g, "t.yes", &real));
    assert_true(fm_gguf_get_bool(g, "t.yes", &yes) && yes);
    assert_true(fm_gguf_get_bool(g, "t.no", &yes) && !yes);
    assert_false(fm_gguf_get_bool(g, "t.u8", &yes));
    assert_true(fm_gguf_get_str(g, "t.text", &text));
    assert_string_equal(text.p, "Grüße, 世界");
    assert_int_equal(text.n, strlen(text.p));
    assert_false(fm_gguf_get_str(g, "t.u8", &text));
    assert_false(fm_gguf_get_i64(g, "absent", &integer));
    assert_false(fm_gguf_get_i64(g, "t.ints", &integer)); // arrays are no scalars
    fm_gguf_close(g);
}

static void arrays(void **state)
{
    (void)state;
    struct fm_gguf *g = open_data("gguf_types.gguf");
    const struct fm_gguf_kv *kv = fm_gguf_find(g, "t.ints");
    int64_t integer;
    double real;
    struct fm_str text;
    assert_int_equal(kv->type, FM_GGUF_ARRAY);
    assert_int_equal(kv->array_type, FM_GGUF_I32);
    assert_int_equal(kv->n, 3);
    assert_true(fm_gguf_kv_i64_at(kv, 1, &integer) && integer == -2);
    assert_true(fm_gguf_kv_f64_at(kv, 2, &real) && real == 3);
    assert_false(fm_gguf_kv_i64_at(kv, 3, &integer));
    kv = fm_gguf_find(g, "t.reals");
    assert_true(fm_gguf_kv_f64_at(kv, 1, &real) && real == -0.25);
    kv = fm_gguf_find(g, "t.bools");
    assert_true(fm_gguf_kv_i64_at(kv, 2, &integer) && integer == 1);
    kv = fm_gguf_find(g, "t.words");
    static const char *const words[] = {"a", "", "long enough to be seen", "ü"};
    assert_int_equal(kv->n, 4);
    for (uint64_t i = 0; i < 4; i++) {
        assert_true(fm_gguf_kv_str_at(kv, i, &text));
        assert_string_equal(text.p, words[i]);
        assert_int_equal(text.n, strlen(words[i]));
    }
    assert_false(fm_gguf_kv_str_at(kv, 4, &text));
    assert_false(fm_gguf_kv_i64_at(kv, 0, &integer));
    kv = fm_gguf_find(g, "t.nested");
    assert_int_equal(kv->array_type, FM_GGUF_ARRAY);
    assert_int_equal(kv->n, 3);
    assert_false(fm_gguf_kv_i64_at(kv, 0, &integer));
    assert_null(fm_gguf_kv_at(g, fm_gguf_n_kv(g)));
    for (uint64_t i = 0; i < fm_gguf_n_kv(g); i++)
        assert_ptr_equal(fm_gguf_find(g, fm_gguf_kv_at(g, i)->key.p), fm_gguf_kv_at(g, i));
    fm_gguf_close(g);
}

static void tensors_of_every_type(void **state)
{
    (void)state;
    static const char *const names[] = {"f32",  "f16",  "q4_0", "q4_1", "q5_0", "q5_1",   "q8_0",
                                        "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs",
                                        "i8",   "i16",  "i32",  "i64",  "f64",  "bf16"};
    struct fm_gguf *g = open_data("gguf_types.gguf");
    assert_int_equal(fm_gguf_n_tensors(g), 20);
    for (unsigned k = 0; k < 20; k++) {
        char name[32];
        snprintf(name, sizeof name, "tensor.%s", names[k]);
        const struct fm_gguf_tensor *t = fm_gguf_find_tensor(g, name);
        assert_non_null(t);
        assert_ptr_equal(t, fm_gguf_tensor_at(g, k));
        assert_int_equal(t->view.dtype, fm_dtype_from_name(names[k]));
        assert_int_equal(t->file_offset % 64, 0); // general.alignment of this file
        check_tensor(g, t, k);
    }
    const struct fm_tensor *v = &fm_gguf_find_tensor(g, "tensor.q4_1")->view;
    static const int64_t dims[] = {2, 1, 2, 256}, strides[] = {320, 320, 160, 20};
    assert_int_equal(v->rank, 4);
    assert_memory_equal(v->dims, dims, sizeof dims);
    assert_memory_equal(v->strides, strides, sizeof strides);
    assert_null(fm_gguf_find_tensor(g, "tensor"));
    assert_null(fm_gguf_tensor_at(g, 20));
    fm_gguf_close(g);
    fm_gguf_close(NULL);
}

static void version_2_reads_the_same(void **state)
{
    (void)state;
    struct fm_gguf *a = open_data("gguf_small.gguf"), *b = open_data("gguf_v2.gguf");
    assert_int_equal(fm_gguf_n_kv(a), fm_gguf_n_kv(b));
    assert_int_equal(fm_gguf_n_tensors(a), 3);
    for (unsigned k = 0; k < 3; k++) check_tensor(b, fm_gguf_tensor_at(b, k), k);
    fm_gguf_close(a), fm_gguf_close(b);
}

static void split_files(void **state)
{
    (void)state;
    for (int first = 1; first <= 3; first++) {
        char name[64];
        snprintf(name, sizeof name, "gguf_split-%05d-of-00003.gguf", first);
        struct fm_gguf *g = open_data(name); // any of them opens all
        struct fm_str text;
        assert_true(fm_gguf_get_str(g, "t.text", &text));
        assert_string_equal(text.p, "in the first file");
        assert_int_equal(fm_gguf_n_tensors(g), 5);
        for (unsigned k = 0; k < 5; k++) {
            const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, k);
            assert_int_equal(t->name.p[0], 'a' + k);
            assert_int_equal(t->shard, k / 2);
            check_tensor(g, t, k);
        }
        fm_gguf_close(g);
    }
}

// Copies fixture `from` to a temporary file `to`, changing the bytes `old` (if not NULL) into `new`, n each.
static const char *copy_as(const char *from, const char *to, const void *old, const void *new, size_t n)
{
    static char path[512];
    struct fm_error err = {0};
    size_t size;
    uint8_t *bytes = test_read_file(test_data(from), &size);
    if (old) {
        uint8_t *at = memmem(bytes, size, old, n);
        assert_non_null(at);
        memcpy(at, new, n);
    }
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), to);
    assert_ok(fm__file_write_all(path, bytes, size, &err), err);
    free(bytes);
    return path;
}

static void broken_splits(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf *g;
    static const char part[3][40] = {"gguf_split-00001-of-00003.gguf", "gguf_split-00002-of-00003.gguf",
                                     "gguf_split-00003-of-00003.gguf"};
    assert_int_equal(fm_gguf_open(copy_as(part[1], "renamed.gguf", NULL, NULL, 0), NULL, &g, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "-00002-of-00003.gguf"));
    copy_as(part[0], "x-00001-of-00003.gguf", NULL, NULL, 0);
    assert_int_equal(fm_gguf_open(copy_as(part[1], "x-00002-of-00003.gguf", NULL, NULL, 0), NULL, &g, &err),
                     FM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "x-00003-of-00003.gguf"));
    assert_null(g);
    const char *path = copy_as(part[1], "x-00003-of-00003.gguf", NULL, NULL, 0); // the second twice
    assert_int_equal(fm_gguf_open(path, NULL, &g, &err), FM_E_FORMAT);
    // the third with a tensor of the first: "e" (its table entry is {u64 1, 'e', u32 rank 2})
    path = copy_as(part[2], "x-00003-of-00003.gguf", "\1\0\0\0\0\0\0\0e\2\0\0", "\1\0\0\0\0\0\0\0a\2\0\0", 12);
    assert_int_equal(fm_gguf_open(path, NULL, &g, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "duplicate name \"a\""));
    path = copy_as(part[2], "x-00003-of-00003.gguf", NULL, NULL, 0);
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    fm_gguf_close(g);
    copy_as(part[0], "x-00001-of-00003.gguf", "split.tensors.count\5\0\0\0\5", "split.tensors.count\5\0\0\0\6", 24);
    assert_int_equal(fm_gguf_open(path, NULL, &g, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "split.tensors.count says 6"));
    size_t n;
    uint8_t *bytes = test_read_file(test_data(part[0]), &n);
    assert_int_equal(fm_gguf_open_memory(bytes, n, NULL, &g, &err), FM_E_UNSUPPORTED);
    free(bytes);
}

static void overrides(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf *g = open_data("gguf_types.gguf");
    const struct fm_gguf_kv *before = fm_gguf_find(g, "t.u8");
    int64_t integer;
    double real;
    bool yes;
    struct fm_str text;
    uint64_t n = fm_gguf_n_kv(g);
    assert_ok(fm_gguf_override(g, "t.u8=int:7", &err), err);
    assert_ptr_equal(before, fm_gguf_find(g, "t.u8"));
    assert_int_equal(before->type, FM_GGUF_U8); // its width stays
    assert_true(fm_gguf_get_i64(g, "t.u8", &integer) && integer == 7);
    assert_ok(fm_gguf_override(g, "t.f32=float:2.5", &err), err);
    assert_true(fm_gguf_get_f64(g, "t.f32", &real) && real == 2.5);
    assert_ok(fm_gguf_override(g, "t.yes=bool:false", &err), err);
    assert_true(fm_gguf_get_bool(g, "t.yes", &yes) && !yes);
    assert_ok(fm_gguf_override(g, "t.text=str:a=b:c", &err), err);
    assert_true(fm_gguf_get_str(g, "t.text", &text));
    assert_string_equal(text.p, "a=b:c");
    assert_ok(fm_gguf_override(g, "t.ints=int:-9", &err), err); // one value for a list
    assert_true(fm_gguf_get_i64(g, "t.ints", &integer) && integer == -9);
    assert_int_equal(fm_gguf_n_kv(g), n);
    for (int i = 0; i < 100; i++) { // many new ones: tables grow, addresses stay
        char spec[64];
        snprintf(spec, sizeof spec, "new.%d=int:%d", i, i);
        assert_ok(fm_gguf_override(g, spec, &err), err);
    }
    assert_int_equal(fm_gguf_n_kv(g), n + 100);
    assert_true(fm_gguf_get_i64(g, "new.63", &integer) && integer == 63);
    assert_ptr_equal(before, fm_gguf_find(g, "t.u8"));
    static const char *const wrong[] = {"",
                                        "x",
                                        "=int:1",
                                        "x=1",
                                        "x=int:",
                                        "x=int:1x",
                                        "x=float:",
                                        "x=bool:yes",
                                        "x=what:1",
                                        "t.u8=int:256",
                                        "t.u8=str:a",
                                        "t.text=int:1",
                                        "x=float:1e999",
                                        "t.i8=int:-129",
                                        "t.f32=int:1",
                                        "x=int:99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(fm_gguf_override(g, wrong[i], &err), FM_E_ARG);
    assert_int_equal(fm_gguf_n_kv(g), n + 100);
    fm_gguf_close(g);
}

// --- broken files ---

// Opens exactly these n bytes (so that ASan sees a read past them) and, where that works, reads every tensor.
static fm_status open_bytes(const uint8_t *bytes, size_t n, struct fm_error *err)
{
    uint8_t *copy = malloc(n ? n : 1);
    struct fm_gguf *g;
    assert_non_null(copy);
    if (n) memcpy(copy, bytes, n);
    fm_status status = fm_gguf_open_memory(copy, n, NULL, &g, err);
    if (status != FM_OK) assert_null(g);
    for (uint64_t i = 0; status == FM_OK && i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        void *data = malloc(t->bytes);
        assert_ok(fm_gguf_read(g, t, 0, data, t->bytes, err), *err);
        free(data);
    }
    fm_gguf_close(g);
    free(copy);
    return status;
}

static void truncated_at_every_byte(void **state)
{
    (void)state;
    struct fm_error err = {0};
    size_t size;
    uint8_t *bytes = test_read_file(test_data("gguf_small.gguf"), &size);
    char path[512];
    snprintf(path, sizeof path, "%s/cut.gguf", test_tmpdir());
    assert_ok(open_bytes(bytes, size, &err), err);
    assert_ok(fm__file_write_all(path, bytes, size, &err), err);
    for (size_t n = size; n-- > 0;) {
        memset(&err, 0, sizeof err);
        assert_int_equal(open_bytes(bytes, n, &err), FM_E_FORMAT);
        assert_non_null(strstr(err.text, "byte"));
        assert_int_equal(truncate(path, (off_t)n), 0);
        struct fm_gguf *g;
        assert_int_equal(fm_gguf_open(path, NULL, &g, &err), FM_E_FORMAT);
        assert_null(g);
        assert_non_null(strstr(err.text, "cut.gguf: "));
    }
    free(bytes);
}

static void every_byte_changed(void **state)
{
    (void)state;
    struct fm_error err = {0};
    size_t size;
    uint8_t *bytes = test_read_file(test_data("gguf_small.gguf"), &size);
    static const uint8_t masks[] = {0xff, 0x80, 0x01, 0x10};
    int n_refused = 0;
    for (size_t i = 0; i < size; i++)
        for (size_t k = 0; k < sizeof masks; k++) {
            bytes[i] ^= masks[k];
            n_refused += open_bytes(bytes, size, &err) != FM_OK;
            bytes[i] ^= masks[k];
        }
    assert_true(n_refused > 400); // header bytes; names and data may be anything
    free(bytes);
}

static void shrinks_while_open(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf *g;
    uint8_t bytes[64];
    const char *path = copy_as("gguf_small.gguf", "shrinks.gguf", NULL, NULL, 0);
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(g, "c");
    assert_int_equal(truncate(path, (off_t)t->file_offset + 10), 0);
    assert_ok(fm_gguf_read(g, t, 0, bytes, 10, &err), err);
    assert_int_equal(fm_gguf_read(g, t, 0, bytes, 64, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "tensor \"c\""));
    fm_gguf_close(g);
}

static void vocab_only_needs_no_data(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_gguf *g;
    struct fm_gguf_open_opts opts = {.vocab_only = true};
    const char *path = copy_as("gguf_small.gguf", "vocab.gguf", NULL, NULL, 0);
    assert_ok(fm_gguf_open(path, NULL, &g, &err), err);
    uint64_t start = fm_gguf_tensor_at(g, 0)->file_offset;
    fm_gguf_close(g);
    assert_int_equal(truncate(path, (off_t)start), 0);
    assert_int_equal(fm_gguf_open(path, NULL, &g, &err), FM_E_FORMAT);
    assert_ok(fm_gguf_open(path, &opts, &g, &err), err);
    assert_int_equal(fm_gguf_n_tensors(g), 3);
    fm_gguf_close(g);
}

// A file put together by hand.
struct blob {
    uint8_t bytes[4096];
    size_t n;
};

static void u32(struct blob *b, uint32_t v)
{
    memcpy(b->bytes + b->n, &v, sizeof v);
    b->n += sizeof v;
}

static void u64(struct blob *b, uint64_t v)
{
    memcpy(b->bytes + b->n, &v, sizeof v);
    b->n += sizeof v;
}

static void str(struct blob *b, const char *text)
{
    u64(b, strlen(text));
    memcpy(b->bytes + b->n, text, strlen(text));
    b->n += strlen(text);
}

static void head(struct blob *b, uint64_t n_tensors, uint64_t n_kvs)
{
    memset(b, 0, sizeof *b);
    memcpy(b->bytes, "GGUF", 4);
    b->n = 4;
    u32(b, 3), u64(b, n_tensors), u64(b, n_kvs);
}

static void tensor(struct blob *b, const char *name, uint64_t dim, uint32_t type, uint64_t offset)
{
    str(b, name), u32(b, 1), u64(b, dim), u32(b, type), u64(b, offset);
}

// Pads the tables and adds `n` bytes of data.
static void data(struct blob *b, size_t n)
{
    b->n = (b->n + 31) / 32 * 32 + n;
    assert_true(b->n <= sizeof b->bytes);
}

static void refused(const struct blob *b, fm_status code, const char *says)
{
    struct fm_error err = {0};
    fm_status status = open_bytes(b->bytes, b->n, &err);
    if (status != code || !strstr(err.text, says))
        fail_msg("got %s \"%s\", want %s with \"%s\"", fm_status_text(status), err.text, fm_status_text(code), says);
}

static void broken_headers(void **state)
{
    (void)state;
    struct blob b;
    struct fm_error err = {0};
    head(&b, 0, 0);
    assert_ok(open_bytes(b.bytes, b.n, &err), err);
    head(&b, 0, 0), b.bytes[3] = 'X';
    refused(&b, FM_E_FORMAT, "\"GGUX\"");
    head(&b, 0, 0), b.bytes[4] = 1;
    refused(&b, FM_E_UNSUPPORTED, "version 1");
    head(&b, 0, 0), b.bytes[4] = 4;
    refused(&b, FM_E_UNSUPPORTED, "version 4");
    head(&b, 0, 0), b.bytes[4] = 0, b.bytes[7] = 3;
    refused(&b, FM_E_UNSUPPORTED, "big-endian");
    head(&b, 1ull << 63, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "9223372036854775808 tensors");
    head(&b, 0, 1ull << 63), data(&b, 64);
    refused(&b, FM_E_FORMAT, "9223372036854775808 metadata");
    head(&b, UINT64_MAX, UINT64_MAX);
    refused(&b, FM_E_FORMAT, "at byte 8");
}

static void broken_metadata(void **state)
{
    (void)state;
    struct blob b;
    struct fm_error err = {0};
    head(&b, 0, 1), u64(&b, 1ull << 63), data(&b, 32);
    refused(&b, FM_E_FORMAT, "metadata key: want 9223372036854775808 bytes");
    head(&b, 0, 1), str(&b, ""), u32(&b, FM_GGUF_U8), data(&b, 32);
    refused(&b, FM_E_FORMAT, "empty (at byte 24)");
    head(&b, 0, 1), u64(&b, 3), b.n += 3, u32(&b, FM_GGUF_U8), data(&b, 32); // "\0\0\0"
    refused(&b, FM_E_FORMAT, "zero byte");
    head(&b, 0, 1), str(&b, "key"), u32(&b, 13), data(&b, 32);
    refused(&b, FM_E_FORMAT, "\"key\": value type 13, want 0 to 12 (at byte 35)");
    head(&b, 0, 2), str(&b, "key"), u32(&b, FM_GGUF_U32), u32(&b, 1), str(&b, "key"), u32(&b, FM_GGUF_U32), u32(&b, 1);
    refused(&b, FM_E_FORMAT, "at byte 43: duplicate name \"key\"");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_STRING), u64(&b, UINT64_MAX), data(&b, 32);
    refused(&b, FM_E_FORMAT, "\"key\"");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_ARRAY), u32(&b, FM_GGUF_U64), u64(&b, 1ull << 61), data(&b, 32);
    refused(&b, FM_E_FORMAT, "array of 2305843009213693952 elements");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_ARRAY), u32(&b, FM_GGUF_STRING), u64(&b, 1ull << 60), data(&b, 32);
    refused(&b, FM_E_FORMAT, "array of 1152921504606846976 elements");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_ARRAY), u32(&b, 99), u64(&b, 1), data(&b, 32);
    refused(&b, FM_E_FORMAT, "value type 99");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_BOOL), b.bytes[b.n++] = 2;
    refused(&b, FM_E_FORMAT, "bool of value 2");
    head(&b, 0, 1), str(&b, "key"), u32(&b, FM_GGUF_ARRAY); // arrays in arrays in arrays …
    for (int i = 0; i < 20; i++) u32(&b, FM_GGUF_ARRAY), u64(&b, 1);
    data(&b, 64);
    refused(&b, FM_E_LIMIT, "nested deeper than 8");
    head(&b, 0, 1), str(&b, "a\nb\"\x80"), u32(&b, 13); // messages stay one printable line
    refused(&b, FM_E_FORMAT, "metadata \"a\\x0ab\\x22\\x80\": ");
    head(&b, 0, 1), str(&b, "general.alignment"), u32(&b, FM_GGUF_U32), u32(&b, 48);
    refused(&b, FM_E_FORMAT, "48, want a power of two");
    head(&b, 0, 1), str(&b, "general.alignment"), u32(&b, FM_GGUF_U64), u64(&b, 32);
    refused(&b, FM_E_FORMAT, "type u64, want u32");
    head(&b, 0, 1), str(&b, "general.alignment"), u32(&b, FM_GGUF_U32), u32(&b, 1u << 31);
    assert_ok(open_bytes(b.bytes, b.n, &err), err); // nothing to align
}

// 70 keys of one bucket in tables of up to 1,024: chosen by the same hash (FNV-1a, folded) as a hostile file would.
static void keys_that_collide(void **state)
{
    (void)state;
    struct blob b;
    int n = 0;
    head(&b, 0, 70);
    for (int i = 0; n < 70; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        uint64_t hash = 0xcbf29ce484222325u;
        for (const char *p = key; *p; p++) hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
        if ((hash ^ hash >> 32) & 1023) continue;
        str(&b, key), u32(&b, FM_GGUF_U8), b.bytes[b.n++] = 0;
        n++;
    }
    refused(&b, FM_E_LIMIT, "more than 64 names share a hash");
}

static void broken_tensor_tables(void **state)
{
    (void)state;
    enum { F32 = 0, Q4_0 = 2, IQ1_S = 19 };
    struct blob b;
    struct fm_error err = {0};
    head(&b, 2, 0), tensor(&b, "a", 8, F32, 0), tensor(&b, "b", 3, F32, 32), data(&b, 64);
    assert_ok(open_bytes(b.bytes, b.n, &err), err);
    b.n -= 1; // in the padding after "b"
    refused(&b, FM_E_FORMAT, "and padding end at byte");
    b.n -= 19; // right after its 12 bytes: whole, although nothing pads it
    assert_ok(open_bytes(b.bytes, b.n, &err), err);
    b.n -= 1;
    refused(&b, FM_E_FORMAT, "tensor \"b\"");
    head(&b, 2, 0), tensor(&b, "a", 8, F32, 32), tensor(&b, "b", 8, F32, 0), data(&b, 64); // any order
    assert_ok(open_bytes(b.bytes, b.n, &err), err);
    head(&b, 2, 0), tensor(&b, "a", 9, F32, 0), tensor(&b, "b", 8, F32, 32), data(&b, 64);
    refused(&b, FM_E_FORMAT, "overlaps \"b\"");
    head(&b, 2, 0), tensor(&b, "a", 8, F32, 0), tensor(&b, "b", 8, F32, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "overlaps");
    head(&b, 2, 0), tensor(&b, "a", 8, F32, 0), tensor(&b, "a", 8, F32, 32), data(&b, 64);
    refused(&b, FM_E_FORMAT, "duplicate name \"a\"");
    head(&b, 1, 0), tensor(&b, "a", 8, F32, 4), data(&b, 64);
    refused(&b, FM_E_FORMAT, "offset 4, want a multiple of 32");
    head(&b, 1, 0), tensor(&b, "a", 8, F32, 1ull << 63), data(&b, 64);
    refused(&b, FM_E_FORMAT, "tensor \"a\"");
    head(&b, 1, 0), tensor(&b, "a", 8, F32, UINT64_MAX - 31), data(&b, 64);
    refused(&b, FM_E_FORMAT, "tensor \"a\"");
    head(&b, 1, 0), tensor(&b, "a", 8, F32, 64), data(&b, 64);
    refused(&b, FM_E_FORMAT, "32 bytes at offset 64 of the data, which has 64");
    head(&b, 1, 0), tensor(&b, "a", 0, F32, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "dim 0 is 0");
    head(&b, 1, 0), tensor(&b, "a", 1ull << 63, F32, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "dim 0 is 9223372036854775808");
    head(&b, 1, 0), tensor(&b, "a", 1ull << 62, F32, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "too many");
    head(&b, 1, 0), tensor(&b, "a", 33, Q4_0, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "q4_0 rows of 33 elements, want a multiple of 32");
    head(&b, 1, 0), tensor(&b, "a", 256, IQ1_S, 0), data(&b, 64);
    refused(&b, FM_E_UNSUPPORTED, "\"a\": type number 19");
    head(&b, 1, 0), tensor(&b, "a", 256, UINT32_MAX, 0), data(&b, 64);
    refused(&b, FM_E_UNSUPPORTED, "type number 4294967295");
    head(&b, 1, 0), tensor(&b, "", 8, F32, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "tensor name: empty");
    head(&b, 1, 0), str(&b, "a"), u32(&b, 5), data(&b, 64);
    refused(&b, FM_E_FORMAT, "rank 5");
    head(&b, 1, 0), str(&b, "a"), u32(&b, 3), u64(&b, 1ull << 31), u64(&b, 1ull << 31), u64(&b, 2), u32(&b, F32);
    u64(&b, 0), data(&b, 64);
    refused(&b, FM_E_FORMAT, "dim 2 is 2");
    head(&b, 1, 0), str(&b, "a"), u32(&b, 0), u32(&b, F32), u64(&b, 0), data(&b, 32); // rank 0: one element
    assert_ok(open_bytes(b.bytes, b.n, &err), err);
    head(&b, 1, 0), str(&b, "a"), u32(&b, 0), u32(&b, Q4_0), u64(&b, 0), data(&b, 32);
    refused(&b, FM_E_FORMAT, "q4_0 rows of 1 elements");
}

static void out_of_memory_is_clean(void **state)
{
    (void)state;
    static const char *const names[] = {"gguf_types.gguf", "gguf_split-00002-of-00003.gguf"};
    for (int k = 0; k < 2; k++) {
        struct fm_error err = {0};
        struct fm_gguf *g = NULL;
        int n = 0;
        for (fm_status status = FM_E_NOMEM; status != FM_OK; n++) {
            fm__alloc_fail_after(n, n % 2);
            status = fm_gguf_open(test_data(names[k]), NULL, &g, &err);
            if (status == FM_OK) status = fm_gguf_override(g, "some.new.key=str:and a long value", &err);
            fm__alloc_fail_after(-1, false);
            if (status != FM_OK) {
                assert_int_equal(status, FM_E_NOMEM);
                fm_gguf_close(g);
            }
            assert_true(n < 1000);
        }
        assert_true(n > 8);
        fm_gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_of_every_type),
        cmocka_unit_test(arrays),
        cmocka_unit_test(tensors_of_every_type),
        cmocka_unit_test(version_2_reads_the_same),
        cmocka_unit_test(split_files),
        cmocka_unit_test(broken_splits),
        cmocka_unit_test(overrides),
        cmocka_unit_test(truncated_at_every_byte),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(shrinks_while_open),
        cmocka_unit_test(vocab_only_needs_no_data),
        cmocka_unit_test(broken_headers),
        cmocka_unit_test(broken_metadata),
        cmocka_unit_test(keys_that_collide),
        cmocka_unit_test(broken_tensor_tables),
        cmocka_unit_test(out_of_memory_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
// safetensors both ways: files that the Python package wrote, sharded models, our files read by Python, broken files,
// full disk, no memory at the n-th allocation (jansson's too).
#include "support/support.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "fathom/safetensors.h"

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

// Byte i of the k-th tensor of tests/data/make_safetensors.py.
static void check_tensor(const struct fm_safetensors *s, const struct fm_safetensors_tensor *t, unsigned k)
{
    struct fm_error err = {0};
    uint8_t bytes[256];
    assert_true(t->bytes <= sizeof bytes);
    assert_ok(fm_safetensors_read(s, t, 0, bytes, t->bytes, &err), err);
    for (size_t i = 0; i < t->bytes; i++) assert_int_equal(bytes[i], (uint8_t)(7 * i + 13 * k));
    assert_int_equal(fm_safetensors_read(s, t, t->bytes, bytes, 1, &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_read(s, t, SIZE_MAX, bytes, 2, &err), FM_E_ARG);
}

// --- reading ---

static void every_type(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        fm_dtype dtype;
        int rank;
        int64_t dims[4];
    } want[] = {{"float64", FM_F64, 0, {0}},        {"float32", FM_F32, 1, {5}},
                {"float16", FM_F16, 2, {2, 3}},     {"bfloat16", FM_BF16, 3, {2, 1, 3}},
                {"int64", FM_I64, 4, {2, 3, 1, 2}}, {"int32", FM_I32, 2, {0, 4}},
                {"int16", FM_I16, 0, {0}},          {"int8", FM_I8, 1, {5}},
                {"uint8", FM_U8, 2, {2, 3}}};
    struct fm_error err = {0};
    struct fm_safetensors *s;
    assert_ok(fm_safetensors_open(test_data("st_types.safetensors"), &s, &err), err);
    assert_int_equal(fm_safetensors_n_tensors(s), 9);
    for (unsigned k = 0; k < 9; k++) {
        char name[64];
        snprintf(name, sizeof name, "tensor.%s", want[k].name);
        const struct fm_safetensors_tensor *t = fm_safetensors_find_tensor(s, name);
        assert_non_null(t);
        assert_int_equal(t->view.dtype, want[k].dtype);
        assert_int_equal(t->view.rank, want[k].rank);
        assert_memory_equal(t->view.dims, want[k].dims, sizeof want[k].dims);
        check_tensor(s, t, k);
    }
    assert_int_equal(fm_safetensors_find_tensor(s, "tensor.int64")->view.strides[0], 48);
    struct fm_str key, value;
    assert_int_equal(fm_safetensors_n_metadata(s), 1);
    assert_true(fm_safetensors_metadata_at(s, 0, &key, &value));
    assert_string_equal(key.p, "format");
    assert_true(fm_safetensors_get(s, "format", &value));
    assert_string_equal(value.p, "pt");
    assert_false(fm_safetensors_get(s, "absent", &value));
    assert_false(fm_safetensors_metadata_at(s, 1, &key, &value));
    assert_null(fm_safetensors_tensor_at(s, 9));
    assert_null(fm_safetensors_find_tensor(s, "__metadata__"));
    fm_safetensors_close(s);
    fm_safetensors_close(NULL);
}

static const char *const model_files[] = {"st_model.safetensors.index.json", "st_model-00001-of-00002.safetensors",
                                          "st_model-00002-of-00002.safetensors"};

static void check_model(const char *path)
{
    struct fm_error err = {0};
    struct fm_safetensors *s;
    struct fm_str part;
    assert_ok(fm_safetensors_open(path, &s, &err), err);
    assert_int_equal(fm_safetensors_n_tensors(s), 3);
    for (unsigned k = 0; k < 3; k++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_find_tensor(s, (const char *[]){"a", "b", "c"}[k]);
        assert_int_equal(t->shard, k / 2);
        check_tensor(s, t, k);
    }
    assert_true(fm_safetensors_get(s, "part", &part));
    assert_string_equal(part.p, "0"); // of the first file
    fm_safetensors_close(s);
}

// Copies the sharded fixture to a folder as a checkpoint would lie there; `index` replaces its index if not NULL.
static const char *model_folder(const char *index)
{
    struct fm_error err = {0};
    mkdir(in_tmp("model"), 0777);
    for (int i = 0; i < 3; i++) {
        size_t n;
        uint8_t *bytes = test_read_file(test_data(model_files[i]), &n);
        char to[128];
        snprintf(to, sizeof to, "model/%s", i ? model_files[i] : "model.safetensors.index.json");
        assert_ok(fm__file_write_all(in_tmp(to), i || !index ? (const char *)bytes : index,
                                     i || !index ? n : strlen(index), &err),
                  err);
        free(bytes);
    }
    return in_tmp("model");
}

static void remove_model_folder(void)
{
    unlink(in_tmp("model/model.safetensors.index.json"));
    unlink(in_tmp("model/model.safetensors"));
    for (int i = 1; i < 3; i++) {
        char to[128];
        snprintf(to, sizeof to, "model/%s", model_files[i]);
        unlink(in_tmp(to));
    }
    assert_int_equal(rmdir(in_tmp("model")), 0);
}

static void sharded_model(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_safetensors *s;
    check_model(test_data(model_files[0]));
    check_model(model_folder(NULL));
    static const struct {
        const char *index;
        fm_status status;
        const char *says;
    } wrong[] = {
        {"{}", FM_E_FORMAT, "weight_map"},
        {"[]", FM_E_FORMAT, "weight_map"},
        {"{\"weight_map\":{}}", FM_E_FORMAT, "weight_map"},
        {"{\"weight_map\":{\"a\":1}}", FM_E_FORMAT, "name of a file for \"a\""},
        {"{\"weight_map\":{\"a\":\"../model/x\"}}", FM_E_FORMAT, "beside the index"},
        {"{\"weight_map\":{\"a\":\"..\"}}", FM_E_FORMAT, "beside the index"},
        {"{\"weight_map\":{\"a\":\"\"}}", FM_E_FORMAT, "beside the index"},
        {"{\"weight_map\":{\"a\":\"absent\"}}", FM_E_NOT_FOUND, "model/absent"},
        {"{\"weight_map\":{\"z\":\"st_model-00001-of-00002.safetensors\"}}", FM_E_FORMAT, "\"z\" is not in"},
        {"{\"weight_map\":{\"a\":\"st_model-00001-of-00002.safetensors\","
         "\"b\":\"st_model-00002-of-00002.safetensors\"}}",
         FM_E_FORMAT, "\"b\" is not in"},
        {"{\"weight_map\":", FM_E_FORMAT, "line 1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        fm_status status = fm_safetensors_open(model_folder(wrong[i].index), &s, &err);
        if (status != wrong[i].status || !strstr(err.text, wrong[i].says))
            fail_msg("%s gives \"%s\"", wrong[i].index, err.text);
        assert_null(s);
    }
    unlink(in_tmp("model/model.safetensors.index.json"));
    assert_int_equal(fm_safetensors_open(in_tmp("model"), &s, &err), FM_E_NOT_FOUND);
    rename(in_tmp("model/st_model-00001-of-00002.safetensors"), in_tmp("model/model.safetensors"));
    assert_ok(fm_safetensors_open(in_tmp("model"), &s, &err), err);
    assert_int_equal(fm_safetensors_n_tensors(s), 2);
    fm_safetensors_close(s);
    remove_model_folder();
    assert_int_equal(fm_safetensors_open(in_tmp("absent.safetensors"), &s, &err), FM_E_NOT_FOUND);
    assert_int_equal(fm_safetensors_open(in_tmp("absent.json"), &s, &err), FM_E_NOT_FOUND);
}

// --- broken files ---

static fm_status open_bytes(const void *bytes, size_t n, struct fm_error *err)
{
    uint8_t *copy = malloc(n ? n : 1), data[256]; // so that ASan sees a read past the end
    struct fm_safetensors *s;
    assert_non_null(copy);
    if (n) memcpy(copy, bytes, n);
    fm_status status = fm_safetensors_open_memory(copy, n, &s, err);
    if (status != FM_OK) assert_null(s);
    for (uint64_t i = 0; status == FM_OK && i < fm_safetensors_n_tensors(s); i++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(s, i);
        assert_true(t->bytes <= n);
        assert_ok(fm_safetensors_read(s, t, 0, data, t->bytes < 256 ? t->bytes : 256, err), *err);
    }
    fm_safetensors_close(s);
    free(copy);
    return status;
}

static void truncated_and_changed(void **state)
{
    (void)state;
    struct fm_error err = {0};
    size_t size;
    uint8_t *bytes = test_read_file(test_data("st_types.safetensors"), &size);
    assert_ok(open_bytes(bytes, size, &err), err);
    for (size_t n = 0; n < size; n++) assert_int_equal(open_bytes(bytes, n, &err), FM_E_FORMAT);
    int n_refused = 0;
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x11;
        n_refused += open_bytes(bytes, size, &err) != FM_OK;
        bytes[i] ^= 0x11;
    }
    assert_true(n_refused > 400); // all but names and data
    free(bytes);
    struct fm_safetensors *s;
    const char *path = in_tmp("shrinks.safetensors");
    bytes = test_read_file(test_data("st_types.safetensors"), &size);
    assert_ok(fm__file_write_all(path, bytes, size, &err), err);
    free(bytes);
    assert_ok(fm_safetensors_open(path, &s, &err), err);
    const struct fm_safetensors_tensor *t = fm_safetensors_find_tensor(s, "tensor.uint8");
    uint8_t data[6];
    assert_int_equal(truncate(path, (off_t)size - 1), 0);
    assert_int_equal(fm_safetensors_read(s, t, 0, data, 6, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "tensor.uint8"));
    fm_safetensors_close(s);
    assert_int_equal(fm_safetensors_open(path, &s, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "shrinks.safetensors: "));
    unlink(path);
}

// A file of this header and `n_data` bytes of data.
static fm_status open_header(const char *header, size_t n_data, struct fm_error *err)
{
    uint8_t bytes[2048] = {0};
    uint64_t n = strlen(header);
    assert_true(8 + n + n_data <= sizeof bytes);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    return open_bytes(bytes, 8 + n + n_data, err);
}

static void broken_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        fm_status status;
        const char *says;
    } cases[] = {
        {"{}", 0, FM_OK, ""},
        {"{}", 1, FM_E_FORMAT, "tensors end at byte 10, the file at byte 11"},
        {"", 0, FM_E_FORMAT, "JSON"},
        {"[]", 0, FM_E_FORMAT, "object"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ", 8, FM_OK, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 8, FM_E_FORMAT, "line 1"},
        {"{\"a\":1}", 0, FM_E_FORMAT, "tensor \"a\": no dtype"},
        {"{\"a\":{\"dtype\":7}}", 0, FM_E_FORMAT, "no dtype"},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0, FM_E_FORMAT, "no shape"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, FM_E_UNSUPPORTED, "dtype F8_E4M3"},
        {"{\"a\":{\"dtype\":\"f32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, FM_E_UNSUPPORTED, "dtype f32"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, FM_E_UNSUPPORTED, "rank 5"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, FM_E_FORMAT, "dim 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, FM_E_FORMAT, "dim 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, FM_E_FORMAT,
         "dim 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, FM_E_FORMAT,
         "dim 2"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, FM_E_FORMAT,
         "too many"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,1]}}", 1, FM_E_FORMAT, "big"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, FM_E_FORMAT, "want [from, to]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, FM_E_FORMAT, "want [from, to]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, FM_E_FORMAT, "want [from, to]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, FM_E_FORMAT, "end 2, the file has 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, FM_E_FORMAT,
         "2 bytes, dtype and shape make 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, FM_E_FORMAT, "begins at byte"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, FM_E_FORMAT, "tensor \"b\": begins at byte"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, FM_E_FORMAT, "duplicate"},
        {"{\"__metadata__\":[]}", 0, FM_E_FORMAT, "object of texts"},
        {"{\"__metadata__\":{\"k\":1}}", 0, FM_E_FORMAT, "\"k\": want a text"},
        {"{\"\\u0000\":{}}", 0, FM_E_FORMAT, "JSON"},
        {"{\"\xff\":{}}", 0, FM_E_FORMAT, "JSON"},
        {"[[[[[[[[[[]]]]]]]]]]", 0, FM_E_LIMIT, "deeper than 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_error err = {0};
        fm_status status = open_header(cases[i].header, cases[i].n_data, &err);
        if (status != cases[i].status || !strstr(err.text, cases[i].says))
            fail_msg("%s gives %s: \"%s\"", cases[i].header, fm_status_text(status), err.text);
    }
    struct fm_error err = {0};
    static const uint64_t lengths[] = {1, 1ull << 32, 1ull << 63, UINT64_MAX};
    for (int i = 0; i < 4; i++) assert_int_equal(open_bytes(&lengths[i], 8, &err), FM_E_FORMAT);
}

static void json_limits(void **state)
{
    (void)state;
    struct fm_error err = {0};
    json_t *value;
    static const struct fm__json_limits small = {.bytes = 20, .values = 4, .depth = 2};
    assert_ok(fm__json_parse("[1,2,3]", 7, &small, &value, &err), err);
    json_decref(value);
    assert_ok(fm__json_parse("\"[[[[,,,,\"", 10, &small, &value, &err), err); // brackets in a text count for nothing
    json_decref(value);
    assert_int_equal(fm__json_parse("[1,2,3,4]", 9, &small, &value, &err), FM_E_LIMIT);
    assert_null(value);
    assert_int_equal(fm__json_parse("[[[]]]", 6, &small, &value, &err), FM_E_LIMIT);
    assert_int_equal(fm__json_parse("\"01234567890123456789\"", 22, &small, &value, &err), FM_E_LIMIT);
    assert_int_equal(fm__json_parse("{\"a\":\n\x01 1}", 10, NULL, &value, &err), FM_E_FORMAT);
    assert_non_null(strstr(err.text, "line 2"));
    for (char *p = err.text; *p; p++) assert_true(*p >= ' ');
}

// --- writing ---

// Writes every tensor of `s` to `to`, the last first if `reverse`.
static fm_status copy_model(const struct fm_safetensors *s, const char *to, bool reverse, struct fm_error *err)
{
    struct fm_safetensors_writer *w;
    struct fm_str key, value;
    uint64_t n = fm_safetensors_n_tensors(s);
    fm_status status = fm_safetensors_writer_new(to, &w, err);
    for (uint64_t i = 0; status == FM_OK && fm_safetensors_metadata_at(s, i, &key, &value); i++)
        status = fm_safetensors_writer_metadata(w, key, value, err);
    for (uint64_t i = 0; status == FM_OK && i < n; i++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(s, reverse ? n - 1 - i : i);
        status = fm_safetensors_writer_tensor(w, t->name, &t->view, err);
    }
    for (uint64_t i = 0; status == FM_OK && i < n; i++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(s, reverse ? n - 1 - i : i);
        uint8_t bytes[50];
        for (size_t at = 0; status == FM_OK && at < t->bytes; at += sizeof bytes) {
            size_t piece = t->bytes - at < sizeof bytes ? t->bytes - at : sizeof bytes;
            status = fm_safetensors_read(s, t, at, bytes, piece, err);
            if (status == FM_OK) status = fm_safetensors_writer_data(w, bytes, piece, err);
        }
    }
    if (status == FM_OK) status = fm_safetensors_writer_finish(w, err);
    fm_safetensors_writer_free(w);
    return status;
}

static void same_file(const char *a, const char *b)
{
    size_t n, m;
    uint8_t *x = test_read_file(a, &n), *y = test_read_file(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x), free(y);
}

static void round_trip(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_safetensors *s;
    assert_ok(fm_safetensors_open(test_data("st_types.safetensors"), &s, &err), err);
    assert_ok(copy_model(s, in_tmp("copy.safetensors"), false, &err), err);
    same_file(test_data("st_types.safetensors"), in_tmp("copy.safetensors")); // as Python wrote it
    fm_safetensors_close(s);
    unlink(in_tmp("copy.safetensors"));
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

static void python_reads_ours(void **state)
{
    (void)state;
    if (system("python3 -c 'import safetensors, numpy' 2>/dev/null")) {
        print_message("skipped: python3 has no packages safetensors and numpy\n");
        skip();
    }
    struct fm_error err = {0};
    struct fm_safetensors *s;
    char command[2048];
    assert_ok(fm_safetensors_open(test_data("st_types.safetensors"), &s, &err), err);
    assert_ok(copy_model(s, in_tmp("ours.safetensors"), true, &err), err); // another order
    fm_safetensors_close(s);
    snprintf(command, sizeof command, "python3 '%s' --check '%s'", test_data("make_safetensors.py"),
             in_tmp("ours.safetensors"));
    assert_int_equal(system(command), 0);
    unlink(in_tmp("ours.safetensors"));
}

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

static void wrong_declarations(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_safetensors_writer *w;
    struct fm_tensor view = {.dtype = FM_BF16, .rank = 2, .dims = {3, 5}}, none = {.dtype = FM_F32, .rank = 1}, bad;
    char data[32] = {0};
    assert_ok(fm_safetensors_writer_new(in_tmp("wrong.safetensors"), &w, &err), err);
    assert_ok(fm_safetensors_writer_metadata(w, str("k"), str("ü"), &err), err);
    assert_int_equal(fm_safetensors_writer_metadata(w, str("k"), str("v"), &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_metadata(w, str("l"), str("\xff"), &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_metadata(w, (struct fm_str){"a\0b", 3}, str("v"), &err), FM_E_ARG);
    assert_ok(fm_safetensors_writer_tensor(w, str("none"), &none, &err), err);
    assert_ok(fm_safetensors_writer_tensor(w, str("a"), &view, &err), err);
    assert_ok(fm_safetensors_writer_tensor(w, str("none too"), &none, &err), err);
    assert_int_equal(fm_safetensors_writer_tensor(w, str("a"), &view, &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_tensor(w, str("__metadata__"), &view, &err), FM_E_ARG);
    bad = view, bad.dtype = FM_Q4_0;
    assert_int_equal(fm_safetensors_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.dims[0] = -1;
    assert_int_equal(fm_safetensors_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.dims[0] = INT64_MAX;
    assert_int_equal(fm_safetensors_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    bad = view, bad.rank = 5;
    assert_int_equal(fm_safetensors_writer_tensor(w, str("b"), &bad, &err), FM_E_ARG);
    assert_ok(fm_safetensors_writer_data(w, data, 29, &err), err);
    assert_int_equal(fm_safetensors_writer_metadata(w, str("m"), str("v"), &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_tensor(w, str("b"), &view, &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_data(w, data, 2, &err), FM_E_ARG);
    assert_int_equal(fm_safetensors_writer_finish(w, &err), FM_E_ARG);
    assert_int_equal(access(in_tmp("wrong.safetensors"), F_OK), -1);
    assert_ok(fm_safetensors_writer_data(w, data, 1, &err), err); // refusals leave the writer usable
    assert_int_equal(fm_safetensors_writer_data(w, data, 1, &err), FM_E_ARG);
    assert_ok(fm_safetensors_writer_finish(w, &err), err);
    assert_int_equal(fm_safetensors_writer_finish(w, &err), FM_E_ARG);
    fm_safetensors_writer_free(w);
    struct fm_safetensors *s;
    struct fm_str value;
    assert_ok(fm_safetensors_open(in_tmp("wrong.safetensors"), &s, &err), err);
    assert_int_equal(fm_safetensors_n_tensors(s), 3);
    assert_true(fm_safetensors_get(s, "k", &value));
    assert_string_equal(value.p, "ü");
    fm_safetensors_close(s);
    unlink(in_tmp("wrong.safetensors"));
    assert_ok(fm_safetensors_writer_new(in_tmp("dropped.safetensors"), &w, &err), err);
    fm_safetensors_writer_free(w);
    assert_int_equal(n_entries(test_tmpdir()), 0);
}

static void full_disk(void **state)
{
    (void)state;
    static const rlim_t limits[] = {0, 8, 500, 832}; // the file has 833 bytes
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct rlimit r = {limits[i], limits[i]};
            struct fm_error err = {0};
            struct fm_safetensors *s;
            signal(SIGXFSZ, SIG_IGN);
            if (fm_safetensors_open(test_data("st_types.safetensors"), &s, &err)) _exit(2);
            if (setrlimit(RLIMIT_FSIZE, &r)) _exit(3);
            fm_status status = copy_model(s, in_tmp("full.safetensors"), false, &err);
            fm_safetensors_close(s);
            _exit(status == FM_E_IO ? 0 : 4);
        }
        int result;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result));
        assert_int_equal(WEXITSTATUS(result), 0);
        assert_int_equal(n_entries(test_tmpdir()), 0);
    }
}

static void out_of_memory_is_clean(void **state)
{
    (void)state;
    struct fm_error err = {0};
    const char *folder = model_folder(NULL), *to = in_tmp("memory.safetensors");
    int n = 0;
    for (fm_status status = FM_E_NOMEM; status != FM_OK; n++) {
        struct fm_safetensors *s;
        fm__alloc_fail_after(n, n % 2);
        status = fm_safetensors_open(folder, &s, &err);
        if (status == FM_OK) status = copy_model(s, to, false, &err);
        fm__alloc_fail_after(-1, false);
        fm_safetensors_close(s);
        if (status != FM_OK && status != FM_E_NOMEM) fail_msg("allocation %d: %s", n, err.text);
        assert_int_equal(n_entries(test_tmpdir()), status == FM_OK ? 2 : 1); // the folder; the file only when whole
        assert_true(n < 2000);
    }
    assert_true(n > 100);
    unlink(to);
    remove_model_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(sharded_model),
        cmocka_unit_test(truncated_and_changed),
        cmocka_unit_test(broken_headers),
        cmocka_unit_test(json_limits),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(python_reads_ours),
        cmocka_unit_test(wrong_declarations),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(out_of_memory_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

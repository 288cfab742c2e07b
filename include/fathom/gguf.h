// SPDX-License-Identifier: MIT
// Reading and writing GGUF, the container of weights and metadata (versions 2 and 3, little endian, split files).
// Source of the format: github.com/ggml-org/ggml, docs/gguf.md.
#ifndef FATHOM_GGUF_H
#define FATHOM_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "fathom/str.h"
#include "fathom/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

// Numbers are those of the file format.
typedef enum fm_gguf_type {
    FM_GGUF_U8 = 0,
    FM_GGUF_I8 = 1,
    FM_GGUF_U16 = 2,
    FM_GGUF_I16 = 3,
    FM_GGUF_U32 = 4,
    FM_GGUF_I32 = 5,
    FM_GGUF_F32 = 6,
    FM_GGUF_BOOL = 7,
    FM_GGUF_STRING = 8,
    FM_GGUF_ARRAY = 9,
    FM_GGUF_U64 = 10,
    FM_GGUF_I64 = 11,
    FM_GGUF_F64 = 12,
} fm_gguf_type;

// One metadata entry. Scalars: `n` is 1, array_type unused. Arrays: element type and count; nested arrays are kept but
// only reachable as raw bytes by the writer ({u32 element type, u64 count, elements} each, as in the file). Everything
// lives as long as the fm_gguf.
struct fm_gguf_kv {
    struct fm_str key;
    fm_gguf_type type;       // FM_GGUF_ARRAY for arrays
    fm_gguf_type array_type; // element type of an array
    uint64_t n;              // elements
    const void *data; // packed little-endian scalars (U8…F64, BOOL a byte each, not aligned); for strings and arrays
                      // of strings: const struct fm_str[n]
};

// One tensor: view.dims are outermost first (the file lists them innermost first); view.data is NULL until read.
struct fm_gguf_tensor {
    struct fm_str name;
    struct fm_tensor view; // dtype, rank, dims, strides
    size_t bytes;
    int shard;            // which file of a split model
    uint64_t file_offset; // absolute, in that file
};

struct fm_gguf;

struct fm_gguf_open_opts {
    bool vocab_only; // metadata only: tensors are listed but not checked against the file's length
};

// Opens `path`, reads and checks header, metadata and tensor table; tensor data stays in the file. For a split model
// give any of its files ("x-00001-of-00003.gguf"): all are opened. opts NULL: defaults.
// Errors: FM_E_NOT_FOUND (this file, or another of a split model), FM_E_IO, FM_E_FORMAT (with the byte position),
// FM_E_UNSUPPORTED (version, big endian, tensor type), FM_E_LIMIT (tables beyond 1 GiB, arrays nested beyond 8, names
// made to collide), FM_E_NOMEM.
FM_API fm_status fm_gguf_open(const char *path, const struct fm_gguf_open_opts *opts, struct fm_gguf **out,
                              struct fm_error *err);
// The same from bytes in memory, which must outlive the result.
FM_API fm_status fm_gguf_open_memory(const void *bytes, size_t n, const struct fm_gguf_open_opts *opts,
                                     struct fm_gguf **out, struct fm_error *err);
FM_API void fm_gguf_close(struct fm_gguf *g); // NULL is fine

FM_API uint64_t fm_gguf_n_kv(const struct fm_gguf *g);
FM_API const struct fm_gguf_kv *fm_gguf_kv_at(const struct fm_gguf *g, uint64_t i);
FM_API const struct fm_gguf_kv *fm_gguf_find(const struct fm_gguf *g, const char *key); // NULL: none. Hashed
FM_API uint64_t fm_gguf_n_tensors(const struct fm_gguf *g);
FM_API const struct fm_gguf_tensor *fm_gguf_tensor_at(const struct fm_gguf *g, uint64_t i);
FM_API const struct fm_gguf_tensor *fm_gguf_find_tensor(const struct fm_gguf *g, const char *name);

// Typed look-ups. Any integer width (and bool) serves for i64; f32, f64 and integers serve for f64. False when the key
// is absent or of another kind; *out is then untouched. Array element `i` through the _at forms.
FM_API bool fm_gguf_get_i64(const struct fm_gguf *g, const char *key, int64_t *out);
FM_API bool fm_gguf_get_f64(const struct fm_gguf *g, const char *key, double *out);
FM_API bool fm_gguf_get_bool(const struct fm_gguf *g, const char *key, bool *out);
FM_API bool fm_gguf_get_str(const struct fm_gguf *g, const char *key, struct fm_str *out);
FM_API bool fm_gguf_kv_i64_at(const struct fm_gguf_kv *kv, uint64_t i, int64_t *out);
FM_API bool fm_gguf_kv_f64_at(const struct fm_gguf_kv *kv, uint64_t i, double *out);
FM_API bool fm_gguf_kv_str_at(const struct fm_gguf_kv *kv, uint64_t i, struct fm_str *out);

// Reads `n` bytes of tensor data starting `offset` bytes into the tensor. Thread safe (pread). A file that shrank since
// open gives FM_E_IO naming the tensor.
FM_API fm_status fm_gguf_read(const struct fm_gguf *g, const struct fm_gguf_tensor *t, size_t offset, void *dst,
                              size_t n, struct fm_error *err);

// Overrides or adds a metadata entry after open, as `--override-kv KEY=TYPE:VALUE` asks (TYPE int, float, bool, str).
// An entry that is there keeps its integer or float width, and its address; a scalar of another kind is FM_E_ARG, a
// list is replaced by the one value. Not thread safe. Errors: FM_E_ARG, FM_E_NOMEM (nothing changed).
FM_API fm_status fm_gguf_override(struct fm_gguf *g, const char *spec, struct fm_error *err);

// --- writing ---
struct fm_gguf_writer;
// Collects metadata and tensor descriptions, then streams data. Nothing appears at `path` before finish succeeds
// (temporary file beside it, fsync, rename); the temporary file exists from here on. Version 3; data are aligned to
// "general.alignment" where that is among the metadata, else to 32.
FM_API fm_status fm_gguf_writer_new(const char *path, struct fm_gguf_writer **out, struct fm_error *err);
FM_API void fm_gguf_writer_free(struct fm_gguf_writer *w); // NULL is fine; removes the temporary file if not finished
// Copies the entry. FM_E_ARG for a duplicate or malformed one, or after the first data.
FM_API fm_status fm_gguf_writer_kv(struct fm_gguf_writer *w, const struct fm_gguf_kv *kv, struct fm_error *err);
// Of `view` only dtype, rank and dims matter. FM_E_ARG as above.
FM_API fm_status fm_gguf_writer_tensor(struct fm_gguf_writer *w, struct fm_str name, const struct fm_tensor *view,
                                       struct fm_error *err);
// Data of the tensors (rows order, the file's block types), in the order declared; any number of calls per tensor, each
// for one tensor: more bytes than it lacks are FM_E_ARG. The first call ends the declarations.
FM_API fm_status fm_gguf_writer_data(struct fm_gguf_writer *w, const void *bytes, size_t n, struct fm_error *err);
// FM_E_ARG while data is missing. On any failure nothing is at `path` that was not there before; free the writer.
FM_API fm_status fm_gguf_writer_finish(struct fm_gguf_writer *w, struct fm_error *err);

#ifdef __cplusplus
}
#endif
#endif

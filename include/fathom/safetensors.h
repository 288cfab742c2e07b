// SPDX-License-Identifier: MIT
// Reading and writing safetensors, the container of weights that PyTorch's world uses: single files and models sharded
// by a "model.safetensors.index.json". Source of the format: github.com/huggingface/safetensors, README.md.
//
// Element types: F64 F32 F16 BF16 I64 I32 I16 I8 U8. Rank 0 to 4; dims may be 0 (such a tensor has no bytes).
#ifndef FATHOM_SAFETENSORS_H
#define FATHOM_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "fathom/str.h"
#include "fathom/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

// One tensor: view.dims are outermost first, as in the file; view.data is NULL.
struct fm_safetensors_tensor {
    struct fm_str name;
    struct fm_tensor view; // dtype, rank, dims, strides
    size_t bytes;
    int shard;            // which file of a sharded model
    uint64_t file_offset; // absolute, in that file
};

struct fm_safetensors;

// Opens `path`: a .safetensors file, an index ("….json", whose files lie beside it), or a folder that holds
// "model.safetensors" or "model.safetensors.index.json". Reads and checks the headers (at most 100 MB each); data stays
// in the files. The data of a file must be covered by its tensors without gaps or overlaps, as the format demands.
// Errors: FM_E_NOT_FOUND, FM_E_IO, FM_E_FORMAT, FM_E_UNSUPPORTED (element type, rank), FM_E_LIMIT, FM_E_NOMEM.
FM_API fm_status fm_safetensors_open(const char *path, struct fm_safetensors **out, struct fm_error *err);
// One file from bytes in memory, which must outlive the result.
FM_API fm_status fm_safetensors_open_memory(const void *bytes, size_t n, struct fm_safetensors **out,
                                            struct fm_error *err);
FM_API void fm_safetensors_close(struct fm_safetensors *s); // NULL is fine

// In the order of the header; the files of a sharded model in the order in which the index first names them. Pointers
// live as long as `s`; NULL past the end or for an unknown name.
FM_API uint64_t fm_safetensors_n_tensors(const struct fm_safetensors *s);
FM_API const struct fm_safetensors_tensor *fm_safetensors_tensor_at(const struct fm_safetensors *s, uint64_t i);
FM_API const struct fm_safetensors_tensor *fm_safetensors_find_tensor(const struct fm_safetensors *s, const char *name);

// The "__metadata__" texts, of the first file for a sharded model. False past the end or for an unknown key; outputs
// are then untouched. key and value live as long as `s`.
FM_API uint64_t fm_safetensors_n_metadata(const struct fm_safetensors *s);
FM_API bool fm_safetensors_metadata_at(const struct fm_safetensors *s, uint64_t i, struct fm_str *key,
                                       struct fm_str *value);
FM_API bool fm_safetensors_get(const struct fm_safetensors *s, const char *key, struct fm_str *value);

// Reads `n` bytes of tensor data starting `offset` bytes into the tensor. Thread safe (pread). A file that shrank since
// open gives FM_E_IO naming the tensor.
FM_API fm_status fm_safetensors_read(const struct fm_safetensors *s, const struct fm_safetensors_tensor *t,
                                     size_t offset, void *dst, size_t n, struct fm_error *err);

// --- writing ---
struct fm_safetensors_writer;
// Collects metadata and tensor descriptions, then streams data. Nothing appears at `path` before finish succeeds
// (temporary file beside it, fsync, rename); the temporary file exists from here on.
FM_API fm_status fm_safetensors_writer_new(const char *path, struct fm_safetensors_writer **out, struct fm_error *err);
FM_API void fm_safetensors_writer_free(struct fm_safetensors_writer *w); // NULL is fine; drops what is not finished
// One "__metadata__" text. Copies. FM_E_ARG for a duplicate, text that is not UTF-8 or has a zero byte, or after data.
FM_API fm_status fm_safetensors_writer_metadata(struct fm_safetensors_writer *w, struct fm_str key, struct fm_str value,
                                                struct fm_error *err);
// Of `view` only dtype, rank and dims matter. FM_E_ARG as above, for block types, and for the name "__metadata__".
FM_API fm_status fm_safetensors_writer_tensor(struct fm_safetensors_writer *w, struct fm_str name,
                                              const struct fm_tensor *view, struct fm_error *err);
// Data of the tensors in the order declared (those without bytes are passed over); any number of calls per tensor, each
// for one tensor: more bytes than it lacks are FM_E_ARG. The first call ends the declarations. For files whose data
// other programs can map, declare the wide types first: the format itself aligns only the start of all data, to 8.
FM_API fm_status fm_safetensors_writer_data(struct fm_safetensors_writer *w, const void *bytes, size_t n,
                                            struct fm_error *err);
// FM_E_ARG while data is missing. On any failure nothing is at `path` that was not there before; free the writer.
FM_API fm_status fm_safetensors_writer_finish(struct fm_safetensors_writer *w, struct fm_error *err);

#ifdef __cplusplus
}
#endif
#endif

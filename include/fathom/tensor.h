// SPDX-License-Identifier: MIT
// Element types, buffers (the only owners of tensor bytes) and tensors (views that own nothing).
#ifndef FATHOM_TENSOR_H
#define FATHOM_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FM_MAX_RANK = 4 };

// FM_Q8A and FM_Q8R are the activation formats of integer products, never stored in a file: src/tensor/q8a.h, q8r.h.
typedef enum fm_dtype {
#define X(name, text, elements, bytes, gguf) FM_##name,
#include "fathom/dtype.def"
#undef X
    FM_DTYPE_COUNT
} fm_dtype;

struct fm_dtype_info {
    const char *name;   // "q4_k"
    int block_elements; // elements a block: the last dim must be a multiple of it
    int block_bytes;    // bytes a block
    int gguf_type;      // number in a GGUF file; -1: not a file type
};

// Never NULL: a number outside the enum gives a record named "invalid" with 1 element and 0 bytes a block.
FM_API const struct fm_dtype_info *fm_dtype_info(fm_dtype dtype);
// The type with this GGUF number or name; FM_DTYPE_COUNT when there is none.
FM_API fm_dtype fm_dtype_from_gguf(int gguf_type);
FM_API fm_dtype fm_dtype_from_name(const char *name);

// Bytes of `n` elements in rows order. n must be a multiple of the block; 0 on overflow or where it is not.
FM_API size_t fm_dtype_row_bytes(fm_dtype dtype, int64_t n);

// Ref-counted bytes of one device. Thread safe counting; the bytes themselves are the holder's business.
struct fm_buffer;
FM_API struct fm_buffer *fm_buffer_ref(struct fm_buffer *buffer); // returns its argument
FM_API void fm_buffer_unref(struct fm_buffer *buffer);            // NULL is fine
FM_API size_t fm_buffer_size(const struct fm_buffer *buffer);

// How the elements of a tensor lie in its bytes. ROWS is the file's order; every other layout belongs to one device,
// which packs on load and unpacks to the file's exact bytes.
enum { FM_LAYOUT_ROWS = 0 };

// A view: dims outermost first (numpy order), strides in bytes (for block types dims[rank-1] counts elements, and
// strides[rank-1] is the bytes of one block). `data` is NULL for memory the host cannot see.
struct fm_tensor {
    fm_dtype dtype;
    int layout;
    int rank;
    int64_t dims[FM_MAX_RANK];
    int64_t strides[FM_MAX_RANK];
    struct fm_buffer *buffer; // not owned by the view
    size_t offset;            // of the first element in the buffer
    void *data;               // host address of the first element, or NULL
};

// Number of elements; product of dims[0..rank-1], 1 for rank 0.
FM_API int64_t fm_tensor_elements(const struct fm_tensor *t);
// Bytes of a contiguous tensor of this dtype and dims; 0 on overflow or a broken block.
FM_API size_t fm_tensor_bytes(const struct fm_tensor *t);
// Fills strides for contiguous rows order.
FM_API void fm_tensor_set_contiguous(struct fm_tensor *t);

#ifdef __cplusplus
}
#endif
#endif

// SPDX-License-Identifier: MIT
// Making buffers: what a device fills in. Holders see only fathom/tensor.h.
#ifndef FM_TENSOR_BUFFER_H
#define FM_TENSOR_BUFFER_H

#include <stdatomic.h>

#include "fathom/tensor.h"

struct fm_buffer {
    atomic_int refs;
    size_t size;
    void *host;                                // address the host may use, or NULL
    void *device;                              // the device's own handle or address
    void *owner;                               // whatever `release` needs
    void (*release)(struct fm_buffer *buffer); // frees the bytes, not the struct
};

// A buffer with one reference around bytes that exist already; release may be NULL (borrowed bytes). NULL: no memory.
struct fm_buffer *fm__buffer_wrap(void *host, size_t size, void (*release)(struct fm_buffer *), void *owner);

// Zeroed pages of host memory, on huge pages where the system gives them; touched on first use only.
fm_status fm__buffer_pages(size_t size, struct fm_buffer **out, struct fm_error *err);

#endif

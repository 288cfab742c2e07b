// SPDX-License-Identifier: MIT
// Ref-counted bytes; anonymous pages as the default host memory.
#include "tensor/buffer.h"

#include <sys/mman.h>

#include "base/alloc.h"
#include "base/error.h"

struct fm_buffer *fm_buffer_ref(struct fm_buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void fm_buffer_unref(struct fm_buffer *buffer)
{
    if (!buffer || atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1) return;
    if (buffer->release) buffer->release(buffer);
    fm__free(buffer);
}

size_t fm_buffer_size(const struct fm_buffer *buffer)
{
    return buffer->size;
}

struct fm_buffer *fm__buffer_wrap(void *host, size_t size, void (*release)(struct fm_buffer *), void *owner)
{
    struct fm_buffer *buffer = fm__calloc(1, sizeof *buffer);
    if (!buffer) return NULL;
    atomic_init(&buffer->refs, 1);
    buffer->size = size;
    buffer->host = buffer->device = host;
    buffer->release = release;
    buffer->owner = owner;
    return buffer;
}

static void release_pages(struct fm_buffer *buffer)
{
    munmap(buffer->host, buffer->size);
}

fm_status fm__buffer_pages(size_t size, struct fm_buffer **out, struct fm_error *err)
{
    *out = NULL;
    size_t huge = (size_t)2 << 20, bytes = fm__align_up(size ? size : 1, size >= huge ? huge : 4096);
    if (bytes < size) return fm__fail_nomem(err, "buffer", size);
    // the wrap comes first: it is the allocation that tests make fail
    struct fm_buffer *buffer = fm__buffer_wrap(NULL, bytes, release_pages, NULL);
    if (!buffer) return fm__fail_nomem(err, "buffer", size);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fm__free(buffer);
        return fm__fail_nomem(err, "buffer", bytes);
    }
    if (bytes >= huge) madvise(p, bytes, MADV_HUGEPAGE);
    buffer->host = buffer->device = p;
    *out = buffer;
    return FM_OK;
}

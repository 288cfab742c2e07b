// SPDX-License-Identifier: MIT
// The arena: a list of chunks, the newest one filled first.
#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

#include "base/alloc.h"

struct fm__arena_chunk {
    struct fm__arena_chunk *next;
    size_t used, size;
    alignas(16) unsigned char bytes[];
};

static struct fm__arena_chunk *add_chunk(struct fm__arena *arena, size_t bytes)
{
    size_t size = arena->last ? arena->last->size * 2 : 4096;
    if (size > (size_t)1 << 20) size = (size_t)1 << 20;
    if (size < bytes) size = bytes;
    size_t total;
    if (!fm__add_size(size, sizeof(struct fm__arena_chunk), &total)) return NULL;
    struct fm__arena_chunk *chunk = fm__calloc(1, total);
    if (!chunk) return NULL;
    chunk->size = size;
    chunk->next = arena->last;
    arena->last = chunk;
    return chunk;
}

void *fm__arena_alloc(struct fm__arena *arena, size_t bytes)
{
    size_t want;
    if (!fm__add_size(bytes, 15, &want)) return NULL;
    want &= ~(size_t)15;
    struct fm__arena_chunk *chunk = arena->last;
    if (!chunk || chunk->size - chunk->used < want) chunk = add_chunk(arena, want);
    if (!chunk) return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += want;
    return p;
}

char *fm__arena_strndup(struct fm__arena *arena, const char *text, size_t n)
{
    size_t bytes;
    if (!fm__add_size(n, 1, &bytes)) return NULL;
    char *copy = fm__arena_alloc(arena, bytes);
    if (copy) memcpy(copy, text, n);
    return copy;
}

void fm__arena_deinit(struct fm__arena *arena)
{
    while (arena->last) {
        struct fm__arena_chunk *next = arena->last->next;
        fm__free(arena->last);
        arena->last = next;
    }
}

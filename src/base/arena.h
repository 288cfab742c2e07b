// SPDX-License-Identifier: MIT
// A bump allocator for things that die together (the nodes of a graph, the metadata of a file). Chunks double up to
// 1 MiB; nothing is freed one by one.
#ifndef FM_BASE_ARENA_H
#define FM_BASE_ARENA_H

#include <stddef.h>

struct fm__arena_chunk;
struct fm__arena {
    struct fm__arena_chunk *last;
};

// A zeroed struct fm__arena is an empty arena. All return NULL when memory is out; the arena stays usable.
void *fm__arena_alloc(struct fm__arena *arena, size_t bytes); // zeroed, aligned for any type (16 bytes)
char *fm__arena_strndup(struct fm__arena *arena, const char *text, size_t n);
void fm__arena_deinit(struct fm__arena *arena); // frees all; the arena is empty again

#endif

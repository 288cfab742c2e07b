// SPDX-License-Identifier: MIT
// A binary heap of candidates, smallest key first, in memory of the caller's.
#ifndef FM_TEXT_TOK_HEAP_H
#define FM_TEXT_TOK_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct fm__candidate {
    uint64_t key;
    uint32_t right, bytes; // merges: index of the right symbol, bytes of the union
    int32_t id;
};

static inline void fm__heap_push(struct fm__candidate *heap, size_t *n, struct fm__candidate item)
{
    size_t i = (*n)++;
    for (; i && heap[(i - 1) / 2].key > item.key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static inline struct fm__candidate fm__heap_pop(struct fm__candidate *heap, size_t *n)
{
    struct fm__candidate top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1].key < heap[child].key) child++;
        if (last.key <= heap[child].key) break;
        heap[i] = heap[child];
    }
    if (*n) heap[i] = last;
    return top;
}

#endif

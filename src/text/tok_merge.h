// SPDX-License-Identifier: MIT
// Joining neighbours, best pair first, leftmost among equals, until no pair is left: what both kinds of BPE do. They
// differ in which pairs there are, and that is a function given here so that the compiler puts it in line.
//
// Time O(n log n): every join takes one candidate off the heap and adds at most two; a candidate whose symbols have
// changed since is recognised by its length and dropped. Memory: n symbols and 2 n candidates.
#ifndef FM_TEXT_TOK_MERGE_H
#define FM_TEXT_TOK_MERGE_H

#include "text/tok_heap.h"
#include "text/tok_internal.h"

struct fm__symbol {
    int32_t prev, next; // -1 at the ends
    uint32_t at, n;     // bytes of the text; n 0: joined into another
    int32_t id;
};

// The pair l, r of a text: its priority (smallest first) and the symbol it becomes; false if they cannot be joined.
typedef bool fm__pair_fn(const struct fm_tokenizer *tok, const char *text, const struct fm__symbol *l,
                         const struct fm__symbol *r, uint32_t *priority, int32_t *merged);

struct fm__merge {
    const struct fm_tokenizer *tok;
    const char *text;
    struct fm__symbol *symbols; // chained by the caller
    struct fm__candidate *heap; // room for twice as many
    size_t n_heap;
};

static inline void fm__merge_offer(struct fm__merge *m, int32_t left, int32_t right, fm__pair_fn *pair)
{
    uint32_t priority;
    int32_t merged;
    if (left < 0 || right < 0) return;
    const struct fm__symbol *l = &m->symbols[left], *r = &m->symbols[right];
    if (!pair(m->tok, m->text, l, r, &priority, &merged)) return;
    fm__heap_push(
        m->heap, &m->n_heap,
        (struct fm__candidate){(uint64_t)priority << 32 | (uint32_t)left, (uint32_t)right, l->n + r->n, merged});
}

static inline void fm__merge_all(struct fm__merge *m, size_t n_symbols, fm__pair_fn *pair)
{
    m->n_heap = 0;
    for (size_t i = 1; i < n_symbols; i++) fm__merge_offer(m, (int32_t)i - 1, (int32_t)i, pair);
    while (m->n_heap) {
        struct fm__candidate best = fm__heap_pop(m->heap, &m->n_heap);
        int32_t left = (int32_t)(uint32_t)best.key;
        struct fm__symbol *l = &m->symbols[left], *r = &m->symbols[best.right];
        if (!l->n || !r->n || l->n + r->n != best.bytes) continue;
        l->n = best.bytes;
        l->id = best.id;
        l->next = r->next;
        r->n = 0;
        if (l->next >= 0) m->symbols[l->next].prev = left;
        fm__merge_offer(m, l->prev, left, pair);
        fm__merge_offer(m, left, l->next, pair);
    }
}

#endif

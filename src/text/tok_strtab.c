// SPDX-License-Identifier: MIT
// Building string tables and tries.
#include "text/tok_strtab.h"

#include "base/alloc.h"

static bool grow(void *pointer_to_array, size_t n, size_t element)
{
    size_t bytes;
    void *old, *new;
    memcpy(&old, pointer_to_array, sizeof old);
    if (!fm__mul_size(n, element, &bytes)) return false;
    new = fm__realloc(old, bytes);
    if (!new) return false;
    memcpy(pointer_to_array, &new, sizeof new);
    return true;
}

bool fm__strtab_add(struct fm__strtab *s, const char *p, size_t n)
{
    if (n > UINT32_MAX - s->n_bytes || s->n == INT32_MAX) return false;
    if (s->n_bytes + n > s->cap_bytes || !s->bytes) { // never NULL, so that the place of an empty string is one
        size_t cap = (s->n_bytes + n) + (s->n_bytes + n) / 2 + 256;
        if (!grow(&s->bytes, cap, 1)) return false;
        s->cap_bytes = cap;
    }
    if (s->n == s->cap) {
        uint32_t cap = s->cap + s->cap / 2 + 64;
        if (!grow(&s->at, cap, sizeof *s->at) || !grow(&s->len, cap, sizeof *s->len)) return false;
        s->cap = cap;
    }
    if (n) memcpy(s->bytes + s->n_bytes, p, n);
    s->at[s->n] = (uint32_t)s->n_bytes;
    s->len[s->n++] = (uint32_t)n;
    s->n_bytes += n;
    return true;
}

static void place(struct fm__strtab_slot *slots, uint32_t n_slots, struct fm__strtab_slot slot)
{
    uint32_t i = slot.hash & (n_slots - 1);
    while (slots[i].index_plus_1) i = (i + 1) & (n_slots - 1);
    slots[i] = slot;
}

bool fm__strtab_key(struct fm__strtab *s, uint32_t index, uint32_t *same)
{
    const char *p = s->bytes + s->at[index];
    int32_t found = fm__strtab_find(s, p, s->len[index]);
    if (found >= 0) {
        *same = (uint32_t)found;
        return true;
    }
    if (s->n_keys >= s->n_slots / 2) { // at most half full, so that a probe is short
        uint32_t n_slots = s->n_slots ? s->n_slots * 2 : 1024;
        struct fm__strtab_slot *slots = n_slots ? fm__calloc(n_slots, sizeof *slots) : NULL;
        if (!slots) return false;
        for (uint32_t i = 0; i < s->n_slots; i++)
            if (s->slots[i].index_plus_1) place(slots, n_slots, s->slots[i]);
        fm__free(s->slots);
        s->slots = slots;
        s->n_slots = n_slots;
    }
    place(s->slots, s->n_slots, (struct fm__strtab_slot){fm__hash_bytes(p, s->len[index]), index + 1});
    s->n_keys++;
    *same = index;
    return true;
}

void fm__strtab_deinit(struct fm__strtab *s)
{
    fm__free(s->bytes), fm__free(s->at), fm__free(s->len), fm__free(s->slots);
    memset(s, 0, sizeof *s);
}

static void place_edge(struct fm__trie *t, struct fm__trie_edge edge)
{
    uint32_t mask = t->n_edges - 1, i = (edge.key * 0x9e3779b1u) >> 7 & mask;
    while (t->edges[i].child) i = (i + 1) & mask;
    t->edges[i] = edge;
}

static bool reserve_node(struct fm__trie *t)
{
    if (t->n_nodes == 1u << 24) return false; // a key has 24 bits for the node
    if (t->n_nodes >= t->n_edges / 2) {
        struct fm__trie old = *t;
        uint32_t n_edges = old.n_edges ? old.n_edges * 2 : 256;
        struct fm__trie_edge *edges = fm__calloc(n_edges, sizeof *edges);
        if (!edges) return false;
        t->edges = edges;
        t->n_edges = n_edges;
        for (uint32_t i = 0; i < old.n_edges; i++)
            if (old.edges[i].child) place_edge(t, old.edges[i]);
        fm__free(old.edges);
    }
    if (t->n_nodes == t->cap_nodes) {
        uint32_t cap = t->cap_nodes * 2 + 64;
        if (!grow(&t->value, cap, sizeof *t->value)) return false;
        t->cap_nodes = cap;
    }
    return true;
}

bool fm__trie_insert(struct fm__trie *t, const char *p, size_t n, int32_t value)
{
    if (!t->n_nodes) {
        if (!reserve_node(t)) return false;
        t->value[t->n_nodes++] = -1; // the root
    }
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t child = fm__trie_step(t, node, (unsigned char)p[i]);
        if (!child) {
            if (!reserve_node(t)) return false;
            child = t->n_nodes++;
            t->value[child] = -1;
            place_edge(t, (struct fm__trie_edge){node << 8 | (unsigned char)p[i], child});
        }
        node = child;
    }
    if (node) t->value[node] = value, t->first[(unsigned char)p[0]] = true;
    if (n > t->depth) t->depth = (uint32_t)n;
    return true;
}

void fm__trie_deinit(struct fm__trie *t)
{
    fm__free(t->edges), fm__free(t->value);
    memset(t, 0, sizeof *t);
}

int32_t fm__trie_longest(const struct fm__trie *t, const char *p, size_t n, size_t *length)
{
    int32_t best = -1;
    uint32_t node = 0;
    *length = 0;
    for (size_t i = 0; i < n && (node = fm__trie_step(t, node, (unsigned char)p[i])) != 0; i++)
        if (t->value[node] >= 0) best = t->value[node], *length = i + 1;
    return best;
}

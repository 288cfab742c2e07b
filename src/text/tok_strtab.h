// SPDX-License-Identifier: MIT
// Numbered byte strings in one block, with a hash from string to number (open addressing, linear probing) and a trie.
// Both are built once and then only read.
#ifndef FM_TEXT_TOK_STRTAB_H
#define FM_TEXT_TOK_STRTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fm__strtab_slot {
    uint32_t hash, index_plus_1; // 0: free
};

struct fm__strtab {
    char *bytes;
    size_t n_bytes, cap_bytes;
    uint32_t *at, *len; // string i is bytes[at[i] … at[i] + len[i])
    uint32_t n, cap;
    struct fm__strtab_slot *slots;
    uint32_t n_slots, n_keys; // n_slots a power of two
};

// Appends a string; its number is strings->n - 1 afterwards. False: no memory, or more than 4 GiB.
bool fm__strtab_add(struct fm__strtab *strings, const char *p, size_t n);
// Makes string `index` findable. *same: the number found under its bytes, which is `index` unless an equal one is
// there.
bool fm__strtab_key(struct fm__strtab *strings, uint32_t index, uint32_t *same);
void fm__strtab_deinit(struct fm__strtab *strings);

// 32 bits that depend on all n bytes.
static inline uint32_t fm__hash_bytes(const char *p, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, word = 0;
    while (n > 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        p += 8, n -= 8;
    }
    word = 0;
    if (n >= 4) { // two overlapping reads cover 4 … 8 bytes
        uint32_t low, high;
        memcpy(&low, p, 4), memcpy(&high, p + n - 4, 4);
        word = low | (uint64_t)high << 32;
    } else if (n) {
        word = (unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8 | (uint64_t)(unsigned char)p[n - 1] << 16;
    }
    h = (h ^ word) * 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h ^ h >> 32);
}

// The number of an equal string that has a key, or -1.
static inline int32_t fm__strtab_find(const struct fm__strtab *strings, const char *p, size_t n)
{
    if (!strings->n_slots) return -1;
    uint32_t hash = fm__hash_bytes(p, n), mask = strings->n_slots - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        const struct fm__strtab_slot *slot = &strings->slots[i];
        if (!slot->index_plus_1) return -1;
        uint32_t index = slot->index_plus_1 - 1;
        if (slot->hash == hash && strings->len[index] == n && !memcmp(strings->bytes + strings->at[index], p, n))
            return (int32_t)index;
    }
}

// A trie over bytes. Node 0 is the root; children are found by hashing (node, byte).
struct fm__trie {
    struct fm__trie_edge {
        uint32_t key, child; // key: node << 8 | byte; child 0: free
    } * edges;
    int32_t *value;                       // of each node, -1 where no string ends
    uint32_t n_edges, n_nodes, cap_nodes; // n_edges a power of two
    uint32_t depth;                       // longest string
    bool first[256];                      // bytes that begin a string
};

// An equal string inserted before loses its value. False: no memory or more than 2^24 nodes.
bool fm__trie_insert(struct fm__trie *trie, const char *p, size_t n, int32_t value);
void fm__trie_deinit(struct fm__trie *trie);

// The child of `node` at `byte`, 0 if there is none.
static inline uint32_t fm__trie_step(const struct fm__trie *trie, uint32_t node, unsigned char byte)
{
    if (!trie->n_edges) return 0;
    uint32_t key = node << 8 | byte, mask = trie->n_edges - 1;
    for (uint32_t i = (key * 0x9e3779b1u) >> 7 & mask;; i = (i + 1) & mask) {
        const struct fm__trie_edge *edge = &trie->edges[i];
        if (!edge->child) return 0;
        if (edge->key == key) return edge->child;
    }
}

// The longest string of at most `n` bytes that begins p: its value (-1: none) and length.
int32_t fm__trie_longest(const struct fm__trie *trie, const char *p, size_t n, size_t *length);

#endif

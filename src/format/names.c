// SPDX-License-Identifier: MIT
// Chained hash table of names. The chain length is bounded: with at most one entry a bucket, 64 in one chain do not
// happen by chance, so a file whose names collide on purpose is refused instead of costing quadratic time.
#include "format/names.h"

#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

enum { LONGEST_CHAIN = 64, FIRST_SPACE = 64 };

// FNV-1a, 64 bits (Fowler, Noll, Vo), folded
static size_t bucket_of(const char *p, size_t n, size_t n_buckets)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (uint8_t)p[i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32) & (n_buckets - 1);
}

static void link_entry(struct fm__names *index, size_t i)
{
    uint32_t *head = &index->heads[bucket_of(index->names[i].p, index->names[i].n, index->space)];
    index->next[i] = *head;
    *head = (uint32_t)i + 1;
}

// The three arrays are replaced together, or none of them.
static bool grow(struct fm__names *index)
{
    size_t space = index->space ? index->space * 2 : FIRST_SPACE;
    if (space > UINT32_MAX / 2) return false;
    struct fm_str *names = fm__calloc(space, sizeof *names);
    uint32_t *next = fm__calloc(space, sizeof *next), *heads = fm__calloc(space, sizeof *heads);
    if (!names || !next || !heads) {
        fm__free(names), fm__free(next), fm__free(heads);
        return false;
    }
    if (index->n) memcpy(names, index->names, index->n * sizeof *names);
    size_t n = index->n;
    fm__names_deinit(index);
    *index = (struct fm__names){.names = names, .next = next, .heads = heads, .n = n, .space = space};
    for (size_t i = 0; i < n; i++) link_entry(index, i);
    return true;
}

fm_status fm__names_add(struct fm__names *index, struct fm_str name, struct fm_error *err)
{
    if (index->n == index->space && !grow(index)) return fm__fail_nomem(err, "name index", index->space * 24);
    int length = 0;
    uint32_t at = index->heads[bucket_of(name.p, name.n, index->space)];
    for (; at; at = index->next[at - 1], length++) {
        const struct fm_str *other = &index->names[at - 1];
        if (other->n == name.n && !memcmp(other->p, name.p, name.n))
            return fm__fail(err, FM_E_FORMAT, "duplicate name \"%s\"", fm__quote(name.p, name.n).text);
    }
    if (length >= LONGEST_CHAIN)
        return fm__fail(err, FM_E_LIMIT, "more than %d names share a hash, \"%s\" is one", LONGEST_CHAIN,
                        fm__quote(name.p, name.n).text);
    index->names[index->n] = name;
    link_entry(index, index->n++);
    return FM_OK;
}

int64_t fm__names_find(const struct fm__names *index, const char *p, size_t n)
{
    if (!index->n) return -1;
    for (uint32_t at = index->heads[bucket_of(p, n, index->space)]; at; at = index->next[at - 1]) {
        const struct fm_str *name = &index->names[at - 1];
        if (name->n == n && !memcmp(name->p, p, n)) return (int64_t)at - 1;
    }
    return -1;
}

void fm__names_deinit(struct fm__names *index)
{
    fm__free(index->names);
    fm__free(index->next);
    fm__free(index->heads);
    *index = (struct fm__names){0};
}

// SPDX-License-Identifier: MIT
// Every allocation of the library goes through here: one place to count them, and one to make the n-th fail (tests).
// Sizes that come from a file or the network are multiplied and added with the checked helpers.
#ifndef FM_BASE_ALLOC_H
#define FM_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *fm__malloc(size_t bytes);                    // NULL when there is none left; bytes 0 gives a unique pointer
void *fm__calloc(size_t n, size_t bytes);          // zeroed; NULL on overflow too
void *fm__realloc(void *old, size_t bytes);        // as realloc; old stays valid on failure
void *fm__aligned(size_t alignment, size_t bytes); // free with fm__free; alignment a power of two
char *fm__strdup(const char *text);
char *fm__strndup(const char *text, size_t n);
void fm__free(void *p); // NULL is fine

// Test hook: after `n` more successful allocations the next one fails, and all after it when `sticky`. -1 turns it off.
// Not thread safe: set it before the code under test starts.
void fm__alloc_fail_after(int64_t n, bool sticky);
int64_t fm__alloc_count(void); // allocations since process start

// *out = a op b; false (and *out untouched) on overflow
static inline bool fm__mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool fm__add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool fm__mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

// Rounds up to a multiple of `to` (a power of two).
static inline size_t fm__align_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

#endif
